"""One TLS connection over either event loop: what gets through, and how it ends."""

import asyncio
import gc
import random
import shutil
import socket
import ssl
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from certs import Mesh
from knocking import LOOPS, ByHand, Notes, listening, on_loop, plain_client, until
from OpenSSL import SSL

from tls.channel import Channel, channel_of, mapped
from tls.contexts import build
from tls.fingerprint import Fingerprint
from tls.gate import Gate

BULK = random.Random(7).randbytes(16 << 20)


def _gate(mesh: Mesh) -> Gate:
    return Gate(mesh.node.files, mesh.listing(mesh.node, mesh.friend))


def _ours(mesh: Mesh) -> ssl.SSLContext:
    friend = Gate(mesh.friend.files, mesh.listing(mesh.node))
    return friend.client_context(frozenset((mesh.node.fingerprint,)))


class Mirror(asyncio.Protocol):
    """Sends everything back."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def _mirror_that_pauses(notes: Notes) -> asyncio.Protocol:
    """The same through a stream, which stops reading whenever more than a little waits."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(50_000):
            writer.write(data)
            await writer.drain()
        writer.close()

    return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=1 << 14), serve)


@pytest.mark.parametrize("client", ["ours", "standard library"])
@pytest.mark.parametrize("protocol", [Mirror, _mirror_that_pauses], ids=["pushed", "paused"])
@pytest.mark.parametrize("loop", LOOPS)
def test_sixteen_mebibytes_arrive_whole_in_both_directions(
    mesh: Mesh, loop: str, protocol: Callable[[Notes], asyncio.Protocol], client: str
) -> None:
    """Not a byte is lost, doubled or out of place, while both ends send."""

    async def main() -> bytes:
        async with listening(_gate(mesh), protocol=protocol) as (listener, _):
            context = _ours(mesh) if client == "ours" else plain_client(mesh, mesh.friend)
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)
            writer.write(BULK)
            async with asyncio.timeout(30):
                echoed = await reader.readexactly(len(BULK))
            writer.transport.abort()
            return echoed

    assert on_loop(loop, main) == BULK


class Farewell(asyncio.Protocol):
    """Answers with more than fits into any buffer, and closes at once."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(BULK[: 8 << 20])
        self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.notes.lost += 1


def _read_slowly(mesh: Mesh, port: int) -> tuple[bytes, bool]:
    """With a small window: all that comes, and whether it ended with a close_notify."""
    context = plain_client(mesh, mesh.friend)
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15)
        raw.settimeout(10)
        raw.connect(("127.0.0.1", port))
        with context.wrap_socket(raw, suppress_ragged_eofs=False) as tls:
            tls.sendall(b"go")
            parts: list[bytes] = []
            try:
                while part := tls.recv(1 << 16):
                    parts.append(part)
            except (ssl.SSLEOFError, ConnectionError):
                return b"".join(parts), False
            return b"".join(parts), True


async def _farewell(mesh: Mesh) -> tuple[bytes, bool]:
    async with listening(_gate(mesh), protocol=Farewell) as (listener, notes):
        found = await asyncio.to_thread(_read_slowly, mesh, listener.port)
        await until(lambda: notes.lost == 1 and listener.connections == 0)
        return found


@pytest.mark.parametrize("loop", LOOPS)
def test_an_answer_arrives_whole_before_the_connection_is_closed(mesh: Mesh, loop: str) -> None:
    """Closing behind a large answer cuts nothing off, and the end is a close_notify, not a bare end of file."""
    answer, properly = on_loop(loop, lambda: _farewell(mesh))
    assert answer == BULK[: 8 << 20]
    assert properly


@pytest.mark.parametrize("loop", LOOPS)
def test_a_close_that_does_not_wait_cuts_the_answer_off(mesh: Mesh, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: where the end is not waited for, the same client misses most of the answer."""
    real = Channel.unwrap

    def hasty(self: Channel) -> None:
        try:
            real(self)
        except ssl.SSLWantReadError:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, "TLS error") from None

    monkeypatch.setattr(Channel, "unwrap", hasty)
    answer, properly = on_loop(loop, lambda: _farewell(mesh))
    assert len(answer) < 8 << 20
    assert not properly


async def _at_once(mesh: Mesh, port: int, patience: float) -> bytes:
    """A request in the same segment as the client's Finished, from a client that only moves bytes."""
    client = await ByHand.connected(plain_client(mesh, mesh.friend), port)
    try:
        await client.shake_hands()
        client.tls.write(b"hello")
        client.send()
        async with asyncio.timeout(patience):
            while True:
                try:
                    return client.tls.read(100)
                except ssl.SSLWantReadError:
                    await client.receive()
    except TimeoutError:
        return b""
    finally:
        client.writer.transport.abort()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_request_that_comes_with_the_finished_is_answered(mesh: Mesh, loop: str) -> None:
    """What waits inside OpenSSL when the handshake ends is read without another segment having to come."""

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, _):
            for _ in range(10):
                assert await _at_once(mesh, listener.port, 5) == b"echo:hello"

    on_loop(loop, main)


def test_without_counting_what_waits_uvloop_hangs(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: where only decrypted bytes count as pending, the same request stays unanswered."""
    monkeypatch.setattr(Channel, "pending", lambda self: self._connection.pending())

    async def main() -> bytes:
        async with listening(_gate(mesh)) as (listener, _):
            return await _at_once(mesh, listener.port, 0.3)

    assert on_loop("uvloop", main) == b""


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("loop", LOOPS)
def test_a_key_update_is_answered_and_the_traffic_goes_on(mesh: Mesh, loop: str) -> None:
    """`K` makes s_client renew its keys and ask for ours (RFC 8446 section 4.6.3)."""
    files = mesh.friend.files
    command = ["openssl", "s_client", "-CAfile", str(mesh.ca), "-cert", str(files.cert), "-key", str(files.key)]

    async def main() -> bytes:
        async with listening(_gate(mesh)) as (listener, _):
            process = await asyncio.create_subprocess_exec(
                *command, "-connect", f"127.0.0.1:{listener.port}", stdin=-1, stdout=-1, stderr=-1
            )
            assert process.stdin is not None
            assert process.stdout is not None
            await until(lambda: listener.connections == 1)
            try:
                async with asyncio.timeout(10):
                    seen = b""
                    for line, until_seen in ((b"one\n", b"echo:one\n"), (b"K\n", b""), (b"two\n", b"echo:two\n")):
                        process.stdin.write(line)
                        if not until_seen:
                            assert process.stderr is not None
                            while b"KEYUPDATE" not in await process.stderr.readline():
                                pass
                        while until_seen not in seen:
                            seen += await process.stdout.read(1000)
                    return seen
            finally:
                process.kill()
                await process.wait()

    assert b"echo:two\n" in on_loop(loop, main)


def test_nothing_is_asked_of_openssl_that_is_known(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read with nothing buffered wants to read; after the peer's close_notify it is the end, again and again."""
    ends = _connected(mesh)
    for reading, writing in (ends, ends[::-1]):
        with pytest.raises(ssl.SSLWantReadError):
            reading.read(10)
        assert writing.write(b"hello") == 5
        buffer = bytearray(3)
        assert reading.read(3, buffer) == 3
        assert reading.pending() == 2
        assert (bytes(buffer), reading.read(100)) == (b"hel", b"lo")
        with pytest.raises(ssl.SSLWantReadError):
            reading.read(10)
    left, right = ends
    left.write(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        left.unwrap()
    assert right.read(100) == b"last words"
    assert [right.read(100), right.read(100), right.read(1, bytearray(1))] == [b"", b"", 0]
    right.unwrap()
    left.unwrap()


def _connected(mesh: Mesh) -> tuple[Channel, Channel]:
    """Server and client over memory, their handshake done."""
    one, two = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = _gate(mesh).server_context().wrap_bio(one, two, server_side=True)
    loaded = mesh.friend.files.load()
    client = build(loaded, server=False, allowed=lambda fingerprint: True).wrap_bio(two, one)
    for channel in (client, server, client, server):
        if channel.peer is None:
            try:
                channel.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert server.peer == mesh.friend.fingerprint
    assert client.peer == mesh.node.fingerprint
    return server, client


def test_a_record_that_was_tampered_with_is_an_error(mesh: Mesh) -> None:
    """Bytes that are not the peer's never come out of a channel, and the peer is told."""
    server, client = _connected(mesh)
    server._incoming.write(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ssl.SSLError, match="bad record mac"):
        server.read(10)
    with pytest.raises(ssl.SSLError, match="bad record mac"):
        client.read(10)


def test_a_finished_connection_leaves_nothing_behind(mesh: Mesh) -> None:
    """Channels, their contexts and the verify callbacks are freed once nobody uses them."""

    def once() -> list[weakref.ref[Any]]:
        server, client = _connected(mesh)
        return [weakref.ref(item) for item in (server, client, server.context, client.context, server._connection)]

    known = once()
    gc.collect()
    assert [item() for item in known] == [None] * len(known)


def test_a_write_of_nothing_sends_nothing(mesh: Mesh) -> None:
    """As a socket's would, and the connection lives on."""
    left, right = _connected(mesh)
    before = left._outgoing.pending
    assert left.write(b"") == 0
    assert left._outgoing.pending == before
    assert left.write(b"hello") == 5
    assert right.read(100) == b"hello"


@pytest.mark.parametrize("size", [1, 16_384, 16_385, 1 << 20])
def test_what_cannot_be_written_any_more_is_an_error(mesh: Mesh, size: int) -> None:
    """Nobody believes that it was sent."""
    left, right = _connected(mesh)
    assert left.write(bytes(size)) == size
    with pytest.raises(ssl.SSLWantReadError):
        left.unwrap()
    with pytest.raises(ssl.SSLError, match="protocol is shutdown"):
        left.write(bytes(size))
    received = 0
    while part := right.read(1 << 20):
        received += len(part)
    assert received == size


def test_a_close_that_the_other_end_began_ends_at_once(mesh: Mesh) -> None:
    """Its close_notify lies there already, and nothing more will come."""
    left, right = _connected(mesh)
    with pytest.raises(ssl.SSLWantReadError):
        left.unwrap()
    right.unwrap()
    left.unwrap()


def test_a_close_that_meets_no_close_is_an_error(mesh: Mesh) -> None:
    """The loop is told why, and the peer as well."""
    server, _ = _connected(mesh)
    with pytest.raises(ssl.SSLWantReadError):
        server.unwrap()
    server._incoming.write(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ssl.SSLError, match="bad record mac"):
        server.unwrap()


def test_a_certificate_is_there_once_it_was_shown(mesh: Mesh) -> None:
    """Before the handshake there is none to speak of."""
    fresh = _ours(mesh).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    assert (fresh.getpeercert(), fresh.getpeercert(True)) == (None, None)
    server, _ = _connected(mesh)
    assert server.getpeercert() == {}
    assert Fingerprint.of_der(server.getpeercert(True)) == mesh.friend.fingerprint  # type: ignore[arg-type]  # there is one


def test_who_shows_no_certificate_is_nobody(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the list says: it is not asked about nobody."""
    server, _ = _connected(mesh)
    monkeypatch.setattr(server, "_judge", lambda _: True)
    assert server._checked_again() == mesh.friend.fingerprint
    monkeypatch.setattr(Channel, "_presented", lambda _: None)
    assert server._checked_again() is None
    assert server.refusal.reason == "not on the allowlist"


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (SSL.WantWriteError(), ssl.SSLWantWriteError, "want write"),
        (SSL.ZeroReturnError(), ssl.SSLZeroReturnError, "the peer closed the connection"),
        (SSL.SysCallError(-1, "Unexpected EOF"), ssl.SSLEOFError, "the connection ended without a close_notify"),
        (SSL.Error([("SSL routines", "", "certificate verify failed")]), ssl.SSLCertVerificationError, "certificate"),
        (SSL.Error([("", "", "bad record mac"), ("", "", "too late")]), ssl.SSLError, "bad record mac; too late"),
        (SSL.Error([]), ssl.SSLError, "TLS error"),
        (SSL.Error(), ssl.SSLError, "TLS error"),
        (SSL.Error("words alone"), ssl.SSLError, "TLS error"),
    ],
    ids=["want write", "closed", "cut off", "not verified", "two reasons", "none", "nothing", "words"],
)
def test_each_error_becomes_that_of_the_standard_library(error: SSL.Error, kind: type[ssl.SSLError], text: str) -> None:
    """Loops and aiohttp know no others."""
    found = mapped(error)
    assert type(found) is kind
    assert text in str(found)


def test_a_transport_of_another_library_has_no_channel(mesh: Mesh) -> None:
    """It is named, and nobody goes on with it."""

    class Plain:
        def __init__(self, found: object) -> None:
            self.get_extra_info = lambda _: found

    server, _ = _connected(mesh)
    assert channel_of(Plain(server)) is server
    with pytest.raises(TypeError, match="no channel of this program below it, but NoneType"):
        channel_of(Plain(None))


def _mebibyte_sent(mesh: Mesh) -> Channel:
    """A channel for which that much has come in, and nothing of it was read."""
    left, right = _connected(mesh)
    left.write(bytes(1 << 20))
    return right


def test_what_came_in_goes_through_openssl_a_chunk_at_a_time(mesh: Mesh) -> None:
    """Whatever waits, a call has no more than that to work through, and OpenSSL keeps no copy of the rest."""
    right, held = _mebibyte_sent(mesh), 0
    for _ in range(1_000):
        assert right.read(1) == b"\0"
        held = max(held, right._held(right._into_openssl))
    assert 0 < held <= 16_384
