"""What local clients look up: by id, by title, lists, conflicts, counts. Expired memories are kept, and not shown."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from node.store import linked, lookups, rows, scoping
from node.store.connection import Connection
from node.store.locator import Locator, Run, rows_beginning, rows_with
from node.store.lookups import MOST_ALIASES
from node.store.scoping import MEMORIES, within
from node.store.search import Found, SearchFilter, TextSearch
from node.store.textindex import place_of
from sync.ids import memory_id
from sync.merge import supersedes
from sync.ports import Kept
from sync.scope import Globs
from sync.version import Key

T = TypeVar("T")
_PREFIX_END = "\U0010ffff"
MOST_PLACES = 64
"""Namespaces of one id that are told at one time."""
MOST_TITLES = 5_000
"""Titles among which those are looked for that several memories have."""
MAX_JUDGED = 1_000
"""Versions that wait and are compared with what is kept, each time somebody asks who lacks what."""
MAX_COMPARED = 2_000
"""Kept versions that are read for that: a key has up to 32, and what waits may be of any number of keys."""
_KEPT = rows.KEPT_COLUMNS


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
    scope: Globs | None = None
    """What the client may see; None: everything."""


@dataclass(frozen=True, slots=True)
class Twins:
    """A title that several memories of a namespace have."""

    namespace: str
    title: str
    ids: tuple[str, ...]
    """The one that the title gives first, then the latest."""


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
    """Look-ups over one connection. `scope`: what is hidden by it is as if it were not there; None hides nothing."""

    def __init__(self, connection: Connection, locator: Locator) -> None:
        self._connection = connection
        self._locator = locator
        self._run = locator.run
        self.equip()

    def equip(self) -> None:
        """Make what a connection has of its own, and lacks once it was opened anew: a table of the tail, a function."""
        self._search = TextSearch(self._connection)
        scoping.register(self._connection)

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

    def by_id(self, record_id: str, now: str, namespace: str | None = None, scope: Globs | None = None) -> list[Kept]:
        """The memories with this id, greatest rank first; more than one only where it exists in several namespaces.

        Of more than MOST_PLACES namespaces, those where it was written here and then those of the latest changes.
        """
        condition, values = rows_with(self._run, record_id)
        where, values = _shown(f"{condition} AND id = ?", [*values, record_id], now, namespace, scope)
        first = f"SELECT number FROM memory WHERE {where} ORDER BY giver IS NOT NULL, at DESC LIMIT {MOST_PLACES}"
        found = self._connection.execute(f"SELECT {_KEPT} FROM memory WHERE number IN ({first})", values)
        return sorted((rows.kept(row) for row in found), key=lambda one: one.version.rank, reverse=True)

    def ids_beginning(
        self, prefix: str, now: str, namespace: str | None = None, scope: Globs | None = None, most: int = 2
    ) -> list[str]:
        """The first ids of memories that begin so; with two it is known that there is not one alone."""
        condition, values = rows_beginning(self._run, prefix)
        condition, values = f"{condition} AND id >= ? AND id < ?", [*values, prefix, prefix + _PREFIX_END]
        where, values = _shown(condition, values, now, namespace, scope)
        found = self._connection.execute(
            f"SELECT DISTINCT id FROM memory WHERE {where} ORDER BY id LIMIT {most:d}", values
        )
        return [record_id for (record_id,) in found]

    def by_title(self, namespace: str, title: str) -> list[Kept]:
        """The winners with this title; greatest rank first."""
        found = lookups.titled(self._connection.execute, self._run, namespace, title)
        return sorted(found, key=lambda one: one.version.rank, reverse=True)

    def versions(self, key: Key) -> list[Kept]:
        """All kept versions of a key, tombstones included, the winner first."""
        return self._versions(key, _KEPT)

    def _versions(self, key: Key, columns: str) -> list[Kept]:
        namespace, record_id = key
        values = (record_id, namespace)
        condition, found_by = rows_with(self._run, record_id)
        winner = self._connection.execute(
            f"SELECT {columns} FROM memory WHERE {condition} AND id = ? AND namespace = ?",
            (*found_by, *values),
        ).fetchall()
        others = self._connection.execute(
            f"SELECT {columns} FROM conflict WHERE id = ? AND namespace = ?", values
        ).fetchall()
        found = [rows.kept(row) for row in (*winner, *others)]
        return sorted(found, key=lambda one: one.version.rank, reverse=True)

    def links(
        self, record_id: str, now: str, limit: int, offset: int = 0, scope: Globs | None = None
    ) -> list[linked.Linked]:
        """The links that begin at a memory or lead to it, newest change first; with a scope, those within it."""
        if scope is not None:
            return linked.links_within(self._connection.execute, self._run, record_id, now, limit, offset, scope)
        return linked.links_of(self._connection.execute, self._run, record_id, now, limit, offset)

    def are_here(self, ids: Sequence[str], now: str, scope: Globs | None) -> bool:
        """Whether each of these ids is one of a memory that a client sees."""
        return len(linked.present(self._connection.execute, self._run, ids, now, scope)) == len(set(ids))

    def link_keys(self, link_id: str, namespace: str | None = None) -> list[Key]:
        """The keys under which a link is kept; of very many those that were said here, and the newest."""
        return linked.link_keys(self._connection.execute, self._run, link_id, namespace)

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
        visible, scopes = within(wanted.scope, "memory.namespace")
        where, values = " AND ".join(conditions) + visible, [*values, *scopes]
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

    def conflicting(self, limit: int, offset: int, scope: Globs | None = None) -> list[Key]:
        """Keys with more than one kept version, newest change first; with a scope, those of memories alone."""
        visible, scopes = _memories_within(scope)
        found = self._connection.execute(
            f"SELECT namespace, id FROM memory INDEXED BY memory_conflicting WHERE others > 0{visible}"
            " ORDER BY number DESC LIMIT ? OFFSET ?",
            (*scopes, limit, offset),
        )
        return [(namespace, record_id) for namespace, record_id in found]

    def conflicting_beginning(self, prefix: str, namespace: str | None = None, scope: Globs | None = None) -> list[Key]:
        """Keys with more than one kept version whose id begins so; the smallest ids where there are very many."""
        visible, scopes = _memories_within(scope)
        condition, values = "id >= ? AND id < ?", [prefix, prefix + _PREFIX_END]
        if namespace is not None:
            condition, values = f"{condition} AND namespace = ?", [*values, namespace]
        found = self._connection.execute(
            f"SELECT DISTINCT namespace, id FROM conflict WHERE {condition}{visible} ORDER BY id LIMIT 64",
            (*values, *scopes),
        )
        return [(namespace, record_id) for namespace, record_id in found]

    def twins(self, limit: int, offset: int = 0, scope: Globs | None = None) -> list[Twins]:
        """Titles that more than one memory of a namespace has, in their order; the first MOST_TITLES are looked at.

        Only a memory whose id is another than the one that its title gives can share a title. No document is read.
        """
        visible, scopes = within(scope)
        found = self._connection.execute(
            f"SELECT namespace, title FROM memory INDEXED BY memory_alias WHERE aliased = 1{visible}"
            f" GROUP BY title, namespace ORDER BY title, namespace LIMIT {MOST_TITLES}",
            scopes,
        ).fetchall()
        looked = (Twins(namespace, title, self._ids_titled(namespace, title)) for namespace, title in found)
        return list(itertools.islice((one for one in looked if len(one.ids) > 1), offset, offset + limit))

    def _ids_titled(self, namespace: str, title: str) -> tuple[str, ...]:
        own = memory_id(namespace, title, 0)
        condition, values = rows_with(self._run, own)
        found = self._connection.execute(
            f"SELECT id FROM memory WHERE {condition} AND id = ? AND namespace = ? AND kind = 'm' AND title = ?",
            (*values, own, namespace, title),
        ).fetchall()
        found += self._connection.execute(
            "SELECT id FROM memory INDEXED BY memory_alias WHERE title = ? AND namespace = ? AND aliased = 1"
            f" ORDER BY at DESC LIMIT {MOST_ALIASES}",
            (title, namespace),
        ).fetchall()
        return tuple(record_id for (record_id,) in found)

    def namespaces(self, now: str, scope: Globs | None = None) -> list[tuple[str, int]]:
        """(namespace, memories), the fullest first."""
        visible, scopes = within(scope)
        found = self._connection.execute(
            "SELECT namespace, count(*) AS n FROM memory WHERE kind = 'm' AND (expires_at IS NULL OR expires_at > ?)"
            f"{visible} GROUP BY namespace ORDER BY n DESC, namespace",
            (now, *scopes),
        )
        return [(namespace, count) for namespace, count in found]

    def conflict_count(self, scope: Globs | None = None) -> int:
        """How many keys have more than one kept version; with a scope, of memories alone."""
        visible, scopes = _memories_within(scope)
        found = self._connection.execute(
            f"SELECT count(*) FROM memory INDEXED BY memory_conflicting WHERE others > 0{visible}", scopes
        ).fetchone()
        return int(found[0])

    def lacked(self) -> dict[str, tuple[int, str]]:
        """By peer: how many versions that it brought wait for their time and are lacked, and the latest of these times.

        A version that something kept supersedes is lacked by nobody, though it goes on waiting (`sync.receive`). It is
        looked for among the first MAX_JUDGED, and in MAX_COMPARED kept versions; what waits beyond these is counted as
        it is. Of a key all is read once, and no document but of daemons, as only theirs are compared by their words.
        """
        times: dict[str, list[str]] = {}
        kept: dict[tuple[Key, bool], list[Kept]] = {}
        left = MAX_COMPARED
        columns = rows.VERSION_COLUMNS
        first = f"SELECT peer, rowid, {_without_text(columns)} FROM waiting ORDER BY rowid LIMIT {MAX_JUDGED}"
        for peer, number, *row in self._connection.execute(first).fetchall():
            one = rows.version(row)
            if one.dot.is_legacy:
                asked = self._connection.execute(f"SELECT {columns} FROM waiting WHERE rowid = ?", (number,))
                one = rows.version(asked.fetchone())
            place = (one.key, one.dot.is_legacy)
            if place not in kept and left > 0:
                kept[place] = self._versions(one.key, _KEPT if one.dot.is_legacy else _without_text(_KEPT))
                left -= len(kept[place])
            if not any(supersedes(other.version, one) for other in kept.get(place, ())):
                times.setdefault(peer, []).append(one.at)
        found = {peer: (len(those), max(those)) for peer, those in times.items()}
        rest = f"SELECT peer, at FROM waiting ORDER BY rowid LIMIT -1 OFFSET {MAX_JUDGED}"
        for peer, more, latest in self._connection.execute(
            f"SELECT peer, count(*), max(at) FROM ({rest}) GROUP BY peer"
        ):
            count, at = found.get(peer, (0, ""))
            found[peer] = (count + more, max(at, latest))
        return found

    def stats(self, now: str, soon: str, scope: Globs | None = None) -> Stats:
        """Counts; what expires until `soon` (canonical time) expires soon. Reads every row: for people, no polling.

        `waiting`, `links`, `bytes` and `unindexed` are of the whole store whatever the scope: not for who has one.
        """
        one = self._one
        visible, scopes = within(scope)
        tiers = self._connection.execute(
            "SELECT CAST(doc AS TEXT) ->> 'tier' AS tier, count(*) FROM memory"
            f" WHERE kind = 'm' AND (expires_at IS NULL OR expires_at > ?){visible} GROUP BY tier ORDER BY 2 DESC",
            (now, *scopes),
        ).fetchall()
        by_namespace = self.namespaces(now, scope)
        return Stats(
            total=sum(count for _, count in by_namespace),
            by_namespace=by_namespace,
            by_tier=[(tier, count) for tier, count in tiers],
            tombstones=one(f"SELECT count(*) FROM memory WHERE kind = 't'{visible}", *scopes),
            conflicts=self.conflict_count(scope),
            waiting=one("SELECT count(*) FROM waiting"),
            links=linked.link_count(self._connection.execute),
            expired=one(f"SELECT count(*) FROM memory WHERE expires_at <= ?{visible}", now, *scopes),
            expiring_soon=one(
                f"SELECT count(*) FROM memory WHERE expires_at > ? AND expires_at <= ?{visible}", now, soon, *scopes
            ),
            bytes=one("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"),
            unindexed=one("SELECT count(*) FROM memory, indexed WHERE memory.number > indexed.number"),
        )

    def _one(self, statement: str, *values: Any) -> int:
        return int(self._connection.execute(statement, values).fetchone()[0])


def _memories_within(scope: Globs | None) -> tuple[str, list[Any]]:
    visible, scopes = within(scope)
    return (f" AND {MEMORIES}{visible}", scopes) if scope is not None else ("", [])


def _shown(
    condition: str, values: Sequence[Any], now: str, namespace: str | None, scope: Globs | None
) -> tuple[str, list[Any]]:
    """A condition narrowed to the memories that readers see, and its values."""
    placed = ("", []) if namespace is None else (" AND namespace = ?", [namespace])
    visible, scopes = within(scope)
    where = f"{condition}{placed[0]}{visible} AND kind = 'm' AND (expires_at IS NULL OR expires_at > ?)"
    return where, [*values, *placed[1], *scopes, now]


def _without_text(columns: str) -> str:
    return columns.removesuffix("doc") + "x'' AS doc"
