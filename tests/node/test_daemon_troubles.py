"""A running node whose own disk or clock is wrong: its `sync status` and that of its peers say so."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from certs import Mesh
from nodes import (
    BRISK,
    eventually,
    failing,
    has,
    in_step,
    pair,
    peer,
    serving,
    standing_is,
    status_of,
    titles,
    write,
)

from node.daemon import Daemon
from node.dialer import Answer, Dialer
from node.exchange import Exchange
from node.replicator import Limits
from node.store.errors import StoreError, StoreFull, StoreReadOnly, StoreReplaced
from node.timekeeper import _wall_us
from sync.engine import Engine
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
        (StoreReplaced, "store_replaced", "has lost the file"),
        (StoreError, "store", "a problem"),
    ],
    ids=["full", "read-only", "replaced", "another"],
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


async def test_what_a_peer_was_asked_for_is_free_again_once_it_cannot_be_reached(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is told whose request failed: the peer that is gone, and nobody while it answers."""
    told: list[str] = []
    monkeypatch.setattr(Engine, "unreachable", lambda _self, peer: told.append(peer))
    place_a, place_b = pair(mesh, BRISK)
    async with serving(place_a) as [(_, a)]:
        async with serving(place_b) as [(_, b)]:
            await eventually(in_step(a, "b"))
            await eventually(in_step(b, "a"))
            told.clear()
            await write(a, "while it answers")
            await eventually(has(b, "while it answers"))
            assert told == []
        await write(a, "into the void")
        await eventually(lambda: failing(a, "b"))
        assert set(told) == {place_b.fingerprint.text}


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
        for caller, name in ((b, "a"), (a, "b")):
            # The version of before goes on waiting in the store, but both have let go of it: nobody lacks anything.
            entry = await eventually(standing_is(caller, name, "identical"))
            assert (entry["waiting"], entry["refused"]) == (0, 0)
            assert "ahead of" not in entry["reason"] and "clock_skew" not in entry["reason"]
        assert (await b("GET", "/stats")).json["waiting"] == 1


async def test_a_link_too_slow_for_a_page_gets_smaller_ones(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """What never gets through in the time of one request is asked for, and sent, in ever smaller parts."""
    for lane in ("get", "post"):
        monkeypatch.setattr(Dialer, lane, slow(getattr(Dialer, lane)))
    place_a, place_b = pair(mesh, BRISK)
    place_b.configure(peer("a", place_a.fingerprint))  # b never calls: a fetches and sends
    async with serving(place_b) as [(_, b)]:
        await write(b, *(f"of b {number}" for number in range(40)))
        async with serving(place_a) as [(_, a)]:
            await eventually(has(a, *(f"of b {number}" for number in range(40))))
            await write(a, *(f"of a {number}" for number in range(40)))
            await eventually(has(b, *(f"of a {number}" for number in range(40))))


async def test_without_smaller_pages_a_slow_link_never_gets_on(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with whole pages, each attempt fails as the one before it."""
    monkeypatch.setattr(Limits, "shared", lambda self, share: self)
    monkeypatch.setattr("nodes.eventually.__defaults__", (2.0,))
    with pytest.raises(TimeoutError):
        await test_a_link_too_slow_for_a_page_gets_smaller_ones(mesh, monkeypatch)


def slow(request: Callable[..., Awaitable[Answer]]) -> Callable[..., Awaitable[Answer]]:
    """Requests over a link that gets less than 10 kB through in the time of one."""

    async def limited(self: Dialer, path: str, sent: Any) -> Answer:
        if isinstance(sent, bytes) and len(sent) > 10_000:
            raise TimeoutError
        answer = await request(self, path, sent)
        if len(answer.body) > 10_000:
            raise TimeoutError
        return answer

    return limited
