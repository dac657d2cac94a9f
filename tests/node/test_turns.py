"""Turns of a peer: a few pushes of one are read at a time, some wait unread, and others notice nothing."""

import asyncio

import pytest

from node import turns
from node.api.errors import ApiError
from node.turns import Turns


async def hold(some: Turns, peer: str, begun: list[str], release: asyncio.Event) -> None:
    async with some.of(peer):
        begun.append(peer)
        await release.wait()


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_peer_has_few_turns_and_the_others_theirs() -> None:
    """Two at once, six that wait, and then `busy`; nothing is kept once all are over."""
    some, begun, release = Turns(), [], asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(turns.MOST):
            group.create_task(hold(some, "liar", begun, release))
        await settled()
        assert begun == ["liar"] * turns.AT_ONCE
        with pytest.raises(ApiError) as caught:
            async with some.of("liar"):
                pass
        assert caught.value.problem.code == "busy"
        group.create_task(hold(some, "honest", begun, release))
        await settled()
        assert begun[-1] == "honest"
        release.set()
    assert begun.count("liar") == turns.MOST
    assert some._peers == {}


async def test_without_a_bound_all_would_be_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: as many bodies as somebody sends, each held whole."""
    monkeypatch.setattr(turns, "AT_ONCE", 1_000)
    monkeypatch.setattr(turns, "MOST", 1_000)
    some, begun, release = Turns(), [], asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(hold(some, "liar", begun, release))
        await settled()
        assert len(begun) == 100
        release.set()
