"""Reads on the store's own threads: each is answered, an error ends only itself, and a close leaves nobody waiting."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from stores import PATIENCE, Keeper, until

from node.store import Reader, answer
from node.store.errors import StoreError
from node.store.reader import Readers


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    made = Keeper(tmp_path / "store.db")
    made.write("one")
    return made


def count(reader: Reader) -> int:
    return int(reader.execute("SELECT count(*) FROM memory").fetchone()[0])


async def test_more_reads_than_connections_are_all_answered(keeper: Keeper) -> None:
    """In transactions and without, on threads of the store."""
    readers, names = keeper.store.reader, set[str]()

    def read(reader: Reader) -> int:
        names.add(threading.current_thread().name)
        return count(reader)

    found = await asyncio.gather(*(readers.run(read) for _ in range(20)), *(readers.look_up(read) for _ in range(20)))
    assert found == [1] * 40
    assert names <= {"store-reader_0", "store-reader_1"}
    keeper.close()


async def test_an_error_reaches_its_own_waiter_alone(keeper: Keeper) -> None:
    """Ours as it was raised, the database's as one of the store's; the thread goes on."""

    def wrong(reader: Reader) -> Any:
        raise KeyError("ours")

    def broken(reader: Reader) -> Any:
        return reader.execute("SELECT one FROM nowhere")

    readers = keeper.store.reader
    for _ in range(3):
        with pytest.raises(KeyError, match="ours"):
            await readers.run(wrong)
        with pytest.raises(StoreError, match="SQLITE_ERROR"):
            await readers.look_up(broken)
    assert await readers.run(count) == 1
    keeper.close()


async def test_a_cancelled_waiter_disturbs_nobody(keeper: Keeper) -> None:
    """Its read ends, and nobody is told."""
    began, go_on = threading.Event(), threading.Event()

    def slow(reader: Reader) -> int:
        began.set()
        go_on.wait(PATIENCE)
        return count(reader)

    waiting = asyncio.ensure_future(keeper.store.reader.run(slow))
    await asyncio.to_thread(began.wait, PATIENCE)
    waiting.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await keeper.store.reader.run(count) == 1
    keeper.close()


@pytest.mark.parametrize("looks", [True, False], ids=["", "without the look"])
async def test_whoever_asks_after_the_end_is_told(looks: bool, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked before is answered. Control: without the look at the end they would wait for ever."""
    readers = keeper.store.reader
    asked = [asyncio.ensure_future(readers.run(count)) for _ in range(8)]
    await asyncio.sleep(0)
    keeper.close()
    assert await asyncio.gather(*asked) == [1] * 8
    assert not any(thread.is_alive() for thread in readers._threads)
    if not looks:
        monkeypatch.setattr(readers, "_closing", False)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(readers.run(count), 0.2)
        return
    for ask in (readers.run, readers.look_up):
        with pytest.raises(StoreError, match="closing"):
            await ask(count)


def test_an_answer_for_a_loop_that_is_closed_is_dropped(keeper: Keeper) -> None:
    """The node is going down: the thread must not end over it, nor the store's close."""
    began, go_on = threading.Event(), threading.Event()

    def slow(reader: Reader) -> int:
        began.set()
        go_on.wait(PATIENCE)
        return count(reader)

    async def ask(readers: Readers) -> None:
        task = asyncio.ensure_future(readers.run(slow))
        await asyncio.to_thread(began.wait, PATIENCE)
        task.cancel()

    asyncio.run(ask(keeper.store.reader))
    go_on.set()
    until(lambda: keeper.store.reader._free.qsize() == 2)
    assert keeper.store.reader.call(count) == 1
    assert all(thread.is_alive() for thread in keeper.store.reader._threads)
    keeper.close()


def test_a_blocked_waiter_that_gave_up_hears_nothing() -> None:
    """A thread's future that was cancelled stays so."""
    gone = answer.Blocking()
    gone.future.cancel()
    gone.settle(1, None)
    gone.settle(None, ValueError())
    assert gone.future.cancelled()
