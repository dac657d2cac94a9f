"""The local listener where it is crowded: any user of the machine opens connections, and nobody is locked out by it."""

import asyncio
import contextlib
import resource

import pytest
from certs import Mesh
from knocking import until
from lines import API, Line, port_of
from nodes import QUIET, Place, local

from node import daemon as daemons
from node import process


async def _crowd(mesh: Mesh, first: bytes) -> tuple[int, bool]:
    """Of 41 connections where 4 may be, 40 at once: how many are open, and whether the first gets its answer yet."""
    place = Place(mesh, "a", QUIET)
    async with place.serving() as node:
        port = port_of(node.local_url)
        one = await Line.open(port)
        await one.send(first)
        await asyncio.sleep(0.3)  # until it is under way
        others = await asyncio.gather(*(Line.open(port) for _ in range(40)))
        async with local(node) as client:
            assert (await client("GET", "/health")).status == 200
        with contextlib.suppress(TimeoutError):
            await until(lambda: sum(not line.reader.at_eof() for line in others) <= 3, 2.0)
        count = sum(not line.reader.at_eof() for line in others)
        await one.send(b'"title": "x", "content": "y"}')
        try:
            is_answered = (await one.reply()).status == 201
        except asyncio.IncompleteReadError:
            is_answered = False
        for line in (one, *others):
            await line.close()
        return count, is_answered


BODY = (
    f"POST {API}/memories HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n{{"
).encode()


async def test_who_is_idle_makes_room_and_a_request_under_way_goes_on(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest always gets in; the others go in their order."""
    monkeypatch.setattr(daemons, "LOCAL_CONNECTIONS", 4)
    count, is_answered = await _crowd(mesh, BODY)
    assert count <= 3
    assert is_answered


async def test_without_a_bound_they_all_stay(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: each costs a descriptor, and at the end of them peers cannot connect."""
    monkeypatch.setattr(daemons, "LOCAL_CONNECTIONS", None)
    assert (await _crowd(mesh, BODY))[0] == 40


async def test_where_nobody_is_idle_the_newest_goes(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that were begun are not cut off for one that was not."""
    monkeypatch.setattr(daemons, "LOCAL_CONNECTIONS", 2)
    async with Place(mesh, "a", QUIET).serving() as node:
        port = port_of(node.local_url)
        busy = [await Line.open(port) for _ in range(2)]
        for line in busy:
            await line.send(BODY)
        await asyncio.sleep(0.3)  # until they are under way
        late = await Line.open(port)
        assert await late.is_over(5.0)
        for line in busy:
            await line.send(b'"title": "x", "content": "y"}')
            assert (await line.reply()).status == 201
        for line in (*busy, late):
            await line.close()


def test_a_node_has_as_many_descriptors_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """The soft limit of a shell is for programs that use select(2); nothing is lowered."""
    for limits, expected in (
        ((1_024, 524_288), [(process.FILES, 524_288)]),
        ((1_024, 4_096), [(4_096, 4_096)]),
        ((1_024, resource.RLIM_INFINITY), [(process.FILES, resource.RLIM_INFINITY)]),
        ((100_000, 524_288), []),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), []),
    ):
        given: list[tuple[int, int]] = []
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits)
        monkeypatch.setattr(resource, "setrlimit", lambda _, wanted, given=given: given.append(wanted))
        process._more_files()
        assert given == expected
