"""A running node whose own disk or clock is wrong: its `sync status` and that of its peers say so."""

from typing import Any

import pytest
from certs import Mesh
from nodes import BRISK, eventually, failing, has, in_step, pair, serving, status_of, titles, write

from node.daemon import Daemon
from node.exchange import Exchange
from node.store.errors import StoreError, StoreFull, StoreReadOnly
from node.timekeeper import _wall_us
from sync.moment import SECOND

FAR = 600 * SECOND


def set_clock(daemon: Daemon, ahead: int) -> None:
    """The wall clock of one node, in microseconds from the true one."""
    daemon.clock._wall = lambda: _wall_us() + ahead


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (StoreFull, "store_full", "full disk"),
        (StoreReadOnly, "store_read_only", "cannot write"),
        (StoreError, "store", "a problem"),
    ],
    ids=["full", "read-only", "another"],
)
async def test_a_disk_of_our_own_that_takes_nothing_is_told(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, error: type[StoreError], code: str, words: str
) -> None:
    """Not as the peer's trouble and not as a bug: the operator reads that it is this node's disk.

    And it stays told while pushes go well: nothing of the peer's is taken in, so nothing is in step.
    """
    receive = Exchange.receive

    async def broken(self: Exchange, incoming: Any) -> Any:
        if incoming.versions and self.book.peers[0].name == "b":
            raise error("it takes nothing.", "Look at it.")
        return await receive(self, incoming)

    monkeypatch.setattr(Exchange, "receive", broken)
    place_a, place_b = pair(mesh, BRISK)
    async with serving(place_b) as [(_, b)]:
        await write(b, "never arrives")
        async with serving(place_a) as [(_, a)]:
            entry = await eventually(lambda: failing(a, "b"))
            assert entry["code"] == code
            assert words in entry["reason"]
            await write(a, "pushed all the same")
            await eventually(has(b, "pushed all the same"))
            assert (await status_of(a, "b"))["code"] == code


async def test_what_waits_for_its_time_is_told_on_both_sides(mesh: Mesh) -> None:
    """In step they are, and yet nobody reads it there: the one whose clock is ahead and the other both say why."""
    async with serving(*pair(mesh, BRISK)) as [(fast, a), (_, b)]:
        await eventually(in_step(a, "b"))
        set_clock(fast, FAR)
        await write(a, "from the future")

        async def waits() -> dict[str, Any] | None:
            entry = await status_of(b, "a")
            return entry if entry["waiting"] else None

        entry = await eventually(waits)
        assert entry["waiting"] == 1
        assert "ahead of this node's clock" in entry["reason"]
        assert "from the future" not in await titles(b)

        async def refused() -> bool:
            return "the peer said clock_skew: its time lies" in (await status_of(a, "b"))["reason"]

        await eventually(refused)
        set_clock(fast, 0)
        await write(a, "from now")
        await eventually(has(b, "from now", "from the future"))
        assert (await status_of(b, "a"))["waiting"] == 0
        assert "ahead of" not in (await status_of(b, "a"))["reason"]
