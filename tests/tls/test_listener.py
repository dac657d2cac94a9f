"""The listener: whom it counts, what it survives, and that nothing of it is left behind."""

import asyncio
import gc
import os
import resource
import socket
import ssl
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from certs import Mesh
from knocking import LOOPS, Echo, Notes, knock, listening, on_loop, plain_client, until

from tls import listener as listener_module
from tls import porch as porch_module
from tls.gate import Gate
from tls.listener import HandshakeEvent, Limits, Listener
from tls.porch import despite_reuse


def _gate(mesh: Mesh) -> Gate:
    return Gate(mesh.node.files, mesh.everyone_but_the_stranger())


def _kinds(notes: Notes) -> list[str]:
    return [event.kind for event in notes.events]


# --- accepting


@contextmanager
def _no_descriptor_left() -> Iterator[None]:
    """Everything that this process may open is open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(one.name) for one in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
    taken = []
    try:
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in taken:
            os.close(one)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted by /proc")
@pytest.mark.parametrize("loop", LOOPS)
def test_running_out_of_descriptors_does_not_end_the_accept_loop(mesh: Mesh, loop: str) -> None:
    """While nothing can be accepted it is reported; as soon as descriptors are free, whoever waited gets in."""

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, notes):
            client = plain_client(mesh, mesh.friend)
            assert (await knock(listener.port, client))[0] == b"echo:hello"  # whatever is opened once, is open now
            with socket.socket() as raw:
                with _no_descriptor_left():
                    raw.connect(("127.0.0.1", listener.port))
                    await until(lambda: "error" in _kinds(notes))
                raw.setblocking(False)
                reader, writer = await asyncio.open_connection(sock=raw, ssl=client, server_hostname="127.0.0.1")
                writer.write(b"hi")
                assert await reader.read(10) == b"echo:hi"
                writer.transport.abort()
            event = next(event for event in notes.events if event.kind == "error")
            assert (event.address, event.reason) == ("", "no connection can be accepted: Too many open files")

    on_loop(loop, main)


def test_a_connection_that_was_aborted_in_the_queue_costs_no_pause(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some systems report it at accept; pausing for each would let anybody keep everybody out."""
    monkeypatch.setattr(listener_module, "ACCEPT_PAUSE", 3600)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        real, failures = loop.sock_accept, iter([ConnectionAbortedError(103, "aborted")] * 3)

        async def accept(listening: socket.socket) -> Any:
            for error in failures:
                raise error
            return await real(listening)

        loop.sock_accept = accept  # type: ignore[method-assign]
        async with listening(_gate(mesh)) as (listener, notes):
            assert (await knock(listener.port, plain_client(mesh, mesh.friend)))[0] == b"echo:hello"
            assert _kinds(notes) == ["accepted"]

    on_loop("asyncio", main)


async def _most_at_one_turn(mesh: Mesh) -> int:
    """A hundred connections wait: how many are dealt with before anything else gets its turn."""
    async with listening(_gate(mesh), Limits(max_handshakes=1)) as (listener, notes):
        waiting = []
        for _ in range(100):
            raw = socket.create_connection(("127.0.0.1", listener.port))  # the kernel takes it, the loop does not turn
            waiting.append(raw)
        counts = []
        async with asyncio.timeout(10):
            while len(notes.events) < 97:  # three may wait
                counts.append(len(notes.events))
                await asyncio.sleep(0)
        for raw in waiting:
            raw.close()
        await until(lambda: not listener._porch.visits)
        return max(after - before for before, after in zip([0, *counts], [*counts, 97], strict=True))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_flood_of_connections_leaves_the_others_their_turn(mesh: Mesh, loop: str) -> None:
    """Between two connections everything else runs."""
    assert on_loop(loop, lambda: _most_at_one_turn(mesh)) <= 2


def test_without_the_yield_a_flood_has_asyncio_alone(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: what waits is taken in a row, and nothing else runs meanwhile (uvloop yields by itself)."""

    async def no_turn() -> None:
        return

    monkeypatch.setattr(listener_module, "_let_others_run", no_turn)
    assert on_loop("asyncio", lambda: _most_at_one_turn(mesh)) > 10


# --- counting


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this system has no IPv6 socket that takes IPv4 too")
@pytest.mark.parametrize("loop", LOOPS)
def test_one_listener_for_both_families(mesh: Mesh, loop: str) -> None:
    """`::` is reached by IPv4 and by IPv6; an IPv4 address is shown as one."""

    async def main() -> None:
        async with listening(_gate(mesh), host="::") as (listener, notes):
            for address in ("127.0.0.1", "::1"):
                reader, writer = await asyncio.open_connection(
                    address, listener.port, ssl=plain_client(mesh, mesh.friend)
                )
                writer.write(b"hi")
                assert await reader.read(10) == b"echo:hi"
                writer.transport.abort()
            assert [event.address for event in notes.events] == ["127.0.0.1", "::1"]

    on_loop(loop, main)


def test_without_such_a_socket_it_listens_on_ipv6_alone(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked of the system that it cannot do."""
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    asked = {}

    def server(address: tuple[str, int], **options: Any) -> socket.socket:
        asked.update(options)
        raise OSError("enough was seen")

    monkeypatch.setattr(socket, "create_server", server)

    async def main() -> None:
        listener = Listener(_gate(mesh), lambda: Echo(Notes()), "::", 0)
        assert not listener.is_accepting
        with pytest.raises(OSError, match="enough"):
            await listener.start()
        await listener.close()

    on_loop("asyncio", main)
    assert asked["family"] == socket.AF_INET6
    assert not asked["dualstack_ipv6"]


def test_it_accepts_from_its_start_until_it_is_closed(mesh: Mesh) -> None:
    """Nobody has to be told of what happens there."""

    async def main() -> list[bool]:
        listener = Listener(_gate(mesh), lambda: Echo(Notes()), "127.0.0.1", 0)
        found = [listener.is_accepting]
        await listener.start()
        found.append(listener.is_accepting)
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=plain_client(mesh, mesh.friend))
        await until(lambda: listener.connections == 1)
        writer.transport.abort()
        await listener.close()
        return [*found, listener.is_accepting]

    assert on_loop("asyncio", main) == [False, True, False]


def test_an_address_that_cannot_be_listened_on_is_an_error(mesh: Mesh) -> None:
    """Taken, or another machine's: the caller learns it at once, and nothing is left running."""

    async def main() -> None:
        async with listening(_gate(mesh)) as (listener, _):
            before = asyncio.all_tasks()
            for host, port in (("127.0.0.1", listener.port), ("192.0.2.1", 0)):
                other = Listener(_gate(mesh), lambda: Echo(Notes()), host, port)
                with pytest.raises(OSError, match=r"in use|assign"):
                    await other.start()
                await other.close()
            assert asyncio.all_tasks() == before

    on_loop("asyncio", main)


def test_handshakes_under_way_cannot_overrun_the_connections(mesh: Mesh) -> None:
    """Several that began while there was room: only as many enter as there is room for."""

    async def main() -> None:
        async with listening(_gate(mesh), Limits(max_connections=2)) as (listener, notes):
            found = await asyncio.gather(
                *(
                    asyncio.open_connection("127.0.0.1", listener.port, ssl=plain_client(mesh, mesh.friend))
                    for _ in range(5)
                ),
                return_exceptions=True,
            )
            await until(lambda: len(notes.events) == 5)
            assert (notes.made, listener.connections) == (2, 2)
            assert sorted(_kinds(notes)) == ["accepted"] * 2 + ["limit"] * 3
            for one in found:
                if not isinstance(one, BaseException):
                    one[1].transport.abort()
            await until(lambda: listener.connections == 0)
            assert (await knock(listener.port, plain_client(mesh, mesh.friend)))[0] == b"echo:hello"

    on_loop("asyncio", main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_peer_that_vanishes_is_noticed_by_keepalive(mesh: Mesh, loop: str) -> None:
    """Every accepted connection has TCP_NODELAY, and probes that end it two minutes after the last sign of life."""
    options: list[int] = []

    class Asking(Echo):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raw = transport.get_extra_info("socket")
            options.append(raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            options.append(raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            idle, interval, count = (
                raw.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in porch_module._KEEPALIVE
            )
            options.append(idle + interval * count)

    async def main() -> None:
        async with listening(_gate(mesh), protocol=Asking) as (listener, _):
            await knock(listener.port, plain_client(mesh, mesh.friend))

    on_loop(loop, main)
    assert options == [1, 1, 120]


# --- what goes wrong on our side


class Stumbling(Echo):
    """An HTTP protocol with a bug, in the one connection or in all its methods."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.notes.made == 1:
            raise RuntimeError("a bug in the protocol")


def _no_protocol(notes: Notes) -> asyncio.Protocol:
    notes.made += 1
    if notes.made == 1:
        raise RuntimeError("a bug in the factory")
    notes.made -= 1
    return Echo(notes)


@pytest.mark.parametrize("protocol", [Stumbling, _no_protocol], ids=["connection_made", "factory"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_bug_in_the_protocol_costs_that_connection_only(mesh: Mesh, loop: str, protocol: Any) -> None:
    """It is closed and counted out again, it is reported, and the next one gets in."""

    async def main() -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context.get("exception")))
        async with listening(_gate(mesh), protocol=protocol) as (listener, notes):
            answer, _ = await knock(listener.port, plain_client(mesh, mesh.friend))
            assert answer == b""
            await until(lambda: "error" in _kinds(notes))
            assert listener.connections == 0
            assert listener._porch.inside.is_empty
            assert any("a bug in" in str(error) for error in told)
            assert (await knock(listener.port, plain_client(mesh, mesh.friend)))[0] == b"echo:hello"

    on_loop(loop, main)


@pytest.mark.parametrize("who", ["friend", "stranger"])
def test_a_log_that_cannot_be_written_changes_nothing(mesh: Mesh, who: str) -> None:
    """Where the one who is told of events fails, the listed get in and the unlisted do not."""

    def broken(event: HandshakeEvent) -> None:
        raise OSError("no space left on device")

    async def main() -> None:
        told: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["message"]))
        notes = Notes()
        listener = Listener(_gate(mesh), lambda: Echo(notes), "127.0.0.1", 0, on_event=broken)
        await listener.start()
        try:
            for _ in range(2):
                answer, _ = await knock(listener.port, plain_client(mesh, getattr(mesh, who)))
                assert answer == (b"echo:hello" if who == "friend" else b"")
            await until(lambda: len(told) == 2)
            assert notes.made == (2 if who == "friend" else 0)
            assert "nobody took note of" in told[0]
        finally:
            await listener.close()

    on_loop("asyncio", main)


def test_where_nobody_wants_to_be_told_nothing_is_amiss(mesh: Mesh) -> None:
    """A listener without a log is no listener whose log fails."""

    async def main() -> None:
        told: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["message"]))
        listener = Listener(_gate(mesh), lambda: Echo(Notes()), "127.0.0.1", 0)
        await listener.start()
        try:
            assert (await knock(listener.port, plain_client(mesh, mesh.friend)))[0] == b"echo:hello"
            assert told == []
        finally:
            await listener.close()

    on_loop("asyncio", main)


def test_no_protocol_exists_for_who_is_refused(mesh: Mesh) -> None:
    """A stranger costs a handshake and nothing of HTTP: its protocol is not even made."""
    made: list[int] = []

    def counted(notes: Notes) -> asyncio.Protocol:
        made.append(1)
        return Echo(notes)

    async def main() -> None:
        async with listening(_gate(mesh), protocol=counted) as (listener, _):
            await knock(listener.port, plain_client(mesh, mesh.stranger))
            assert made == []
            await knock(listener.port, plain_client(mesh, mesh.friend))
            assert made == [1]

    on_loop("asyncio", main)


# --- the end


@pytest.mark.parametrize("loop", LOOPS)
def test_closing_ends_everything(mesh: Mesh, loop: str) -> None:
    """Live connections and pending handshakes are cut, the port is free, no task is left."""

    async def main() -> None:
        before = asyncio.all_tasks()
        notes = Notes()
        listener = Listener(_gate(mesh), lambda: Echo(notes), "127.0.0.1", 0, on_event=notes.events.append)
        await listener.start()
        port = listener.port
        live, live_writer = await asyncio.open_connection("127.0.0.1", port, ssl=plain_client(mesh, mesh.friend))
        pending, pending_writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: listener.connections == 1 and len(listener._porch.visits) == 1)
        await listener.close()
        for reader in (live, pending):
            try:
                assert await asyncio.wait_for(reader.read(1), 5) == b""
            except (ConnectionError, ssl.SSLError):
                continue
        await until(lambda: notes.lost == 1 and asyncio.all_tasks() == before)
        assert (listener.connections, listener._porch.inside.is_empty, listener._porch.outside.is_empty) == (
            0,
            True,
            True,
        )
        again = Listener(_gate(mesh), lambda: Echo(notes), "127.0.0.1", port)
        await again.start()
        await again.close()
        for writer in (live_writer, pending_writer):
            writer.transport.abort()

    on_loop(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_s_tasks_do_not_hold_its_channel(mesh: Mesh, loop: str) -> None:
    """What a protocol starts inherits the handshake's context; it may live on without keeping the connection."""
    channels: list[weakref.ref[Any]] = []
    tasks: list[asyncio.Task[bool]] = []

    class Starting(Echo):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            channels.append(weakref.ref(transport.get_extra_info("ssl_object")))
            tasks.append(asyncio.create_task(asyncio.Event().wait()))

    async def main() -> None:
        async with listening(_gate(mesh), protocol=Starting) as (listener, notes):
            assert (await knock(listener.port, plain_client(mesh, mesh.friend)))[0] == b"echo:hello"
            await until(lambda: notes.lost == 1)

            def freed() -> bool:
                gc.collect()
                return channels[0]() is None

            await until(freed)
            assert not tasks[0].done()
            tasks[0].cancel()

    on_loop(loop, main)


# --- descriptors that were closed a moment ago


@pytest.mark.parametrize("is_patient", [True, False], ids=["patient", "control"])
def test_a_number_that_the_event_loop_still_watches_turns_nobody_away(
    is_patient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop refuses a new connection on it with EEXIST until it has forgotten the old one.

    (Control: without another try the peer is turned away for something that is none of its business.)
    """
    if not is_patient:
        monkeypatch.setattr(porch_module, "REUSE_TURNS", 0)

    async def main() -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        old, other = socket.socketpair()
        number = old.fileno()
        loop.add_reader(number, lambda: None)
        old.close()  # as a failed connect does it: the loop is told in its next turn
        here, there = socket.socketpair()
        assert here.fileno() == number, "the system gives the lowest number that is free"
        loop.call_soon(lambda: loop.call_soon(loop.remove_reader, number))
        here.setblocking(False)
        with other, there:
            return (await despite_reuse(lambda: loop.connect_accepted_socket(asyncio.Protocol, here)))[0]

    if is_patient:
        on_loop("uvloop", main)
    else:
        with pytest.raises(FileExistsError):
            on_loop("uvloop", main)
