"""The local listener's application: what agents on this machine use. Paths and JSON are the existing daemon's.

It is plain HTTP on loopback, so it checks what a browser sends: a web page that resolves its own name to 127.0.0.1
(DNS rebinding) still sends its own `Host`, and a page elsewhere sends its `Origin`.
"""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from node.api.errors import ApiError, guarded, json_response, raw_response, read_body
from node.memories import Memories

PREFIX = "/api/v1"
BODY_PATIENCE = 30.0
LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Local:
    """Handlers over `Memories`. `health` and `status` are asked for each time."""

    def __init__(
        self,
        memories: Memories,
        health: Callable[[], dict[str, Any]],
        status: Callable[[], Awaitable[dict[str, Any]]],
        *,
        max_body: int,
        api_key: str | None = None,
        any_host: bool = False,
    ) -> None:
        self._memories = memories
        self._health = health
        self._status = status
        self._max_body = max_body
        self._api_key = api_key.encode() if api_key is not None else None
        self._any_host = any_host

    def application(self) -> web.Application:
        """Routes; every other path is a 404 in the program's own error form."""
        application = web.Application(client_max_size=self._max_body)
        routes: tuple[tuple[str, str, Handler], ...] = (
            ("GET", "/health", self.health),
            ("POST", "/memories", self.create),
            ("GET", "/memories", self.listed),
            ("POST", "/memories/bulk", self.bulk),
            ("GET", "/memories/{id}", self.get),
            ("PUT", "/memories/{id}", self.update),
            ("DELETE", "/memories/{id}", self.delete),
            ("POST", "/memories/{id}/promote", self.promote),
            ("GET", "/search", self.search),
            ("GET", "/conflicts", self.conflicts),
            ("GET", "/namespaces", self.namespaces),
            ("GET", "/stats", self.stats),
            ("GET", "/sync/status", self.status),
        )
        for method, path, handler in routes:
            application.router.add_route(method, PREFIX + path, guarded(self._checked(handler)))
        application.router.add_route("*", "/{path:.*}", guarded(self._nothing))
        return application

    def _checked(self, handler: Handler) -> Handler:
        async def wrapped(request: web.Request) -> web.StreamResponse:
            self._check_sender(request)
            return await handler(request)

        return wrapped

    def _check_sender(self, request: web.Request) -> None:
        if not self._any_host:
            host = urlsplit(f"//{request.headers.get('Host', '')}").hostname
            if host not in LOOPBACK_NAMES:
                raise ApiError("forbidden_host", f"Host is {str(host)[:60]!r}, expected localhost or 127.0.0.1")
            origin = request.headers.get("Origin")
            if origin is not None and urlsplit(origin).hostname not in LOOPBACK_NAMES:
                raise ApiError("forbidden_host", f"Origin is {origin[:60]!r}, expected none, or one on this machine")
        if self._api_key is not None:
            given = request.headers.get("X-Api-Key", "").encode("utf-8", "replace")
            if not hmac.compare_digest(given, self._api_key):
                raise ApiError("unauthorized", "missing or invalid API key: send it as X-Api-Key")

    async def _body(self, request: web.Request) -> bytes:
        # A page elsewhere can send a form without being asked for permission, but not JSON.
        if request.content_type != "application/json":
            raise ApiError(
                "unsupported_media_type", f"content-type is {request.content_type[:40]!r}, application/json expected"
            )
        return await read_body(request, self._max_body, BODY_PATIENCE)

    async def health(self, request: web.Request) -> web.StreamResponse:
        return json_response(self._health())

    async def create(self, request: web.Request) -> web.StreamResponse:
        answer, created = await self._memories.create(await self._body(request), _agent(request))
        return json_response(answer, 201 if created else 200)

    async def bulk(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._memories.create_many(await self._body(request), _agent(request)))

    async def listed(self, request: web.Request) -> web.StreamResponse:
        return raw_response(await self._memories.listed(request.query))

    async def get(self, request: web.Request) -> web.StreamResponse:
        return raw_response(await self._memories.get(request.match_info["id"], request.query.get("namespace")))

    async def update(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        return json_response(
            await self._memories.update(request.match_info["id"], body, _agent(request), request.query.get("namespace"))
        )

    async def delete(self, request: web.Request) -> web.StreamResponse:
        return json_response(
            await self._memories.delete(request.match_info["id"], _agent(request), request.query.get("namespace"))
        )

    async def promote(self, request: web.Request) -> web.StreamResponse:
        return json_response(
            await self._memories.promote(request.match_info["id"], _agent(request), request.query.get("namespace"))
        )

    async def search(self, request: web.Request) -> web.StreamResponse:
        return raw_response(await self._memories.search(request.query))

    async def conflicts(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._memories.conflicts(request.query))

    async def namespaces(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._memories.namespaces())

    async def stats(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._memories.stats())

    async def status(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._status())

    async def _nothing(self, request: web.Request) -> web.StreamResponse:
        raise ApiError("not_found", f"there is nothing at {request.method} {request.path[:100]}")


def _agent(request: web.Request) -> str | None:
    return request.headers.get("X-Agent-Id")
