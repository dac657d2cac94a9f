"""A gate with a protocol behind it that notes whatever reaches it, and the ways to knock at it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import uvloop
from certs import Mesh, Visitor

from tls.gate import Gate
from tls.listener import HandshakeEvent, Limits, Listener

T = TypeVar("T")
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def on_loop(name: str, main: Callable[[], Awaitable[T]]) -> T:
    """Run `main` on an event loop of this kind."""
    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        return runner.run(main())  # type: ignore[arg-type]


class Echo(asyncio.Protocol):
    """Stands where HTTP would: answers what it gets, and counts everything."""

    def __init__(self, notes: "Notes") -> None:
        self.notes = notes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.notes.made += 1
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.notes.received += len(data)
        self.transport.write(b"echo:" + data[:64])

    def connection_lost(self, error: Exception | None) -> None:
        self.notes.lost += 1


class Notes:
    """What happened at one gate, and behind it."""

    def __init__(self) -> None:
        self.made = self.lost = self.received = 0
        self.events: list[HandshakeEvent] = []


@asynccontextmanager
async def listening(
    gate: Gate,
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    protocol: Callable[[Notes], asyncio.Protocol] = Echo,
) -> AsyncIterator[tuple[Listener, Notes]]:
    """An open gate, and notes of what happens at it."""
    notes = Notes()
    listener = Listener(gate, lambda: protocol(notes), host, 0, limits or Limits(), notes.events.append)
    await listener.start()
    try:
        yield listener, notes
    finally:
        await listener.close()


def plain_client(mesh: Mesh, visitor: Visitor | None, *, tls12: bool = False) -> ssl.SSLContext:
    """A client of the standard library, that checks the chain and has no pin: any stranger's program."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(mesh.ca)
    if visitor is not None:
        context.load_cert_chain(visitor.files.cert, visitor.files.key)
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def client_hello(context: ssl.SSLContext) -> bytes:
    """What such a client says first."""
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


class ByHand:
    """A client that only moves bytes: when it sends and when it listens is up to the test."""

    def __init__(self, context: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing)

    @classmethod
    async def connected(cls, context: ssl.SSLContext, port: int) -> "ByHand":
        return cls(context, *await asyncio.open_connection("127.0.0.1", port))

    def send(self) -> None:
        """All that waits to be sent."""
        self.writer.write(self._outgoing.read())

    async def receive(self) -> None:
        """Wait for more to come."""
        self._incoming.write(await self.reader.read(65_536))

    async def shake_hands(self) -> None:
        """As far as it needs the other end: what is said last is not sent yet. Raises ssl.SSLError."""
        while True:
            try:
                self.tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                self.send()
                await self.receive()


async def knock(port: int, context: ssl.SSLContext, body: bytes = b"hello") -> tuple[bytes, str | None]:
    """Connect, send, read: what came back, and the alert if one did."""
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            try:
                writer.write(body)
                await writer.drain()
                return await reader.read(100), None
            finally:
                writer.transport.abort()
    except ssl.SSLError as error:
        return b"", str(error)
    except ConnectionError as error:
        return b"", f"connection: {type(error).__name__}"


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something that is about to happen."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
