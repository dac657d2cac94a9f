"""Accepts TCP connections, lets each through the gate, and hands those that passed to the HTTP protocol.

An accept loop of our own, because a server's has no limits. What came waits on the porch (`tls.porch`) until it has
passed; what has passed is counted by its certificate.

A connection lives until either end closes it, its certificate leaves the allowlist, or it has to make room for a peer
that holds fewer. Dates, purpose and chain are those of its handshake: that a certificate expires meanwhile, or its CA
leaves the bundle, is noticed at the next one.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

from tls.address import shown
from tls.channel import channel_of
from tls.crowd import to_yield
from tls.fingerprint import Fingerprint
from tls.gate import Gate
from tls.porch import HandshakeEvent as HandshakeEvent
from tls.porch import Limits as Limits
from tls.porch import Porch, Visit

BACKLOG = 1024
ACCEPT_PAUSE = 0.1
"""Seconds to wait after accept failed (out of descriptors), instead of spinning."""
REUSE_TURNS = 20
"""Turns of the event loop in which it may still watch the number of a descriptor that was closed."""
_TAKEN_OFF = "taken off the allowlist"


_DEFAULT = Limits()


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
        limits: Limits = _DEFAULT,
        on_event: Callable[[HandshakeEvent], None] | None = None,
    ) -> None:
        self._gate = gate
        self._factory = protocol_factory
        self._host, self._port = host, port
        self._limits = limits
        self._on_event = on_event or (lambda event: None)
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._porch: Porch | None = None
        self._live: dict[asyncio.Transport, tuple[Fingerprint, str]] = {}
        """The oldest first."""

    @property
    def port(self) -> int:
        """The port that is listened on; useful where 0 was asked for."""
        assert self._socket is not None, "start first"
        return int(self._socket.getsockname()[1])

    @property
    def connections(self) -> int:
        """Connections that passed the gate and live."""
        return len(self._live)

    @property
    def is_accepting(self) -> bool:
        """True while somebody waits for connections."""
        return self._accepting is not None and not self._accepting.done()

    async def start(self) -> None:
        """Raises OSError where the address cannot be listened on."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        both = self._host == "::" and socket.has_dualstack_ipv6()
        listening = socket.create_server((self._host, self._port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
        listening.setblocking(False)
        self._socket = listening
        porch = Porch(self._gate, self._limits, lambda visit: _Doorway(self, porch, visit), self._tell)
        self._porch = porch
        self._accepting = asyncio.create_task(self._accept(listening, porch), name="accept")

    async def close(self) -> None:
        """Stop listening, and close every connection."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        if self._porch is not None:
            await self._porch.close()
        if self._socket is not None:
            self._socket.close()
        for transport in list(self._live):
            transport.abort()
        await asyncio.sleep(0)

    def drop_unlisted(self) -> int:
        """Cut the live connections of certificates that are not listed any more; nobody else notices."""
        return self._drop([t for t, known in self._live.items() if not self._gate.allowed(known[0])], _TAKEN_OFF)

    def drop_all(self, reason: str) -> int:
        """Cut every live connection: what each of them was let in by may not hold any more."""
        return self._drop(list(self._live), reason)

    def _drop(self, transports: list[asyncio.Transport], reason: str) -> int:
        for transport in transports:
            fingerprint, address = self._live[transport]
            transport.abort()
            self._tell(HandshakeEvent("dropped", address, fingerprint, reason=reason))
        return len(transports)

    # --- one connection

    async def _accept(self, listening: socket.socket, porch: Porch) -> None:
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
            porch.arrived(accepted, shown(str(peer[0])))
            await _let_others_run()

    # --- those who have passed

    def enter(self, transport: asyncio.Transport, porch: Porch, visit: Visit) -> asyncio.Protocol | None:
        """Called when a handshake is done. The protocol for the connection, or None where it has to go all the same."""
        porch.leaves(visit)
        address, fingerprint = visit.address, channel_of(transport).peer
        if fingerprint is None or not self._gate.allowed(fingerprint):
            self._tell(HandshakeEvent("refused", address, fingerprint, reason="not on the allowlist"))
            return None
        label = self._gate.allowlist.label_of(fingerprint)
        porch.passed(visit, fingerprint)
        held = Counter(peer for peer, _ in self._live.values())
        limits = self._limits
        answer = to_yield(fingerprint, held, limits.max_connections, limits.max_connections_per_peer)
        if isinstance(answer, str):
            self._tell(HandshakeEvent("limit", address, fingerprint, label, reason=answer))
            return None
        if answer is not None:
            self._drop_one_of(answer)
        protocol = self._factory()
        self._live[transport] = (fingerprint, address)
        self._tell(HandshakeEvent("accepted", address, fingerprint, label))
        return protocol

    def _drop_one_of(self, peer: Fingerprint) -> None:
        transport, address = next((t, address) for t, (one, address) in self._live.items() if one == peer)
        del self._live[transport]
        transport.abort()
        label = self._gate.allowlist.label_of(peer)
        why = f"{self._limits.max_connections} connections are open: its oldest made room for a peer that holds fewer"
        self._tell(HandshakeEvent("limit", address, peer, label, why))

    def leave(self, transport: asyncio.Transport) -> None:
        """Called when a connection that entered is lost."""
        self._live.pop(transport, None)

    def _tell(self, event: HandshakeEvent) -> None:
        try:
            self._on_event(event)
        except Exception as error:  # a log that cannot be written must not close the gate, nor open it
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"nobody took note of: {event}", "exception": error}
            )


class _Doorway(asyncio.Protocol):
    """What the event loop talks to: becomes the HTTP protocol once the connection has entered, and only then."""

    def __init__(self, listener: Listener, porch: Porch, visit: Visit) -> None:
        self._listener, self._porch, self._visit = listener, porch, visit
        self._transport: Any = None
        self._inner: asyncio.Protocol | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        inner = self._listener.enter(self._transport, self._porch, self._visit)
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


async def _let_others_run() -> None:
    """While connections wait, accepting them never yields by itself; whoever floods us would have the loop alone."""
    await asyncio.sleep(0)
