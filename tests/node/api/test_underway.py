"""One listed peer that asks for everything and reads nothing: it is bounded, it is cut off, and nobody else notices."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from certs import Mesh
from knocking import plain_client, until
from lines import API, Line
from nodes import QUIET, Place, Served, events, federation, local, peer

from node.api import federation as federation_module
from node.api import sending, underway
from node.api.errors import ApiError
from node.api.underway import Bounds, UnderWay, next_in
from node.api.underway import Place as Share

LARGE = f"GET {API}/sync/since?limit=10000 HTTP/1.1\r\nHost: node\r\n\r\n".encode()
MIB = 2**20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def full(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A node whose pages are as large as pages get, with two peers that may read everything."""
    mesh = Mesh(tmp_path_factory.mktemp("mesh"))
    place = Place(mesh, "node", QUIET)
    place.configure(peer("friend", mesh.friend.fingerprint), peer("other", mesh.node.fingerprint))
    place.list(mesh.friend.fingerprint, mesh.node.fingerprint)
    async with place.serving() as daemon, local(daemon) as client, federation(daemon, mesh, mesh.node) as other:
        for batch in range(4):
            bodies = [{"title": f"{batch}-{one}", "content": "x" * 60_000, "namespace": "n"} for one in range(40)]
            assert (await client("POST", "/memories/bulk", bodies)).json["created"] == 40
        yield Served(mesh, place, daemon, client, other)


@asynccontextmanager
async def _deaf(full: Served, count: int, words: bytes) -> AsyncIterator[list[Line]]:
    """So many connections of `friend` that have asked this, and read nothing of the answers."""
    lines = []
    loop = asyncio.get_running_loop()
    for _ in range(count):
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        raw.setblocking(False)
        await loop.sock_connect(raw, ("127.0.0.1", full.place.port))
        context = plain_client(full.mesh, full.mesh.friend)
        reader, writer = await asyncio.open_connection(sock=raw, ssl=context, server_hostname="127.0.0.1", limit=1_024)
        writer.transport.pause_reading()
        writer.write(words)
        lines.append(Line(reader, writer))
    try:
        yield lines
    finally:
        for line in lines:
            await line.close()


class Watched:
    """What was under way at most, of each peer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        real = next_in

        def looked(waiting: Iterable[Share], under_way: Sequence[Share], bounds: Bounds) -> Share | None:
            for peer_, count in Counter(one.peer for one in under_way).items():
                self.most[peer_] = max(self.most[peer_], count)
                self.bytes[peer_] = max(self.bytes[peer_], sum(one.cost for one in under_way if one.peer == peer_))
            return real(waiting, under_way, bounds)

        monkeypatch.setattr(underway, "next_in", looked)


@pytest.mark.asyncio(loop_scope="module")
async def test_who_asks_for_all_and_reads_nothing_holds_little(full: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """150 pages asked for on 15 connections: three are under way at a time, and another peer has its page at once."""
    watched = Watched(monkeypatch)
    friend = full.mesh.friend.fingerprint.text
    async with _deaf(full, 15, LARGE * 10):
        await until(lambda: watched.most[friend] == 3, 20)
        for _ in range(3):
            page = await full.friend("GET", "/sync/since?limit=10000")
            assert (page.status, len(page.body) > 7 * MIB) == (200, True)
        assert watched.most[friend] == 3
        assert watched.bytes[friend] <= Bounds().bytes


@pytest.mark.asyncio(loop_scope="module")
async def test_without_the_bounds_it_holds_as_much_as_it_asks_for(
    full: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: with bounds that bind nobody, every connection's page is under way."""
    watched = Watched(monkeypatch)
    friend = full.mesh.friend.fingerprint.text
    looked = underway.next_in
    wide = Bounds(requests=1_000, bytes=10**12, total=10**12)
    monkeypatch.setattr(underway, "next_in", lambda waiting, under_way, bounds: looked(waiting, under_way, wide))
    async with _deaf(full, 15, LARGE * 10):
        await until(lambda: watched.most[friend] > 10, 20)


@pytest.mark.parametrize("words", [LARGE * 3, b"GET /api/v1/nothing HTTP/1.1\r\nHost: node\r\n\r\n" * 80_000])
@pytest.mark.asyncio(loop_scope="module")
async def test_an_answer_that_is_not_read_ends_its_connection(
    full: Served, words: bytes, monkeypatch: pytest.MonkeyPatch, no_bugs: Any
) -> None:
    """A page or a row of small errors: where nothing of it is taken any more, the connection is closed, and told of."""
    monkeypatch.setattr(sending, "PATIENCE", 0.3)
    async with _deaf(full, 1, words):
        await until(lambda: bool(events(no_bugs, "http.unread")), 30)
        await until(lambda: full.daemon.door.connections <= 1)


@pytest.mark.asyncio(loop_scope="module")
async def test_an_answer_that_is_read_slowly_arrives(full: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause after each part: every slice has its own time, however long the whole takes."""
    monkeypatch.setattr(sending, "PATIENCE", 2.0)
    async with _deaf(full, 1, LARGE) as (line,):
        line.writer.transport.resume_reading()
        head = await asyncio.wait_for(line.reader.readuntil(b"\r\n\r\n"), 20)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert length > 7 * MIB
        received = 0
        while received < length:
            part = await asyncio.wait_for(line.reader.read(65_536), 20)
            assert part, "the node hung up"
            received += len(part)
            await asyncio.sleep(0)
        assert received == length


@pytest.mark.asyncio(loop_scope="module")
async def test_a_body_that_drips_in_holds_up_nobody_else(full: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three bodies of a peer never end: its fourth request is told to come later, other peers are not, and they end."""
    monkeypatch.setattr(federation_module, "BODY_PATIENCE", 3.0)
    head = f"POST {API}/sync/push HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\n"
    begun = head + "Content-Length: 900\r\n\r\n{"
    watched = Watched(monkeypatch)
    friend = full.mesh.friend.fingerprint.text
    async with _deaf(full, 4, begun.encode()) as lines:
        await until(lambda: watched.most[friend] == 3)
        assert (await full.friend("GET", "/health")).status == 200
        lines[0].writer.transport.resume_reading()
        assert (await lines[0].reply()).code == "timeout"


# --- whose turn it is, without a node


def _shares(text: str) -> list[Share]:
    """`a5 b3`: peer and cost, in the order in which they came."""
    return [Share(number, one[0], int(one[1:])) for number, one in enumerate(text.split())]


BOUNDS = Bounds(requests=2, bytes=10, total=20)


@pytest.mark.parametrize(
    ("under_way", "waiting", "chosen"),
    [
        ("", "a5 b5", 0),
        ("", "a50", 0),
        ("a1", "a5 b5", 1),
        ("a1 b2", "b1 a1", 1),
        ("a1 a1", "a1", None),
        ("a6", "a5", None),
        ("a5", "a5", 0),
        ("a1 a1", "a1 a1 b9", 2),
        ("a10 b10", "c9", 0),
        ("a10 b9", "b1 b1", 0),
        ("a10 c1 b9", "b1", None),
        ("a10 b2 c8", "b1", None),
        ("a6", "a5 a1", None),
    ],
)
def test_whose_turn_is_next(under_way: str, waiting: str, chosen: int | None) -> None:
    """Two requests and ten bytes of a peer, twenty of all; whoever holds least comes first, and has one in any case."""
    got = next_in(_shares(waiting), _shares(under_way), BOUNDS)
    assert (got.number if got is not None else None) == chosen


async def test_who_waits_too_long_is_told_to_come_later() -> None:
    """No place in time is an error that says why; what was waited for is free again afterwards."""
    shares = UnderWay(replace(BOUNDS, patience=0.05))
    async with shares.place("a", 1), shares.place("a", 1):
        with pytest.raises(ApiError, match="read their answers") as told:
            async with shares.place("a", 1):
                pytest.fail("a third of two")
        assert told.value.problem.code == "busy"
        async with shares.place("b", 1):
            pass
    async with shares.place("a", 1), shares.place("a", 1):
        assert not shares._waiting
    assert not shares._under_way


async def test_no_more_than_so_many_wait() -> None:
    """Whoever opens connection after connection is answered at once that enough of them wait."""
    shares = UnderWay(replace(BOUNDS, waiting=2, patience=600))

    async def ask() -> None:
        async with shares.place("a", 1):
            raise AssertionError("there is no place")

    async with shares.place("a", 1), shares.place("a", 1):
        waiting = [asyncio.create_task(ask()) for _ in range(2)]
        await until(lambda: len(shares._waiting) == 2)
        with pytest.raises(ApiError, match="2 requests of yours wait already"):
            await ask()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not shares._waiting


async def test_an_answer_that_is_smaller_than_feared_makes_room() -> None:
    """What a page might have had is given back as soon as it is known what it has."""
    shares = UnderWay(BOUNDS)
    entered = asyncio.Event()

    async def second() -> None:
        async with shares.place("a", 5):
            entered.set()

    async with shares.place("a", 10) as first:
        task = asyncio.create_task(second())
        await until(lambda: len(shares._waiting) == 1)
        assert not entered.is_set()
        shares.holds_only(first, 2)
        await asyncio.wait_for(entered.wait(), 5)
        await task
