"""The daemon's store: SQLite in memory, one connection, every statement its own transaction."""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from rust_daemon import tables
from rust_daemon.moment import Clock
from rust_daemon.release import Release
from rust_daemon.serde import EXTRA_FIELDS

Memory = dict[str, Any]
"""A memory as `serde` reads it: every member present."""
Outcome = Literal["done", "missing", "failed"]
_OPTIONAL = ("last_accessed_at", "expires_at")


def compact(value: Any) -> str:
    """JSON as the daemon writes it: keys in alphabetical order at every level, no spaces, raw UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class Store:
    """Memories, archive, links, standards, pending actions, watermarks."""

    def __init__(self, release: Release, clock: Clock) -> None:
        self.release, self.clock = release, clock
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.executescript(tables.SCHEMA)
        self._db.execute("PRAGMA foreign_keys = ON")

    def close(self) -> None:
        self._db.close()

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        return self._db.execute(sql, values).fetchall()

    def change(self, sql: str, *values: Any) -> int:
        """Rows that a statement touched."""
        return self._db.execute(sql, values).rowcount

    # --- memories

    def merge(self, memory: Memory) -> bool:
        """Take in a peer's row. False where SQL refused it: its id exists under another title or namespace."""
        return self._insert(tables.MERGE, memory)

    def store(self, memory: Memory) -> str | None:
        """Store a client's row: the id that it has here; None where SQL refused it."""
        if not self._insert(tables.STORE, memory):
            return None
        return str(self.rows("SELECT id FROM memories WHERE title = ? AND namespace = ?", *_key(memory))[0]["id"])

    def _insert(self, sql: str, memory: Memory) -> bool:
        given = {**memory, "tags": compact(memory["tags"]), "metadata": compact(memory["metadata"])}
        given["extras"] = compact({name: memory[name] for name in EXTRA_FIELDS if name in memory})
        try:
            self.change(sql, *(given[column] for column in tables.COLUMNS))
        except sqlite3.IntegrityError:
            return False
        return True

    def update(self, memory: Memory) -> bool:
        """Write every changeable column of a row that exists. False where the title is taken."""
        try:
            self.change(
                "UPDATE memories SET tier = ?, namespace = ?, title = ?, content = ?, tags = ?, priority = ?, "
                "confidence = ?, expires_at = ?, metadata = ?, updated_at = ? WHERE id = ?",
                *(memory[name] for name in ("tier", "namespace", "title", "content")),
                compact(memory["tags"]),
                *(memory[name] for name in ("priority", "confidence", "expires_at")),
                compact(memory["metadata"]),
                memory["updated_at"],
                memory["id"],
            )
        except sqlite3.IntegrityError:
            return False
        return True

    def get(self, identifier: str) -> Memory | None:
        """By id, or by the beginning of one."""
        found = self._memories("WHERE id = ?", identifier)
        if not found:
            found = self._memories("WHERE substr(id, 1, ?) = ? LIMIT 1", len(identifier), identifier)
        return found[0] if found else None

    def titled(self, title: str, namespace: str) -> Memory | None:
        found = self._memories("WHERE title = ? AND namespace = ?", title, namespace)
        return found[0] if found else None

    def all(self) -> list[Memory]:
        """Every live row, by namespace and title: what tests compare."""
        return self._memories("ORDER BY namespace, title")

    def page(self, namespace: str | None, tier: str | None, limit: int, offset: int) -> list[Memory]:
        """What a client lists: nothing that is over its time."""
        return self._memories(
            "WHERE (?1 IS NULL OR namespace = ?1) AND (?2 IS NULL OR tier = ?2) AND (expires_at IS NULL OR "
            "expires_at > ?3) ORDER BY priority DESC, updated_at DESC LIMIT ?4 OFFSET ?5",
            *(namespace, tier, self.clock.now(), limit, offset),
        )

    def since(self, since: str | None, limit: int) -> list[Memory]:
        """Rows with a later time than this text: no second column decides among equal times."""
        return [self._memory(row) for row in self.rows(tables.SINCE, since, limit)]

    def _memories(self, where: str, *values: Any) -> list[Memory]:
        columns = ", ".join(tables.COLUMNS)
        return [self._memory(row) for row in self.rows(f"SELECT {columns} FROM memories {where}", *values)]

    def _memory(self, row: sqlite3.Row) -> Memory:
        memory = {column: row[column] for column in tables.COLUMNS}
        memory |= json.loads(memory.pop("extras"))
        memory["tags"], memory["metadata"] = json.loads(memory["tags"]), json.loads(memory["metadata"])
        return memory

    def wire(self, memory: Memory) -> dict[str, Any]:
        """A memory as it is sent: what is null is left out."""
        quiet = (*_OPTIONAL, *EXTRA_FIELDS)
        return {name: value for name, value in memory.items() if value is not None or name not in quiet}

    # --- delete, archive, restore

    def delete(self, identifier: str) -> bool:
        """Gone for good, with its links and the standards that it was; nothing remembers that it was there."""
        gone = bool(self.change("DELETE FROM memories WHERE id = ?", identifier))
        if gone:
            self.change("DELETE FROM namespace_meta WHERE standard_id = ?", identifier)
        return gone

    def archive(self, identifier: str, reason: str) -> bool:
        if not self.change(tables.ARCHIVE, identifier, self.clock.now(), reason):
            return False
        return self.delete(identifier)

    def restore(self, identifier: str) -> Outcome:
        """Back from the archive, as of now."""
        tier = None if self.release.restore_keeps_tier else "long"
        try:
            if not self.change(tables.RESTORE, identifier, self.clock.now(), tier):
                return "missing"
        except sqlite3.IntegrityError:
            return "failed"
        self.change("DELETE FROM archived_memories WHERE id = ?", identifier)
        return "done"

    def archived(self) -> list[dict[str, Any]]:
        reasons = self.rows("SELECT * FROM archived_memories ORDER BY archived_at DESC")
        more = ("archived_at", "archive_reason")
        found = []
        for row in reasons:
            found.append(self.wire(self._memory(row)) | {name: row[name] for name in more})
        return found

    # --- links, standards

    def link(self, source: str, target: str, relation: str, created_at: str) -> bool:
        """True where it is there afterwards. False where one of the two memories is not here."""
        if not all(self.rows("SELECT 1 FROM memories WHERE id = ?", end) for end in (source, target)):
            return False
        self.change("INSERT OR IGNORE INTO memory_links VALUES (?, ?, ?, ?)", source, target, relation, created_at)
        return True

    def links(self, identifier: str) -> list[dict[str, Any]]:
        return [
            dict(row)
            for row in self.rows(
                "SELECT created_at, relation, source_id, target_id FROM memory_links "
                "WHERE source_id = ?1 OR target_id = ?1 ORDER BY created_at, relation",
                identifier,
            )
        ]

    def unlink(self, source: str, target: str, relation: str | None) -> bool:
        sql = "DELETE FROM memory_links WHERE source_id = ?1 AND target_id = ?2 AND (?3 IS NULL OR relation = ?3)"
        return bool(self.change(sql, source, target, relation))

    def set_standard(self, entry: Mapping[str, Any]) -> bool:
        """False where the memory is not here."""
        if not self.rows("SELECT 1 FROM memories WHERE id = ?", entry["standard_id"]):
            return False
        now = entry.get("updated_at") or self.clock.now()
        values = (entry["namespace"], entry["standard_id"], now, entry.get("parent_namespace"))
        self.change("INSERT OR REPLACE INTO namespace_meta VALUES (?, ?, ?, ?)", *values)
        return True

    def clear_standard(self, namespace: str) -> bool:
        return bool(self.change("DELETE FROM namespace_meta WHERE namespace = ?", namespace))

    # --- watermarks

    def seen(self, agent: str, peer: str) -> str | None:
        found = self.rows("SELECT last_seen_at FROM sync_state WHERE agent_id = ? AND peer_id = ?", agent, peer)
        return str(found[0][0]) if found else None

    def pushed(self, agent: str, peer: str) -> str | None:
        found = self.rows("SELECT last_pushed_at FROM sync_state WHERE agent_id = ? AND peer_id = ?", agent, peer)
        return found[0][0] if found else None

    def observe(self, agent: str, peer: str, at: str) -> None:
        """Never back, as text goes."""
        self.change(tables.OBSERVE, agent, peer, at, self.clock.now())

    def record_push(self, agent: str, peer: str, at: str) -> None:
        self.change(tables.RECORD_PUSH, agent, peer, at, self.clock.now())

    def entries(self, agent: str) -> dict[str, str]:
        """The "clock" of one agent: peer to the latest time seen."""
        return {r[0]: r[1] for r in self.rows("SELECT peer_id, last_seen_at FROM sync_state WHERE agent_id = ?", agent)}

    def watermarks(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.rows("SELECT * FROM sync_state ORDER BY agent_id, peer_id")]


def _key(memory: Memory) -> Iterable[str]:
    return memory["title"], memory["namespace"]
