"""HTTP by hand over one connection, so that a test can send what no client would; and a proxy that counts bytes."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

API = "/api/v1"


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    wire_bytes: int
    """With the status line and the headers."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The stable identifier of an error. Fails where the body is not exactly the program's error form."""
        told = self.json
        assert set(told) == {"error", "code"}, told
        assert isinstance(told["error"], str), told
        assert told["error"], told
        assert self.headers["content-type"].startswith("application/json"), self.headers
        return str(told["code"])


class Line:
    """One connection to a listener."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int, context: ssl.SSLContext | None = None) -> "Line":
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        return cls(reader, writer)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, seconds: float = 20.0) -> Reply:
        """The next answer. Raises asyncio.IncompleteReadError where the other side hangs up without one."""
        async with asyncio.timeout(seconds):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name
            }
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Reply(int(first.split()[1]), headers, body, len(head) + len(body))

    async def is_over(self, seconds: float = 10.0) -> bool:
        """True once the other side has closed the connection."""
        try:
            async with asyncio.timeout(seconds):
                return await self.reader.read(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    async def close(self) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)


def request(
    method: str, path: str, body: bytes | None = None, headers: Mapping[str, str | None] | None = None
) -> bytes:
    """An HTTP/1.1 request. A header given as None is left out."""
    standard: dict[str, str | None] = {"Host": "127.0.0.1"}
    if body is not None:
        standard |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = [f"{name}: {value}" for name, value in (standard | dict(headers or {})).items() if value is not None]
    return "\r\n".join((f"{method} {path} HTTP/1.1", *lines, "", "")).encode("utf-8", "surrogateescape") + (body or b"")


def chunked(body: bytes, size: int = 65_536) -> bytes:
    """A body in chunks, which says nothing of its length beforehand."""
    parts = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


class Caller:
    """Sends requests to one listener, over one connection for as long as that lives."""

    def __init__(
        self, port: int, context: ssl.SSLContext | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.port, self.context = port, context
        self.headers = dict(headers or {})
        self._line: Line | None = None

    async def __call__(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str | None] | None = None
    ) -> Reply:
        """One request; what is not bytes is sent as JSON. Paths below `/api/v1` may leave that out."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        path = path if path.startswith(API) else API + path
        line = self._line or await Line.open(self.port, self.context)
        self._line = None
        await line.send(request(method, path, data, {**self.headers, **(headers or {})}))
        reply = await line.reply()
        if reply.headers.get("connection") == "close":
            await line.close()
        else:
            self._line = line
        return reply

    async def raw(self, data: bytes) -> Reply:
        """Send bytes on a connection of their own, and read one answer."""
        line = await Line.open(self.port, self.context)
        try:
            await line.send(data)
            return await line.reply()
        finally:
            await line.close()

    async def close(self) -> None:
        if self._line is not None:
            await self._line.close()


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None, url
    return port


@dataclass
class Counted:
    """Bytes that went through a proxy."""

    port: int
    up: int = 0
    down: int = 0

    @property
    def total(self) -> int:
        return self.up + self.down


@asynccontextmanager
async def counting_proxy(port: int) -> AsyncIterator[Counted]:
    """Passes TCP through to `port`, and counts every byte of it."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, name: str) -> None:
        while data := await source.read(65_536):
            setattr(counted, name, getattr(counted, name) + len(data))
            target.write(data)
            await target.drain()
        target.close()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, far_writer))
        tasks.update(
            (
                asyncio.create_task(pump(reader, far_writer, "up")),
                asyncio.create_task(pump(far_reader, writer, "down")),
            )
        )

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    counted = Counted(server.sockets[0].getsockname()[1])
    try:
        yield counted
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()
