"""The write side of the store: `sync.ports.Ledger` over the writer's connection. Set-wise statements throughout.

The small tables (position, lives, peers, certificates) are held in memory too, as values that are replaced and never
changed: so a snapshot costs nothing, and `restore` puts them back when a task of a group is rolled back.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from node.store import lookups, rows
from node.store.connection import Connection
from node.store.locator import Locator, Run, id_key
from node.store.tail import Committed
from sync import digest, feed, givers
from sync.ids import memory_id
from sync.memory import Memory
from sync.ports import Change, Giver, Kept, Life, PeerState, Position, Waiting
from sync.record import load
from sync.version import Key, Version

_NOWHERE = (None, 0)
_WAITING = ", ".join(f"w.{column}" for column in rows.VERSION_COLUMNS.split(", "))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the ledger held in memory at a savepoint."""

    committed: Committed
    waiting_bytes: Mapping[str, int]
    any_aliased: bool
    located: int


class SqlLedger:
    """One open write transaction at a time; the writer opens and ends it."""

    def __init__(self, connection: Connection) -> None:
        self._execute = connection.execute
        self.locator = Locator(connection)
        self._state = Committed(
            lookups.position(self._execute), lookups.lives(self._execute), lookups.peers(self._execute),
            lookups.certificates(self._execute),
        )  # fmt: skip
        self._waiting_bytes = lookups.waiting_bytes(self._execute)
        self._any_aliased = self._exists("memory INDEXED BY memory_alias WHERE aliased = 1")
        # What was read in this task, and where its rows lie: (number, versions beside the winner).
        self._read: dict[Key, list[Kept]] = {}
        self._places: dict[Key, tuple[int, int]] = {}

    def _exists(self, rows_of: str) -> bool:
        return bool(self._execute(f"SELECT EXISTS(SELECT 1 FROM {rows_of})").fetchone()[0])

    # --- for the writer

    def begin(self) -> Snapshot:
        """A transaction begins: nothing was changed in it yet."""
        self._state = replace(self._state, changes=(), heads={})
        self.locator.begin()
        return self.snapshot()

    def snapshot(self) -> Snapshot:
        """A task begins: what the one before it read may have been changed since."""
        self._read.clear()
        self._places.clear()
        return Snapshot(self._state, self._waiting_bytes, self._any_aliased, self.locator.mark())

    def restore(self, snapshot: Snapshot) -> None:
        self._state = snapshot.committed
        self._waiting_bytes = snapshot.waiting_bytes
        self._any_aliased = snapshot.any_aliased
        self.locator.undo(snapshot.located)
        self._read.clear()
        self._places.clear()

    @property
    def state(self) -> Committed:
        """What the open transaction did until now."""
        return self._state

    def execute(self, text: str, values: Sequence[Any] = ()) -> Any:
        """A statement over tables that are nobody's but the caller's, inside the open transaction."""
        return self._execute(text, values)

    @property
    def run(self) -> Run:
        """The run of new rows, for `locator.rows_with`."""
        return self.locator.run

    # --- lives and position

    def lives(self) -> Sequence[Life]:
        return self._state.lives

    def begin_life(self, life: Life) -> None:
        self._execute(
            "INSERT INTO life(actor, began_after, secret, reason) VALUES(?, ?, ?, ?)",
            (life.actor, life.began_after, life.secret, life.reason),
        )
        self._state = replace(self._state, lives=(*self._state.lives, life))

    def position(self) -> Position:
        return self._state.position

    def advance(self, position: Position) -> None:
        # The sum is wide, and only that of the last commit is ever read.
        self._execute("UPDATE head SET total = x'' WHERE number = ?", (self._state.position.number,))
        values = (position.number, position.head, digest.stored(position.total))
        self._execute("INSERT INTO head VALUES(?, ?, ?)", values)
        if oldest := feed.oldest_kept(position.number):
            self._execute("DELETE FROM head WHERE number < ?", (oldest,))
        heads = {**self._state.heads, position.number: position.head}
        self._state = replace(self._state, position=position, heads=heads)

    def head_at(self, number: int) -> bytes | None:
        return lookups.head_at(self._execute, number)

    # --- records

    def kept(self, keys: Iterable[Key]) -> Mapping[Key, Sequence[Kept]]:
        """By rank, the winner first: a write joins what they had seen, the winner last, and the first may be let go."""
        wanted = list(keys)
        found: dict[Key, list[Kept]] = {}
        conflicting = []
        unread = [key for key in wanted if key not in self._read]
        for number, others, *rest in self._rows(unread):
            one = rows.kept(rest)
            found[one.version.key] = [one]
            self._places[one.version.key] = (number, others)
            if others:
                conflicting.append(one.version.key)
        for some in rows.chunks(conflicting):
            listed = rows.placeholders(2, len(some))
            statement = (
                f"WITH k(namespace, id) AS (VALUES {listed}) SELECT {_prefixed('c')}"
                " FROM k CROSS JOIN conflict c ON c.id = k.id AND c.namespace = k.namespace"
            )
            for row in self._execute(statement, list(itertools.chain.from_iterable(some))):
                one = rows.kept(row)
                found[one.version.key].append(one)
        for key in conflicting:
            found[key].sort(key=lambda one: one.version.rank, reverse=True)
        self._read.update({key: found.get(key, []) for key in unread})
        return {key: kept for key in wanted if (kept := self._read[key])}

    def tags(self, keys: Iterable[Key]) -> Mapping[Key, Set[bytes]]:
        found: dict[Key, set[bytes]] = {}
        conflicting = []
        for _, others, _, *key, tag in self._rows(list(keys), "m.giver, m.namespace, m.id, m.tag"):
            found[key[0], key[1]] = {bytes(tag)}
            if others:
                conflicting.append((key[0], key[1]))
        for some in rows.chunks(conflicting):
            statement = (
                f"WITH k(namespace, id) AS (VALUES {rows.placeholders(2, len(some))}) SELECT c.namespace, c.id, c.tag"
                " FROM k CROSS JOIN conflict c ON c.id = k.id AND c.namespace = k.namespace"
            )
            for namespace, record_id, tag in self._execute(statement, list(itertools.chain.from_iterable(some))):
                found[namespace, record_id].add(bytes(tag))
        return found

    def _rows(self, keys: Sequence[Key], columns: str = "") -> Iterator[tuple[Any, ...]]:
        """(number, versions beside the winner, columns of the winner) of those that are there.

        `columns`: the first three are giver, namespace and id.
        """
        numbers, others = self.locator.find(keys)
        columns = columns or _prefixed("m")
        for some in rows.chunks(numbers):
            statement = (
                f"SELECT m.number, m.others, {columns} FROM memory m WHERE m.number IN ({','.join('?' * len(some))})"
            )
            yield from self._execute(statement, some)
        sought = set(others)
        for names in rows.chunks({id_key(record_id) for _, record_id in others}):
            statement = (
                f"WITH k(key) AS (VALUES {rows.placeholders(1, len(names))}) SELECT m.number, m.others, {columns}"
                " FROM k CROSS JOIN locator l ON l.key = k.key CROSS JOIN memory m ON m.number = l.number"
            )
            yield from (row for row in self._execute(statement, names) if (row[3], row[4]) in sought)

    def titled(self, namespace: str, title: str) -> Sequence[Kept]:
        key = (namespace, memory_id(namespace, title, 0))
        winner = self.kept((key,)).get(key, ())[:1]
        found = [one for one in winner if one.version.kind == "m" and one.version.title == title]
        return [*found, *lookups.aliased(self._execute, namespace, title)] if self._any_aliased else found

    def links_from(self, source_id: str, namespace: str, most: int) -> Sequence[Key]:
        return lookups.linked_from(self._execute, self.locator.run, source_id, namespace, most)

    def own_after(self, at: str) -> Sequence[Key]:
        found = self._execute(
            "SELECT namespace, id FROM memory WHERE giver IS NULL AND at > ?1"
            " UNION SELECT namespace, id FROM conflict WHERE giver IS NULL AND at > ?1",
            (at,),
        )
        return [(namespace, record_id) for namespace, record_id in found]

    def kept_after(self, at: str) -> Sequence[Key]:
        found = self._execute(
            "SELECT namespace, id FROM memory WHERE at > ?1 UNION SELECT namespace, id FROM conflict WHERE at > ?1",
            (at,),
        )
        return [(namespace, record_id) for namespace, record_id in found]

    def put(self, changes: Sequence[Change]) -> None:
        unread = [change.key for change in changes if change.key not in self._places]
        if unread:
            self.kept(unread)
        old = [self._places[change.key] for change in changes if change.key in self._places]
        moves = ((change.key, change.number, self._places.get(change.key, _NOWHERE)[0]) for change in changes)
        self.locator.put(list(moves))
        for some in rows.chunks([number for number, _ in old]):
            listed = ",".join("?" * len(some))
            # Only rows that the full-text index has seen leave something behind in it.
            self._execute(
                f"INSERT INTO dead SELECT value.number FROM memory AS value, indexed"
                f" WHERE value.number IN ({listed}) AND value.number <= indexed.number AND value.kind = 'm'",
                some,
            )
            self._execute(f"DELETE FROM memory WHERE number IN ({listed})", some)
        for keys in rows.chunks([c.key for c in changes if self._places.get(c.key, (0, 0))[1]]):
            listed = rows.placeholders(2, len(keys))
            flat = list(itertools.chain.from_iterable((key[1], key[0]) for key in keys))
            self._execute(f"DELETE FROM conflict WHERE (id, namespace) IN (VALUES {listed})", flat)
        for batch in rows.chunks(changes, _size):
            statement = (
                f"INSERT INTO memory(number, aliased, expires_at, giver, others, {rows.VERSION_COLUMNS})"
                f" VALUES {rows.placeholders(15, len(batch))}"
            )
            made = [_memory_row(change) for change in batch]
            self._any_aliased = self._any_aliased or any(aliased for _, aliased, *_ in made)
            self._execute(statement, [value for row in made for value in row])
        beside = [one for change in changes for one in change.kept[1:]]
        for some_kept in rows.chunks(beside, lambda one: len(one.version.doc)):
            statement = (
                f"INSERT INTO conflict(giver, {rows.VERSION_COLUMNS}) VALUES {rows.placeholders(11, len(some_kept))}"
            )
            flat_kept = [value for one in some_kept for value in (one.giver, *rows.version_values(one.version))]
            self._execute(statement, flat_kept)
        for change in changes:
            self._places[change.key] = (change.number, len(change.kept) - 1)
            self._read.pop(change.key, None)
        self._state = replace(self._state, changes=(*self._state.changes, *changes))

    # --- peers

    def giver_id(self, giver: Giver) -> int:
        known = self._state.certificates
        if giver.peer not in known:
            self._execute("INSERT INTO certificate(peer) VALUES(?)", (giver.peer,))
            self._state = replace(self._state, certificates={**known, **lookups.certificates(self._execute)})
        return givers.number_of(self._state.certificates[giver.peer], giver)

    def peer(self, peer: str) -> PeerState:
        return self._state.peers.get(peer) or PeerState(peer)

    def peers(self) -> Sequence[PeerState]:
        return list(self._state.peers.values())

    def put_peer(self, state: PeerState) -> None:
        self._execute(
            "INSERT OR REPLACE INTO peer VALUES(?, ?, ?)",
            (state.peer, state.generation, rows.encode_held(state.held)),
        )
        self._state = replace(self._state, peers={**self._state.peers, state.peer: state})

    # --- waiting

    def waiting(self, keys: Iterable[Key]) -> Sequence[Waiting]:
        if not self._waiting_bytes:  # nearly always: no look-up for each write
            return []
        found: list[Waiting] = []
        for some in rows.chunks(keys):
            # For pairs the planner may rather read the whole table than look each of them up.
            statement = (
                f"WITH k(namespace, id) AS (VALUES {rows.placeholders(2, len(some))}) SELECT w.peer, {_WAITING}"
                " FROM k CROSS JOIN waiting w INDEXED BY waiting_key ON w.id = k.id AND w.namespace = k.namespace"
            )
            flat = list(itertools.chain.from_iterable(some))
            found.extend(Waiting(row[0], rows.version(row[1:])) for row in self._execute(statement, flat))
        return found

    def waits(self, tags: Iterable[bytes]) -> Set[bytes]:
        if not self._waiting_bytes:
            return frozenset()
        found: set[bytes] = set()
        for some in rows.chunks(tags):
            listed = ",".join("?" * len(some))
            rows_of = self._execute(f"SELECT tag FROM waiting INDEXED BY waiting_tag WHERE tag IN ({listed})", some)
            found.update(bytes(tag) for (tag,) in rows_of)
        return found

    def waiting_bytes(self, peer: str) -> int:
        return self._waiting_bytes.get(peer, 0)

    def waiting_due(self, at: str, limit: int) -> Sequence[Waiting]:
        statement = f"SELECT peer, {rows.VERSION_COLUMNS} FROM waiting WHERE at <= ? ORDER BY at LIMIT ?"
        return [Waiting(row[0], rows.version(row[1:])) for row in self._execute(statement, (at, limit))]

    def put_waiting(self, waiting: Sequence[Waiting]) -> None:
        for one in waiting:
            put = self._execute(
                f"INSERT OR IGNORE INTO waiting(peer, {rows.VERSION_COLUMNS}) VALUES {rows.placeholders(11, 1)}",
                (one.peer, *rows.version_values(one.version)),
            )
            self._count_waiting(one, put.rowcount)

    def drop_waiting(self, waiting: Sequence[Waiting]) -> None:
        for one in waiting:
            gone = self._execute("DELETE FROM waiting WHERE peer = ? AND tag = ?", (one.peer, one.version.tag))
            self._count_waiting(one, -gone.rowcount)

    def _count_waiting(self, one: Waiting, times: int) -> None:
        left = self._waiting_bytes.get(one.peer, 0) + times * len(one.version.doc)
        others = {peer: size for peer, size in self._waiting_bytes.items() if peer != one.peer}
        self._waiting_bytes = {**others, one.peer: left} if left else others


def _size(change: Change) -> int:
    return len(change.kept[0].version.doc)


def _memory_row(change: Change) -> tuple[Any, ...]:
    winner = change.kept[0]
    return (
        change.number,
        int(rows.is_aliased(winner.version)),
        _expiry(winner.version),
        winner.giver,
        len(change.kept) - 1,
        *rows.version_values(winner.version),
    )


def _expiry(version: Version) -> str | None:
    # A document without the word has no expiry; most have none, and decoding is not free.
    if version.kind != "m" or b'"expires_at"' not in version.doc:
        return None
    memory: Memory = load(version.doc)
    return memory.expires_at if isinstance(memory.expires_at, str) else None


def _prefixed(table: str) -> str:
    return ", ".join(f"{table}.{column}" for column in rows.KEPT_COLUMNS.split(", "))
