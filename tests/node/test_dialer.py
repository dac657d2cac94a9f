"""Requests to a peer, and everything that can come back instead of an answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import ClientSession
from certs import Mesh
from knocking import until

from node import dialer as dialer_module
from node.dialer import FIRST_GAP, LONGEST_ASKED, LONGEST_GAP, Answer, AnswerTooLargeError, Dialer
from tls.gate import Gate

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    return Mesh(tmp_path_factory.mktemp("dialer"))


@contextlib.asynccontextmanager
async def calling(mesh: Mesh, answer: bytes) -> AsyncIterator[Dialer]:
    """A dialer to a node that reads one request and says exactly `answer`, then hangs up."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            if answer:
                writer.close()
            else:
                writer.transport.abort()

    listing = mesh.listing(mesh.node, mesh.friend)
    server_side = Gate(mesh.node.files, listing).server_context()
    async with await asyncio.start_server(speak, "127.0.0.1", 0, ssl=server_side) as server:
        port = server.sockets[0].getsockname()[1]
        context = Gate(mesh.friend.files, listing).client_context(frozenset((mesh.node.fingerprint,)))
        async with Dialer(f"https://127.0.0.1:{port}/", lambda: context, 10.0) as dialer:
            yield dialer


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (OK, Answer(200, b"{}", 0.0)),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", Answer(503, b"", 7.0)),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n", Answer(503, b"", 0.0)),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", Answer(302, b"", 0.0)),
    ],
    ids=["answer", "retry after", "a date it does not read", "no redirect is followed"],
)
async def test_an_answer_is_its_status_and_body(mesh: Mesh, said: bytes, expected: Answer) -> None:
    """Whatever the status: what it means is for the caller to say."""
    async with calling(mesh, said) as dialer:
        assert await dialer.get("/x", {"a": "1"}) == expected


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{", b"HTTP/1.1 200 OK\r\nContent-Le"],
    ids=["nothing", "half a body", "half a head"],
)
async def test_a_peer_that_hangs_up_is_a_lost_connection(mesh: Mesh, said: bytes) -> None:
    """Not the HTTP library's own error: `tls.explain` tells the operator, and it knows no HTTP."""
    async with calling(mesh, said) as dialer:
        with pytest.raises(ConnectionError):
            await dialer.post("/x", b"{}")


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 2000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n7d0\r\n"],
    ids=["stated", "found out"],
)
async def test_an_answer_over_the_limit_is_not_taken(mesh: Mesh, head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up as soon as that is known; the same answer under the limit is taken (control)."""
    said = b"HTTP/1.1 200 OK\r\n" + head + b"x" * 2_000
    said += b"\r\n0\r\n\r\n" if b"chunked" in head else b""
    async with calling(mesh, said) as dialer:
        assert len((await dialer.get("/x", {})).body) == 2_000
    monkeypatch.setattr(dialer_module, "MAX_BODY", 1_000 - 65_536)
    async with calling(mesh, said) as dialer:
        with pytest.raises(AnswerTooLargeError):
            await dialer.get("/x", {})


async def test_every_request_asks_for_the_context(mesh: Mesh, tmp_path: Path) -> None:
    """A rotated identity takes effect with the next request."""
    asked: list[int] = []
    async with calling(mesh, OK) as dialer:
        inner: Callable[[], object] = dialer._context
        dialer._context = lambda: asked.append(1) or inner()  # type: ignore[assignment,func-returns-value,return-value]
        await dialer.get("/x", {})
        await dialer.get("/x", {})
    assert len(asked) == 2


async def test_a_request_that_comes_while_the_connections_are_closed_opens_new_ones(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate was taken off a list, or a peer edited, in the middle of traffic: no error of ours comes of it."""
    at_it, done = asyncio.Event(), asyncio.Event()
    close = ClientSession.close

    async def slowly(session: ClientSession) -> None:
        await close(session)
        at_it.set()
        await done.wait()

    async with calling(mesh, OK) as dialer:
        await dialer.get("/x", {})
        with monkeypatch.context() as patch:
            patch.setattr(ClientSession, "close", slowly)
            closing = asyncio.create_task(dialer.close())
            await at_it.wait()
            try:
                assert await dialer.get("/x", {}) == Answer(200, b"{}", 0.0)
            finally:
                done.set()
                await closing
        assert await dialer.get("/x", {}) == Answer(200, b"{}", 0.0)


async def test_a_peer_that_hangs_up_is_told_once_and_ever_more_rarely(mesh: Mesh) -> None:
    """As after each answer here: whoever asks again for it does not ask without end."""
    now = 0.0
    async with calling(mesh, OK) as dialer:
        assert not dialer.has_hung_up(now)  # there was no connection
        told = []
        for _ in range(200):
            await dialer.get("/x", {})
            await until(lambda: all(one.fileno() < 0 for one in dialer._sockets))
            if dialer.has_hung_up(now):
                told.append(now)
                assert not dialer.has_hung_up(now)
            now += 1.0
    gaps = [after - before for before, after in pairwise(told)]
    assert gaps[:6] == [2.0, 4.0, 8.0, 16.0, LONGEST_GAP, LONGEST_GAP]


async def test_a_peer_that_had_a_reason_to_hang_up_is_told_at_once_again(mesh: Mesh) -> None:
    """It did not answer after that: it was stopped, and may be once more."""
    async with calling(mesh, OK) as dialer:
        await dialer.get("/x", {})
        await until(lambda: dialer.has_hung_up(0.0))
    assert dialer._gap > FIRST_GAP
    with pytest.raises(OSError, match=r"."):
        await dialer.get("/x", {})
    assert dialer._gap == FIRST_GAP
    await dialer.close()


@pytest.mark.parametrize("asked", ["301", "999999"])
async def test_nobody_is_waited_for_longer_than_that(mesh: Mesh, asked: str) -> None:
    """Whatever a peer asked for in a bad hour, it may be well again."""
    said = f"HTTP/1.1 503 Busy\r\nRetry-After: {asked}\r\nContent-Length: 0\r\n\r\n".encode()
    async with calling(mesh, said) as dialer:
        assert (await dialer.get("/x", {})).retry_after == LONGEST_ASKED


async def _open_after_its_end(mesh: Mesh, seconds: float) -> bool:
    """Whether our end of a connection is open still, whose other end has answered and does nothing more."""
    said = asyncio.Event()

    class Mute(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            self.transport.pause_reading()  # nor does it see our close_notify
            said.set()

    loop, listing = asyncio.get_running_loop(), mesh.listing(mesh.node, mesh.friend)
    context = Gate(mesh.friend.files, listing).client_context(frozenset((mesh.node.fingerprint,)))
    server = await loop.create_server(Mute, "127.0.0.1", 0, ssl=Gate(mesh.node.files, listing).server_context())
    async with server, Dialer(f"https://127.0.0.1:{port_of_server(server)}", lambda: context, 10.0) as dialer:
        await dialer.get("/x", {})
        await said.wait()
        (ours,) = dialer._sockets
        with contextlib.suppress(TimeoutError):
            await until(lambda: ours.fileno() < 0, seconds)
        return ours.fileno() >= 0


def port_of_server(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


async def test_a_peer_that_does_not_end_a_connection_keeps_none_of_ours(mesh: Mesh) -> None:
    """Each would stay while the loop waits for its close_notify, and it may have us open as many as it likes."""
    assert not await _open_after_its_end(mesh, 4.0)


async def test_with_the_patience_of_the_loop_they_would_pile_up(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    monkeypatch.setattr(dialer_module, "LAST_WORDS", 30.0)
    assert await _open_after_its_end(mesh, 2.0)
