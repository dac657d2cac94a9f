"""HTTP/1.1 requests written byte for byte as the daemon's client writes them: names in lower case, in its order.

No client library here lets a caller choose the place of `host` or the case of a name, and both are recorded.
"""

import asyncio
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer: status, headers with names in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls one peer. A connection for each request: which one carries it is of no consequence."""

    url: str
    """Without a slash at the end."""
    context: ssl.SSLContext
    timeout: float = 30.0

    async def get(self, target: str, headers: Sequence[tuple[str, str]]) -> Heard:
        return await self._send("GET", target, [*headers, *self._always()], b"")

    async def post(self, target: str, headers: Sequence[tuple[str, str]], body: bytes) -> Heard:
        sized = [*headers, *self._always(), ("content-length", str(len(body)))]
        return await self._send("POST", target, sized, body)

    def _always(self) -> list[tuple[str, str]]:
        return [("accept", "*/*"), ("host", urlsplit(self.url).netloc)]

    async def _send(self, method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> Heard:
        """Raises OSError, TimeoutError, ssl.SSLError or asyncio.IncompleteReadError where no answer came."""
        parts = urlsplit(self.url)
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
        async with asyncio.timeout(self.timeout):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port, ssl=self.context, server_hostname=parts.hostname
            )
            try:
                writer.write("\r\n".join(lines).encode() + body)
                await writer.drain()
                return await _heard(reader)
            finally:
                writer.transport.abort()


async def _heard(reader: asyncio.StreamReader) -> Heard:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size + 2)
            body = body[:-2]
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Heard(int(first.split()[1]), headers, body)


def encoded(value: str) -> str:
    return quote(value, safe="")


UNANSWERED = (OSError, TimeoutError, asyncio.IncompleteReadError)
"""What a caller counts as "unreachable"; TLS refusals are among them."""
