"""The porch: who counts as known there, and what is told of a connection that failed."""

import asyncio
import socket
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from certs import Mesh
from knocking import on_loop, until

from tls import porch
from tls.address import networks
from tls.channel import Refusal
from tls.crowd import Visitor
from tls.gate import Gate
from tls.listener import Limits
from tls.porch import Porch

IN_TIME = "no handshake within the time allowed"
UNLISTED = "not on the allowlist"
# what the check found, the alert, the error, what is told
FAILED: dict[str, tuple[str | None, str | None, Exception, str, str]] = {
    "too slow": (None, None, TimeoutError(), "timeout", IN_TIME),
    "aborted for being too slow": (None, None, ConnectionAbortedError(), "timeout", IN_TIME),
    "refused, and did not hang up": (UNLISTED, "access denied", TimeoutError(), "refused", UNLISTED),
    "refused": (UNLISTED, "access denied", ConnectionResetError(), "refused", UNLISTED),
    "refused before an alert": (UNLISTED, None, ConnectionResetError(), "refused", UNLISTED),
    "no client of TLS": (None, "wrong version number", OSError("x"), "refused", "wrong version number"),
    "it refused us": (
        None, "ssl/tls alert unknown ca", OSError("x"), "refused",
        "the peer does not accept this node: ssl/tls alert unknown ca",
    ),
    "each refused the other": (UNLISTED, "ssl/tls alert unknown ca", OSError("x"), "refused", UNLISTED),
    "hung up": (None, None, ConnectionResetError(), "refused", "the peer hung up during the handshake"),
    "out of room": (None, None, OSError(12, "no room"), "refused", "OSError(12, 'no room')"),
    "a bug": (None, None, ValueError("bad"), "error", "ValueError('bad')"),
    "a bug after a refusal": (UNLISTED, None, ValueError("bad"), "error", UNLISTED),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILED)
def test_what_is_told_of_a_connection_that_failed(case: str) -> None:
    """Who hung up, who was too slow, who was refused and who refused us are told apart."""
    reason, alert, error, kind, told = FAILED[case]
    refusal = Refusal()
    refusal.reason, refusal.alert = reason, alert
    visit: Any = SimpleNamespace(address="::1", attempt=SimpleNamespace(channel=SimpleNamespace(refusal=refusal)))
    event = porch._refused(visit, error)
    assert (event.kind, event.address, event.reason) == (kind, "::1", told)


def test_what_never_began_tls_is_told_as_well() -> None:
    """There is no channel then that could have found anything."""
    visit: Any = SimpleNamespace(address="::1", attempt=SimpleNamespace(channel=None))
    assert porch._refused(visit, TimeoutError()).reason == IN_TIME


@pytest.mark.parametrize("is_listed", [True, False])
def test_an_address_is_known_while_who_came_from_there_is_listed(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, *, is_listed: bool
) -> None:
    """Whoever was taken off the list has no turn before others."""
    monkeypatch.setattr(porch, "_tune", lambda _: None)  # a pair of sockets has no TCP
    gate = Gate(mesh.node.files, mesh.listing(*([mesh.friend] if is_listed else [])))

    async def main() -> bool:
        one, other = socket.socketpair()
        one.setblocking(False)
        entry = Porch(gate, Limits(), lambda _: asyncio.Protocol(), lambda _: None)
        entry._known.whose = lambda *_: mesh.friend.fingerprint  # type: ignore[method-assign]  # for this test
        entry.arrived(one, "127.0.0.1")
        (visit,) = entry.visits.values()
        await entry.close()
        other.close()
        return visit.visitor.is_known

    assert on_loop("asyncio", main) is is_listed


def test_a_turn_that_has_not_come_is_waited_for(mesh: Mesh) -> None:
    """Once, however many ask; nobody is let in before."""

    async def main() -> list[str]:
        entry = Porch(Gate(mesh.node.files, mesh.listing()), Limits(), lambda _: asyncio.Protocol(), lambda _: None)
        turns: Any = SimpleNamespace(is_wanted=True, next=lambda _: 60.0)
        entry._turns[False] = turns
        entry._next_turn(False)
        turns.next = None
        entry._next_turn(False)
        timers = list(entry._timers)
        await entry.close()
        return timers

    assert on_loop("asyncio", main) == ["turn False"]


def test_a_sweep_ends_who_waits_too_long_and_nobody_else(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has passed a moment ago, or was sent away, is on the list of visits still, and is let be."""
    monkeypatch.setattr(porch, "_tune", lambda _: None)  # a pair of sockets has no TCP

    async def main() -> list[str]:
        told: list[str] = []
        gate = Gate(mesh.node.files, mesh.listing())
        entry = Porch(gate, Limits(600), lambda _: asyncio.Protocol(), lambda event: told.append(event.address))
        pairs = [socket.socketpair() for _ in range(3)]
        for name, (one, _) in zip(("slow", "young", "passed"), pairs, strict=True):
            one.setblocking(False)
            entry.arrived(one, f"203.0.113.{len(name)}")
        slow, _, passed = entry.visits.values()
        for visit in (slow, passed):
            visit.visitor = replace(visit.visitor, since=visit.visitor.since - 601)
        passed.room = None
        entry._timers["sweep"].cancel()
        entry._sweep()
        await entry.close()
        for _, other in pairs:
            other.close()
        return told

    assert on_loop("asyncio", main) == ["203.0.113.4"]


def test_who_is_known_waits_for_no_rest_after_somebody_elses_turn(mesh: Mesh) -> None:
    """Of strangers one goes, and then the loop belongs to others for a while; those who are known go one and all."""

    async def main(*, known: bool) -> int:
        entry = Porch(Gate(mesh.node.files, mesh.listing()), Limits(), lambda _: asyncio.Protocol(), lambda _: None)
        waiting = [Visitor(number, networks("203.0.113.1"), known, 0.0) for number in range(3)]
        gone: list[int] = []
        for one in waiting:
            turn: Any = SimpleNamespace(set_result=lambda _, number=one.number: gone.append(number))
            visit: Any = SimpleNamespace(turn=turn)
            entry.visits[one.number] = visit
            entry._turns[known].wait(one)
        entry._next_turn(known)
        for timer in entry._timers.values():
            timer.cancel()
        return len(gone)

    assert on_loop("asyncio", lambda: main(known=True)) == 3
    assert on_loop("asyncio", lambda: main(known=False)) == 1


def test_who_is_slow_is_looked_for_while_somebody_is_there(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """One timer however many come, none once nobody is left, and one again with the next."""
    monkeypatch.setattr(porch, "_tune", lambda _: None)  # a pair of sockets has no TCP
    monkeypatch.setattr(porch, "SWEEP", 10**6)  # none comes by itself
    asked: list[asyncio.Handle] = []

    async def main() -> list[tuple[int, bool]]:
        gate, limits = Gate(mesh.node.files, mesh.listing()), Limits(handshake_timeout=10**7)
        entry = Porch(gate, limits, lambda _: asyncio.Protocol(), lambda _: None)
        later = entry._sweep_later
        monkeypatch.setattr(entry, "_sweep_later", lambda: (later(), asked.append(entry._timers["sweep"])))

        def sweep() -> None:
            asked[-1].cancel()
            entry._sweep()

        def came() -> socket.socket:
            one, other = socket.socketpair()
            one.setblocking(False)
            entry.arrived(one, "127.0.0.1")
            return other

        def standing() -> tuple[int, bool]:
            return len(asked), "sweep" in entry._timers

        others = [came(), came()]
        found = [standing()]
        sweep()
        found.append(standing())
        tasks = [visit.task for visit in entry.visits.values() if visit.task is not None]
        for other in others:
            other.close()
        await asyncio.wait(tasks)
        await until(lambda: not entry.visits)
        sweep()
        found.append(standing())
        last = came()
        found.append(standing())
        await entry.close()
        last.close()
        return found

    assert on_loop("asyncio", main) == [(1, True), (2, True), (2, False), (3, True)]
