"""Files as the existing daemon writes them: its database, encrypted with its quirk or plain, and its JSON export."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2 as sqlcipher

PASSPHRASE = "it's"
"""With a quote in it: the daemon quotes it, and its driver quotes that again."""

SCHEMA = """
CREATE TABLE memories (id TEXT PRIMARY KEY, tier TEXT NOT NULL, namespace TEXT NOT NULL DEFAULT 'global',
    title TEXT NOT NULL, content TEXT NOT NULL, tags TEXT NOT NULL DEFAULT '[]', priority INTEGER NOT NULL DEFAULT 5,
    confidence REAL NOT NULL DEFAULT 1.0, source TEXT NOT NULL DEFAULT 'api', access_count INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL, updated_at TEXT NOT NULL, last_accessed_at TEXT, expires_at TEXT,
    metadata TEXT NOT NULL DEFAULT '{}', embedding BLOB,
    agent_id_idx TEXT GENERATED ALWAYS AS (json_extract(CASE WHEN json_valid(metadata) THEN metadata END, '$.agent_id')) VIRTUAL);
CREATE UNIQUE INDEX memories_title ON memories (title, namespace);
CREATE VIRTUAL TABLE memories_fts USING fts5 (title, content, tags, content=memories, content_rowid=rowid);
CREATE TABLE memory_links (source_id TEXT NOT NULL, target_id TEXT NOT NULL, relation TEXT NOT NULL,
    created_at TEXT NOT NULL, PRIMARY KEY (source_id, target_id, relation));
CREATE TABLE archived_memories (id TEXT PRIMARY KEY, namespace TEXT NOT NULL, title TEXT NOT NULL,
    content TEXT NOT NULL, archived_at TEXT NOT NULL, archive_reason TEXT NOT NULL);
CREATE TABLE namespace_meta (namespace TEXT PRIMARY KEY, standard_id TEXT, updated_at TEXT, parent_namespace TEXT);
CREATE TABLE pending_actions (id TEXT PRIMARY KEY, action_type TEXT NOT NULL);
CREATE TABLE subscriptions (id TEXT PRIMARY KEY, url TEXT NOT NULL);
CREATE TABLE entity_aliases (entity_id TEXT NOT NULL, alias TEXT NOT NULL, created_at TEXT NOT NULL);
CREATE TABLE sync_state (agent_id TEXT NOT NULL, peer_id TEXT NOT NULL, last_seen_at TEXT NOT NULL);
CREATE TABLE schema_version (version INTEGER NOT NULL);
INSERT INTO schema_version VALUES (16);
"""  # noqa: E501
SCHEMA_OF_V07 = """
ALTER TABLE memories ADD COLUMN memory_kind TEXT NOT NULL DEFAULT 'observation';
ALTER TABLE memories ADD COLUMN citations TEXT NOT NULL DEFAULT '[]';
CREATE TABLE signed_events (id TEXT PRIMARY KEY);
"""


def key(passphrase: str) -> bytes:
    """What SQLCipher is told by the daemon for a passphrase."""
    return b"'" + passphrase.encode().replace(b"'", b"''") + b"'"


def row(number: int = 1, **fields: Any) -> dict[str, Any]:
    """A memory as the daemon has it; `number` tells it from others. Times have as many digits as they need."""
    usual = {
        "id": f"{number:08x}-0000-4000-8000-000000000000", "tier": "long", "namespace": "moved",
        "title": f"title {number}", "content": f"content {number}", "tags": ["a", "ü"], "priority": 5,
        "confidence": 1.0, "source": "api",
        "access_count": 3, "created_at": "2026-05-01T12:00:00.123456789+00:00",
        "updated_at": "2026-05-02T12:00:00.5+00:00", "metadata": {"agent_id": "ai:them", "scope": "private"},
    }  # fmt: skip
    return {**usual, **fields}


def write_database(
    path: Path, rows: Sequence[Mapping[str, Any]], passphrase: str | None = PASSPHRASE, script: str = ""
) -> None:
    """A database that was closed: no `-wal` beside it. An existing one is written on."""
    connection = _connected(path, passphrase)
    if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        connection.executescript(SCHEMA)
    connection.executescript(script)
    _insert(connection, rows)
    connection.close()


@contextmanager
def daemon_on(
    path: Path, rows: Sequence[Mapping[str, Any]], passphrase: str | None = PASSPHRASE
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the database open, with `rows` standing only in the `-wal`; killed at the end."""
    code = f"import rust_files, sys; rust_files.hold({str(path)!r}, {json.dumps(list(rows))!r}, {passphrase!r})"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as held:
        try:
            assert held.stdout is not None
            assert held.stdout.readline() == b"open\n"
            yield held
        finally:
            held.kill()


def hold(path: str, rows: str, passphrase: str | None) -> None:
    """The life of that process: it writes these rows, and each further list of rows that it is given."""
    connection = _connected(Path(path), passphrase)
    connection.execute("PRAGMA wal_autocheckpoint=0")
    _insert(connection, json.loads(rows))
    print("open", flush=True)
    for line in sys.stdin:
        _insert(connection, json.loads(line))
        print("written", flush=True)


def have_written(daemon: subprocess.Popen[bytes], *rows: Mapping[str, Any]) -> None:
    """Have the process of `daemon_on` write these."""
    assert daemon.stdin is not None and daemon.stdout is not None
    daemon.stdin.write(json.dumps(rows).encode() + b"\n")
    daemon.stdin.flush()
    assert daemon.stdout.readline() == b"written\n"


def write_export(path: Path, rows: Sequence[Any], **others: Any) -> None:
    """The body of `GET /api/v1/export`, which has its members in the order of the alphabet."""
    told = {"count": len(rows), "exported_at": "2026-11-24T07:25:50.051720120+00:00", "links": [], "memories": rows}
    path.write_text(json.dumps(told | others, sort_keys=True))


def folder_state(path: Path) -> dict[str, tuple[int, int, bytes]]:
    """All files beside a file, with inode, time and content: what must not change."""
    return {one.name: (one.stat().st_ino, one.stat().st_mtime_ns, one.read_bytes()) for one in path.parent.iterdir()}


def _connected(path: Path, passphrase: str | None) -> Any:
    connection = sqlcipher.connect(str(path), isolation_level=None)
    if passphrase is not None:
        connection.set_key(key(passphrase))
    connection.execute("PRAGMA journal_mode=WAL")
    return connection


def _insert(connection: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    connection.execute("BEGIN")
    for fields in rows:
        values = {
            name: json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
            for name, value in fields.items()
        }
        columns, places = ", ".join(values), ", ".join("?" * len(values))
        connection.execute(f"INSERT OR REPLACE INTO memories ({columns}) VALUES ({places})", list(values.values()))
    connection.execute("COMMIT")
