"""Accepts TCP connections, lets each through the gate, and hands those that passed to the HTTP protocol.

An accept loop of our own, because a server's has no limits: here handshakes are timed, counted in total and per
address, and connections are counted too. What is over a limit is closed before it costs anything.
"""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tls.channel import ATTEMPT, Attempt, channel_of
from tls.fingerprint import Fingerprint
from tls.gate import Gate

BACKLOG = 256
ACCEPT_PAUSE = 0.1
"""Seconds to wait after accept failed (out of descriptors), instead of spinning."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one listener bears."""

    handshake_timeout: float = 5.0
    max_handshakes: int = 64
    """Pending at one time: each may hold some 300 KiB."""
    max_handshakes_per_address: int = 8
    max_connections: int = 256


@dataclass(frozen=True, slots=True)
class HandshakeEvent:
    """What happened at the gate; one for each connection that came."""

    kind: str
    """`accepted`, `refused`, `timeout`, `limit` or `dropped`."""
    address: str
    fingerprint: Fingerprint | None = None
    label: str | None = None
    """The operator's name for it; None where it is not listed."""
    reason: str | None = None


class Listener:
    """One listening socket. `protocol_factory` makes the HTTP protocol, only for connections that passed."""

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
        self._by_address: Counter[str] = Counter()
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
        listening = socket.create_server((self._host, self._port), family=family, backlog=BACKLOG)
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
            self._on_event(HandshakeEvent("dropped", address, fingerprint, reason="taken off the allowlist"))
        return len(gone)

    # --- one connection

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(listening)
            except OSError:
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            address = str(peer[0])
            limit = self._limit(address)
            if limit is not None:
                accepted.close()
                self._on_event(HandshakeEvent("limit", address, reason=limit))
                continue
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._by_address[address] += 1
            task = asyncio.create_task(self._admit(accepted, address))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    def _limit(self, address: str) -> str | None:
        if len(self._handshakes) >= self._limits.max_handshakes:
            return f"{self._limits.max_handshakes} handshakes are pending"
        if self._by_address[address] >= self._limits.max_handshakes_per_address:
            return f"{self._limits.max_handshakes_per_address} handshakes of this address are pending"
        if len(self._live) >= self._limits.max_connections:
            return f"{self._limits.max_connections} connections are open"
        return None

    async def _admit(self, accepted: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        attempt = Attempt()
        ATTEMPT.set(attempt)
        context = self._gate.server_context()
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: _Tracked(self._factory(), self._entered, self._left, address),
                accepted,
                ssl=context,
                ssl_handshake_timeout=self._limits.handshake_timeout,
            )
        except (ssl.SSLError, OSError, TimeoutError) as error:
            self._refused(attempt, address, error)
            return
        finally:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
        fingerprint = channel_of(transport).peer
        # The list may have changed between the handshake and this line; then drop_unlisted did not see it.
        if fingerprint is None or not self._gate.allowed(fingerprint):
            transport.abort()

    def _entered(self, transport: asyncio.Transport, address: str) -> None:
        fingerprint = channel_of(transport).peer
        assert fingerprint is not None, "the gate let nobody through unchecked"
        self._live[transport] = (fingerprint, address)
        label = self._gate.allowlist.label_of(fingerprint)
        self._on_event(HandshakeEvent("accepted", address, fingerprint, label))

    def _left(self, transport: asyncio.Transport) -> None:
        self._live.pop(transport, None)

    def _refused(self, attempt: Attempt, address: str, error: Exception) -> None:
        refusal = attempt.channel.refusal if attempt.channel is not None else None
        timed_out = isinstance(error, ConnectionAbortedError | TimeoutError) and (refusal is None or not refusal.alert)
        reason = "no handshake within the time allowed" if timed_out else None
        if refusal is not None and reason is None:
            reason = refusal.reason or refusal.alert
        self._on_event(
            HandshakeEvent(
                "timeout" if timed_out else "refused",
                address,
                refusal.fingerprint if refusal is not None else None,
                None,
                reason or str(error) or type(error).__name__,
            )
        )


class _Tracked(asyncio.Protocol):
    """Passes everything on to the HTTP protocol, and tells the listener who comes and goes."""

    def __init__(
        self,
        inner: asyncio.Protocol,
        entered: Callable[[asyncio.Transport, str], None],
        left: Callable[[asyncio.Transport], None],
        address: str,
    ) -> None:
        self._inner = inner
        self._on_entered, self._on_left, self._address = entered, left, address
        # Bound once: these two are called for every segment.
        self.data_received = inner.data_received  # type: ignore[method-assign]
        self.eof_received = inner.eof_received  # type: ignore[method-assign]
        self.pause_writing = inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = inner.resume_writing  # type: ignore[method-assign]
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._on_entered(self._transport, self._address)
        self._inner.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._on_left(self._transport)
        self._inner.connection_lost(error)
