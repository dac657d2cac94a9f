"""Visitors who do not speak TLS, speak it badly, slowly, or half: each is got rid of, and nobody else notices."""

import asyncio
import contextlib
import gc
import random
import socket
import ssl
from pathlib import Path

import pytest
from certs import Mesh
from knocking import LOOPS, ByHand, client_hello, knock, listening, on_loop, plain_client, until

from tls.contexts import build
from tls.gate import Gate
from tls.listener import Limits

SEED = 20_260_101
WIDE = Limits(handshake_timeout=5, max_handshakes=256, max_handshakes_per_address=256)


def _gate(mesh: Mesh) -> Gate:
    return Gate(mesh.node.files, mesh.everyone_but_the_stranger())


async def _say(port: int, text: bytes) -> bytes:
    """Send this and nothing more: what came back until the connection ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(text)
        if writer.can_write_eof():
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


GARBAGE = {
    "nothing": b"",
    "one byte": b"\x16",
    "an HTTP request": b"GET /api/v1/health HTTP/1.1\r\nHost: a\r\n\r\n",
    "an SSH banner": b"SSH-2.0-OpenSSH_9.2\r\n",
    "zeros": bytes(4096),
    "a record that claims 64 KiB": b"\x16\x03\x01\xff\xff" + bytes(100),
    "an empty record, a thousand times": b"\x16\x03\x01\x00\x00" * 1000,
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "application data first": b"\x17\x03\x03\x00\x20" + bytes(32),
    "change cipher spec, a thousand times": b"\x14\x03\x03\x00\x01\x01" * 1000,
    "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37),
    "a hello that claims 16 MiB": b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(16_380),
    "a megabyte of noise": random.Random(SEED).randbytes(1 << 20),
}


@pytest.mark.parametrize("case", GARBAGE)
@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_no_tls_is_refused(mesh: Mesh, loop: str, case: str) -> None:
    """No byte of it reaches HTTP, one event is told, and a peer gets in right after."""

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, notes):
            await _say(listener.port, GARBAGE[case])
            await until(lambda: len(notes.events) == 1)
            assert notes.events[0].kind == "refused"
            assert notes.events[0].reason
            assert (notes.made, notes.received) == (0, 0)
            assert (await knock(listener.port, plain_client(mesh, mesh.friend)))[0] == b"echo:hello"

    on_loop(loop, main)


def _mutated(base: bytes, chance: random.Random) -> bytes:
    match chance.randrange(4):
        case 0:
            return base[: chance.randrange(len(base))]
        case 1:
            changed = bytearray(base)
            for _ in range(chance.randrange(1, 8)):
                changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            return bytes(changed)
        case 2:
            place = chance.randrange(len(base))
            return base[:place] + chance.randbytes(chance.randrange(1, 40)) + base[place:]
        case _:
            place = chance.randrange(len(base))
            return base[:place] + base[place + chance.randrange(1, 20) :]


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted by /proc")
@pytest.mark.parametrize("loop", LOOPS)
def test_spoiled_client_hellos_leave_nothing_behind(mesh: Mesh, loop: str) -> None:
    """Three hundred of them, cut, flipped, grown and shrunk: no task, no descriptor, no count is left of any."""
    hello, chance = client_hello(plain_client(mesh, mesh.friend)), random.Random(SEED)

    async def main() -> None:
        async with listening(_gate(mesh), WIDE) as (listener, notes):
            assert (await knock(listener.port, plain_client(mesh, mesh.friend)))[0] == b"echo:hello"
            tasks, descriptors = asyncio.all_tasks(), _descriptors()
            for _ in range(15):
                await asyncio.gather(*(_say(listener.port, _mutated(hello, chance)) for _ in range(20)))
            await until(lambda: len(notes.events) == 301 and not listener._porch.visits)
            gc.collect()
            await until(lambda: _descriptors() <= descriptors)
            assert asyncio.all_tasks() == tasks
            assert listener._porch.inside.is_empty
            assert notes.made == 1
            assert (await knock(listener.port, plain_client(mesh, mesh.friend)))[0] == b"echo:hello"

    on_loop(loop, main)


def test_a_spoiled_second_flight_never_passes(mesh: Mesh) -> None:
    """Certificate, signature and Finished, cut or flipped two hundred times: the channel never has a peer."""
    gate, chance, loaded = _gate(mesh), random.Random(SEED), mesh.friend.files.load()

    def attempt(spoil: bool) -> bool:
        one, two = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = gate.server_context().wrap_bio(one, two, server_side=True)
        client = build(loaded, server=False, allowed=lambda fingerprint: True).wrap_bio(two, one)
        for channel in (client, server, client):
            with contextlib.suppress(ssl.SSLWantReadError):
                channel.do_handshake()
        flight = one.read()
        plain = 6 if flight[0] == 0x14 else 0  # a change cipher spec, which means nothing and is not protected
        one.write(flight[:plain] + (_mutated(flight[plain:], chance) if spoil else flight[plain:]))
        try:
            server.do_handshake()
        except ssl.SSLWantReadError:
            assert server.peer is None
        except ssl.SSLError as error:
            raise AssertionError("a server lingers rather than failing at once") from error
        return server.peer is not None

    assert attempt(spoil=False), "control: untouched, it passes"
    assert not any(attempt(spoil=True) for _ in range(200))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_hello_that_drips_in_is_cut_off(mesh: Mesh, loop: str) -> None:
    """One byte now and then does not stretch the time that a handshake may take."""
    hello = client_hello(plain_client(mesh, mesh.friend))

    async def main() -> None:
        async with listening(_gate(mesh), Limits(handshake_timeout=0.3)) as (listener, notes):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            ended = asyncio.create_task(reader.read())
            sent = 0
            while not ended.done() and sent < len(hello) - 1:
                writer.write(hello[sent : sent + 1])
                sent += 1
                await asyncio.wait((ended,), timeout=0.02)
            assert ended.done(), "the whole hello was taken, byte by byte"
            with contextlib.suppress(ConnectionError):
                assert await ended == b""
            writer.transport.abort()
            await until(lambda: bool(notes.events))
            assert (notes.events[0].kind, notes.made) == ("timeout", 0)

    on_loop(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_never_finishes_is_cut_off(mesh: Mesh, loop: str) -> None:
    """A hello, and then silence: the server's certificate is all that it gets."""
    hello = client_hello(plain_client(mesh, mesh.friend))

    async def main() -> None:
        async with listening(_gate(mesh), Limits(handshake_timeout=0.3)) as (listener, notes):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(hello)
            with contextlib.suppress(ConnectionError):
                assert len(await asyncio.wait_for(reader.read(), 10)) > 500
            writer.transport.abort()
            await until(lambda: bool(notes.events))
            assert (notes.events[0].kind, notes.made, listener.connections) == ("timeout", 0, 0)

    on_loop(loop, main)


def _half_closed(mesh: Mesh, port: int) -> str:
    """A stranger that has said all it has to say, and only listens: what it hears."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = plain_client(mesh, mesh.stranger).wrap_bio(incoming, outgoing)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(65_536))
        tls.write(b"GET / HTTP/1.1\r\n\r\n")
        raw.sendall(outgoing.read())
        raw.shutdown(socket.SHUT_WR)
        try:
            while part := raw.recv(65_536):
                incoming.write(part)
            tls.read(1)
        except ssl.SSLError as error:
            return str(error)
        return "nothing"


@pytest.mark.parametrize("loop", LOOPS)
def test_who_hangs_up_one_way_still_hears_the_alert(mesh: Mesh, loop: str) -> None:
    """A refused peer that closes its sending side does not lose the alert by it."""

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, notes):
            heard = await asyncio.to_thread(_half_closed, mesh, listener.port)
            assert "CERTIFICATE_UNKNOWN" in heard.upper().replace(" ", "_")
            await until(lambda: bool(notes.events))
            assert (notes.made, notes.received) == (0, 0)
            assert notes.events[0].fingerprint == mesh.stranger.fingerprint

    on_loop(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_peer_that_does_not_trust_us_is_reported_as_such(mesh: Mesh, loop: str) -> None:
    """Where the visitor refuses our certificate, the event does not look as if we had refused it."""

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, notes):
            client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
            client.check_hostname = False
            visitor = await ByHand.connected(client, listener.port)
            with pytest.raises(ssl.SSLCertVerificationError):
                await visitor.shake_hands()
            visitor.send()
            visitor.writer.close()
            await until(lambda: bool(notes.events))
            assert notes.events[0].kind == "refused"
            assert "does not accept this node" in (notes.events[0].reason or "")
            assert "unknown ca" in (notes.events[0].reason or "")

    on_loop(loop, main)
