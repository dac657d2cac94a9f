"""The porch: connections that have not passed the gate, from the moment that they are accepted.

A connection waits outside, as a descriptor and no more, until it has said hello; then for its turn; then it is inside,
in its handshake. Both rooms are bounded, and whoever makes them crowded makes room: `tls.crowd` says who that is, and
how much time there is.
"""

import asyncio
import itertools
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from tls import hello
from tls.address import networks
from tls.channel import ATTEMPT, Attempt, Refusal
from tls.crowd import Crowd, Known, Room, Turns, Visitor, patience
from tls.fingerprint import Fingerprint
from tls.gate import Gate

OUTSIDE = 4
"""So many times more may wait outside than be in their handshakes: a descriptor is cheap."""
KNOWN_RATE = 2
"""So many times more often is it the turn of a known address."""
PASSES = 4
"""Of the event loop, in which a hello whose turn it is gets its answer."""
STRANGERS_SHARE = 5
"""Of so many passes one may be for strangers: on a busy machine they have fewer turns than a second would give them."""
SWEEP = 0.25
"""Seconds between looks for handshakes that take too long."""
REUSE_TURNS = 20
"""Turns of the event loop in which it may still watch the number of a descriptor that was closed."""
T = TypeVar("T")
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Two minutes, and a peer that vanished without a word no longer holds a connection."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one listener bears."""

    handshake_timeout: float = 5.0
    """From accepting to the end of the handshake; less where it is crowded."""
    max_handshakes: int = 64
    """Pending at one time: each may hold some 300 KiB."""
    max_handshakes_per_address: int = 32
    """Of an IPv4 address, or of an IPv6 network of 56 bits. Wider networks have more: `tls.address.SHARES`.

    What a peer has behind a NAT whose address floods: with the turns of a known one, 160 ms for its round trip.
    """
    max_connections: int = 256
    max_connections_per_peer: int = 16
    handshakes_per_second: float = 100.0
    """Begun for addresses that are not known: each costs about a millisecond."""


@dataclass(frozen=True, slots=True)
class HandshakeEvent:
    """What happened at the gate; one for each connection that came."""

    kind: str
    """`accepted`, `refused`, `timeout`, `limit`, `dropped`, or `error` where the listener itself is in trouble."""
    address: str
    """Empty where no connection came about."""
    fingerprint: Fingerprint | None = None
    label: str | None = None
    """The operator's name for it; None where it is not listed."""
    reason: str | None = None


@dataclass(slots=True, eq=False)
class Visit:
    """A connection that has not passed, and all that is held for it."""

    visitor: Visitor
    address: str
    accepted: socket.socket
    turn: asyncio.Future[None]
    attempt: Attempt = field(default_factory=Attempt)
    task: asyncio.Task[None] | None = None
    room: Crowd | None = None
    """None: it has passed, or was sent away."""


class Porch:
    """Takes connections in, and begins TLS for those whose turn it is. `doorway` makes what talks to who passes."""

    def __init__(
        self,
        gate: Gate,
        limits: Limits,
        doorway: Callable[["Visit"], asyncio.Protocol],
        tell: Callable[[HandshakeEvent], None],
    ) -> None:
        self._gate, self._limits, self._doorway, self._tell = gate, limits, doorway, tell
        self._numbers = itertools.count()
        self.visits: dict[int, Visit] = {}
        """All of them by their numbers, and for a moment those that have just passed or were sent away."""
        each, most = limits.max_handshakes_per_address, limits.max_handshakes
        # Outside one address may have every place while nobody else wants it: the more there are, the longer has a peer
        # behind a NAT that floods for its hello.
        self.inside, self.outside = Crowd(Room(most, each)), Crowd(Room(OUTSIDE * most, OUTSIDE * most))
        self._known = Known()
        self._loop = asyncio.get_running_loop()
        rate, now = limits.handshakes_per_second, self._loop.time()
        self._turns = {False: Turns(rate, now), True: Turns(rate * KNOWN_RATE, now)}
        self._timers: dict[str, asyncio.Handle] = {}

    async def close(self) -> None:
        """Everybody on it is cut off."""
        for timer in self._timers.values():
            timer.cancel()
        tasks = [visit.task for visit in self.visits.values() if visit.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def arrived(self, accepted: socket.socket, address: str) -> None:
        """A connection came. It is told of where it does not pass."""
        try:
            _tune(accepted)
        except OSError:  # on some systems a connection that is gone already
            accepted.close()
            return
        counted = networks(address)
        fingerprint = self._known.whose(counted[-1].name, self._loop.time())
        is_known = fingerprint is not None and self._gate.allowed(fingerprint)
        visitor = Visitor(next(self._numbers), counted, is_known, self._loop.time())
        visit = Visit(visitor, address, accepted, self._loop.create_future())
        self.visits[visitor.number] = visit
        visit.task = asyncio.create_task(self._admit(visit), name=f"handshake {address}")
        visit.task.add_done_callback(lambda task: self._ended(visit, task))
        self._goes_into(self.outside, visit)
        if "sweep" not in self._timers:
            self._sweep_later()

    async def _admit(self, visit: Visit) -> None:
        attempt = visit.attempt
        ATTEMPT.set(attempt)
        attempt.on_refused = lambda: self._is_refused(visit)
        try:
            attempt.hello = await _hello(visit.accepted)
            await self._turn(visit)
            self._goes_into(self.inside, visit)
            await despite_reuse(
                lambda: self._loop.connect_accepted_socket(
                    lambda: self._doorway(visit),
                    visit.accepted,
                    ssl=self._gate.server_context(),
                    ssl_handshake_timeout=self._limits.handshake_timeout,
                )
            )
        except Exception as error:  # the peer's doing, or a fault of ours: either way this connection is over
            visit.accepted.close()
            self._tell(_refused(visit, error))

    def _ended(self, visit: Visit, task: asyncio.Task[None]) -> None:
        self.leaves(visit)
        del self.visits[visit.visitor.number]
        if task.cancelled():  # perhaps before its first step
            visit.accepted.close()
        attempt = visit.attempt  # tasks that the connection starts keep it for as long as they live
        attempt.channel, attempt.on_refused, attempt.hello = None, None, b""

    async def _turn(self, visit: Visit) -> None:
        """Until its hello may be answered."""
        known = visit.visitor.is_known
        self._turns[known].wait(visit.visitor)
        self._next_turn(known)
        await visit.turn

    def _next_turn(self, known: bool) -> None:
        name, turns = f"turn {known}", self._turns[known]
        if name in self._timers:
            return
        while turns.is_wanted:
            chosen = turns.next(self._loop.time())
            if not isinstance(chosen, Visitor):
                self._timers[name] = self._loop.call_later(chosen, self._turn_comes, name, known)
                return
            self.visits[chosen.number].turn.set_result(None)
            if not known:
                self._look_again(name, time.monotonic(), PASSES)
                return

    def _look_again(self, name: str, begun: float, passes: int) -> None:
        """See how long the loop takes to answer a stranger, and leave it to the others for several times that.

        By the system's clock: that of uvloop stands still within a pass, and goes on by whole milliseconds.
        """
        if passes:
            self._timers[name] = self._loop.call_soon(self._look_again, name, begun, passes - 1)
        else:
            rest = (time.monotonic() - begun) * (STRANGERS_SHARE - 1)
            self._timers[name] = self._loop.call_later(rest, self._turn_comes, name, False)

    def _turn_comes(self, name: str, known: bool) -> None:
        del self._timers[name]
        self._next_turn(known)

    def passed(self, visit: Visit, fingerprint: Fingerprint) -> None:
        """A listed certificate came from there: its address is known from now on."""
        self._known.came(visit.visitor.networks[-1].name, fingerprint, self._loop.time())

    # --- who has to go

    def _goes_into(self, room: Crowd, visit: Visit) -> None:
        self.leaves(visit)
        visit.room = room
        room.add(visit.visitor)
        going = room.to_go(visit.visitor)
        if going is not None:
            victim, why = going
            crowded = "handshakes" if room is self.inside else "connections without a hello"
            self._send_away(self.visits[victim.number], "limit", f"{crowded}: {why}")

    def leaves(self, visit: Visit) -> None:
        """It does not wait any more: it has passed, or has to go."""
        if visit.room is not None:
            visit.room.remove(visit.visitor)
            visit.room = None
        self._turns[visit.visitor.is_known].leave(visit.visitor)

    def _is_refused(self, visit: Visit) -> None:
        """Its alert is on the way: it is the first to go where somebody has to."""
        if visit.room is not None:
            visit.visitor = replace(visit.visitor, is_refused=True)
            visit.room.replace(visit.visitor)

    def _send_away(self, visit: Visit, kind: str, reason: str) -> None:
        self.leaves(visit)
        refusal = _refusal(visit)
        if refusal.alert is not None:  # it got its answer, and did not hang up
            self._tell(_refused(visit, TimeoutError()))
        else:
            self._tell(HandshakeEvent(kind, visit.address, reason=reason))
        assert visit.task is not None, "it was made with the visit"
        visit.task.cancel()

    def _sweep_later(self) -> None:
        longest = self._limits.handshake_timeout
        self._timers["sweep"] = self._loop.call_later(min(SWEEP, longest / 4), self._sweep)

    def _sweep(self) -> None:
        del self._timers["sweep"]
        now = self._loop.time()
        allowed = patience(self._limits.handshake_timeout, max(self.inside.load, self.outside.load))
        for visit in list(self.visits.values()):
            if visit.room is not None and now - visit.visitor.since > allowed:
                self._send_away(visit, "timeout", "no handshake within the time allowed")
        if self.visits:
            self._sweep_later()


async def _hello(accepted: socket.socket) -> bytearray:
    """What the client says first, once it is whole. Raises OSError where it hangs up instead."""
    loop = asyncio.get_running_loop()
    said = bytearray()
    while count := hello.missing(said):
        part = await loop.sock_recv(accepted, count)
        if not part:
            raise ConnectionResetError("no hello came")
        said += part
    return said


def _refusal(visit: Visit) -> Refusal:
    channel = visit.attempt.channel
    return channel.refusal if channel is not None else Refusal()


def _refused(visit: Visit, error: Exception) -> HandshakeEvent:
    """What is told of a connection that failed."""
    refusal = _refusal(visit)
    timed_out = isinstance(error, ConnectionAbortedError | TimeoutError) and not refusal.alert
    reason = "no handshake within the time allowed" if timed_out else refusal.reason or refusal.alert
    if refusal.reason is None and refusal.alert is not None and "alert" in refusal.alert:
        reason = f"the peer does not accept this node: {refusal.alert}"
    if reason is None and isinstance(error, ConnectionError):
        reason = "the peer hung up during the handshake"
    kind = "timeout" if timed_out else "refused" if isinstance(error, OSError) else "error"
    return HandshakeEvent(kind, visit.address, refusal.fingerprint, None, reason or repr(error))


async def despite_reuse(connect: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What `connect` gives, though the number of its descriptor may still belong to another in the event loop's books.

    A socket whose connecting failed is closed at once; libuv watches its number until the next turn of the loop. Who is
    accepted in between gets the number, and libuv answers EEXIST before anything was read of the new connection.
    """
    for _ in range(REUSE_TURNS):
        try:
            return await connect()
        except FileExistsError:
            await asyncio.sleep(0)
    return await connect()


def _tune(accepted: socket.socket) -> None:
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        option = getattr(socket, name, None)  # macOS has other names
        if option is not None:
            accepted.setsockopt(socket.IPPROTO_TCP, option, value)
