"""A crowd at a real gate: strangers hold every place there is, and who is listed gets in all the same."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from certs import Mesh
from knocking import LOOPS, ByHand, Notes, client_hello, knock, listening, on_loop, plain_client, until

from tls import crowd as crowd_module
from tls import hello as hello_module
from tls import porch as porch_module
from tls.contexts import PinnedContext
from tls.crowd import Crowd
from tls.gate import Gate
from tls.listener import Limits, Listener

PATIENT = Limits(handshake_timeout=60)
"""Nobody goes because the time is over."""
NEIGHBOURS = [f"127.0.0.{last}" for last in range(2, 10)]
ELSEWHERE = [f"127.{second}.0.2" for second in range(1, 9)]


def _gate(mesh: Mesh) -> Gate:
    return Gate(mesh.node.files, mesh.everyone_but_the_stranger())


@asynccontextmanager
async def _crowd(
    port: int, addresses: list[str], each: int, words: bytes = b""
) -> AsyncIterator[list[asyncio.StreamReader]]:
    """So many connections from each address that have said this, and nothing since."""
    pairs = []
    for _ in range(each):
        for address in addresses:
            pairs.append(await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0)))
            pairs[-1][1].write(words)
    try:
        yield [reader for reader, _ in pairs]
    finally:
        for _, writer in pairs:
            writer.transport.abort()


def _keep_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard away: whoever is there keeps the place, and the newest is turned away."""
    monkeypatch.setattr(Crowd, "_heaviest", lambda crowd, known, within=None: max(crowd, key=lambda one: one.number))


FLOODS = {
    "silent, 8 networks": (ELSEWHERE, 40, 0.0),
    "silent, 8 addresses of the peer's network": (NEIGHBOURS, 40, 0.0),
    "silent, the peer's own address": (["127.0.0.1"], 300, 0.0),
    "half a hello, 8 networks": (ELSEWHERE, 40, 0.5),
    "half a hello, the peer's own address": (["127.0.0.1"], 300, 0.5),
    "a hello and no more, 8 networks": (ELSEWHERE, 12, 1.0),
    "a hello and no more, the peer's own address": (["127.0.0.1"], 80, 1.0),
}
"""From where, how many of each address, and how much of a hello."""


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_crowd_of_strangers_keeps_nobody_out(mesh: Mesh, loop: str, flood: str) -> None:
    """More connections than there are places stand there and stay silent: a listed peer gets in, ten times of ten."""
    addresses, each, part = FLOODS[flood]
    hello = client_hello(plain_client(mesh, mesh.friend))

    async def main() -> None:
        async with (
            listening(_gate(mesh), PATIENT) as (listener, notes),
            _crowd(listener.port, addresses, each, hello[: int(len(hello) * part)]),
        ):
            await until(lambda: "limit" in {event.kind for event in notes.events})
            for _ in range(10):
                assert await knock(listener.port, plain_client(mesh, mesh.friend)) == (b"echo:hello", None)
            assert notes.made == 10

    on_loop(loop, main)


@pytest.mark.parametrize("flood", [name for name in FLOODS if "network" not in name or "8 networks" in name])
def test_where_the_newest_has_to_go_it_keeps_everybody_out(
    mesh: Mesh, flood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: the same crowd, and the peer is turned away."""
    addresses, each, part = FLOODS[flood]
    hello = client_hello(plain_client(mesh, mesh.friend))
    _keep_the_oldest(monkeypatch)

    async def main() -> None:
        async with (
            listening(_gate(mesh), PATIENT) as (listener, notes),
            _crowd(listener.port, addresses, each, hello[: int(len(hello) * part)]),
        ):
            await until(lambda: "limit" in {event.kind for event in notes.events})
            answer, alert = await knock(listener.port, plain_client(mesh, mesh.friend))
            assert answer == b""
            assert alert is not None
            assert notes.made == 0

    on_loop("asyncio", main)


@pytest.mark.parametrize(
    ("limits", "words", "reason"),
    [
        (Limits(60, max_handshakes=2), b"", "connections without a hello: 6 are pending"),
        (Limits(60, max_handshakes=2), b"hello", "handshakes: 2 are pending"),
        (Limits(60, max_handshakes_per_address=2), b"hello", "handshakes: 2 of this address are pending"),
    ],
)
@pytest.mark.parametrize("loop", LOOPS)
def test_the_oldest_makes_room_and_is_told_of(mesh: Mesh, loop: str, limits: Limits, words: bytes, reason: str) -> None:
    """One more than there is room for: the first is closed, the others stay; nothing is left of them at the end."""
    count = int(reason.partition(": ")[2].split()[0]) + 1

    async def main() -> None:
        async with listening(_gate(mesh), limits) as (listener, notes):
            said = client_hello(plain_client(mesh, mesh.friend)) if words else b""
            async with _crowd(listener.port, ["127.0.0.1"], count, said) as readers:
                await asyncio.wait_for(readers[0].read(), 10)
                await until(lambda: len(notes.events) == 1)
                assert (notes.events[0].kind, notes.events[0].reason) == ("limit", reason)
                assert len(listener._porch.visits) == count - 1
                assert not any(reader.at_eof() for reader in readers[1:])
            await until(lambda: not listener._porch.visits)
            assert listener._porch.inside.is_empty
            assert listener._porch.outside.is_empty
            assert await knock(listener.port, plain_client(mesh, mesh.friend)) == (b"echo:hello", None)

    on_loop(loop, main)


async def _channels(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many channels are made for thirty silent sockets and thirty halves of hellos."""
    made: list[int] = []
    real = PinnedContext.wrap_bio

    def counted(*arguments: object, **named: object) -> object:
        made.append(1)
        return real(*arguments, **named)  # type: ignore[arg-type]

    async with listening(_gate(mesh), PATIENT) as (listener, _):
        with monkeypatch.context() as patch:
            patch.setattr(PinnedContext, "wrap_bio", counted)
            async with (
                _crowd(listener.port, NEIGHBOURS[:3], 10),
                _crowd(listener.port, NEIGHBOURS[:3], 10, client_hello(plain_client(mesh, mesh.friend))[:-1]),
            ):
                await until(lambda: len(listener._porch.visits) == 60 or bool(made))
                await asyncio.gather(*(asyncio.sleep(0) for _ in range(10)))
                return len(made)


@pytest.mark.parametrize("is_kept_outside", [True, False], ids=["outside", "control"])
@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_of_tls_is_made_for_who_has_not_said_hello(
    mesh: Mesh, loop: str, is_kept_outside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence and halves of hellos cost a descriptor. (Control: TLS begun at once.)"""
    if not is_kept_outside:
        monkeypatch.setattr(hello_module, "missing", lambda data: 0)
    made = on_loop(loop, lambda: _channels(mesh, monkeypatch))
    assert (made == 0) is is_kept_outside


@pytest.mark.parametrize("loop", LOOPS)
def test_strangers_handshakes_are_so_many_a_second(mesh: Mesh, loop: str) -> None:
    """Where the turns of strangers are used up, their hellos wait unanswered; an address that is known has its own."""

    async def main() -> None:
        limits = Limits(60, handshakes_per_second=0.001)  # one now, and the next in a quarter of an hour
        async with listening(_gate(mesh), limits) as (listener, _):
            friend = plain_client(mesh, mesh.friend)
            assert await knock(listener.port, friend) == (b"echo:hello", None)
            async with _crowd(listener.port, NEIGHBOURS, 4, client_hello(plain_client(mesh, mesh.friend))) as readers:
                await until(lambda: len(listener._porch.visits) == 32)
                assert await knock(listener.port, friend) == (b"echo:hello", None)
                assert not any(reader._buffer for reader in readers)  # type: ignore[attr-defined]
                assert len(listener._porch.inside) == 0

    on_loop(loop, main)


@pytest.mark.parametrize("share", [10**9, 1], ids=["busy", "control"])
@pytest.mark.parametrize("loop", LOOPS)
def test_on_a_busy_machine_strangers_have_fewer_turns(
    mesh: Mesh, loop: str, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one stranger's hello the loop is left to the others for as long as it says; who is known does not wait.

    (Control: with no rest at all, every stranger is answered at once.)
    """
    monkeypatch.setattr(porch_module, "STRANGERS_SHARE", share)

    async def main() -> None:
        async with listening(_gate(mesh), PATIENT) as (listener, notes):
            listener._porch._known.came("127.0.0.1", mesh.friend.fingerprint, asyncio.get_running_loop().time())
            async with _crowd(listener.port, NEIGHBOURS, 1, client_hello(plain_client(mesh, mesh.friend))):
                await until(lambda: len(listener._porch.visits) == 8)
                await until(lambda: len(listener._porch.inside) == (1 if share > 1 else 8))
                for _ in range(3):
                    assert await knock(listener.port, plain_client(mesh, mesh.friend)) == (b"echo:hello", None)
                assert len(listener._porch.inside) == (1 if share > 1 else 8)
                assert notes.made == 3

    on_loop(loop, main)


@pytest.mark.parametrize("is_hurried", [True, False], ids=["hurried", "control"])
def test_in_a_full_house_time_is_short(mesh: Mesh, is_hurried: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the places taken, and nobody goes; all of them, and everybody does. (Control: time is never short.)"""
    monkeypatch.setattr(crowd_module, "HURRY", 10**9 if is_hurried else 1)
    loads: list[float] = []
    real = crowd_module.patience
    monkeypatch.setattr(porch_module, "patience", lambda longest, load: (loads.append(load), real(longest, load))[1])

    async def main() -> None:
        limits = Limits(600, max_handshakes=4, max_handshakes_per_address=4)
        async with listening(_gate(mesh), limits) as (listener, notes), _crowd(listener.port, NEIGHBOURS[:6], 1):
            await until(lambda: loads.count(0.5) >= 2)
            assert notes.events == []
            async with _crowd(listener.port, NEIGHBOURS[:6], 1):
                await until(lambda: loads.count(1.0) >= 1 and (loads[-1] == 0 or loads.count(1.0) >= 3))
                assert ("timeout" in {event.kind for event in notes.events}) is is_hurried

    on_loop("uvloop", main)


async def _lingering(mesh: Mesh, listener: Listener, notes: Notes) -> tuple[bool, str | None]:
    """A stranger that does not hang up after its alert; then one more comes than there is room for."""
    stranger = await ByHand.connected(plain_client(mesh, mesh.stranger), listener.port)
    await stranger.shake_hands()
    stranger.send()
    await until(lambda: any(visit.visitor.is_refused for visit in listener._porch.visits.values()))
    async with _crowd(listener.port, ["127.0.0.1"], 2, client_hello(plain_client(mesh, mesh.friend))) as others:
        await until(lambda: bool(notes.events))
        stranger.writer.transport.abort()
        return any(reader.at_eof() for reader in others), notes.events[0].reason


@pytest.mark.parametrize("loop", LOOPS)
def test_who_is_refused_and_stays_makes_room_first(mesh: Mesh, loop: str) -> None:
    """It is told of as what it is: a certificate that was not on the list."""

    async def main() -> None:
        async with (
            listening(_gate(mesh), Limits(60, max_handshakes_per_address=2)) as (listener, notes),
            _crowd(listener.port, ["127.0.0.1"], 1, client_hello(plain_client(mesh, mesh.friend))),
        ):
            await until(lambda: len(listener._porch.inside) == 1)
            others_went, reason = await _lingering(mesh, listener, notes)
            assert (others_went, reason) == (False, "not on the allowlist")
            assert notes.events[0].fingerprint == mesh.stranger.fingerprint

    on_loop(loop, main)


# --- connections that have passed


async def _enter(mesh: Mesh, port: int, visitor: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, ssl=plain_client(mesh, visitor))  # type: ignore[arg-type]


@pytest.mark.parametrize("most_each", [3, 100], ids=["bounded", "control"])
@pytest.mark.parametrize("loop", LOOPS)
def test_one_peer_has_so_many_connections(mesh: Mesh, loop: str, most_each: int) -> None:
    """The fourth is closed, and the event names peer and limit. (Control: another limit, and it lives.)"""

    async def main() -> None:
        async with listening(_gate(mesh), Limits(max_connections_per_peer=most_each)) as (listener, notes):
            opened = [await _enter(mesh, listener.port, mesh.friend) for _ in range(4)]
            await until(lambda: len(notes.events) == 4)
            assert listener.connections == min(4, most_each)
            if most_each == 3:
                last = notes.events[-1]
                assert (last.kind, last.label) == ("limit", "friend")
                assert last.reason == "3 connections of this peer are open"
            assert await knock(listener.port, plain_client(mesh, mesh.node)) == (b"echo:hello", None)
            for _, writer in opened:
                writer.transport.abort()
            await until(lambda: listener.connections == 0)

    on_loop(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_peer_that_holds_everything_makes_room_for_another(mesh: Mesh, loop: str) -> None:
    """All places are one peer's: its oldest connection goes, and the newcomer stays for as long as it likes."""

    async def main() -> None:
        limits = Limits(max_connections=4, max_connections_per_peer=16)
        async with listening(_gate(mesh), limits) as (listener, notes):
            taken = [await _enter(mesh, listener.port, mesh.friend) for _ in range(4)]
            await until(lambda: listener.connections == 4)
            reader, writer = await _enter(mesh, listener.port, mesh.node)
            writer.write(b"hello")
            assert await asyncio.wait_for(reader.read(100), 10) == b"echo:hello"
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(taken[0][0].read(), 10) == b""
            event = next(event for event in notes.events if event.kind == "limit")
            assert event.fingerprint == mesh.friend.fingerprint
            assert event.reason == "4 connections are open: its oldest made room for a peer that holds fewer"
            assert listener.connections == 4
            more = await _enter(mesh, listener.port, mesh.friend)
            await until(lambda: notes.events[-1].kind == "limit")
            assert notes.events[-1].reason == "4 connections are open"
            writer.write(b"again")
            assert await asyncio.wait_for(reader.read(100), 10) == b"echo:again"
            for _, one in [*taken, (reader, writer), more]:
                one.transport.abort()

    on_loop(loop, main)
