"""The tables, as a list of migrations. Each runs in one transaction together with its own record."""

from collections.abc import Sequence
from pathlib import Path

from node.store.connection import Connection
from node.store.errors import StoreTooNew, StoreTooOld
from node.store.locator import id_key
from sync import digest

MIGRATIONS: Sequence[tuple[str, ...]] = (
    (
        # One row for each key: the winner. `number` is the feed number, and the row's place in the full-text index.
        """CREATE TABLE memory(
            number INTEGER PRIMARY KEY,
            namespace TEXT NOT NULL,
            id TEXT NOT NULL,
            kind TEXT NOT NULL,
            at TEXT NOT NULL,
            title TEXT NOT NULL,
            aliased INTEGER NOT NULL,  -- 1: the id is not the one that its title gives (a rename, a legacy peer)
            expires_at TEXT,
            giver INTEGER,             -- NULL: written here; 0: no giver
            others INTEGER NOT NULL,   -- kept versions beside the winner, in `conflict`
            stamp BLOB NOT NULL,
            content BLOB NOT NULL,
            signature BLOB NOT NULL,
            tag BLOB NOT NULL,
            doc BLOB NOT NULL
        ) STRICT""",
        "CREATE INDEX memory_id ON memory(id)",
        # Nearly every title is found by the id that it gives; only the others need an index.
        "CREATE INDEX memory_alias ON memory(title, namespace, at) WHERE aliased = 1",
        "CREATE INDEX memory_own ON memory(at) WHERE giver IS NULL",
        "CREATE INDEX memory_conflicting ON memory(number) WHERE others > 0",
        """CREATE TABLE conflict(
            namespace TEXT NOT NULL,
            id TEXT NOT NULL,
            kind TEXT NOT NULL,
            at TEXT NOT NULL,
            title TEXT NOT NULL,
            giver INTEGER,
            stamp BLOB NOT NULL,
            content BLOB NOT NULL,
            signature BLOB NOT NULL,
            tag BLOB NOT NULL,
            doc BLOB NOT NULL,
            PRIMARY KEY(id, namespace, tag)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX conflict_own ON conflict(at) WHERE giver IS NULL",
        "CREATE TABLE life(ordinal INTEGER PRIMARY KEY, actor TEXT NOT NULL UNIQUE, began_after INTEGER NOT NULL,"
        " secret BLOB NOT NULL, reason TEXT NOT NULL) STRICT",
        # One row for each commit that moved the feed; the last one is where it stands.
        "CREATE TABLE head(number INTEGER PRIMARY KEY, head BLOB NOT NULL, digest BLOB NOT NULL) STRICT",
        "INSERT INTO head VALUES(0, x'0000000000000000', x'00000000000000000000000000000000')",
        "CREATE TABLE peer(peer TEXT PRIMARY KEY, generation INTEGER NOT NULL, held BLOB NOT NULL) STRICT",
        # Certificates that gave something; the number is part of `giver` (givers.py).
        "CREATE TABLE certificate(number INTEGER PRIMARY KEY, peer TEXT NOT NULL UNIQUE) STRICT",
        """CREATE TABLE waiting(
            peer TEXT NOT NULL,
            namespace TEXT NOT NULL,
            id TEXT NOT NULL,
            kind TEXT NOT NULL,
            at TEXT NOT NULL,
            title TEXT NOT NULL,
            stamp BLOB NOT NULL,
            content BLOB NOT NULL,
            signature BLOB NOT NULL,
            tag BLOB NOT NULL,
            doc BLOB NOT NULL,
            PRIMARY KEY(peer, tag)
        ) STRICT""",
        "CREATE INDEX waiting_key ON waiting(id, namespace)",
        "CREATE INDEX waiting_at ON waiting(at)",
        # Deferred full-text index: filled up to `indexed`; `dead` are rows of it whose memory was overwritten.
        "CREATE VIRTUAL TABLE text USING fts5(title, content, tags, content='', contentless_delete=1)",
        "INSERT INTO text(text, rank) VALUES('automerge', 0)",
        # Which rows a namespace has. A B-tree would be written at one place more for each row; an inverted index is
        # only ever appended to. Filled in step with `text`; a namespace is one word in it, its hex digits.
        "CREATE VIRTUAL TABLE place USING fts5(namespace, content='', contentless_delete=1, detail=none)",
        "INSERT INTO place(place, rank) VALUES('automerge', 0)",
        "INSERT INTO place(place, rank) VALUES('crisismerge', 1000)",
        "INSERT INTO text(text, rank) VALUES('crisismerge', 1000)",
        "INSERT INTO text(text, rank) VALUES('hashsize', 4194304)",
        "CREATE TABLE indexed(one INTEGER PRIMARY KEY CHECK(one = 1), number INTEGER NOT NULL) STRICT",
        "INSERT INTO indexed VALUES(1, 0)",
        "CREATE TABLE dead(number INTEGER PRIMARY KEY) STRICT",
        "CREATE VIRTUAL TABLE vocabulary USING fts5vocab('text', 'row')",
    ),
    (
        # Where the rows of an id lie, up to `located.number`; written in sorted runs (locator.py). Rows up to
        # `located.upto` may be in it.
        "DROP INDEX memory_id",
        "CREATE TABLE locator(key BLOB NOT NULL, number INTEGER NOT NULL, PRIMARY KEY(key, number))"
        " STRICT, WITHOUT ROWID",
        "CREATE TABLE located(one INTEGER PRIMARY KEY CHECK(one = 1), number INTEGER NOT NULL, upto INTEGER NOT NULL)"
        " STRICT",
        "INSERT INTO locator SELECT id_key(id), number FROM memory ORDER BY 1, 2",
        "INSERT INTO located SELECT 1, max(number), max(number) FROM head",
        # One inverted index for texts and namespaces (textindex.py), on pages of a size that fits SQLCipher's: 4,096
        # less 80 for the checksum and SQLite's own. FTS5's usual 4,050 spill over to a second page each.
        "DROP TABLE vocabulary",
        "DROP TABLE place",
        "DROP TABLE text",
        "CREATE VIRTUAL TABLE text USING fts5(title, content, tags, place, content='', contentless_delete=1)",
        "INSERT INTO text(text, rank) VALUES('automerge', 0)",
        "INSERT INTO text(text, rank) VALUES('crisismerge', 1000)",
        "INSERT INTO text(text, rank) VALUES('hashsize', 4194304)",
        "INSERT INTO text(text, rank) VALUES('pgsz', 3950)",
        "UPDATE indexed SET number = 0",
        "DELETE FROM dead",
    ),
    (
        # What leads to a memory: the title of a link's row is its target. No other row is written here. (What begins at
        # a memory lies together in `locator`.)
        "CREATE INDEX memory_link ON memory(title) WHERE kind = 'l'",
    ),
    (
        # What the keys of this node's agents are derived from (keys.py).
        "CREATE TABLE key_secret(one INTEGER PRIMARY KEY CHECK(one = 1), secret BLOB NOT NULL) STRICT",
    ),
    (
        # Keys that an operator asked for, made or brought; an agent signs with its last one (keys.py).
        """CREATE TABLE agent_key(
            number INTEGER PRIMARY KEY,
            agent TEXT NOT NULL,
            key BLOB NOT NULL,
            seed BLOB,   -- NULL: derived from key_secret
            origin TEXT NOT NULL,
            since TEXT,  -- NULL: from the first write on
            after BLOB,  -- the key before it, which signed it in `by`
            by BLOB,
            UNIQUE(agent, key)
        ) STRICT""",
    ),
    (
        # Whether a version waits already is asked for each that comes from the future, and for each that is offered.
        "CREATE INDEX IF NOT EXISTS waiting_tag ON waiting(tag)",
    ),
    (
        # What this node's agents said of a memory, which they take along when they move it: found among however many
        # links that others made.
        "CREATE INDEX IF NOT EXISTS memory_link_own ON memory(id, namespace) WHERE kind = 'l' AND giver IS NULL",
    ),
    (
        # The sum of what is kept is wide (sync/digest.py): only the last commit has one.
        "ALTER TABLE head RENAME COLUMN digest TO total",
        "UPDATE head SET total = x'' WHERE total != x''",
        "UPDATE head SET total = (SELECT coalesce(tag_sum(tag), x'') FROM (SELECT tag FROM memory UNION ALL SELECT tag"
        " FROM conflict)) WHERE number = (SELECT max(number) FROM head)",
    ),
)


class _TagSum:
    """An aggregate of SQL: the sum of what is kept, from its tags."""

    def __init__(self) -> None:
        self._total = 0

    def step(self, tag: bytes) -> None:
        self._total = digest.changed(self._total, (), (tag,))

    def finalize(self) -> bytes:
        return digest.stored(self._total)


def version_of(connection: Connection, path: Path) -> int:
    """Which schema a store has. Raises StoreTooNew, StoreTooOld."""
    version = int(connection.execute("SELECT coalesce(max(version), 0) FROM migration").fetchone()[0])
    if version > len(MIGRATIONS):
        raise _too_new(path, version, len(MIGRATIONS))
    if version:
        _require_dots(connection, path)
    return version


def _require_dots(connection: Connection, path: Path) -> None:
    """Raises StoreTooOld for a store from before versions had dots (docs/decisions/0044): no release made one."""
    found = connection.execute("SELECT count(*) FROM pragma_table_info('memory') WHERE name = 'stamp'").fetchone()[0]
    if not found:
        raise StoreTooOld(
            f"{path} was made by a program from before the first release, whose records no node takes any more.",
            "Make a new store, and bring the memories in again.",
        )


def _too_new(path: Path, version: int, known: int) -> StoreTooNew:
    return StoreTooNew(f"{path} has schema {version}, this program knows {known}.", "Run the newer version again.")


def migrate(connection: Connection, path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> int:
    """Bring the store to the newest schema; returns its version. Raises StoreTooNew, StoreTooOld."""
    connection.execute("CREATE TABLE IF NOT EXISTS migration(version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL)")
    connection.create_function("id_key", 1, id_key, deterministic=True)
    connection.create_aggregate("tag_sum", 1, _TagSum)
    version = int(connection.execute("SELECT coalesce(max(version), 0) FROM migration").fetchone()[0])
    if version > len(migrations):
        raise _too_new(path, version, len(migrations))
    if version and migrations is MIGRATIONS:
        _require_dots(connection, path)
    for number, statements in enumerate(migrations[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                connection.execute(statement)
            connection.execute("INSERT INTO migration VALUES(?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))", (number,))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk has ended it already
                connection.execute("ROLLBACK")
            raise
    return len(migrations)
