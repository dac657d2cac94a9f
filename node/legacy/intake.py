"""Taking in what a daemon of the older protocol says: rows, removals, restores and links, in one transaction each.

Its id for a title is its own. A row is led to our record by what was exchanged before, then by its id, then by its
title; so its updates and deletes reach our record, whatever it calls it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from node.legacy import linktables, ours, tables
from node.legacy.tables import Execute, PeerRow, Record
from sync.attest import genuine
from sync.engine import Engine
from sync.ids import is_native, memory_id
from sync.legacy.judge import Echo, brought_back, judge, left, removed
from sync.legacy.link import TheirLink, version_of
from sync.legacy.outgoing import Known, holds, takes
from sync.legacy.past import Past
from sync.legacy.row import Row
from sync.merge import is_echo
from sync.policy import Policy
from sync.ports import Kept, Ledger
from sync.receive import Page, Part, Taken
from sync.record import Refused, load
from sync.version import Key, Version

NO_ROOM = f"its memories have not come, and {linktables.MAX_HELD} links wait for theirs already"
NO_LIFE = "0" * 16
"""What stands for the life of a daemon, which has none: its pages move no cursor and give no giver."""


@dataclass(frozen=True, slots=True)
class Came:
    """What came of rows or of one kind of removals."""

    taken: Taken = field(default_factory=Taken)
    refused: tuple[Refused, ...] = ()
    done: int = 0
    """Deletes, archives, restores or links that were carried out."""
    noop: int = 0
    """Those of which there was nothing to do; links that are held until their memories come."""
    late: tuple[Refused, ...] = ()
    """Links that were held for these rows, and are refused now."""
    waiting: frozenset[str] = frozenset()
    """Our ids of rows that were read before and still wait for their time."""


class Intake:
    """One open transaction, for one daemon."""

    def __init__(self, ledger: Ledger, engine: Engine, peer: str, policy: Policy, now: int) -> None:
        self._ledger = ledger
        self._execute: Execute = tables.executing(ledger)
        self._engine = engine
        self._peer = peer
        self._policy = policy
        self._now = now
        self._standing: PeerRow = tables.peer(self._execute, peer)
        self._unknown = 0

    def move(self, moved: Callable[[PeerRow], PeerRow], is_read: bool) -> None:
        """Move our place in its store; `is_read`: everything in it was read."""
        if is_read:
            tables.mark_gone(self._execute, self._peer, self._standing.round)
        self._standing = moved(self._standing)
        tables.put_peer(self._execute, self._standing)

    # --- rows

    def rows(self, rows: Sequence[Row], *, are_shown: bool) -> Came:
        """Take in rows of its store. Those that were read before, and are as they were, cost one look-up.

        `are_shown`: it answered with them. What its fan-out pushes of a bulk has ids that it may never have used.
        """
        known = tables.by_theirs(self._execute, self._peer, (row.memory.id for row in rows))
        same = [row.memory.id for row in rows if (one := known.get(row.memory.id)) and one.row == row.digest]
        tables.found_again(self._execute, self._peer, same, self._standing.round)
        fresh = {row.memory.id: row for row in rows if row.memory.id not in set(same)}
        waiting = self._waiting(known[theirs].key for theirs in same)
        if not fresh:
            return Came(waiting=waiting)
        places = self._places(list(fresh.values()), known)
        kept = self._kept(places.values())
        moved = {theirs: one for theirs, one in known.items() if theirs in places and one.key != places[theirs]}
        exchanged = tables.by_keys(self._execute, self._peer, [places[theirs] for theirs in moved])
        versions: list[Version] = []
        refused: list[Refused] = []
        judged: dict[str, Version | Echo] = {}
        for theirs, row in fresh.items():
            key = places[theirs]
            before = exchanged[key].known.past if theirs in moved and key in exchanged else None
            found = judge(row, key, [one.version for one in kept.get(key, ())], before)
            if isinstance(found, Refused):
                refused.append(found)
                continue
            judged[theirs] = found
            old = known.get(theirs)
            if old is not None and old.key[0] != key[0]:
                versions.append(left(old.key, old.known.past, row))
                tables.put(self._execute, self._peer, [tables.nothing(old)])
                tables.put_due(self._execute, self._peer, [old.key])
            if isinstance(found, Version):
                versions.append(found)
        taken = self._receive(versions)
        lost = {one.id for one in taken.refused if taken.full or one.reason != "clock_skew"}
        self._note(fresh, places, judged, lost, are_shown=are_shown)
        waited = self.links(linktables.held(self._execute, self._peer, list(fresh)))
        return Came(taken.joined(waited.taken), (*refused, *taken.refused), late=waited.refused, waiting=waiting)

    def _waiting(self, keys: Iterable[Key]) -> frozenset[str]:
        """Our ids of those that were read before and are not here yet: they still wait for their time."""
        if not self._ledger.waiting_bytes(self._peer):
            return frozenset()
        found = list(keys)
        kept = self._kept(found)
        return frozenset(key[1] for key in found if key not in kept)

    def _places(self, rows: Sequence[Row], known: Mapping[str, Record]) -> dict[str, Key]:
        """Our key for each row. No title leads two rows to one record: it may have passed from one to the other."""
        places: dict[str, Key] = {}
        for row in rows:
            record = known.get(row.memory.id)
            if record is not None and record.key[0] == row.memory.namespace:
                places[row.memory.id] = record.key
        claimed = set(places.values())
        for row in rows:
            if row.memory.id not in places:
                key = self._place(row, known.get(row.memory.id), claimed)
                places[row.memory.id] = key
                claimed.add(key)
        return places

    def _place(self, row: Row, moved: Record | None, claimed: set[Key]) -> Key:
        namespace, title, theirs = row.memory.namespace, row.memory.title, row.memory.id
        own = (namespace, theirs)
        if self._kept((own,)):
            return own
        titled = sorted(self._ledger.titled(namespace, title), key=lambda one: one.version.rank, reverse=True)
        for one in titled:
            if one.version.key not in claimed:
                return one.version.key
        if moved is not None and not self._is_memory(kept := (namespace, moved.key[1])) and kept not in claimed:
            return kept
        for record in tables.by_title(self._execute, self._peer, namespace, title):
            if record.key not in claimed and not self._is_memory(record.key):
                return record.key
        if is_native(theirs) and own not in claimed:
            return own
        k = 0
        while (key := (namespace, memory_id(namespace, title, k))) in claimed or self._is_memory(key):
            k += 1
        return key

    def _note(
        self,
        rows: Mapping[str, Row],
        places: Mapping[str, Key],
        judged: Mapping[str, Version | Echo],
        lost: set[str],
        *,
        are_shown: bool,
    ) -> None:
        """Write down what it has of each record, and which have to be sent to it. `lost`: our ids of rows that were
        neither kept nor wait; they are judged again whenever they are shown."""
        before = tables.by_keys(self._execute, self._peer, places.values())
        named = {key: one.known for key, one in before.items() if one.known.is_there}
        kept = self._kept(places.values())
        records: dict[Key, Record] = {}
        due, orphans = [], []
        for theirs, found in judged.items():
            row, key = rows[theirs], places[theirs]
            winner = kept[key][0].version if kept.get(key) else None
            if winner is None and key[1] in lost:
                continue  # written down, all that it shows and may not write would fill the table
            old = named.get(key)
            name = theirs
            if old is not None and old.theirs != theirs:
                if not are_shown:
                    name = old.theirs
                elif not _is_one_row(row, old) and _is_better(row, old, winner):
                    orphans.append(old.theirs)
                elif not _is_one_row(row, old):
                    orphans.append(theirs)
                    continue
            version, tag = (found.of, b"") if isinstance(found, Echo) else (found, found.tag)
            known = Known(name, row.memory.title, row.at, tag, Past.of(version))
            digest = b"" if key[1] in lost else row.digest
            record = Record(key, known, digest, round=self._standing.round)
            if winner is not None:
                record, is_due = _compared(record, row, winner)
                due += [key] if is_due else []
            records[key], named[key] = record, record.known
        tables.put(self._execute, self._peer, records.values())
        tables.put_due(self._execute, self._peer, due)
        tables.put_orphans(self._execute, self._peer, orphans)

    # --- links

    def links(self, some: Iterable[TheirLink]) -> Came:
        """Take in links. One that comes before a memory at its ends is held until that comes."""
        by_triple = {link.shown: link for link in some}
        if not by_triple:
            return Came()
        ids = {end for link in by_triple.values() for end in (link.source_id, link.target_id)}
        keys = self._targets(list(ids))
        known = [link for link in by_triple.values() if {link.source_id, link.target_id} <= keys.keys()]
        early = [link for link in by_triple.values() if link not in known]
        no_room = linktables.hold(self._execute, self._peer, early)
        linktables.drop_held(self._execute, self._peer, known)
        made = [version_of(link, keys[link.source_id], keys[link.target_id][1]) for link in known]
        refused = [one for one in made if isinstance(one, Refused)]
        versions = [one for one in made if isinstance(one, Version)]
        kept = self._kept(one.key for one in versions)
        news = [one for one in versions if not is_echo(one, (old.version for old in kept.get(one.key, ())))]
        taken = self._receive(news)
        linktables.has(self._execute, self._peer, [self._winner(one.key) or one for one in versions])
        refused += [Refused(link.shown, "l", "limits", NO_ROOM) for link in no_room]
        done = len(versions) - len(taken.refused)
        return Came(taken, (*refused, *taken.refused), done, len(early) - len(no_room))

    # --- removals

    def deletions(self, ids: Iterable[str]) -> Came:
        return self._remove(ids, keep_text=False)

    def archives(self, ids: Iterable[str]) -> Came:
        """What it archives leaves the live set; its text is kept aside for a restore."""
        return self._remove(ids, keep_text=True)

    def _remove(self, ids: Iterable[str], *, keep_text: bool) -> Came:
        targets = self._targets(list(dict.fromkeys(ids)))
        stones: dict[str, Version] = {}
        texts: dict[str, bytes] = {}
        noop = 0
        known = tables.by_keys(self._execute, self._peer, targets.values())
        for theirs, key in targets.items():
            winner = self._winner(key)
            if winner is None or winner.kind == "t" or not self._policy.scope.allows(key[0]):
                noop += 1
                continue
            record = known.get(key)
            stones[theirs] = removed(key, record.known.past if record is not None else None, self._now)
            texts[theirs] = winner.doc
        taken = self._receive(list(stones.values()))
        records, due = [], []
        for theirs, stone in stones.items():
            winner = self._winner(stone.key)
            assert winner is not None, "a tombstone was just kept of it"
            title = load(texts[theirs]).title
            records.append(
                Record(stone.key, Known(theirs, title, "", winner.tag if winner.kind == "t" else b"", Past.of(stone)))
            )
            if winner.kind != "t":
                due.append(stone.key)  # an edit that it has not seen outlives its delete
            elif keep_text:
                tables.archive(self._execute, self._peer, theirs, tables.Archived(stone.key, winner.tag, texts[theirs]))
        for theirs, key in targets.items():
            if theirs not in stones and key in known:
                gone, winner = tables.nothing(known[key]), self._winner(key)
                if winner is not None and winner.kind == "m":
                    gone = replace(gone, state="held", why="it deleted it, and nothing is taken from it there")
                records.append(gone)
        tables.put(self._execute, self._peer, records)
        tables.put_due(self._execute, self._peer, due)
        return Came(taken, taken.refused, len(stones), noop + self._unknown)

    def restores(self, ids: Iterable[str]) -> Came:
        """Bring back what it archived, unless somebody has written or deleted the memory since."""
        versions: list[Version] = []
        noop = 0
        for theirs in dict.fromkeys(ids):
            one = tables.archived(self._execute, self._peer, theirs)
            tables.drop_archived(self._execute, self._peer, theirs)
            winner = self._winner(one.key) if one is not None else None
            if one is None or winner is None or winner.tag != one.tag:
                noop += 1
                continue
            memory = load(one.doc)
            known = [kept.version for kept in self._kept((one.key,))[one.key]]
            version = brought_back(one.key, memory, known, self._now)
            versions.append(version)
            # It has the row again, at a time of its own: shown or pushed, that row says what it is.
            old = Known(theirs, memory.title, version.at, version.tag, Past.of(version))
            tables.put(self._execute, self._peer, [Record(one.key, old, round=self._standing.round)])
        taken = self._receive(versions)
        return Came(taken, taken.refused, len(versions) - len(taken.refused), noop)

    def _targets(self, ids: Sequence[str]) -> dict[str, Key]:
        """Our record for each of its ids; what leads to none is counted in `_unknown`."""
        known = tables.by_theirs(self._execute, self._peer, ids)
        found: dict[str, Key] = {}
        for theirs in ids:
            live = [known[theirs].key] if theirs in known else ours.live_with_id(tables.opened(self._ledger), theirs)
            if live:
                found[theirs] = live[0]
        self._unknown = len(ids) - len(found)
        return found

    # --- the core

    def _receive(self, versions: Sequence[Version]) -> Taken:
        page = Page(self._peer, NO_LIFE, None, None, None, reset=False)
        if not versions:
            return Taken()
        return self._engine.receive(
            self._ledger, page, Part(versions, genuine=genuine(versions)), self._policy, Taken(), self._now
        )

    def _kept(self, keys: Iterable[Key]) -> Mapping[Key, Sequence[Kept]]:
        found = self._ledger.kept(list(dict.fromkeys(keys)))
        return {
            key: sorted(kept, key=lambda one: one.version.rank, reverse=True) for key, kept in found.items() if kept
        }

    def _winner(self, key: Key) -> Version | None:
        kept = self._kept((key,)).get(key)
        return kept[0].version if kept else None

    def _is_memory(self, key: Key) -> bool:
        winner = self._winner(key)
        return winner is not None and winner.kind == "m"


def _is_one_row(row: Row, old: Known) -> bool:
    """It keeps one row a title: what it was sent under another name went into this row, and there is no second."""
    return old.title == row.memory.title


def _is_better(row: Row, old: Known, winner: Version | None) -> bool:
    """Of two rows that it shows for one record: whether this one is to stay, and the one of before to go."""
    title = winner.title if winner is not None else ""
    return (row.memory.title == title, row.at) > (old.title == title, old.at)


def _compared(record: Record, row: Row, winner: Version) -> tuple[Record, bool]:
    """What a row makes of its record, and whether our winner has to be sent."""
    says = holds(row, winner)
    if says == "same":
        return tables.sent(record, tag=winner.tag), False
    if says == "altered":
        why = "it differs in tier, priority, confidence, expiry or metadata, which it does not take over"
        return replace(tables.sent(record, tag=winner.tag), state="altered", why=why), False
    if winner.kind == "t" or takes(winner.at, row.at):
        return record, True
    return replace(record, state="held", why=f"it has a row of {row.at}, and ours of {winner.at} is not newer"), False
