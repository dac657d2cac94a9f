"""No statement that a request issues reads the whole store: checked on the plans of what is really executed."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stores
from stores import Keeper, foreign

from node.exchange import Exchange
from node.peers import PeerBook, Strangers
from node.store.queries import ListFilter
from node.store.search import SearchFilter
from node.timekeeper import Timekeeper
from sync import moment
from sync.ids import memory_id
from sync.link import link_id
from sync.ports import Giver, PageRequest
from sync.scope import Globs
from sync.serve import Ask

BIG = ("memory", "conflict", "head", "certificate", "locator", "waiting")
_ALIASED = re.compile(rf"\b({'|'.join(BIG)})\s+(?:AS\s+)?(\w+)", re.IGNORECASE)
SMALL_INDEXES = ("memory_conflicting", "memory_alias", "memory_own", "conflict_own")
"""Indexes that hold few rows: reading one whole costs little."""
LAST_ROW = re.compile(r"FROM head ORDER BY number DESC LIMIT 1$")
"""Its plan says SCAN, and it stops at the first row: the greatest key."""
_WHOLE = re.compile(r"SCAN (\w+)")
"""Steps that read a table whole."""
_KEYWORDS = {"where", "indexed", "order", "cross", "join", "on", "group", "limit", "values", "set", "as"}
SCOPE = Globs(("a", "b/**"))
WANTED = frozenset((bytes(16), b"x" * 16))
NOW = moment.text(stores.START)
HUB = memory_id("a", "title 10", 0)
LINK_ID = link_id(HUB, "target 1", "related_to")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    """A store with something of everything in it, conflicts and waiting versions included."""
    path = tmp_path_factory.mktemp("plans") / "memories.db"
    keeper = Keeper(path)
    for number in range(30):
        keeper.write(f"title {number}", f"common word {number}", "ab"[number % 2])
    keeper.change("title 2", title="renamed")
    keeper.take(foreign("title 4"), foreign("title 6"), foreign("theirs"))
    keeper.take(foreign("late", now=keeper.now + 9_000_000_000))
    keeper.delete("title 8")
    for number in range(5):
        keeper.link("title 10", f"target {number}")
        keeper.link("title 11", f"target {number}", "b")
        keeper.link(f"title {2 * number + 12}", HUB)
    keeper.merge()
    keeper.link("title 20", HUB)
    yield keeper
    keeper.close()


@contextmanager
def watched(keeper: Keeper) -> Iterator[list[str]]:
    """Every statement that writer or readers execute meanwhile, with its values."""
    statements: list[str] = []

    def watch(callback: Callable[[str], None] | None) -> None:
        # The writer's connection is touched by the writer's thread alone: a callback needs the interpreter's lock while
        # SQLite holds the connection's, so a second thread that has them the other way round would wait for ever.
        keeper.do(lambda opened: keeper.store.writer._connection.set_trace_callback(callback))
        for connection in keeper.store.reader._connections:
            connection.set_trace_callback(callback)

    def note(statement: str) -> None:
        if not statement.startswith("PRAGMA wal_checkpoint"):  # the writer's housekeeping, which nobody asked for
            statements.append(statement)

    watch(note)
    statements.clear()  # the end of the transaction in which the watch began
    try:
        yield statements
    finally:
        asked = len(statements)
        watch(None)
        del statements[asked:]


def scans(keeper: Keeper, statement: str) -> list[str]:
    """The steps of a statement's plan that read a whole big table, or a whole index of one."""
    if not re.match(r"\s*(SELECT|INSERT|DELETE|UPDATE|WITH|REPLACE)\b", statement, re.IGNORECASE):
        return []
    with stores.raw(keeper.path) as beside:
        connection = keeper.store.reader._connections[0] if "temp." in statement else beside
        plan = [detail for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    names = set(BIG) | {alias for _, alias in _ALIASED.findall(statement) if alias.lower() not in _KEYWORDS}
    if LAST_ROW.search(statement) and not any("TEMP B-TREE" in step for step in plan):
        return []
    return [
        step
        for step in plan
        if (found := _WHOLE.match(step)) and found[1] in names and not step.endswith(SMALL_INDEXES)
    ]


def page(**how: Any) -> Callable[[Keeper], object]:
    request = PageRequest(how.pop("after", 3), how.pop("limit", 10), how.pop("max_bytes", 10**6), **how)
    return lambda keeper: keeper.read(lambda reader: reader.page(request))


def reading(name: str, *values: Any) -> Callable[[Keeper], object]:
    return lambda keeper: keeper.read(lambda reader: getattr(reader, name)(*values))


def writing(name: str, *values: Any) -> Callable[[Keeper], object]:
    return lambda keeper: keeper.do(lambda opened: getattr(opened, name)(*values))


def searching(text: str, **filters: Any) -> Callable[[Keeper], object]:
    return lambda keeper: keeper.read(lambda reader: reader.search(SearchFilter(text, NOW, 5, **filters)))


def indexing(keeper: Keeper) -> None:
    def from_the_start(opened: Any) -> None:
        opened._execute("UPDATE indexed SET number = 0")
        opened._execute("DELETE FROM text WHERE rowid > 0")
        keeper.store.writer._text._indexed = 0

    keeper.do(from_the_start)
    keeper.index()


ASKED = {
    "since": page(),
    "since, in scope": page(scope=SCOPE),
    "since, nothing in scope": page(scope=Globs(())),
    "since, leaving out a giver": page(scope=SCOPE, skip_giver=1),
    "since, cut by bytes": page(max_bytes=900),
    "push with offers": page(offer=True, scope=SCOPE),
    "push with what is wanted": page(offer=True, scope=SCOPE, wanted=WANTED, max_bytes=900),
    "position": reading("position"),
    "head at a number": reading("head_at", 5),
    "lives": reading("lives"),
    "a peer": reading("peer", stores.PEER),
    "a giver": reading("find_giver", Giver("p", "l", 0)),
    "by id": reading("by_id", "x", NOW, "a"),
    "by id in any namespace": reading("by_id", "x", NOW),
    "by the beginning of an id": reading("ids_beginning", "abcd", NOW),
    "by title": reading("by_title", "a", "title 4"),
    "titles that several have": reading("twins", 20, 0),
    "links of a memory": reading("links", HUB, NOW, 1_000),
    "where a link is kept": reading("link_keys", LINK_ID),
    "all versions of a key": reading("versions", ("a", "x")),
    "a list of one namespace": reading("listed", ListFilter(NOW, 20, namespace="b")),
    "conflicts": reading("conflicting", 20, 0),
    "conflicts by the beginning of an id": reading("conflicting_beginning", "abcd"),
    "conflicts by the beginning of an id in a namespace": reading("conflicting_beginning", "abcd", "a"),
    "how many conflicts": reading("conflict_count"),
    "search": searching("common"),
    "search with filters": searching('"common word"', namespace="a", tier="mid", tag="x", agent_id="y"),
    "kept versions": writing("kept", [("a", str(number)) for number in range(600)]),
    "tags of kept versions": writing("tags", [("a", str(number)) for number in range(600)]),
    "title, for a write": writing("titled", "a", "renamed"),
    "own versions of the future": writing("own_after", NOW),
    "links, for a move": writing("links_from", HUB, "a", 256),
    "what waits for keys": writing("waiting", [("a", "x"), ("b", "y")]),
    "which of some versions wait": writing("waits", [bytes(16), b"x" * 16]),
    "a page from the future": lambda keeper: keeper.take(
        *(foreign(f"late {n}", str(keeper.now), now=keeper.now + 9_000_000_000) for n in range(20))
    ),
    "what is due": writing("waiting_due", "2020", 10),
    "a new memory": lambda keeper: keeper.write(f"new {keeper.now}"),
    "an update": lambda keeper: keeper.change("title 12", content=f"changed {keeper.now}"),
    "a rename": lambda keeper: keeper.change("title 14", content=f"changed {keeper.now}"),
    "an update that settles": lambda keeper: keeper.change("title 4", content=f"settled {keeper.now}"),
    "a link": lambda keeper: keeper.link("title 10", f"target {keeper.now}"),
    "an unlink": lambda keeper: keeper.unlink("title 10", "target 1"),
    "a move with its links": lambda keeper: keeper.change("title 11", "b", namespace=f"c{keeper.now}"),
    "a page of a peer": lambda keeper: keeper.take(*(foreign(f"more {n}", str(keeper.now)) for n in range(700))),
    "the index of the text": indexing,
}


@pytest.mark.parametrize("what", ASKED)
def test_nothing_that_is_asked_reads_the_whole_store(what: str, full: Keeper) -> None:
    """Every statement behind a request goes through an index, or through a range of the primary key."""
    with watched(full) as statements:
        ASKED[what](full)
    assert any(one.lstrip().startswith(("SELECT", "WITH")) for one in statements)
    assert {one: found for one in statements if (found := scans(full, one))} == {}


SCANNING = {
    "what waits, of some size": "SELECT peer FROM waiting WHERE length(doc) > 100",
    "a column without an index": "SELECT id FROM memory WHERE at > '2020'",
    "an aliased table": "SELECT m.id FROM memory AS m WHERE m.title = 'x'",
    "a whole index": "SELECT count(*) FROM memory",
    "a join the wrong way round": "SELECT m.id FROM memory m CROSS JOIN (VALUES('a')) k ON m.id = k.column1",
    "the index of ids by what it does not begin with": "SELECT key FROM locator WHERE number = 3",
    "a whole namespace": "SELECT id FROM memory WHERE namespace = 'a' AND title = 'x'",
    "a part of a condition": "DELETE FROM memory WHERE id = 'x' OR title = 'y'",
    "the last row of another order": "SELECT number FROM head ORDER BY head DESC LIMIT 1",
    "the index of texts, filled in the order of a row id": "INSERT INTO text(rowid, title) SELECT number, title"
    " FROM memory WHERE at >= 0 ORDER BY number",
}


@pytest.mark.parametrize("what", SCANNING)
def test_a_scan_is_seen(what: str, full: Keeper) -> None:
    """Control: statements that do read a whole table are found out."""
    assert scans(full, SCANNING[what])


def test_without_its_indexes_the_store_would_be_read_whole(full: Keeper, tmp_path: Path) -> None:
    """Control: take the index of the keys away, and the look-ups by id and title that need it are found out."""
    path = tmp_path / "memories.db"
    with watched(full) as statements:
        for what in ("by id", "kept versions", "a new memory"):
            ASKED[what](full)
    path.write_bytes(stores.empty())
    bare = Keeper(path, create=False)
    for statement in ("DROP TABLE locator", "CREATE TABLE locator(key, number)"):
        bare.do(lambda opened, statement=statement: opened._execute(statement))  # type: ignore[misc]
    found = [one for one in statements if scans(bare, one)]
    bare.close()
    assert len(found) >= 2


@pytest.fixture
def exchange(full: Keeper) -> Exchange:
    """The place where pages are cut for peers, over the full store."""
    return Exchange(
        full.store,
        full.engine,
        PeerBook((), Strangers(Globs.everything(), Globs.everything(), allow_unsigned=True)),
        Timekeeper(),
    )


async def test_a_poll_with_nothing_new_touches_no_table(full: Keeper, exchange: Exchange) -> None:
    """A peer in step that asks again is answered without one statement, on any connection."""
    everything = Globs.everything()
    policy = exchange.book.policy(stores.PEER)
    ask = Ask(stores.PEER, None, None, everything, policy, 1_000, 10**7)
    with watched(full) as statements:
        first = await exchange.cut(ask)
        assert statements, "the first page comes from the database"
    with watched(full) as statements:
        second = await exchange.cut(replace(ask, cursor=first.to))
    assert second.page.is_empty
    assert (second.to, second.reset) == (first.to, False)
    assert statements == []


async def test_what_has_just_been_written_is_sent_without_reading_the_store(full: Keeper, exchange: Exchange) -> None:
    """A peer in step gets the newest change from memory, too."""
    ask = Ask(stores.PEER, None, None, Globs.everything(), exchange.book.policy(stores.PEER), 1_000, 10**7)
    first = await exchange.cut(ask)
    full.write(f"fresh {full.now}")
    with watched(full) as statements:
        second = await exchange.cut(replace(ask, cursor=first.to))
    assert second.page.count == 1
    assert not [one for one in statements if "memory" in one]
