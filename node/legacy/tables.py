"""What the store remembers of each daemon of the older protocol: tables of this package's own, made when first needed.

Every function here runs inside a transaction of the writer, or inside a read, and takes that one's `execute`.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from node.legacy import linktables
from node.store.ledger import SqlLedger
from node.store.reader import Reader
from node.store.rows import chunks
from sync.legacy.outgoing import Known
from sync.legacy.past import Past
from sync.ports import FeedReader, Ledger
from sync.version import Key, stamp_text, unstamped

Execute = Callable[..., Any]

MAX_ORPHANS = 10_000
"""Rows of one daemon that have to go: of more, those beyond stay there. One that only calls here is never told."""
MAX_ARCHIVED = 10_000
"""Memories of one daemon's archive that are kept for it: one beyond cannot be brought back by its restore."""

STATEMENTS = (
    # One row for each daemon that this node calls, or that calls here.
    """CREATE TABLE IF NOT EXISTS legacy_peer(
        peer TEXT PRIMARY KEY,
        newest TEXT,               -- greatest updated_at read from it, as it wrote it; NULL: never read to the end
        scan TEXT,                 -- how far the slow reading of everything is; NULL: at the beginning
        round INTEGER NOT NULL,    -- which reading of everything that is
        reached INTEGER NOT NULL,  -- number of our feed up to which it was sent everything
        asked TEXT,                -- the `since` that it last came with
        asked_at INTEGER NOT NULL, -- where our feed stood then
        missed INTEGER NOT NULL    -- changes that came here behind its `since`
    ) STRICT""",
    # One row for each record that was exchanged with it. `at` is empty where it has no row for the record.
    """CREATE TABLE IF NOT EXISTS legacy_record(
        peer TEXT NOT NULL,
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        theirs TEXT NOT NULL,
        title TEXT NOT NULL,
        at TEXT NOT NULL,
        row BLOB NOT NULL,         -- digest of its row as it was last read
        tag BLOB NOT NULL,         -- of the version of ours that it has, empty where it has another
        past BLOB NOT NULL,        -- of the version last exchanged: dot, depth and context
        state TEXT NOT NULL,       -- empty, or why it cannot agree: refused, held, altered, gone
        why TEXT NOT NULL,
        round INTEGER NOT NULL,    -- the last reading of everything that found it
        PRIMARY KEY(peer, id, namespace)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS legacy_theirs ON legacy_record(peer, theirs)",
    "CREATE INDEX IF NOT EXISTS legacy_title ON legacy_record(peer, title, namespace)",
    "CREATE INDEX IF NOT EXISTS legacy_state ON legacy_record(peer, state) WHERE state <> ''",
    # Keys to look at once more, though the feed has passed them.
    """CREATE TABLE IF NOT EXISTS legacy_due(
        peer TEXT NOT NULL, namespace TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY(peer, id, namespace)
    ) STRICT, WITHOUT ROWID""",
    # Its ids of rows that are not a record's any more: two of its rows had become one memory here.
    """CREATE TABLE IF NOT EXISTS legacy_orphan(
        peer TEXT NOT NULL, theirs TEXT NOT NULL, PRIMARY KEY(peer, theirs)
    ) STRICT""",
    # What it archived: enough to bring it back when it restores it. `tag`: of the tombstone that was made for it.
    """CREATE TABLE IF NOT EXISTS legacy_archive(
        peer TEXT NOT NULL, theirs TEXT NOT NULL, namespace TEXT NOT NULL, id TEXT NOT NULL,
        tag BLOB NOT NULL, doc BLOB NOT NULL, PRIMARY KEY(peer, theirs)
    ) STRICT""",
    # Its `since` reads by time. No other reader does, so the index exists only while there is such a peer.
    "CREATE INDEX IF NOT EXISTS legacy_at ON memory(at) WHERE kind = 'm'",
    *linktables.STATEMENTS,
)
TABLES = ("legacy_peer", "legacy_record", "legacy_due", "legacy_orphan", "legacy_archive", *linktables.TABLES)


@dataclass(frozen=True, slots=True)
class PeerRow:
    """Where we stand with one daemon; times are its own texts."""

    peer: str
    newest: str | None = None
    scan: str | None = None
    round: int = 1
    reached: int = 0
    asked: str | None = None
    asked_at: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One record at one daemon."""

    key: Key
    known: Known
    row: bytes = b""
    state: str = ""
    why: str = ""
    round: int = 0

    @property
    def has_row(self) -> bool:
        """True where it has a row for the record, as far as anybody knows."""
        return self.known.is_there and self.state != "gone"


def opened(ledger: Ledger | FeedReader) -> SqlLedger | Reader:
    """The store itself, behind the port of the open transaction."""
    assert isinstance(ledger, SqlLedger | Reader), "only the store itself has tables"
    return ledger


def executing(ledger: Ledger | FeedReader) -> Execute:
    """The `execute` of the open transaction."""
    return opened(ledger).execute


def are_made(execute: Execute) -> bool:
    return _is_made(execute, "legacy_peer")


def _is_made(execute: Execute, table: str) -> bool:
    return bool(execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0])


def make(execute: Execute) -> None:
    knew_links = _is_made(execute, "legacy_link")
    for statement in STATEMENTS:
        execute(statement)
    if not knew_links:
        # A store of an earlier version passed over the links of its feed: it is looked at anew, and no row sent again.
        execute("UPDATE legacy_peer SET reached = 0")


def keep_only(execute: Execute, peers: Sequence[str]) -> None:
    """Forget all daemons but these: one that is configured again is read and sent everything anew."""
    listed = ",".join("?" * len(peers))
    for table in TABLES:
        execute(f"DELETE FROM {table} WHERE peer NOT IN ({listed})", list(peers))
    if not peers:
        execute("DROP INDEX IF EXISTS legacy_at")


# --- peers


def peer(execute: Execute, name: str) -> PeerRow:
    found = execute(
        "SELECT newest, scan, round, reached, asked, asked_at, missed FROM legacy_peer WHERE peer = ?", (name,)
    ).fetchone()
    return PeerRow(name) if found is None else PeerRow(name, *found)


def put_peer(execute: Execute, row: PeerRow) -> None:
    execute(
        "INSERT OR REPLACE INTO legacy_peer VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
        (row.peer, row.newest, row.scan, row.round, row.reached, row.asked, row.asked_at, row.missed),
    )


# --- records

_COLUMNS = "namespace, id, theirs, title, at, row, tag, past, state, why, round"


def by_theirs(execute: Execute, name: str, ids: Iterable[str]) -> dict[str, Record]:
    """The records that it knows by these ids."""
    found: dict[str, Record] = {}
    for some in chunks(ids):
        listed = ",".join("?" * len(some))
        statement = f"SELECT {_COLUMNS} FROM legacy_record WHERE peer = ? AND theirs IN ({listed})"
        for row in execute(statement, (name, *some)):
            record = _record(row)
            if row[2] not in found or record.known.is_there:
                found[row[2]] = record
    return found


def by_keys(execute: Execute, name: str, keys: Iterable[Key]) -> dict[Key, Record]:
    found: dict[Key, Record] = {}
    for some in chunks(keys):
        listed = ",".join(["(?,?)"] * len(some))
        statement = (
            f"WITH k(namespace, id) AS (VALUES {listed}) SELECT {', '.join('r.' + c for c in _COLUMNS.split(', '))}"
            " FROM k CROSS JOIN legacy_record r ON r.peer = ? AND r.id = k.id AND r.namespace = k.namespace"
        )
        for row in execute(statement, (*itertools.chain.from_iterable(some), name)):
            found[row[0], row[1]] = _record(row)
    return found


def by_ids(execute: Execute, name: str, ids: Iterable[str]) -> list[Record]:
    """The records with these ids of ours, in whatever namespace."""
    found: list[Record] = []
    for some in chunks(ids):
        listed = ",".join("?" * len(some))
        statement = f"SELECT {_COLUMNS} FROM legacy_record WHERE peer = ? AND id IN ({listed}) ORDER BY id, namespace"
        found += map(_record, execute(statement, (name, *some)))
    return found


def by_title(execute: Execute, name: str, namespace: str, title: str) -> list[Record]:
    """The records that it had under this title, the one that it has first."""
    found = execute(
        f"SELECT {_COLUMNS} FROM legacy_record WHERE peer = ? AND title = ? AND namespace = ? ORDER BY at DESC",
        (name, title, namespace),
    )
    return [_record(row) for row in found]


def put(execute: Execute, name: str, records: Iterable[Record]) -> None:
    """Write down what is known of these; links that end at them follow."""
    records = list(records)
    for one in records:
        known = one.known
        execute(
            f"INSERT OR REPLACE INTO legacy_record(peer, {_COLUMNS}) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (name, *one.key, known.theirs, known.title, known.at, one.row, known.tag, _encoded(known.past), one.state,
             one.why, one.round),
        )  # fmt: skip
    linktables.came(execute, name, [one.key[1] for one in records if one.has_row])
    linktables.went(execute, name, [one.key[1] for one in records if not one.has_row])


def forget(execute: Execute, name: str, key: Key) -> None:
    execute("DELETE FROM legacy_record WHERE peer = ? AND id = ? AND namespace = ?", (name, key[1], key[0]))


def found_again(execute: Execute, name: str, ids: Iterable[str], number: int) -> None:
    """The reading of everything found these rows unchanged; what was thought gone is not."""
    for some in chunks(ids):
        listed = ",".join("?" * len(some))
        back = execute(
            f"SELECT id FROM legacy_record WHERE peer = ? AND theirs IN ({listed}) AND state = 'gone'", (name, *some)
        ).fetchall()
        linktables.came(execute, name, [record_id for (record_id,) in back])
        execute(
            "UPDATE legacy_record SET round = ?, state = CASE state WHEN 'gone' THEN '' ELSE state END"
            f" WHERE peer = ? AND theirs IN ({listed})",
            (number, name, *some),
        )


def mark_gone(execute: Execute, name: str, number: int) -> None:
    """A reading of everything has ended: what it had, and did not show, is gone there. Nobody said why."""
    gone = execute(
        "UPDATE legacy_record SET state = 'gone', why = 'it had it, and has it no more'"
        " WHERE peer = ? AND at <> '' AND round < ? AND state <> 'gone' RETURNING id",
        (name, number),
    ).fetchall()
    for some in chunks(record_id for (record_id,) in gone):
        linktables.went(execute, name, some)


def states(execute: Execute, name: str) -> list[tuple[str, int, str, str]]:
    """(state, how many, the title of one, its reason) of all that cannot agree."""
    found = execute(
        "SELECT state, count(*), min(namespace || '/' || title), why FROM legacy_record INDEXED BY legacy_state"
        " WHERE peer = ? AND state <> '' GROUP BY state ORDER BY state",
        (name,),
    )
    return [tuple(row) for row in found]


def _record(row: Sequence[Any]) -> Record:
    namespace, record_id, theirs, title, at, digest, tag, past, state, why, number = row
    known = Known(theirs, title, at, tag, _decoded(past))
    return Record((namespace, record_id), known, digest, state, why, number)


def _encoded(past: Past | None) -> bytes:
    return b"" if past is None else stamp_text(past.dot, past.depth, past.context)


def _decoded(data: bytes) -> Past | None:
    if not data:
        return None
    dot, context, depth = unstamped(data)
    return Past(context, dot, depth)


def sent(record: Record, **changes: Any) -> Record:
    """The record with other facts known of it, and nothing in the way of agreeing."""
    return replace(record, known=replace(record.known, **changes), state="", why="")


def nothing(record: Record) -> Record:
    """The same record, of which the daemon has no row any more under the name that it was known by."""
    return replace(record, known=replace(record.known, theirs="", at="", tag=b""), row=b"", state="", why="")


# --- keys to look at again


def put_due(execute: Execute, name: str, keys: Iterable[Key]) -> None:
    for namespace, record_id in keys:
        execute("INSERT OR IGNORE INTO legacy_due VALUES(?, ?, ?)", (name, namespace, record_id))


def due(execute: Execute, name: str, limit: int) -> list[Key]:
    found = execute("SELECT namespace, id FROM legacy_due WHERE peer = ? LIMIT ?", (name, limit))
    return [(namespace, record_id) for namespace, record_id in found]


def drop_due(execute: Execute, name: str, keys: Iterable[Key]) -> None:
    for namespace, record_id in keys:
        execute("DELETE FROM legacy_due WHERE peer = ? AND id = ? AND namespace = ?", (name, record_id, namespace))


# --- rows that have to go


def put_orphans(execute: Execute, name: str, ids: Iterable[str]) -> None:
    room = None
    for theirs in ids:
        room = MAX_ORPHANS - _count(execute, "legacy_orphan", name) if room is None else room - 1
        if room <= 0:
            return
        execute("INSERT OR IGNORE INTO legacy_orphan VALUES(?, ?)", (name, theirs))


def orphans(execute: Execute, name: str, limit: int) -> list[str]:
    """Ids of its rows that have to go, unless a record has one of them again."""
    found = execute(
        "SELECT theirs FROM legacy_orphan o WHERE peer = ?1 AND NOT EXISTS(SELECT 1 FROM legacy_record r"
        " WHERE r.peer = ?1 AND r.theirs = o.theirs AND r.at <> '') LIMIT ?2",
        (name, limit),
    )
    return [theirs for (theirs,) in found]


def drop_orphans(execute: Execute, name: str, ids: Iterable[str]) -> None:
    for theirs in ids:
        execute("DELETE FROM legacy_orphan WHERE peer = ? AND theirs = ?", (name, theirs))


# --- archive


@dataclass(frozen=True, slots=True)
class Archived:
    """A memory that the daemon archived, and we removed for it."""

    key: Key
    tag: bytes
    doc: bytes


def archive(execute: Execute, name: str, theirs: str, one: Archived) -> None:
    if archived(execute, name, theirs) is None and _count(execute, "legacy_archive", name) >= MAX_ARCHIVED:
        return
    execute(
        "INSERT OR REPLACE INTO legacy_archive VALUES(?, ?, ?, ?, ?, ?)", (name, theirs, *one.key, one.tag, one.doc)
    )


def archived(execute: Execute, name: str, theirs: str) -> Archived | None:
    found = execute(
        "SELECT namespace, id, tag, doc FROM legacy_archive WHERE peer = ? AND theirs = ?", (name, theirs)
    ).fetchone()
    return None if found is None else Archived((found[0], found[1]), found[2], found[3])


def drop_archived(execute: Execute, name: str, theirs: str) -> None:
    execute("DELETE FROM legacy_archive WHERE peer = ? AND theirs = ?", (name, theirs))


def _count(execute: Execute, table: str, name: str) -> int:
    return int(execute(f"SELECT count(*) FROM {table} WHERE peer = ?", (name,)).fetchone()[0])
