"""The gate, knocked at by every kind of visitor, with several clients, on both event loops."""

import asyncio
import gc
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certs import Mesh, Visitor
from knocking import LOOPS, knock, listening, on_loop, plain_client, until

from tls import channel as channel_module
from tls import contexts
from tls import gate as gate_module
from tls.allowlist import EMPTY
from tls.contexts import build
from tls.errors import GateBrokenError, IdentityError
from tls.gate import Gate, self_test
from tls.listener import Limits

REFUSED: dict[str, tuple[Callable[[Mesh], Visitor | None], bool, str]] = {
    "unlisted": (lambda mesh: mesh.stranger, False, "certificate unknown"),
    "expired": (lambda mesh: mesh.expired, False, "certificate expired"),
    "not valid yet": (lambda mesh: mesh.early, False, "bad certificate"),
    "another CA": (lambda mesh: mesh.foreign, False, "unknown ca"),
    "none": (lambda mesh: None, False, "certificate required"),
    "server's only": (lambda mesh: mesh.server_only, False, "unsupported certificate"),
    "TLS 1.2": (lambda mesh: mesh.friend, True, "protocol version"),
}


@pytest.fixture(scope="module", params=["ec"])
def mesh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    return Mesh(tmp_path_factory.mktemp("mesh"), request.param)


def _gate(mesh: Mesh) -> Gate:
    return Gate(mesh.node.files, mesh.everyone_but_the_stranger())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_listed_certificate_gets_in(mesh: Mesh, loop: str) -> None:
    """A listed, valid certificate of the mesh's CA reaches HTTP, over TLS 1.3."""

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, notes):
            answer, alert = await knock(listener.port, plain_client(mesh, mesh.friend))
            assert (answer, alert) == (b"echo:hello", None)
            assert notes.made == 1
            assert [(e.kind, e.label) for e in notes.events] == [("accepted", "friend")]

    on_loop(loop, main)


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("loop", LOOPS)
def test_everyone_else_is_refused_with_an_alert(mesh: Mesh, loop: str, case: str) -> None:
    """The alert arrives, no byte reaches HTTP, and its `connection_made` is never called."""
    visitor, tls12, words = REFUSED[case]

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, notes):
            answer, alert = await knock(listener.port, plain_client(mesh, visitor(mesh), tls12=tls12))
            assert answer == b""
            assert alert is not None
            assert words in alert.lower().replace("_", " ")
            await until(lambda: bool(notes.events))
            assert (notes.made, notes.received) == (0, 0)
            assert notes.events[0].kind == "refused"

    on_loop(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_without_the_two_checks_the_stranger_gets_in(mesh: Mesh, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with the allowlist's answer forced to yes, the same stranger reaches HTTP."""
    monkeypatch.setattr(Gate, "allowed", lambda self, fingerprint: True)

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, notes):
            answer, _ = await knock(listener.port, plain_client(mesh, mesh.stranger))
            assert answer == b"echo:hello"
            assert notes.made == 1

    on_loop(loop, main)


def test_the_second_check_stands_alone(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the verify callback lets everybody pass, the check after the handshake still refuses."""
    real = contexts._set_verify
    monkeypatch.setattr(contexts, "_set_verify", lambda native, allowed: real(native, lambda fingerprint: True))

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, notes):
            answer, _ = await knock(listener.port, plain_client(mesh, mesh.stranger))
            assert answer == b""
            assert notes.made == 0

    on_loop("asyncio", main)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_alert_survives_a_large_body(mesh: Mesh, loop: str) -> None:
    """A refused client that is busy sending a megabyte still reads its alert, every time."""

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, _):
            for _ in range(10):
                _, alert = await knock(listener.port, plain_client(mesh, mesh.stranger), b"x" * (1 << 20))
                assert alert is not None
                assert "CERTIFICATE_UNKNOWN" in alert.upper().replace(" ", "_")

    on_loop(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_linger_is_bounded(mesh: Mesh, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused peer that keeps sending is cut off once its budget is used up."""
    monkeypatch.setattr(channel_module, "LINGER_BYTES", 64 * 1024)

    async def main() -> None:
        async with listening(_gate(mesh), Limits(handshake_timeout=60)) as (listener, notes):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=plain_client(mesh, mesh.stranger))
            with pytest.raises((ConnectionError, ssl.SSLError)):
                for _ in range(2_000):
                    writer.write(b"x" * 65_536)
                    await writer.drain()
                    await asyncio.sleep(0)
            writer.transport.abort()
            await until(lambda: bool(notes.events))
            assert notes.events[0].kind == "refused"

    on_loop(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_silent_client_is_cut_off(mesh: Mesh, loop: str) -> None:
    """A connection without a handshake ends after the handshake timeout."""

    async def main() -> None:
        async with listening(_gate(mesh), Limits(handshake_timeout=0.3)) as (listener, notes):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
            await until(lambda: bool(notes.events))
            assert notes.events[0].kind == "timeout"
            assert notes.made == 0

    on_loop(loop, main)


def test_connections_are_capped(mesh: Mesh) -> None:
    """One connection more than allowed is closed as soon as its certificate is known, before a byte of HTTP."""

    async def main() -> None:
        async with listening(_gate(mesh), Limits(max_connections=1)) as (listener, notes):
            _, first = await asyncio.open_connection("127.0.0.1", listener.port, ssl=plain_client(mesh, mesh.friend))
            await until(lambda: listener.connections == 1)
            answer, _ = await knock(listener.port, plain_client(mesh, mesh.friend))
            assert answer == b""
            assert (notes.events[-1].kind, notes.made) == ("limit", 1)
            first.transport.abort()

    on_loop("asyncio", main)


@pytest.mark.parametrize("loop", LOOPS)
def test_removal_closes_that_peer_and_nobody_else(mesh: Mesh, loop: str) -> None:
    """`drop_unlisted` cuts the removed certificate's connection; another's goes on."""

    async def main() -> None:
        gate = Gate(mesh.node.files, mesh.listing(mesh.friend, mesh.node))
        async with listening(gate) as (listener, _):
            one = await asyncio.open_connection("127.0.0.1", listener.port, ssl=plain_client(mesh, mesh.friend))
            two = await asyncio.open_connection("127.0.0.1", listener.port, ssl=plain_client(mesh, mesh.node))
            await until(lambda: listener.connections == 2)
            gate.replace_allowlist(mesh.listing(mesh.node))
            assert listener.drop_unlisted() == 1
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)):
                await asyncio.wait_for(one[0].readexactly(1), 1)
            two[1].write(b"still here")
            assert await asyncio.wait_for(two[0].read(100), 5) == b"echo:still here"
            _, alert = await knock(listener.port, plain_client(mesh, mesh.friend))
            assert alert is not None
            one[1].transport.abort()
            two[1].transport.abort()

    on_loop(loop, main)


def test_an_empty_list_means_nobody(mesh: Mesh) -> None:
    """With nothing on the list even the node's own certificate is refused."""

    async def main() -> None:
        async with listening(Gate(mesh.node.files, EMPTY)) as (listener, notes):
            assert (await knock(listener.port, plain_client(mesh, mesh.node)))[1] is not None
            assert notes.made == 0

    on_loop("asyncio", main)


def test_no_session_is_ever_resumed(mesh: Mesh) -> None:
    """A client that offers the session of its first connection gets a full handshake on the second."""

    async def main() -> tuple[int, Any]:
        async with listening(_gate(mesh)) as (listener, _):
            port = listener.port
            return await asyncio.to_thread(_resume, mesh, port), None

    reused, _ = on_loop("asyncio", main)
    assert reused == 0


def _resume(mesh: Mesh, port: int) -> int:
    import socket

    context = plain_client(mesh, mesh.friend)
    session, reused = None, 0
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as raw, context.wrap_socket(raw, session=session) as tls:
            tls.sendall(b"x")
            assert tls.recv(10) == b"echo:x"
            reused += bool(tls.session_reused)
            session = tls.session
    return reused


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("who", ["friend", "stranger", "expired", "foreign"])
def test_with_curl(mesh: Mesh, who: str) -> None:
    """curl gets an answer with the listed certificate, and an alert with any other."""
    visitor: Visitor = getattr(mesh, who)
    command = ["curl", "-sS", "--http0.9", "--max-time", "1", "--cacert", str(mesh.ca)]
    command += ["--cert", str(visitor.files.cert), "--key", str(visitor.files.key)]

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, notes):
            ran = await asyncio.to_thread(
                subprocess.run, [*command, f"https://127.0.0.1:{listener.port}/"], capture_output=True, text=True
            )
            if who == "friend":
                assert ran.stdout.startswith("echo:GET /"), ran.stderr
            else:
                assert "alert" in ran.stderr
                assert (notes.made, notes.received) == (0, 0)

    on_loop("uvloop", main)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize(("who", "extra"), [("friend", []), ("stranger", []), (None, []), ("friend", ["-tls1_2"])])
def test_with_s_client(mesh: Mesh, who: str | None, extra: list[str]) -> None:
    """`openssl s_client` talks with the listed certificate, and reads an alert otherwise."""
    command = ["openssl", "s_client", "-CAfile", str(mesh.ca), "-quiet", "-ign_eof", *extra]
    if who is not None:
        visitor: Visitor = getattr(mesh, who)
        command += ["-cert", str(visitor.files.cert), "-key", str(visitor.files.key)]

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, notes):
            process = await asyncio.create_subprocess_exec(
                *command, "-connect", f"127.0.0.1:{listener.port}", stdin=-1, stdout=-1, stderr=-1
            )
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"hi\n")
            if who == "friend" and not extra:
                assert (await asyncio.wait_for(process.stdout.read(8), 10)) == b"echo:hi\n"
                process.kill()
                await process.wait()
                return
            _, errors = await asyncio.wait_for(process.communicate(), 10)
            assert b"alert" in errors
            assert (notes.made, notes.received) == (0, 0)

    on_loop("asyncio", main)


@pytest.mark.parametrize("key_type", ["ec", "rsa", "ed25519"])
def test_every_kind_of_key(tmp_path: Path, key_type: Any) -> None:
    """Node and peer may have EC, RSA or Ed25519 keys."""
    mesh = Mesh(tmp_path, key_type)

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, _):
            assert (await knock(listener.port, plain_client(mesh, mesh.friend)))[0] == b"echo:hello"
            assert (await knock(listener.port, plain_client(mesh, mesh.stranger)))[1] is not None

    on_loop("uvloop", main)


def test_our_own_client_checks_chain_and_pin(mesh: Mesh) -> None:
    """The dialling side accepts the pinned node, and nobody else: wrong pin, unlisted, expired, another CA."""

    async def main() -> None:
        friend = Gate(mesh.friend.files, mesh.listing(mesh.node, mesh.stranger, mesh.expired, mesh.foreign))
        pin = frozenset((mesh.node.fingerprint,))
        async with listening(_gate(mesh)) as (listener, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=friend.client_context(pin))
            writer.write(b"hi")
            assert await reader.read(10) == b"echo:hi"
            channel = channel_module.channel_of(writer.transport)
            assert channel.version() == "TLSv1.3"
            assert channel.group() in ("X25519MLKEM768", "x25519mlkem768", None)
            writer.transport.abort()
            wrong = friend.client_context(frozenset((mesh.stranger.fingerprint,)))
            with pytest.raises(ssl.SSLError):
                await asyncio.open_connection("127.0.0.1", listener.port, ssl=wrong)
            unlisted = Gate(mesh.friend.files, EMPTY).client_context(pin)
            with pytest.raises(ssl.SSLError):
                await asyncio.open_connection("127.0.0.1", listener.port, ssl=unlisted)
        for impostor in (mesh.expired, mesh.foreign):
            async with listening(Gate(impostor.files, mesh.listing(mesh.friend))) as (listener, _):
                pinned = friend.client_context(frozenset((impostor.fingerprint,)))
                with pytest.raises(ssl.SSLError):
                    await asyncio.open_connection("127.0.0.1", listener.port, ssl=pinned)

    on_loop("asyncio", main)


def test_a_rotated_certificate_serves_the_next_connection(tmp_path: Path) -> None:
    """After a reload new handshakes see the new certificate; a live connection goes on."""
    mesh = Mesh(tmp_path)
    files = mesh.node.files

    async def main() -> None:
        gate = _gate(mesh)
        async with listening(gate) as (listener, _):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", listener.port, ssl=plain_client(mesh, mesh.friend)
            )
            before = gate.own_fingerprint
            fresh = mesh.issue("node")  # over the same two files
            assert gate.reload_identity()
            assert gate.own_fingerprint == fresh.fingerprint != before
            writer.write(b"old")
            assert await reader.read(10) == b"echo:old"
            writer.transport.abort()
            files.key.write_bytes(mesh.friend.files.key.read_bytes())
            with pytest.raises(IdentityError, match="does not belong"):
                gate.reload_identity()
            assert gate.own_fingerprint == fresh.fingerprint
            assert (await knock(listener.port, plain_client(mesh, mesh.friend)))[0] == b"echo:hello"

    on_loop("asyncio", main)


def test_a_ca_taken_out_of_the_bundle_is_trusted_no_longer(tmp_path: Path) -> None:
    """A reload with another CA bundle refuses what the old one vouched for."""
    mesh, other = Mesh(tmp_path), Mesh(tmp_path_sub(tmp_path))

    async def main() -> None:
        gate = _gate(mesh)
        async with listening(gate) as (listener, _):
            client = plain_client(mesh, mesh.friend)
            assert (await knock(listener.port, client))[0] == b"echo:hello"
            mesh.ca.write_bytes(other.authority.cert_pem)
            assert gate.reload_identity()
            assert (await knock(listener.port, client))[1] is not None

    on_loop("asyncio", main)


def tmp_path_sub(path: Path) -> Path:
    folder = path / "other"
    folder.mkdir()
    return folder


def test_the_self_test_passes_and_notices_a_gate_that_does_not_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is silent on the real gate, and raises when either half of the check is taken away."""
    self_test()

    def open_door(loaded: Any, *, server: bool, allowed: Any) -> Any:
        return build(loaded, server=server, allowed=lambda fingerprint: True)

    monkeypatch.setattr(gate_module, "build", open_door)
    with pytest.raises(GateBrokenError, match="unlisted certificate was accepted"):
        self_test()

    def closed_door(loaded: Any, *, server: bool, allowed: Any) -> Any:
        return build(loaded, server=server, allowed=(lambda fingerprint: False) if server else allowed)

    monkeypatch.setattr(gate_module, "build", closed_door)
    with pytest.raises(GateBrokenError, match="listed certificate was refused"):
        self_test()


@pytest.mark.parametrize("alert", [None, "", "the connection ended"])
def test_a_gate_that_refuses_without_an_alert_is_no_gate(monkeypatch: pytest.MonkeyPatch, alert: str | None) -> None:
    """Whoever is refused has to learn it."""
    knocks = iter([(True, None), (False, alert)])
    monkeypatch.setattr(gate_module, "_knock", lambda *_: next(knocks))
    with pytest.raises(GateBrokenError, match="the gate refuses without a TLS alert"):
        self_test()


def test_a_gate_that_cannot_be_tested_is_no_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong, it is said, and the listener stays closed."""

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(gate_module, "_knock", broken)
    with pytest.raises(GateBrokenError, match="the gate cannot be tested: ZeroDivisionError") as caught:
        self_test()
    assert "stays closed" in caught.value.next_step


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("loop", LOOPS)
def test_no_descriptor_is_left_behind(mesh: Mesh, loop: str) -> None:
    """After a hundred knocks, half of them refused, as many descriptors are open as before."""

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, _):
            friend, stranger = plain_client(mesh, mesh.friend), plain_client(mesh, mesh.stranger)
            await knock(listener.port, friend)
            before = descriptors()
            for _ in range(50):
                await knock(listener.port, friend)
                await knock(listener.port, stranger)
            gc.collect()
            await until(lambda: descriptors() <= before + 2)
            assert not listener._porch.visits or len(listener._porch.visits) < 3

    on_loop(loop, main)
