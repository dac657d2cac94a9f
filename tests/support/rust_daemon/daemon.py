"""One daemon: store, clock, listener, log of what it was sent, and what a test can switch."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from aiohttp import web
from certs import Visitor

from rust_daemon import complaints, routes
from rust_daemon.fanout import Fanout
from rust_daemon.listening import server_context
from rust_daemon.messages import PUSH, Answer, Request
from rust_daemon.moment import Clock
from rust_daemon.release import V070, Release
from rust_daemon.store import Store
from rust_daemon.trust import Quota, Trust
from tls.fingerprint import Fingerprint

VARY = "origin, access-control-request-method, access-control-request-headers"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that came, and what was answered."""

    request: Request
    answer: Answer


class RustDaemon:
    """The package's docstring says how it is used."""

    def __init__(
        self,
        release: Release = V070,
        *,
        name: str = "rust",
        clock: Clock | None = None,
        trust: Trust | None = None,
        api_key: str | None = None,
        memories_per_day: int = 1000,
        row_delay: float = 0.0,
    ) -> None:
        self.release = release
        self.name = name
        self.agent = f"host:{name}"
        """The id under which `serve` pushes."""
        self.clock = clock or Clock()
        self.trust = trust or Trust()
        self.api_key = api_key
        self.quota = Quota(self.clock, memories_per_day)
        self.row_delay = row_delay
        """Seconds that every row of a push or write takes, while the one lock is held."""
        self.store = Store(release, self.clock)
        self.fanout = Fanout(self)
        self.lock = asyncio.Lock()
        self.log: list[Exchange] = []
        self.complaints: list[str] = []
        self._watcher = complaints.Watcher(self.store)
        self.instead: list[Answer] = []
        """Answers to the next requests, whatever they are, in place of its own; nothing is carried out then."""
        self.port = 0
        self.certified = False
        """Whether the listener asks for certificates: the federation endpoints then need no API key (0.7.0)."""

    async def spent(self) -> None:
        """What one row costs; awaited while the one lock is held."""
        if self.row_delay:
            await asyncio.sleep(self.row_delay)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def pushes(self) -> list[Any]:
        """The bodies of all pushes that came, as JSON, in order."""
        return [json.loads(one.request.body) for one in self.log if one.request.path == PUSH and one.request.body]

    async def handle(self, request: Request) -> Answer:
        """One request, from whatever carried it here."""
        if self.instead:
            answer = self.instead.pop(0)
            self.log.append(Exchange(request, answer))
            return answer
        is_push = request.path == PUSH and request.method == "POST"
        looked = self._watcher.look(request) if is_push else None
        answer = await routes.answered(self, request)
        self.log.append(Exchange(request, answer))
        if looked is not None:
            self.complaints += complaints.about(request, looked, answer)
        return answer

    @asynccontextmanager
    async def serving(self, own: Visitor, listed: Iterable[Fingerprint], port: int = 0) -> AsyncIterator["RustDaemon"]:
        """Listen on loopback with this certificate, for clients with the listed ones. `port` 0: any free one."""
        server = web.Server(self._carry, access_log=None, auto_decompress=False)
        context = server_context(own, frozenset(listed))
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", port, ssl=context)
        self.port, self.certified = listener.sockets[0].getsockname()[1], True
        try:
            yield self
        finally:
            listener.close()
            await self.fanout.settled()
            await server.shutdown(timeout=1)
            await listener.wait_closed()

    async def _carry(self, raw: web.BaseRequest) -> web.StreamResponse:
        tls = raw.transport.get_extra_info("ssl_object") if raw.transport is not None else None
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        path, _, query = raw.raw_path.partition("?")
        headers = tuple((n.decode(), v.decode("utf-8", "surrogateescape")) for n, v in raw.raw_headers)
        if raw.headers.get("expect", "").lower() == "100-continue" and raw.transport is not None:
            raw.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await raw.content.read()
        known = sha256(certificate).hexdigest() if certificate else None
        answer = await self.handle(Request(raw.method, path, query, headers, body, known))
        return _Response(answer)


class _Response(web.Response):
    """An answer with the headers that the daemon sends, and no `server`."""

    def __init__(self, answer: Answer) -> None:
        headers = {"vary": VARY, **answer.headers}
        if answer.kind is not None:
            headers["content-type"] = answer.kind
        super().__init__(status=answer.status, body=answer.data, headers=headers)
        self._typed = answer.kind is not None

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self._headers.popall("server", None)
        if not self._typed:
            self._headers.popall("content-type", None)
