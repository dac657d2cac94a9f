"""The one writer: many tasks in one transaction, small ones first, each answered once on disk, or undone whole."""

import asyncio
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import stores
from stores import PATIENCE, Keeper, foreign, held, raw, together

from node.store import textindex
from node.store import writer as writer_module
from node.store.connection import DatabaseError
from node.store.errors import StoreError
from node.store.ledger import SqlLedger
from node.store.writer import GROUP
from sync.errors import RemoteError
from sync.ports import Giver, Held, Ledger, Life, PeerState, Position, Waiting


class Refused(Exception):
    """What a test's task raises."""


def failing_after(keeper: Keeper, name: str) -> Callable[[Ledger], None]:
    """A task that changes everything that a task can change, and then fails."""
    writing = keeper.writing(name)

    def task(ledger: Ledger) -> None:
        writing(ledger)
        ledger.begin_life(Life(name[:16].ljust(16, "0"), ledger.position().number, bytes(32), "start"))
        giver = ledger.giver_id(Giver(name, "1" * 16, 0))
        ledger.put_peer(PeerState(name, 2, (Held("1" * 16, f"cursor {giver}", "tag"),)))
        ledger.put_waiting([Waiting(name, foreign(f"{name} waits"))])
        raise Refused(name)

    return task


def everything(keeper: Keeper) -> dict[str, Any]:
    """What the store says of itself, from memory and from disk."""

    def told(ledger: Ledger) -> dict[str, Any]:
        return {
            "position": ledger.position(),
            "lives": list(ledger.lives()),
            "peers": list(ledger.peers()),
            "waiting": ledger.waiting([("a", stores.foreign("failing waits").id)]),
            "giver": ledger.giver_id(Giver("known", "1" * 16, 0)),
        }

    tables = {name: keeper.rows(f"SELECT * FROM {name}") for name in ("memory", "head", "life", "peer", "waiting")}
    return (
        keeper.do(told) | tables | {"shown": (keeper.store.position, keeper.store.lives, keeper.store.tail.state.peers)}
    )


def transactions(keeper: Keeper) -> list[str]:
    """From now on, each transaction of the writer that changed a memory, as the words that it begins and ends with."""
    seen: list[str] = []
    keeper.do(lambda ledger: ledger._execute.__self__.set_trace_callback(seen.append))  # type: ignore[attr-defined]
    return seen


def test_many_small_tasks_share_one_transaction(keeper: Keeper) -> None:
    """What queues up while the writer is busy is committed at once, and each task gets its own result."""
    seen = transactions(keeper)
    results = together(keeper.store, [keeper.writing(f"title {number}") for number in range(20)])
    assert [one.version.title for one in results] == [f"title {number}" for number in range(20)]
    inserts = [at for at, statement in enumerate(seen) if statement.startswith("INSERT INTO memory")]
    assert len(inserts) == 20
    assert "COMMIT" not in seen[inserts[0] : inserts[-1]]


def test_a_group_has_a_limit(keeper: Keeper) -> None:
    """More tasks than `GROUP` make several transactions, and all are done."""
    seen = transactions(keeper)
    together(keeper.store, [keeper.writing(f"title {number}") for number in range(GROUP * 2 + 1)])
    groups = [len(list(some)) for is_work, some in itertools.groupby(
        [one for one in seen if one == "COMMIT" or one.startswith("INSERT INTO memory")], lambda one: one != "COMMIT"
    ) if is_work]  # fmt: skip
    assert groups == [GROUP, GROUP, 1]


@pytest.mark.parametrize("place", ["first", "between", "last", "alone"])
def test_a_task_that_fails_takes_nothing_with_it_and_leaves_nothing(place: str, keeper: Keeper) -> None:
    """The others of its group are committed; of itself nothing stays, on disk or in memory; its waiter is told."""
    keeper.write("before")
    failing = failing_after(keeper, "failing")
    others = [] if place == "alone" else [keeper.writing("one"), keeper.writing("two")]
    at = {"first": 0, "between": 1, "last": 2, "alone": 0}[place]
    before = everything(keeper)
    results = together(keeper.store, [*others[:at], failing, *others[at:]])
    assert isinstance(results.pop(at), Refused)
    assert [one.version.title for one in results] == ([] if place == "alone" else ["one", "two"])
    assert keeper.titles() == sorted(["before", *(one.version.title for one in results)])
    after = everything(keeper)
    untouched = ("lives", "peers", "waiting", "giver", "life", "peer")
    assert {name: after[name] for name in untouched} == {name: before[name] for name in untouched}
    assert after["position"] == keeper.read(lambda reader: reader.position()) == keeper.store.position
    assert after["position"].number == 1 + len(results)
    again = keeper.write("after")
    keeper.close()
    with raw(keeper.path) as connection:
        numbers = [number for (number,) in connection.execute("SELECT number FROM memory ORDER BY number")]
    assert numbers == list(range(1, len(results) + 3))
    assert again.title == "after"


def test_without_restoring_a_failed_task_would_leave_its_traces(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: it is `restore` that takes back what the ledger remembers."""
    before = everything(keeper)
    monkeypatch.setattr(SqlLedger, "restore", lambda ledger, snapshot: None)
    together(keeper.store, [failing_after(keeper, "failing")])
    assert keeper.do(lambda ledger: list(ledger.lives())) != before["lives"]
    assert keeper.do(lambda ledger: ledger.position()) != keeper.read(lambda reader: reader.position())


def test_a_database_error_fails_the_whole_group(keeper: Keeper) -> None:
    """Where the transaction itself is in doubt nobody gets an answer that could be untrue."""

    def broken(ledger: Ledger) -> None:
        ledger._execute("INSERT INTO no_such_table VALUES(1)")  # type: ignore[attr-defined]

    before = everything(keeper)
    results = together(keeper.store, [keeper.writing("one"), broken, keeper.writing("two")])
    assert [type(one) for one in results] == [StoreError] * 3
    assert everything(keeper) == before
    keeper.write("after")
    assert keeper.titles() == ["after"]


def test_what_the_rules_raise_reaches_the_caller_as_it_is(keeper: Keeper) -> None:
    """An invalid write is the rule's own error, and changes nothing."""
    with pytest.raises(RemoteError, match="title"):
        keeper.write("")
    assert keeper.store.position.number == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_even_an_interrupt_inside_a_task_ends_neither_the_writer_nor_the_truth(
    error: type[BaseException], keeper: Keeper
) -> None:
    """Whatever a task raises is handed to its caller; the writer lives, and nothing of the task stays."""

    def interrupted(ledger: Ledger) -> None:
        keeper.writing("half")(ledger)
        raise error

    with pytest.raises(error):
        keeper.do(interrupted)
    keeper.write("whole")
    assert keeper.titles() == ["whole"]


def queued(keeper: Keeper, order: list[str], *tasks: tuple[str, bool]) -> list[Future[None]]:
    def task(name: str) -> Callable[[Ledger], None]:
        return lambda ledger: order.append(name)

    return [keeper.store.writer._submit(task(name), bulk) for name, bulk in tasks]


def test_small_tasks_go_before_bulk(keeper: Keeper) -> None:
    """Of what waits, all small tasks run first, in their order, then the bulk ones, each on its own."""
    order: list[str] = []
    seen = transactions(keeper)
    with held(keeper.store):
        waiting = queued(
            keeper, order, ("bulk 1", True), ("small 1", False), ("bulk 2", True), ("small 2", False), ("bulk 3", True)
        )
    for one in waiting:
        one.result(PATIENCE)
    assert order == ["small 1", "small 2", "bulk 1", "bulk 2", "bulk 3"]
    assert seen.count("SAVEPOINT task") == 2


def test_a_small_task_that_comes_amid_bulk_goes_next(keeper: Keeper) -> None:
    """It waits for the one bulk task that is running, not for all that wait."""
    order: list[str] = []
    more: list[Future[None]] = []

    def bulk_with_visitor(ledger: Ledger) -> None:
        order.append("bulk 1")
        more.extend(queued(keeper, order, ("small", False)))

    with held(keeper.store):
        first = keeper.store.writer._submit(bulk_with_visitor, True)
        rest = queued(keeper, order, ("bulk 2", True), ("bulk 3", True))
    for one in (first, *rest, *more):
        one.result(PATIENCE)
    assert order == ["bulk 1", "small", "bulk 2", "bulk 3"]


def test_an_answer_comes_after_the_commit(keeper: Keeper) -> None:
    """At the moment of the answer another connection already sees the write."""
    seen: list[int] = []
    with raw(keeper.path) as beside:

        def look(_: Future[Any]) -> None:
            seen.append(beside.execute("SELECT count(*) FROM memory").fetchone()[0])

        with held(keeper.store):
            future = keeper.store.writer._submit(keeper.writing("one"), False)
            future.add_done_callback(look)
        future.result(PATIENCE)
        keeper.do(lambda ledger: None)
    assert seen == [1]


async def test_a_cancelled_waiter_does_not_undo_its_write(keeper: Keeper) -> None:
    """A client that goes away may find its write done; the others of the group are answered."""
    with held(keeper.store):
        gone = asyncio.ensure_future(keeper.store.writer.run(keeper.writing("from one who left")))
        stays = asyncio.ensure_future(keeper.store.writer.run(keeper.writing("from one who stayed")))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    assert (await stays).version.title == "from one who stayed"
    assert keeper.titles() == ["from one who left", "from one who stayed"]


def test_closing_finishes_what_was_asked_for(keeper: Keeper) -> None:
    """Tasks that wait are done and answered, small and bulk; later ones are refused; then the store is one file."""
    closing = threading.Thread(target=keeper.store.close)
    with held(keeper.store):
        waiting = [keeper.store.writer._submit(keeper.writing(f"title {n}"), n % 2 == 0) for n in range(9)]
        closing.start()
        stores.until(lambda: keeper.store.writer._closing)
        with pytest.raises(StoreError, match="closing"):
            keeper.write("too late")
    for one in waiting:
        one.result(PATIENCE)
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert sorted(path.name for path in keeper.path.parent.iterdir()) == ["memories.db", "memories.db.lock"]
    again = Keeper(keeper.path, create=False)
    assert again.titles() == [f"title {n}" for n in range(9)]
    again.close()


def test_listeners_hear_of_every_commit_that_moved_the_feed(keeper: Keeper) -> None:
    """Once for each such transaction, with the position after it; not for tasks that changed nothing or failed."""
    heard: list[Position] = []
    keeper.store.writer.on_commit(heard.append)
    keeper.write("one", tier="long")
    keeper.do(lambda ledger: None)
    together(keeper.store, [failing_after(keeper, "failing")])
    keeper.write("one", tier="long")  # says the same: nothing to change
    together(keeper.store, [keeper.writing("two"), keeper.writing("three")])
    keeper.do(lambda ledger: None)
    assert [one.number for one in heard] == [1, 3]
    assert heard[-1] == keeper.store.position


def test_a_reader_sees_one_state_from_beginning_to_end(keeper: Keeper) -> None:
    """What is committed while a read goes on is not in it; the next read has it."""
    keeper.write("before")

    def read(reader: Any) -> tuple[Position, Position]:
        first = reader.position()
        keeper.write("meanwhile")
        return first, reader.position()

    first, second = keeper.read(read)
    assert first == second
    assert keeper.read(lambda reader: reader.position()).number == first.number + 1


def test_the_cause_of_a_store_error_is_the_database(keeper: Keeper, tmp_path: Path) -> None:
    """A reader's own mistake in SQL is reported as a store error with the database's error behind it, for the log."""
    with pytest.raises(StoreError) as found:
        keeper.rows("SELECT no_such_column FROM memory")
    assert isinstance(found.value.__cause__, DatabaseError)
    assert keeper.titles() == []


# --- turns, and an end that nobody foresaw


@pytest.mark.parametrize(("in_a_row", "steps_between"), [(4, 2), (10**9, 0)], ids=["the rule", "without it"])
def test_a_stream_of_small_tasks_does_not_starve_the_index(
    keeper: Keeper, in_a_row: int, steps_between: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the index presses it gets its turn after some groups of small tasks; without the rule (control) never."""
    monkeypatch.setattr(writer_module, "MOST_IN_A_ROW", in_a_row)
    monkeypatch.setattr(writer_module, "GROUP", 1)
    monkeypatch.setattr(textindex, "TAIL", 0)
    done: list[str] = []
    step = textindex.TextIndex.step
    monkeypatch.setattr(textindex.TextIndex, "step", lambda self, rows: (done.append("step"), step(self, 1))[1])
    tasks = [keeper.writing(f"t{number}") for number in range(10)]

    def noted(task: Any) -> Any:
        return lambda ledger: (done.append("task"), task(ledger))[1]

    stores.together(keeper.store, [noted(task) for task in tasks])
    first, last = done.index("task"), len(done) - 1 - done[::-1].index("task")
    assert done[first:last].count("step") == steps_between


def test_nobody_waits_for_a_writer_that_has_ended(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in the housekeeping ends the thread; tasks that wait fail with a sentence, and later ones are refused."""
    ended: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: ended.append(told.exc_value))

    def broken(_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(type(keeper.store.writer._log), "written", broken)
    with stores.held(keeper.store):
        waiting = keeper.store.writer._submit(lambda ledger: None, True)
    with pytest.raises(StoreError, match="stopped working"):
        waiting.result(stores.PATIENCE)
    keeper.store.writer._thread.join(stores.PATIENCE)
    with pytest.raises(StoreError, match="closing"):
        keeper.write("too late")
    assert [str(error) for error in ended] == ["a bug"]
