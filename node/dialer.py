"""Requests to one peer: HTTP over the pinned TLS connection, with bounded answers. Knows no record and no rule."""

import asyncio
import socket
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ssl import SSLContext
from types import TracebackType
from typing import Self

import aiohttp

from sync.wire import MAX_BODY

CONNECT_TIMEOUT = 5.0
LAST_WORDS = 1.0
"""Seconds that a peer has for its part of a connection's end: loops wait half a minute, for each of its connections."""
LONGEST_ASKED = 300.0
"""Seconds that a peer may ask this node to wait: whatever it said, it may be well again."""
FIRST_GAP, LONGEST_GAP = 1.0, 30.0
"""Seconds between two hang-ups that are told."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status and at most `MAX_BODY` bytes (plus the envelope)."""

    status: int
    body: bytes
    retry_after: float
    """Seconds that the peer asked us to wait, at most `LONGEST_ASKED`; 0 where it did not say."""
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Looked up in any case of letters."""


class AnswerTooLargeError(Exception):
    """A peer sent more than any answer may have."""


class Dialer:
    """Keeps connections to one peer. `context` is asked for each new connection, so a rotated identity takes effect.

    `headers` go with each request.
    """

    def __init__(
        self, url: str, context: Callable[[], SSLContext], timeout: float, headers: Mapping[str, str] | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._context = context
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=CONNECT_TIMEOUT)
        self._headers = dict(headers or {})
        self._session: aiohttp.ClientSession | None = None
        self._sockets: list[socket.socket] = []
        self._told_at, self._gap = -LONGEST_GAP, FIRST_GAP

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def get(self, path: str, query: dict[str, str]) -> Answer:
        """Raises aiohttp.ClientError, OSError or TimeoutError where no answer comes, AnswerTooLargeError."""
        return await self._request("GET", path, params=query)

    async def post(self, path: str, body: bytes) -> Answer:
        """Send JSON. Raises as `get` does."""
        return await self._request("POST", path, data=body)

    async def _request(
        self, method: str, path: str, params: dict[str, str] | None = None, data: bytes | None = None
    ) -> Answer:
        try:
            return await self._exchanged(method, path, params, data)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError) as error:
            self._gap = FIRST_GAP
            raise ConnectionResetError("the peer hung up before it had answered") from error
        except (aiohttp.ClientError, OSError):
            self._gap = FIRST_GAP  # it had a reason to hang up
            raise

    async def _exchanged(self, method: str, path: str, params: dict[str, str] | None, data: bytes | None) -> Answer:
        session = self._session or self._open()
        headers = self._headers | ({"Content-Type": "application/json"} if data is not None else {})
        async with session.request(
            method,
            self._url + path,
            params=params,
            data=data,
            headers=headers,
            ssl=self._context(),
            allow_redirects=False,
        ) as response:
            body = await self._body(response)
            return Answer(response.status, body, _seconds(response.headers.get("Retry-After")), response.headers.copy())

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        limit = MAX_BODY + 65_536
        if (response.content_length or 0) > limit:
            raise AnswerTooLargeError(f"the answer has {response.content_length} bytes, at most {limit} are taken")
        parts, size = [], 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > limit:
                raise AnswerTooLargeError(f"the answer has more than {limit} bytes")
            parts.append(part)
        return b"".join(parts)

    def _open(self) -> aiohttp.ClientSession:
        with warnings.catch_warnings():  # aiohttp has no other way than this one, which it means to take away
            warnings.simplefilter("ignore", DeprecationWarning)
            connector = aiohttp.TCPConnector(
                limit=2, keepalive_timeout=60, socket_factory=self._socket, ssl_shutdown_timeout=LAST_WORDS
            )
        # Two lanes a peer; no cookies, no proxy from the environment, and no second attempt behind our back.
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )
        return self._session

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, *_ = address
        made = socket.socket(family, kind, protocol)
        self._sockets = [*(one for one in self._sockets if one.fileno() >= 0), made]
        return made

    def has_hung_up(self, now: float) -> bool:
        """Whether the peer has closed every connection that was kept to it: it stops, or lets this node in no more.

        True once. Where it answers after that, as one behind a proxy of little patience does, it is told ever more
        rarely: nobody is asked more than twice as often for it. `now`: monotonic seconds.
        """
        is_left = bool(self._sockets) and all(one.fileno() < 0 for one in self._sockets)
        if not is_left or now < self._told_at + self._gap:
            return False
        self._sockets.clear()
        self._told_at, self._gap = now, min(LONGEST_GAP, 2 * self._gap)
        return True

    async def close(self) -> None:
        """Close all connections to the peer; a request that comes meanwhile opens new ones."""
        session, self._session = self._session, None
        self._sockets.clear()
        if session is not None:
            await session.close()
            await asyncio.sleep(0)  # lets the transports send their close_notify


def _seconds(text: str | None) -> float:
    asked = float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 7 else 0.0
    return min(asked, LONGEST_ASKED)
