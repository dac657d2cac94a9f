"""What two ends agree on before anything is said: version, group, suite; and what a context refuses to be used for."""

import asyncio
import socket
import ssl
from typing import Any

import pytest
from certs import Mesh
from knocking import LOOPS, Notes, knock, listening, on_loop, plain_client, until

from tls import contexts
from tls.channel import Channel, channel_of
from tls.contexts import SSL
from tls.gate import Gate
from tls.listener import Listener


def _gate(mesh: Mesh) -> Gate:
    return Gate(mesh.node.files, mesh.listing(mesh.node, mesh.friend))


def _ours(mesh: Mesh) -> ssl.SSLContext:
    friend = Gate(mesh.friend.files, mesh.listing(mesh.node))
    return friend.client_context(frozenset((mesh.node.fingerprint,)))


def _inside(listener: Listener) -> Channel:
    (transport,) = listener._live
    return channel_of(transport)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_hybrid_group_comes_first(mesh: Mesh, loop: str) -> None:
    """Two nodes agree on X25519MLKEM768, over TLS 1.3 and one of the listed suites."""

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, _):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=_ours(mesh))
            await until(lambda: listener.connections == 1)
            for channel in (channel_of(writer.transport), _inside(listener)):
                assert (channel.group() or "").upper() == "X25519MLKEM768"
                assert channel.version() == "TLSv1.3"
                assert channel.cipher()[0] in contexts.SUITES.decode().split(":")
                assert channel.peer is not None
            writer.transport.abort()

    on_loop(loop, main)


@pytest.mark.parametrize(
    ("curve", "answer", "group"),
    [("X25519", b"echo:hello", "X25519"), ("prime256v1", b"", "")],
    ids=["X25519", "P-256"],
)
def test_without_the_hybrid_it_is_x25519_or_nothing(mesh: Mesh, curve: str, answer: bytes, group: str) -> None:
    """A client that knows only X25519 gets it; one that knows neither is refused before HTTP."""
    groups = []

    class Noting(asyncio.Protocol):
        def __init__(self, notes: Notes) -> None:
            self.notes = notes

        def connection_made(self, transport: Any) -> None:
            groups.append((channel_of(transport).group() or "").upper())
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(b"echo:" + data)

    async def main() -> None:
        async with listening(_gate(mesh), protocol=Noting) as (listener, _):
            client = plain_client(mesh, mesh.friend)
            client.set_ecdh_curve(curve)
            got, alert = await knock(listener.port, client)
            assert got == answer
            assert bool(alert) is not bool(answer)
            assert groups == ([group] if group else [])

    on_loop("asyncio", main)


def test_where_openssl_lacks_the_hybrid_the_next_choice_is_taken(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown group costs nothing but itself: no error of it is left behind for the next call."""
    monkeypatch.setattr(contexts, "GROUPS", (b"NOSUCHGROUP:X25519", b"X25519"))

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, _):
            assert SSL._lib.ERR_peek_error() == 0
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=_ours(mesh))
            writer.write(b"hi")
            assert await reader.read(10) == b"echo:hi"
            assert (_inside(listener).group() or "").upper() == "X25519"
            writer.transport.abort()

    on_loop("asyncio", main)


def test_no_group_at_all_is_an_error(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library without any of the groups is refused by name, not used with its defaults."""
    monkeypatch.setattr(contexts, "GROUPS", (b"NOSUCHGROUP",))
    with pytest.raises(contexts.TlsError, match="neither X25519MLKEM768 nor X25519"):
        _gate(mesh)


class Without:
    """OpenSSL as it would be without one of its functions."""

    def __init__(self, library: Any, name: str) -> None:
        self._library, self._name = library, name

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            raise AttributeError(name)
        return getattr(self._library, name)


def test_where_openssl_takes_no_error_of_ours_the_gate_gates_all_the_same(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stranger is told another alert, and that is all."""
    with monkeypatch.context() as patch:
        patch.setattr(SSL, "_lib", Without(SSL._lib, "X509_STORE_CTX_set_error"))
        gate = _gate(mesh)

    async def main() -> tuple[Any, Any]:
        async with listening(gate) as (listener, _):
            stranger = Gate(mesh.stranger.files, mesh.listing(mesh.node))
            unlisted = stranger.client_context(frozenset((mesh.node.fingerprint,)))
            return await knock(listener.port, _ours(mesh)), await knock(listener.port, unlisted)

    (answer, _), (nothing, alert) = on_loop("asyncio", main)
    assert (answer, nothing) == (b"echo:hello", b"")
    assert "internal error" in alert


def test_other_suites_are_refused(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that offers only a suite that is not on the list gets no connection; control: with the list it does."""

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, notes):
            with monkeypatch.context() as patch:
                patch.setattr(contexts, "SUITES", b"TLS_AES_128_CCM_SHA256")
                odd = _ours(mesh)
            answer, alert = await knock(listener.port, odd)
            assert answer == b""
            assert "handshake failure" in (alert or "")
            assert notes.made == 0
            assert (await knock(listener.port, _ours(mesh)))[0] == b"echo:hello"

    on_loop("asyncio", main)


def test_a_context_serves_one_side_and_asyncio_only(mesh: Mesh) -> None:
    """Used the wrong way round, or with blocking sockets, it refuses rather than connecting unchecked."""
    server = _gate(mesh).server_context()
    with pytest.raises(ssl.SSLError, match="other side"):
        server.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    with pytest.raises(ssl.SSLError, match="other side"):
        _ours(mesh).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    with socket.socket() as raw, pytest.raises(NotImplementedError, match="asyncio"):
        server.wrap_socket(raw)
    with pytest.raises(TypeError, match="no channel"):
        channel_of(asyncio.Transport())


@pytest.mark.parametrize("name", ["desk.local", "127.0.0.1", "::1", "fe80::1%lo", "bücher.example", "a..b", "x" * 64])
def test_any_name_may_be_dialled(mesh: Mesh, name: str) -> None:
    """A name that cannot be sent along is left out: it is the pin that decides, not the name."""
    channel = _ours(mesh).wrap_bio(ssl.MemoryBIO(), outgoing := ssl.MemoryBIO(), server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        channel.do_handshake()
    hello = outgoing.read()
    assert (b"desk.local" in hello) is (name == "desk.local")
    if not name[0].isalpha() or ":" in name:
        assert name.encode() not in hello, "an address is no name (RFC 6066 section 3)"
