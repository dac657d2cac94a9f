"""What goes out to a daemon of the older protocol: the feed after the number that it was sent up to, and what is due.

Nothing of it is a queue in memory: the number, the keys to look at again and what it is known to have are in the store,
and move in one transaction with what the daemon has answered.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from node.legacy import linktables, ours, tables
from node.legacy.tables import Record
from node.store.reader import Reader
from sync.legacy.outgoing import Delete, Keep, Known, Put, decide, other_name
from sync.legacy.past import Past
from sync.legacy.row import row_of
from sync.link import is_link
from sync.ports import Ledger, Scope
from sync.version import Key, Version

LOOK = 500
"""Keys that are looked at in one go."""
MAX_ROWS = 100
"""Rows of one request: a newer daemon with an encrypted store takes 131 ms for each and answers nothing meanwhile."""
MAX_BYTES = 2 * 2**20 - 4_096
"""Bytes of rows in one request: its limit of 2 MiB, less room for the envelope."""
MAX_DELETES = 1_000


@dataclass(frozen=True, slots=True)
class Item:
    """One record to send; a delete where there is no row."""

    theirs: str
    title: str
    row: bytes | None
    then: Record
    """What is known of it once the daemon has taken it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do next: first the deletes, in a request of their own, then the rows."""

    deletes: tuple[Item, ...]
    puts: tuple[Item, ...]
    kept_back: tuple[Record, ...]
    """Records that are not sent, with the reason; or whose reason is gone."""
    orphans: tuple[str, ...]
    """Rows of no record, which go together with the deletes."""
    twins: tuple[Key, ...]
    """Memories whose title becomes free at the daemon: they are due next."""
    looked_at: tuple[Key, ...]
    """Due keys that this plan settles."""
    links: tuple[Version, ...]
    """Links and unlinks that changed: they are looked at once the memories are there."""
    reached: int
    """The number of our feed that everything was sent up to, once the plan is carried out."""
    moves: bool
    """That number is another than before."""
    behind: int
    """Numbers of the feed after it."""
    more: bool
    """There was no room for everything that is known already."""

    @property
    def is_idle(self) -> bool:
        """True where nothing has to be sent or written down."""
        return not (self.deletes or self.orphans or self.puts or self.kept_back or self.looked_at or self.moves)


def plan(reader: Reader, peer: str, scope: Scope) -> Plan:
    """Cut the next part, small enough for one request each. Reads one state of the store."""
    execute = reader.execute
    standing, top = tables.peer(execute, peer), reader.position().number
    due = tables.due(execute, peer, LOOK)
    changed = ours.changed_after(execute, standing.reached, LOOK) if len(due) < LOOK else []
    numbers = {key: number for number, key in changed}
    keys = list(dict.fromkeys((*due, *numbers)))
    records = tables.by_keys(execute, peer, keys)
    allowed = ours.winners(reader, (key for key in keys if scope.allows(key[0])))
    winners = {key: winner for key, winner in allowed.items() if not is_link(key)}
    titles = {(one.namespace, one.title) for one in winners.values() if one.kind == "m"}
    titles |= {(one.key[0], one.known.title) for one in records.values()}
    cut = _Cut(
        reader,
        peer,
        standing.round,
        ours.oddly_titled(execute, titles),
        _names_taken(reader, peer, winners, records),
    )
    done: list[Key] = []
    for key in keys:
        winner = winners.get(key)
        if winner is not None and not cut.add(winner, records.get(key)):
            break
        done.append(key)
    whole = len(done) == len(keys)
    reached = standing.reached
    if whole and changed:
        reached = top if len(changed) < LOOK else changed[-1][0]
    elif whole and len(due) < LOOK:
        reached = top
    elif not whole:
        passed = set(done)
        for number, key in changed:
            if key not in passed:
                break
            reached = number
    return Plan(
        tuple(cut.deletes), tuple(cut.puts), tuple(cut.kept_back),
        tuple(tables.orphans(execute, peer, MAX_DELETES - len(cut.deletes))), tuple(cut.twins),
        tuple(key for key in due if key in set(done)),
        tuple(allowed[key] for key in done if key in allowed and key not in winners),
        reached, reached != standing.reached, top - reached, not whole or len(due) == LOOK or reached < top,
    )  # fmt: skip


def note(ledger: Ledger, peer: str, records: Iterable[Record]) -> None:
    """Write down what the daemon has now, or why it is not sent something."""
    tables.put(tables.executing(ledger), peer, records)


def deleted(ledger: Ledger, peer: str, done: Plan) -> None:
    """The daemon has taken the deletes of a plan; what their titles are free for is due next."""
    execute = tables.executing(ledger)
    tables.put(execute, peer, [one.then for one in done.deletes])
    tables.drop_orphans(execute, peer, done.orphans)
    tables.put_due(execute, peer, done.twins)


def finish(ledger: Ledger, peer: str, done: Plan) -> None:
    """A plan was carried out."""
    execute = tables.executing(ledger)
    tables.put(execute, peer, done.kept_back)
    tables.drop_due(execute, peer, set(done.looked_at) - set(done.twins))
    linktables.changed(execute, peer, done.links)
    standing = tables.peer(execute, peer)
    tables.put_peer(execute, replace(standing, reached=max(standing.reached, done.reached)))


class _Cut:
    """A plan in the making. `odd`: (namespace, title) that more than one memory may have; `taken`: our ids that are, or
    may be, another record's name at the daemon."""

    def __init__(
        self, reader: Reader, peer: str, number: int, odd: set[tuple[str, str]], taken: Mapping[str, Key | None]
    ) -> None:
        self._reader = reader
        self._peer = peer
        self._number = number
        self._odd = odd
        self._taken = taken
        self._bytes = 0
        self._freed: set[str] = set()  # its ids whose rows go with this plan
        self.deletes: list[Item] = []
        self.puts: list[Item] = []
        self.kept_back: list[Record] = []
        self.twins: list[Key] = []

    def add(self, winner: Version, record: Record | None) -> bool:
        """Put what is to be sent of a record into the plan; False where there is no room for it."""
        twin = winner.kind == "m" and self._titled(winner.namespace, winner.title) not in (None, winner.key)
        holder = None if twin else self._holder(winner, record)
        known = record.known if record is not None else None
        action = decide(winner, known, twin)
        if isinstance(action, Keep):
            kept = _kept_back(winner, record, action)
            self.kept_back += [kept] if kept is not None else []
            return True
        if len(self.deletes) >= MAX_DELETES:
            return False
        if isinstance(action, Delete):
            title = known.title if known is not None else ""
            self._free(winner, title)
            self._freed.add(action.theirs)
            then = Record(winner.key, Known("", title, "", winner.tag, Past.of(winner)))
            self.deletes.append(Item(action.theirs, title, None, then))
            return True
        return self._put(winner, known, holder, action)

    def _put(self, winner: Version, known: Known | None, holder: Record | None, action: Put) -> bool:
        theirs = action.theirs
        if known is None or not known.is_there:
            other = self._taken.get(theirs, winner.key)
            theirs = theirs if other == winner.key or theirs in self._freed else other_name(winner.key)
        row = row_of(winner, theirs)
        if self.puts and (len(self.puts) >= MAX_ROWS or self._bytes + len(row) > MAX_BYTES):
            return False
        self._bytes += len(row) + 1
        if action.replaces and known is not None:
            # Where only the delete was answered, it has nothing, and is sent the memory as a new one.
            self._freed.add(action.theirs)
            gone = Known(action.theirs, known.title, "", b"", known.past)
            self.deletes.append(Item(action.theirs, known.title, None, Record(winner.key, gone)))
            self._free(winner, known.title)
        now = Known(theirs, winner.title, winner.at, winner.tag, Past.of(winner))
        if holder is not None:
            # It would put ours into the row that it has under this title, which then is two records' row.
            self.deletes.append(Item(holder.known.theirs, winner.title, None, tables.nothing(holder)))
            self._freed.add(holder.known.theirs)
            self.twins.append(holder.key)
        self.puts.append(Item(theirs, winner.title, row, Record(winner.key, now, round=self._number)))
        return True

    def _titled(self, namespace: str, title: str) -> Key | None:
        """The memory that a title leads to, where that may be another than the one that is looked at."""
        if (namespace, title) not in self._odd:
            return None
        found = self._reader.by_title(namespace, title)
        return found[0].version.key if found else None

    def _holder(self, winner: Version, record: Record | None) -> Record | None:
        """Another record of ours, whose row at the daemon has the title of this memory."""
        if winner.kind == "t" or (winner.namespace, winner.title) not in self._odd:
            return None
        if record is not None and record.known.is_there and record.known.title == winner.title:
            return None
        had = tables.by_title(self._reader.execute, self._peer, winner.namespace, winner.title)
        rows = (one for one in had if one.known.is_there and one.known.theirs not in self._freed)
        return next((one for one in rows if one.key != winner.key), None)

    def _free(self, winner: Version, title: str) -> None:
        other = self._titled(winner.namespace, title)
        if other not in (None, winner.key):
            assert other is not None
            self.twins.append(other)


def _names_taken(
    reader: Reader, peer: str, winners: Mapping[Key, Version], records: Mapping[Key, Record]
) -> dict[str, Key | None]:
    """Which of the names of these memories are not theirs alone at the daemon: the record that has it there, or None
    where several live memories share it here."""
    ids = {key[1] for key, winner in winners.items() if winner.kind == "m"}
    taken: dict[str, Key | None] = dict.fromkeys(ours.shared_ids(reader, ids))
    ids |= {record.known.theirs for record in records.values() if record.known.theirs}
    taken |= {
        theirs: record.key
        for theirs, record in tables.by_theirs(reader.execute, peer, ids).items()
        if record.known.is_there
    }
    return taken


def _kept_back(winner: Version, record: Record | None, action: Keep) -> Record | None:
    """The record with its reason, where that is another than before."""
    if record is None:
        if not action.state:
            return None
        record = Record(winner.key, Known("", winner.title, "", b"", Past.of(winner)))
    is_settled = not action.state and record.state in ("refused", "held")
    if (action.state and (action.state, action.why) != (record.state, record.why)) or is_settled:
        return replace(record, state=action.state, why=action.why)
    return None
