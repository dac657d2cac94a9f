"""What local clients look up: by id, by title, lists, conflicts, counts. Expired memories are kept, and not shown."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from node.store import ledger, linked, rows
from node.store.connection import Connection
from node.store.locator import Locator, Run, rows_beginning, rows_with
from node.store.search import Found, SearchFilter, TextSearch
from node.store.textindex import place_of
from sync.ports import Kept
from sync.version import Key

T = TypeVar("T")
_PREFIX_END = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class ListFilter:
    """Which memories to list, newest change first."""

    now: str
    """Canonical time: what expired before it is left out."""
    limit: int
    offset: int = 0
    namespace: str | None = None
    """Exactly this namespace."""
    tier: str | None = None
    tag: str | None = None
    agent_id: str | None = None
    since: str | None = None
    """Canonical time: changed at or after it."""
    until: str | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts over the whole store."""

    total: int
    by_namespace: Sequence[tuple[str, int]]
    by_tier: Sequence[tuple[str, int]]
    tombstones: int
    conflicts: int
    """Keys with more than one kept version."""
    waiting: int
    links: int
    expired: int
    expiring_soon: int
    bytes: int
    unindexed: int


class Queries:
    """Look-ups over one connection."""

    def __init__(self, connection: Connection, locator: Locator) -> None:
        self._connection = connection
        self._locator = locator
        self._run = locator.run
        self._search = TextSearch(connection)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """One state of the store for everything inside."""
        self._begin()
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # a failing disk has ended it already
                self._connection.execute("ROLLBACK")
            self._search.forget_tail()
            raise
        self._connection.execute("COMMIT")  # of nothing but the connection's own table of the tail

    @property
    def run(self) -> Run:
        """The run of new rows that goes with this state of the store, for `locator.rows_with`."""
        return self._run

    def _begin(self) -> None:
        """Fix a state of the store, and the run of new rows that goes with it (locator.py)."""
        while True:
            self._run = self._locator.run
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT number FROM located").fetchone()
            if self._run is self._locator.run:
                return
            self._connection.execute("ROLLBACK")

    def in_one_statement(self, task: Callable[[Self], T]) -> T:
        """The result of a task of one statement, which sees one state of the store without a transaction around it.

        Nothing fixes that state before the task has read from the run where rows lie. So where the run changed
        meanwhile, a row may have moved away between the two, and the task is done again in a transaction.
        """
        run = self._run = self._locator.run
        changes = run.changes
        result = task(self)
        if self._locator.run is run and run.changes == changes:
            return result
        with self.snapshot():
            return task(self)

    def by_id(self, record_id: str, now: str, namespace: str | None = None) -> list[Kept]:
        """The memories with this id, greatest rank first; more than one only where it exists in several namespaces."""
        condition, values = rows_with(self._run, record_id)
        return self._memories(f"{condition} AND id = ?", [*values, record_id], now, namespace)

    def by_prefix(self, prefix: str, now: str, namespace: str | None = None) -> list[Kept]:
        """Memories whose id begins so, greatest rank first; the smallest ids where there are very many."""
        condition, values = rows_beginning(self._run, prefix)
        return self._memories(
            f"{condition} AND id >= ? AND id < ?", [*values, prefix, prefix + _PREFIX_END], now, namespace
        )

    def by_title(self, namespace: str, title: str) -> list[Kept]:
        """The winners with this title; greatest rank first."""
        found = ledger.titled(self._connection.execute, self._run, namespace, title)
        return sorted(found, key=lambda one: one.version.rank, reverse=True)

    def _memories(self, condition: str, values: list[Any], now: str, namespace: str | None) -> list[Kept]:
        if namespace is not None:
            condition, values = f"{condition} AND namespace = ?", [*values, namespace]
        found = self._connection.execute(
            f"SELECT {rows.KEPT_COLUMNS} FROM memory WHERE {condition} AND kind = 'm'"
            " AND (expires_at IS NULL OR expires_at > ?) ORDER BY id LIMIT 64",
            (*values, now),
        )
        return sorted((rows.kept(row) for row in found), key=lambda one: one.version.rank, reverse=True)

    def versions(self, key: Key) -> list[Kept]:
        """All kept versions of a key, tombstones included, the winner first."""
        namespace, record_id = key
        values = (record_id, namespace)
        condition, found_by = rows_with(self._run, record_id)
        winner = self._connection.execute(
            f"SELECT {rows.KEPT_COLUMNS} FROM memory WHERE {condition} AND id = ? AND namespace = ?",
            (*found_by, *values),
        ).fetchall()
        others = self._connection.execute(
            f"SELECT {rows.KEPT_COLUMNS} FROM conflict WHERE id = ? AND namespace = ?", values
        ).fetchall()
        found = [rows.kept(row) for row in (*winner, *others)]
        return sorted(found, key=lambda one: one.version.rank, reverse=True)

    def links(self, record_id: str, now: str, limit: int, offset: int = 0) -> list[linked.Linked]:
        """The links that begin at a memory or lead to it, newest change first."""
        return linked.links_of(self._connection.execute, self._run, record_id, now, limit, offset)

    def link_keys(self, link_id: str) -> list[Key]:
        """The keys under which a link is kept."""
        return linked.link_keys(self._connection.execute, self._run, link_id)

    def listed(self, wanted: ListFilter) -> list[bytes]:
        """Documents of memories, newest change first."""
        conditions, values = ["kind = 'm'", "(expires_at IS NULL OR expires_at > ?)"], [wanted.now]
        table = (
            ("memory.namespace = ?", wanted.namespace),
            ("CAST(doc AS TEXT) ->> 'tier' = ?", wanted.tier),
            ("EXISTS(SELECT 1 FROM json_each(CAST(doc AS TEXT), '$.tags') WHERE value = ?)", wanted.tag),
            ("CAST(doc AS TEXT) ->> '$.metadata.agent_id' = ?", wanted.agent_id),
            ("at >= ?", wanted.since),
            ("at <= ?", wanted.until),
        )
        for condition, value in table:
            if value is not None:
                conditions.append(condition)
                values.append(value)
        where = " AND ".join(conditions)
        if wanted.namespace is None:
            return self._documents("memory", where, "number", values, wanted.limit, wanted.offset)
        # First the tail that the index of namespaces does not hold yet, then what it holds.
        newest = self._documents(
            "memory", f"number > (SELECT number FROM indexed) AND {where}", "number", values,
            wanted.offset + wanted.limit, 0,
        )  # fmt: skip
        found = newest[wanted.offset :]
        if len(found) < wanted.limit:
            found += self._documents(
                "text CROSS JOIN memory ON memory.number = text.rowid", f"text MATCH ? AND {where}", "text.rowid",
                [place_of(wanted.namespace), *values],
                wanted.limit - len(found), max(0, wanted.offset - len(newest)),
            )  # fmt: skip
        return found

    def _documents(
        self, source: str, where: str, order: str, values: Sequence[Any], limit: int, offset: int
    ) -> list[bytes]:
        found = self._connection.execute(
            f"SELECT doc FROM {source} WHERE {where} ORDER BY {order} DESC LIMIT ? OFFSET ?", (*values, limit, offset)
        )
        return [doc for (doc,) in found]

    def search(self, wanted: SearchFilter) -> Found:
        """Full-text search; finds everything that was acknowledged before this read began."""
        return self._search.search(wanted)

    def conflicting(self, limit: int, offset: int) -> list[Key]:
        """Keys with more than one kept version, newest change first."""
        found = self._connection.execute(
            "SELECT namespace, id FROM memory INDEXED BY memory_conflicting WHERE others > 0"
            " ORDER BY number DESC LIMIT ? OFFSET ?",
            (limit, offset),
        )
        return [(namespace, record_id) for namespace, record_id in found]

    def conflicting_beginning(self, prefix: str, namespace: str | None = None) -> list[Key]:
        """Keys with more than one kept version whose id begins so; the smallest ids where there are very many."""
        condition, values = "id >= ? AND id < ?", [prefix, prefix + _PREFIX_END]
        if namespace is not None:
            condition, values = f"{condition} AND namespace = ?", [*values, namespace]
        found = self._connection.execute(
            f"SELECT DISTINCT namespace, id FROM conflict WHERE {condition} ORDER BY id LIMIT 64", values
        )
        return [(namespace, record_id) for namespace, record_id in found]

    def twins(self, limit: int, offset: int = 0) -> list[tuple[str, str]]:
        """(namespace, title) that more than one memory has. Only a memory with an odd id can have a twin."""
        found = self._connection.execute(
            "SELECT DISTINCT namespace, title FROM memory WHERE aliased = 1 ORDER BY namespace, title"
        )
        shared = ((namespace, title) for namespace, title in found if len(self.by_title(namespace, title)) > 1)
        return list(itertools.islice(shared, offset, offset + limit))

    def namespaces(self, now: str) -> list[tuple[str, int]]:
        """(namespace, memories), the fullest first."""
        found = self._connection.execute(
            "SELECT namespace, count(*) AS n FROM memory WHERE kind = 'm' AND (expires_at IS NULL OR expires_at > ?)"
            " GROUP BY namespace ORDER BY n DESC, namespace",
            (now,),
        )
        return [(namespace, count) for namespace, count in found]

    def conflict_count(self) -> int:
        """How many keys have more than one kept version."""
        found = self._connection.execute(
            "SELECT count(*) FROM memory INDEXED BY memory_conflicting WHERE others > 0"
        ).fetchone()
        return int(found[0])

    def waiting(self) -> dict[str, tuple[int, str]]:
        """By peer: how many versions that came from it wait for their time, and the latest of these times."""
        found = self._connection.execute("SELECT peer, count(*), max(at) FROM waiting GROUP BY peer")
        return {peer: (count, at) for peer, count, at in found}

    def stats(self, now: str, soon: str) -> Stats:
        """Counts; what expires until `soon` (canonical time) expires soon. Reads every row: for people, no polling."""
        one = self._one
        tiers = self._connection.execute(
            "SELECT CAST(doc AS TEXT) ->> 'tier' AS tier, count(*) FROM memory"
            " WHERE kind = 'm' AND (expires_at IS NULL OR expires_at > ?) GROUP BY tier ORDER BY 2 DESC",
            (now,),
        ).fetchall()
        by_namespace = self.namespaces(now)
        return Stats(
            total=sum(count for _, count in by_namespace),
            by_namespace=by_namespace,
            by_tier=[(tier, count) for tier, count in tiers],
            tombstones=one("SELECT count(*) FROM memory WHERE kind = 't'"),
            conflicts=self.conflict_count(),
            waiting=one("SELECT count(*) FROM waiting"),
            links=linked.link_count(self._connection.execute),
            expired=one("SELECT count(*) FROM memory WHERE expires_at <= ?", now),
            expiring_soon=one("SELECT count(*) FROM memory WHERE expires_at > ? AND expires_at <= ?", now, soon),
            bytes=one("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"),
            unindexed=one("SELECT count(*) FROM memory, indexed WHERE memory.number > indexed.number"),
        )

    def _one(self, statement: str, *values: Any) -> int:
        return int(self._connection.execute(statement, values).fetchone()[0])
