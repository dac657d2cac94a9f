"""What the exchange asks of the clocks: a machine that was rolled back begins a new life before it writes again."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import stores
from keys import Nobody

from node import exchange as exchanges
from node.exchange import Exchange
from node.memories import Memories
from node.peers import PeerBook, Strangers
from node.store import Store, writer
from node.store.errors import StoreFull
from node.timekeeper import Timekeeper
from sync.engine import Engine
from sync.ports import Ledger
from sync.receive import Page, Part, Taken
from sync.scope import Globs
from sync.serve import Ask
from sync.wire import Incoming


class Desk:
    """An exchange and its local clients over one store, with clocks moved by hand."""

    def __init__(self, store: Store) -> None:
        self.wall, self.store = stores.START, store
        clock = Timekeeper(lambda: self.wall, lambda: stores.START)
        engine = Engine("host:test", secrets.token_bytes, Nobody())
        self.exchange = Exchange(
            store, engine, PeerBook((), Strangers(Globs.everything(), Globs.everything(), allow_unsigned=True)), clock
        )
        self.memories = Memories(store, engine, clock.now, self.exchange.check_clock)

    @property
    def reasons(self) -> list[str]:
        """Why each life of the store began."""
        return [life.reason for life in self.store.lives]

    async def write(self, title: str) -> str:
        """Which life's dot the write got."""
        made = await self.memories.create(msgspec.json.encode({"title": title, "content": "text"}), None)
        kept = self.store.reader.call(lambda reader: reader.versions(("global", made["id"])))
        return kept[0].version.dot.actor


@asynccontextmanager
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = Store.open(tmp_path / "memories.db", stores.PASSPHRASE, create=True)
    try:
        made = Desk(store)
        await made.exchange.start()
        yield made
        await made.exchange.close()
    finally:
        store.close()


async def test_the_first_write_after_a_jump_is_in_a_new_life(tmp_path: Path) -> None:
    """Not the next look at the clock in a quarter of a minute: until then counters could be issued a second time."""
    async with desk(tmp_path) as one:
        before = one.exchange.life
        assert await one.write("before") == before
        one.wall -= 3_600 * 1_000_000
        after = await one.write("after")
        assert (after, one.reasons) == (one.exchange.life, ["start", "clock_jump"])
        assert after != before
        assert await one.write("later") == after


async def test_a_write_that_does_not_look_stays_in_the_old_life(tmp_path: Path) -> None:
    """Control: without the look at the clocks the write goes on under the counters of before."""
    async with desk(tmp_path) as one:
        one.memories._before_write = None
        before = one.exchange.life
        one.wall -= 3_600 * 1_000_000
        assert await one.write("after") == before


async def test_a_jump_that_could_not_be_taken_in_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk the new life cannot begin, nothing is written in the old one, and the next write tries again."""
    async with desk(tmp_path) as one:
        one.wall += 3_600 * 1_000_000
        with monkeypatch.context() as patch:

            async def full(*_: object, **__: object) -> None:
                raise StoreFull("no space is left.", "Free some.")

            patch.setattr(one.store.writer, "run", full)
            with pytest.raises(StoreFull):
                await one.write("refused")
        assert one.reasons == ["start"]
        await one.write("taken")
        assert one.reasons == ["start", "clock_jump"]


async def slices(one: Desk, monkeypatch: pytest.MonkeyPatch, count: int) -> list[int]:
    """How many versions of a page of `count` each transaction took."""
    sizes: list[int] = []
    true = one.exchange._engine.receive

    def noting(ledger: Ledger, page: Page, part: Part, *rest: Any) -> Taken:
        sizes.append(len(part.versions))
        return true(ledger, page, part, *rest)

    monkeypatch.setattr(one.exchange._engine, "receive", noting)
    page = Page(stores.PEER, stores.LIFE, None, None, None, False)
    versions = tuple(stores.foreign(f"{count} {number}") for number in range(count))
    taken = await one.exchange.receive(Incoming(page, versions, (), more=False, alarms=()))
    assert taken.applied == count == sum(sizes)
    return sizes


async def test_a_page_comes_in_short_slices_while_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local write in the last second: no transaction takes more than 100 records of a page. Otherwise 500 do."""
    async with desk(tmp_path) as one:
        monkeypatch.setattr(writer, "SHARED", 3_600.0)
        await one.write("somebody writes")
        assert await slices(one, monkeypatch, 250) == [100, 100, 50]
        one.store.writer._shared_until = 0.0
        assert await slices(one, monkeypatch, 750) == [500, 250]


def asking(one: Desk, peer: str) -> Ask:
    policy = one.exchange.book.policy(peer)
    return Ask(peer, None, stores.LIFE, Globs.everything(), policy, 10, 10**6)


async def test_a_page_that_was_cut_ahead_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By time, where the peer does not come for it; at once, where it leaves the list."""
    async with desk(tmp_path) as one:
        for number in range(20):
            await one.write(str(number))
        await one.exchange.cut(asking(one, "leaves"))
        assert set(one.exchange._ahead) == {"leaves"}
        one.exchange.forget("leaves")
        assert one.exchange._ahead == {}
        monkeypatch.setattr(exchanges, "AHEAD_FOR", 0.01)
        await one.exchange.cut(asking(one, "does not come"))
        async with asyncio.timeout(20):
            while one.exchange._ahead:
                await asyncio.sleep(0.005)


async def test_without_an_end_the_page_would_be_held(tmp_path: Path) -> None:
    """Control: nothing else lets go of it."""
    async with desk(tmp_path) as one:
        for number in range(20):
            await one.write(str(number))
        await one.exchange.cut(asking(one, "does not come"))
        task = one.exchange._ahead["does not come"][2]
        await task
        assert set(one.exchange._ahead) == {"does not come"}


async def lives_begun(one: Desk, count: int) -> int:
    """How many lives begin while a peer lies so many times about the one that lives then."""
    before = len(one.store.lives)
    for number in range(count):
        lie = stores.foreign(f"lie {number}", actor=one.exchange.life, counter=1 << 50)
        page = Page(stores.PEER, stores.LIFE, None, None, None, False)
        await one.exchange.receive(Incoming(page, (lie,), (), more=False, alarms=()))
    return len(one.store.lives) - before


async def test_lies_about_the_live_life_begin_no_other(tmp_path: Path) -> None:
    """A life is kept for good, so none begins because of what a peer says."""
    async with desk(tmp_path) as one:
        assert await lives_begun(one, 5) == 0
