"""Accepts TCP connections, lets each through the gate, and hands those that passed to the HTTP protocol.

An accept loop of our own, because a server's has no limits: here handshakes are timed, counted in total and per
address, and connections are counted too. What is over a limit is closed before it costs anything.

A connection lives until either end closes it or its certificate leaves the allowlist. Dates, purpose and chain are
those of its handshake: that a certificate expires meanwhile, or its CA leaves the bundle, is noticed at the next one.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from tls.address import account, shown
from tls.channel import ATTEMPT, Attempt, Refusal, channel_of
from tls.fingerprint import Fingerprint
from tls.gate import Gate

BACKLOG = 256
ACCEPT_PAUSE = 0.1
"""Seconds to wait after accept failed (out of descriptors), instead of spinning."""
REUSE_TURNS = 20
"""Turns of the event loop in which it may still watch the number of a descriptor that was closed."""
T = TypeVar("T")
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Two minutes, and a peer that vanished without a word no longer holds a connection."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one listener bears."""

    handshake_timeout: float = 5.0
    max_handshakes: int = 64
    """Pending at one time: each may hold some 300 KiB."""
    max_handshakes_per_address: int = 8
    """Of an IPv4 address, or of an IPv6 network of 64 bits."""
    max_connections: int = 256


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


class Listener:
    """One listening socket. `protocol_factory` makes the HTTP protocol, only for connections that passed.

    `::` listens for IPv4 too, where the system can.
    """

    def __init__(
        self,
        gate: Gate,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        limits: Limits = Limits(),
        on_event: Callable[[HandshakeEvent], None] | None = None,
    ) -> None:
        self._gate = gate
        self._factory = protocol_factory
        self._host, self._port = host, port
        self._limits = limits
        self._on_event = on_event or (lambda event: None)
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._handshakes: set[asyncio.Task[None]] = set()
        self._by_account: Counter[str] = Counter()
        self._live: dict[asyncio.Transport, tuple[Fingerprint, str]] = {}

    @property
    def port(self) -> int:
        """The port that is listened on; useful where 0 was asked for."""
        assert self._socket is not None, "start first"
        return int(self._socket.getsockname()[1])

    @property
    def connections(self) -> int:
        """Connections that passed the gate and live."""
        return len(self._live)

    async def start(self) -> None:
        """Raises OSError where the address cannot be listened on."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        both = self._host == "::" and socket.has_dualstack_ipv6()
        listening = socket.create_server((self._host, self._port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
        listening.setblocking(False)
        self._socket = listening
        self._accepting = asyncio.create_task(self._accept(listening), name="accept")

    async def close(self) -> None:
        """Stop listening, and close every connection."""
        tasks = [task for task in (self._accepting, *self._handshakes) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
        for transport in list(self._live):
            transport.abort()
        await asyncio.sleep(0)

    def drop_unlisted(self) -> int:
        """Cut the live connections of certificates that are not listed any more; nobody else notices."""
        gone = [(t, *known) for t, known in self._live.items() if not self._gate.allowed(known[0])]
        for transport, fingerprint, address in gone:
            transport.abort()
            self._tell(HandshakeEvent("dropped", address, fingerprint, reason="taken off the allowlist"))
        return len(gone)

    # --- one connection

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(listening)
            except ConnectionAbortedError:  # it was gone before its turn came
                await _let_others_run()
                continue
            except OSError as error:
                self._tell(HandshakeEvent("error", "", reason=f"no connection can be accepted: {error.strerror}"))
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            self._arrived(accepted, shown(str(peer[0])))
            await _let_others_run()

    def _arrived(self, accepted: socket.socket, address: str) -> None:
        payer = account(address)
        limit = self._limit(payer)
        if limit is not None:
            accepted.close()
            self._tell(HandshakeEvent("limit", address, reason=limit))
            return
        try:
            _tune(accepted)
        except OSError:  # on some systems a connection that is gone already
            accepted.close()
            return
        self._by_account[payer] += 1
        task = asyncio.create_task(self._admit(accepted, address, payer), name=f"handshake {address}")
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    def _limit(self, payer: str) -> str | None:
        if len(self._handshakes) >= self._limits.max_handshakes:
            return f"{self._limits.max_handshakes} handshakes are pending"
        if self._by_account[payer] >= self._limits.max_handshakes_per_address:
            return f"{self._limits.max_handshakes_per_address} handshakes of this address are pending"
        return self._full()

    def _full(self) -> str | None:
        full = len(self._live) >= self._limits.max_connections
        return f"{self._limits.max_connections} connections are open" if full else None

    async def _admit(self, accepted: socket.socket, address: str, payer: str) -> None:
        loop = asyncio.get_running_loop()
        attempt = Attempt()
        ATTEMPT.set(attempt)
        try:
            await despite_reuse(
                lambda: loop.connect_accepted_socket(
                    lambda: _Doorway(self, address),
                    accepted,
                    ssl=self._gate.server_context(),
                    ssl_handshake_timeout=self._limits.handshake_timeout,
                )
            )
        except Exception as error:  # the peer's doing, or a fault of ours: either way this connection is over
            accepted.close()
            self._refused(attempt, address, error)
        finally:
            attempt.channel = None  # tasks that the connection starts keep the attempt for as long as they live
            self._by_account[payer] -= 1
            if not self._by_account[payer]:
                del self._by_account[payer]

    def enter(self, transport: asyncio.Transport, address: str) -> asyncio.Protocol | None:
        """Called when a handshake is done. The protocol for the connection, or None where it has to go all the same."""
        fingerprint = channel_of(transport).peer
        if fingerprint is None or not self._gate.allowed(fingerprint):
            self._tell(HandshakeEvent("refused", address, fingerprint, reason="not on the allowlist"))
            return None
        full = self._full()  # asked again: the handshakes that were pending may have filled it
        if full is not None:
            self._tell(HandshakeEvent("limit", address, fingerprint, reason=full))
            return None
        protocol = self._factory()
        self._live[transport] = (fingerprint, address)
        self._tell(HandshakeEvent("accepted", address, fingerprint, self._gate.allowlist.label_of(fingerprint)))
        return protocol

    def leave(self, transport: asyncio.Transport) -> None:
        """Called when a connection that entered is lost."""
        self._live.pop(transport, None)

    def _refused(self, attempt: Attempt, address: str, error: Exception) -> None:
        refusal = attempt.channel.refusal if attempt.channel is not None else Refusal()
        timed_out = isinstance(error, ConnectionAbortedError | TimeoutError) and not refusal.alert
        reason = "no handshake within the time allowed" if timed_out else refusal.reason or refusal.alert
        if refusal.reason is None and refusal.alert is not None and "alert" in refusal.alert:
            reason = f"the peer does not accept this node: {refusal.alert}"
        if reason is None and isinstance(error, ConnectionError):
            reason = "the peer hung up during the handshake"
        kind = "timeout" if timed_out else "refused" if isinstance(error, OSError) else "error"
        self._tell(HandshakeEvent(kind, address, refusal.fingerprint, None, reason or repr(error)))

    def _tell(self, event: HandshakeEvent) -> None:
        try:
            self._on_event(event)
        except Exception as error:  # a log that cannot be written must not close the gate, nor open it
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"nobody took note of: {event}", "exception": error}
            )


class _Doorway(asyncio.Protocol):
    """What the event loop talks to: becomes the HTTP protocol once the connection has entered, and only then."""

    def __init__(self, listener: Listener, address: str) -> None:
        self._listener, self._address = listener, address
        self._transport: Any = None
        self._inner: asyncio.Protocol | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        inner = self._listener.enter(self._transport, self._address)
        if inner is None:
            self._transport.abort()
            return
        self._inner = inner
        # Bound once: they are called for every segment.
        self.data_received = inner.data_received  # type: ignore[method-assign]
        self.eof_received = inner.eof_received  # type: ignore[method-assign]
        self.pause_writing = inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = inner.resume_writing  # type: ignore[method-assign]
        inner.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.leave(self._transport)
        if self._inner is not None:
            self._inner.connection_lost(error)


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


async def _let_others_run() -> None:
    """While connections wait, accepting them never yields by itself; whoever floods us would have the loop alone."""
    await asyncio.sleep(0)


def _tune(accepted: socket.socket) -> None:
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        option = getattr(socket, name, None)  # macOS has other names
        if option is not None:
            accepted.setsockopt(socket.IPPROTO_TCP, option, value)
