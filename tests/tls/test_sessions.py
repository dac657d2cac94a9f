"""Ways round the first check: resumed sessions, a list that changes during the handshake, a check that fails itself."""

import asyncio
import random
import socket
import ssl

import pytest
from certs import Mesh
from knocking import LOOPS, Notes, knock, listening, on_loop, plain_client, until

from tls.allowlist import EMPTY
from tls.contexts import SSL
from tls.fingerprint import Fingerprint
from tls.gate import Gate
from tls.listener import HandshakeEvent


def _gate(mesh: Mesh) -> Gate:
    return Gate(mesh.node.files, mesh.everyone_but_the_stranger())


def _visit(
    mesh: Mesh, port: int, session: ssl.SSLSession | None, context: ssl.SSLContext
) -> tuple[bytes, bool, ssl.SSLSession | None]:
    """One connection that offers `session`: the answer, whether it was resumed, and the session for the next."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        try:
            with context.wrap_socket(raw, session=session) as tls:
                tls.sendall(b"x")
                return tls.recv(10), bool(tls.session_reused), tls.session
        except (ssl.SSLError, ConnectionError):
            return b"", False, None


def _with_tickets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what keeps sessions from being resumed."""
    monkeypatch.setattr(SSL.Context, "set_options", lambda self, options: 0)
    monkeypatch.setattr(SSL.Context, "set_session_cache_mode", lambda self, mode: 0)


async def _return_after_removal(mesh: Mesh) -> tuple[bool, bytes, Notes]:
    gate = _gate(mesh)
    async with listening(gate) as (listener, notes):
        context = plain_client(mesh, mesh.friend)
        _, _, session = await asyncio.to_thread(_visit, mesh, listener.port, None, context)
        answer, resumed, session = await asyncio.to_thread(_visit, mesh, listener.port, session, context)
        assert answer == b"echo:x"
        gate.replace_allowlist(mesh.listing(mesh.node))
        answer, _, _ = await asyncio.to_thread(_visit, mesh, listener.port, session, context)
        await until(lambda: len(notes.events) == 3)
        return resumed, answer, notes


@pytest.mark.parametrize("loop", LOOPS)
def test_no_ticket_lets_a_removed_peer_back_in(mesh: Mesh, loop: str) -> None:
    """What the server hands out cannot be resumed, and the removed peer gets a full handshake and a refusal."""
    resumed, answer, notes = on_loop(loop, lambda: _return_after_removal(mesh))
    assert not resumed
    assert answer == b""
    assert (notes.made, notes.events[2].kind) == (2, "refused")


@pytest.mark.parametrize("loop", LOOPS)
def test_with_tickets_the_second_check_still_refuses(mesh: Mesh, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were sessions resumed, without any verify callback, the removed peer would still not reach HTTP."""
    _with_tickets(monkeypatch)
    resumed, answer, notes = on_loop(loop, lambda: _return_after_removal(mesh))
    assert resumed
    assert answer == b""
    assert (notes.made, notes.events[2].kind, notes.events[2].reason) == (2, "refused", "not on the allowlist")
    assert notes.events[2].fingerprint == mesh.friend.fingerprint


def test_with_tickets_and_one_check_the_removed_peer_is_back(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with sessions resumed, and only the verify callback asking the list, the removed peer gets in."""
    _with_tickets(monkeypatch)
    real = Gate.allowed
    in_callback = False

    def callback_only(self: Gate, fingerprint: Fingerprint) -> bool:
        return real(self, fingerprint) if in_callback else True

    helper = SSL.Context.set_verify

    def set_verify(self: SSL.Context, mode: int, decide: object) -> None:
        def marked(*arguments: object) -> bool:
            nonlocal in_callback
            in_callback = True
            try:
                return bool(decide(*arguments))  # type: ignore[operator]
            finally:
                in_callback = False

        helper(self, mode, marked)

    monkeypatch.setattr(SSL.Context, "set_verify", set_verify)
    monkeypatch.setattr(Gate, "allowed", callback_only)
    resumed, answer, notes = on_loop("asyncio", lambda: _return_after_removal(mesh))
    assert resumed
    assert answer == b"echo:x"
    assert notes.made == 3


@pytest.mark.parametrize("answers", [(True, False), (True, True, False)], ids=["second check", "the door"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_list_that_changes_during_the_handshake_counts(
    mesh: Mesh, loop: str, answers: tuple[bool, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken off the list after the callback said yes: refused all the same, and HTTP hears nothing of it."""
    said = iter(answers)
    monkeypatch.setattr(Gate, "allowed", lambda self, fingerprint: next(said))

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, notes):
            assert (await knock(listener.port, plain_client(mesh, mesh.friend)))[0] == b""
            await until(lambda: bool(notes.events))
            assert (notes.made, notes.received, listener.connections) == (0, 0, 0)
            (event,) = notes.events
            assert (event.kind, event.fingerprint) == ("refused", mesh.friend.fingerprint)

    on_loop(loop, main)


@pytest.mark.parametrize(
    ("when", "kind"), [(1, "refused"), (2, "refused"), (3, "error")], ids=["callback", "second", "door"]
)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_check_that_fails_lets_nobody_in(
    mesh: Mesh, loop: str, when: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception where the list is asked is a no: the visitor is refused, and the listener goes on."""
    asked = 0

    def broken(self: Gate, fingerprint: Fingerprint) -> bool:
        nonlocal asked
        asked += 1
        if asked == when:
            raise KeyError("a bug")
        return True

    monkeypatch.setattr(Gate, "allowed", broken)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        async with listening(_gate(mesh)) as (listener, notes):
            answer, ended = await knock(listener.port, plain_client(mesh, mesh.friend))
            assert answer == b""
            if when == 1:
                assert "certificate unknown" in (ended or "").lower().replace("_", " ")
            await until(lambda: bool(notes.events))
            assert (notes.made, notes.events[0].kind) == (0, kind)
            assert "KeyError" in (notes.events[0].reason or "")
            assert (await knock(listener.port, plain_client(mesh, mesh.friend)))[0] == b"echo:hello"

    on_loop(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_reloads_during_handshakes_leave_no_unlisted_connection(mesh: Mesh, loop: str) -> None:
    """The list flips under a hundred handshakes: each ends inside or outside, and nobody unlisted stays connected."""
    both, one = mesh.listing(mesh.node, mesh.friend), mesh.listing(mesh.node)
    turns = random.Random(11)

    async def flip(gate: Gate, stop: asyncio.Event, drop: object) -> None:
        while not stop.is_set():
            gate.replace_allowlist(turns.choice((both, one)))
            assert callable(drop)
            drop()
            for _ in range(turns.randrange(6)):
                await asyncio.sleep(0)

    async def main() -> None:
        gate = Gate(mesh.node.files, both)
        async with listening(gate) as (listener, notes):
            stop = asyncio.Event()
            flipping = asyncio.create_task(flip(gate, stop, listener.drop_unlisted))
            friend, node = plain_client(mesh, mesh.friend), plain_client(mesh, mesh.node)
            inside = 0
            for _ in range(10):
                found = await asyncio.gather(
                    *(knock(listener.port, friend) for _ in range(5)), knock(listener.port, node)
                )
                assert found[-1] == (b"echo:hello", None), "who is listed all the time is never disturbed"
                assert all(answer in (b"echo:hello", b"") for answer, _ in found)
                inside += sum(answer != b"" for answer, _ in found[:-1])
            assert 0 < inside < 50, "the race was on"
            gate.replace_allowlist(EMPTY)
            listener.drop_unlisted()
            stop.set()
            await flipping
            gate.replace_allowlist(EMPTY)
            listener.drop_unlisted()
            await until(lambda: listener.connections == 0 and not listener._porch.visits)
            kinds = {event.kind for event in notes.events}
            assert kinds <= {"accepted", "refused", "dropped"}
            assert notes.made == sum(event.kind == "accepted" for event in notes.events)

    on_loop(loop, main)


def test_an_event_says_who_and_why(mesh: Mesh) -> None:
    """The fingerprint of the refused is what the operator needs to let it in."""

    async def main() -> list[HandshakeEvent]:
        async with listening(_gate(mesh)) as (listener, notes):
            await knock(listener.port, plain_client(mesh, mesh.stranger))
            await knock(listener.port, plain_client(mesh, None))
            await until(lambda: len(notes.events) == 2)
            return notes.events

    stranger, nobody = on_loop("asyncio", main)
    assert (stranger.address, stranger.fingerprint) == ("127.0.0.1", mesh.stranger.fingerprint)
    assert (stranger.label, stranger.reason) == (None, "not on the allowlist")
    assert nobody.fingerprint is None
    assert nobody.reason == "peer did not return a certificate"
