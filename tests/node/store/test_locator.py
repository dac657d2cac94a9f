"""Ids are found wherever their rows are registered: in the run in memory, in the table, or half way between them."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import stores
from stamps import stamp
from stores import Keeper, foreign, raw

from node.store import Reader, locator
from node.store.connection import DatabaseError
from node.store.locator import Locator, Run, id_key
from node.store.schema import MIGRATIONS, migrate
from sync import moment
from sync.attest import Unsigned
from sync.draft import Fields
from sync.record import load, memory_version
from sync.version import Key
from sync.writes import Written

LATER = moment.text(stores.START)


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of more than 8 rows is merged, 3 rows a step."""
    monkeypatch.setattr(locator, "SHORTEST", 8)
    monkeypatch.setattr(locator, "STEP", 3)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer merges nothing by itself."""
    monkeypatch.setattr(Locator, "is_due", False)
    monkeypatch.setattr(Locator, "is_pressing", False)


def where(keeper: Keeper) -> Locator:
    return keeper.store.writer.locator


def steps(keeper: Keeper, count: int | None = None) -> None:
    """Take so many steps of a merge, or all of one, between the writer's transactions."""

    def task(ledger: Any) -> None:
        ledger._execute("COMMIT")
        done = 0
        while where(keeper).run.entries and done != count:
            assert where(keeper).step()
            done += 1
            if where(keeper)._merging is None:
                break
        ledger._execute("BEGIN IMMEDIATE")

    keeper.do(task)


def agrees(keeper: Keeper, expected: dict[Key, str]) -> None:
    """Every way to find a memory finds these, with this content, and nothing else."""
    assert keeper.do(lambda ledger: ledger.kept(list(expected))).keys() == expected.keys()
    for (namespace, record_id), content in expected.items():
        for found in (
            keeper.read(lambda reader, i=record_id, n=namespace: reader.by_id(i, LATER, n)),  # type: ignore[misc]
            keeper.read(lambda reader, k=(namespace, record_id): reader.versions(k)),  # type: ignore[misc]
            keeper.do(lambda ledger, k=(namespace, record_id): ledger.kept([k])[k]),  # type: ignore[misc]
        ):
            assert [one.version.key for one in found] == [(namespace, record_id)]
            assert content.encode() in found[0].version.doc
        # (That the defaults bind the names of the loop is what mypy does not infer.)
        begins = keeper.read(lambda reader, i=record_id, n=namespace: reader.ids_beginning(i[:6], LATER, n))  # type: ignore[misc]
        assert begins == [record_id]


def table(keeper: Keeper) -> list[tuple[int, str, str]]:
    """What the table says: number, and the row that is there."""
    found = keeper.rows(
        "SELECT l.number, m.namespace, m.id FROM locator l LEFT JOIN memory m ON m.number = l.number ORDER BY 1"
    )
    return [(number, namespace, id_) for number, namespace, id_ in found]


@pytest.mark.parametrize("seed", range(12))
def test_a_memory_is_found_at_every_moment_of_a_merge(seed: int, keeper: Keeper, still: None) -> None:
    """Writes, edits, deletes, moves, refused groups and single steps in any order; a restart at a random place."""
    dice, expected = random.Random(seed), dict[Key, str]()
    opened = keeper
    for turn in range(60):
        title = f"title {dice.randrange(12)}"
        match dice.choice(("write", "write", "write", "delete", "move", "undone", "step", "step", "reopen")):
            case "write":
                version = opened.write(title, f"content {turn}!", dice.choice("ab"))
                expected[version.key] = f"content {turn}!"
            case "delete" if expected:
                key = dice.choice(sorted(expected))
                opened.do(opened.engine.delete, key, "agent:test", opened.tick())
                del expected[key]
            case "move" if expected:
                key = dice.choice(sorted(expected))
                fields = Fields(namespace="c")
                moved = opened.do(opened.engine.update, key, fields, "agent:test", opened.tick())
                if isinstance(moved, Written) and moved.version.key != key:
                    expected[moved.version.key] = expected.pop(key)
            case "undone":
                write = opened.writing(title, "never")

                def fails(ledger: Any, write: Callable[[Any], Any] = write) -> None:
                    write(ledger)
                    raise KeyError("undone")

                good = opened.writing("beside", f"content {turn}!")
                results = stores.together(opened.store, [fails, good])
                assert isinstance(results[0], KeyError)
                expected[results[1].version.key] = f"content {turn}!"
            case "step":
                steps(opened, 1)
            case "reopen" if dice.random() < 0.5:
                opened.close()
                opened = Keeper(keeper.path, create=False)
        agrees(opened, expected)
    steps(opened)
    steps(opened)
    live = {
        (number, namespace, id_) for number, namespace, id_ in opened.rows("SELECT number, namespace, id FROM memory")
    }
    assert set(table(opened)) == live and len(table(opened)) == len(live)
    opened.close()


def test_the_writer_merges_by_itself_and_short_of_that_nothing_is_written(keeper: Keeper) -> None:
    """Up to its length the run is in memory alone; beyond it, the table has every row soon."""
    for number in range(8):
        keeper.write(f"title {number}")
    assert table(keeper) == []
    keeper.take(*(foreign(f"theirs {number}") for number in range(40)))
    stores.until(lambda: len(table(keeper)) == 48)
    assert len(where(keeper).run) == 0
    assert keeper.rows("SELECT number, upto FROM located") == [(48, 48)]


def stale_after_a_crash(keeper: Keeper) -> list[tuple[int, str, str]]:
    """Cut a merge short by a restart, overwrite all rows, and see what the table has."""
    for number in range(9):
        keeper.write(f"title {number}")
    steps(keeper, 2)
    assert len(table(keeper)) == 6
    keeper.close()
    again = Keeper(keeper.path, create=False)
    assert (where(again).run.after, len(where(again).run)) == (0, 9)
    for number in range(9):
        again.write(f"title {number}", "changed")
    left = table(again)
    steps(again)
    assert [number for number, namespace, _ in table(again) if namespace] == list(range(10, 19))
    again.close()
    return left


def test_a_merge_that_a_crash_cut_short_leaves_nothing_stale(keeper: Keeper, still: None) -> None:
    """Rows that were merged before it, and are overwritten after it, are taken out of the table again."""
    assert stale_after_a_crash(keeper) == []


def test_without_its_mark_a_crash_would_leave_stale_rows(
    keeper: Keeper, still: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: forget how far an unfinished merge may have come, and the table keeps rows that are gone."""
    true = Locator.__init__

    def forgetful(self: Locator, connection: Any) -> None:
        true(self, connection)
        self._upto = self.run.after

    monkeypatch.setattr(Locator, "__init__", forgetful)
    assert len(stale_after_a_crash(keeper)) == 6


def test_a_step_that_fails_is_taken_again(keeper: Keeper, still: None) -> None:
    """A full disk hinders a merge, and nobody else; with the next commit it goes on where it was."""
    for number in range(9):
        keeper.write(f"title {number}")
    steps(keeper, 1)

    class Full:
        """Takes no insert."""

        def __init__(self, true: Callable[..., Any]) -> None:
            self.true = true

        def __call__(self, statement: str, *values: Any) -> Any:
            if statement.startswith("INSERT OR IGNORE INTO locator"):
                raise DatabaseError("database or disk is full")
            return self.true(statement, *values)

    found = where(keeper)
    true, found._execute = found._execute, Full(found._execute)
    outcome: list[bool] = []

    def failing(ledger: Any) -> None:
        ledger._execute("COMMIT")
        outcome.append(found.step())
        ledger._execute("BEGIN IMMEDIATE")

    keeper.do(failing)
    assert outcome == [False]
    found._execute = true
    assert len(table(keeper)) == 3
    keeper.write("another")
    assert not found._hindered
    steps(keeper)
    assert len(table(keeper)) == 9 and len(found.run) == 1


@contextmanager
def changing_runs(keeper: Keeper, times: int) -> Iterator[list[int]]:
    """Finish a merge just after a reader has taken the run, so often: the row that it seeks moves to the table."""
    reader = keeper.store.reader._free.get()
    keeper.store.reader._free.put(reader)
    left, true = [times], reader._connection

    class Late:
        def execute(self, statement: str, *values: Any) -> Any:
            if statement == "BEGIN" and left[0]:
                left[0] -= 1
                keeper.write(f"one more {left[0]}")
                steps(keeper)
            return true.execute(statement, *values)

        def __getattr__(self, name: str) -> Any:
            return getattr(true, name)

    reader._connection = Late()  # type: ignore[assignment]  # it stands in for a class that cannot be derived from
    try:
        yield left
    finally:
        reader._connection = true


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Keeper]:
    """A store with one reader."""
    opened = Keeper(tmp_path / "lone.db")
    opened.store.reader._free.get()
    yield opened
    opened.close()


def found_late(keeper: Keeper) -> list[str]:
    version = keeper.write("sought")
    with changing_runs(keeper, 2) as left:
        found = keeper.read(lambda reader: reader.by_id(version.id, LATER))
        assert left == [0]
    return [one.version.title for one in found]


def test_a_reader_takes_the_run_that_goes_with_its_state(lone: Keeper, still: None) -> None:
    """A merge that ends between taking the run and fixing the state is noticed, however often."""
    assert found_late(lone) == ["sought"]


def test_a_run_that_is_not_checked_misses_rows(lone: Keeper, still: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a reader whose run is a later one than its state finds neither the run's row nor the table's."""
    version = lone.write("sought")
    reader = lone.store.reader._free.get()
    lone.store.reader._free.put(reader)

    def careless() -> None:
        reader._connection.execute("BEGIN")
        reader._connection.execute("SELECT number FROM located").fetchone()
        steps(lone)
        reader._run = where(lone).run

    monkeypatch.setattr(reader, "_begin", careless)
    assert lone.read(lambda one: one.by_id(version.id, LATER)) == []


def looked_up_late(keeper: Keeper, meanwhile: Callable[[], Any]) -> list[str]:
    """What a look-up in one statement finds where something happens after it has asked the run, and before it reads."""
    version = keeper.write("sought")
    reader = keeper.store.reader._free.get()
    keeper.store.reader._free.put(reader)
    true, left = reader._connection, [meanwhile]

    class Late:
        def execute(self, statement: str, *values: Any) -> Any:
            if left and "FROM memory" in statement:
                left.pop()()
            return true.execute(statement, *values)

        def __getattr__(self, name: str) -> Any:
            return getattr(true, name)

    reader._connection = Late()  # type: ignore[assignment]  # it stands in for a class that cannot be derived from
    try:
        found = keeper.store.reader._one_statement(lambda one: one.by_id(version.id, LATER))
    finally:
        reader._connection = true
    assert not left
    return [load(one.version.doc).content for one in found]


@pytest.mark.parametrize("what", ["a merge", "an edit", "an edit that is undone, and another"])
def test_a_look_up_in_one_statement_is_repeated_when_the_run_changed(what: str, lone: Keeper, still: None) -> None:
    """Without a transaction the state is fixed by the statement, so the run is compared after it."""

    def undone(ledger: Any) -> None:
        lone.writing("sought", "never")(ledger)
        raise KeyError("undone")

    def edits() -> None:
        stores.together(lone.store, [undone, lone.writing("sought", "edited")])

    happens = {
        "a merge": lambda: steps(lone),
        "an edit": lambda: lone.write("sought", "edited"),
        "an edit that is undone, and another": edits,
    }
    (content,) = looked_up_late(lone, happens[what])
    assert (content == "edited") == (what != "a merge")


def test_a_look_up_that_does_not_look_again_misses_what_is_edited(
    lone: Keeper, still: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: without the comparison, an edit at the wrong moment makes a memory look deleted."""
    monkeypatch.setattr(Reader, "in_one_statement", lambda self, task: task(self))
    assert looked_up_late(lone, lambda: lone.write("sought", "edited")) == []


def test_a_key_in_the_table_tells_ids_apart_and_keeps_their_beginning() -> None:
    """Eight bytes of the id, five of its digest: ids with one beginning differ, and halves of pairs do no harm."""
    assert id_key("memory-000001")[:8] == b"memory-0" == id_key("memory-000002")[:8]
    assert id_key("memory-000001") != id_key("memory-000002")
    assert len(id_key("x")) == 6
    assert id_key("\ud800") == id_key("?")


def test_ids_with_one_beginning_are_found_by_more_of_it(keeper: Keeper, still: None) -> None:
    """What follows the first eight bytes is compared with the id itself, in the run and in the table."""
    made = []
    for number in range(30):
        version = stores.foreign(f"t{number}")
        memory = load(version.doc)
        memory.id = f"memory-{number:06}"
        made.append(memory_version(memory, Unsigned("agent:elsewhere"), stamp({"e" * 16: (number + 1) << 20})))
    keeper.take(*made[:20])
    steps(keeper)
    keeper.take(*made[20:])
    found = keeper.read(lambda reader: reader.ids_beginning("memory-00002", LATER, most=99))
    assert found == [f"memory-{number:06}" for number in range(20, 30)]
    found = keeper.read(lambda reader: reader.ids_beginning("memory-00000", LATER, most=99))
    assert found == [f"memory-{number:06}" for number in range(10)]


def test_a_store_of_the_first_schema_is_brought_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ids are found, its texts are searched, and its namespaces are listed."""
    path = tmp_path / "memories.db"
    keeper = Keeper(path)
    for number in range(20):
        keeper.write(f"title {number}", f"apple {number}", "ab"[number % 2])
    keeper.close()
    rows_of_memory = "SELECT * FROM memory ORDER BY number"
    with raw(path) as whole:
        tables = {
            name: whole.execute(f"SELECT * FROM {name}").fetchall()
            for name in ("memory", "life", "head", "peer", "certificate")
        }
    old = tmp_path / "old.db"
    old.write_bytes(stores.empty())
    with raw(old) as connection:
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'text_%' AND name NOT LIKE 'sqlite%'"
        ).fetchall():
            connection.execute(f"DROP TABLE {name}")
        migrate(connection, old, MIGRATIONS[:1])
        connection.execute("DELETE FROM head")
        for name, found in tables.items():
            for row in found:
                connection.execute(f"INSERT INTO {name} VALUES({','.join('?' * len(row))})", row)
        before = connection.execute(rows_of_memory).fetchall()
    opened = Keeper(old, create=False)
    assert opened.rows(rows_of_memory) == before
    assert len(where(opened).run) == 0 and len(table(opened)) == 20
    agrees(opened, {(n, i): t for n, i, t in opened.rows("SELECT namespace, id, title FROM memory")})
    opened.index()
    assert len(opened.search("apple", 50)) == 20 and len(opened.search("apple", 50, namespace="a")) == 10
    opened.close()


def test_an_overwritten_entry_is_no_place_any_more() -> None:
    """A run knows the last number of a key, and remembers all for readers of older states; `take_back` undoes both."""
    key = ("a", "x")
    run = Run(0, [(id_key("x"), 1, key)])
    run.add((id_key("x"), 2, key))
    assert (run.places, run.numbers, len(run)) == ({key: 2}, {"x": [1, 2]}, 2)
    assert not run.is_live((id_key("x"), 1, key)) and run.is_live((id_key("x"), 2, key))
    run.take_back(1)
    assert (run.places, run.numbers, len(run)) == ({key: 1}, {"x": [1]}, 1)
    run.take_back(None)
    assert (run.places, len(run)) == ({}, 0)
