"""The local listener's application: what agents on this machine use. Paths and JSON are the existing daemon's.

It is plain HTTP on loopback, so it checks what a browser sends: a web page that resolves its own name to 127.0.0.1
(DNS rebinding) still sends its own `Host`, and a page elsewhere sends its `Origin`.
"""

import hmac
from collections.abc import Awaitable, Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from node.api.errors import ApiError, json_response, raw_response, read_json
from node.conflicts import Conflicts
from node.identities import Identities
from node.linking import Linking
from node.memories import Memories
from node.proofs import Proofs

PREFIX = "/api/v1"
BODY_PATIENCE = 30.0
LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Local:
    """Handlers over `Memories`. `health` and `status` are asked for each time."""

    def __init__(
        self,
        memories: Memories,
        identities: Identities,
        proofs: Proofs,
        health: Callable[[], dict[str, Any]],
        status: Callable[[], Awaitable[dict[str, Any]]],
        *,
        max_body: int,
        api_key: str | None = None,
        any_host: bool = False,
        hosts: Collection[str] = (),
    ) -> None:
        self._memories = memories
        self._identities = identities
        self._proofs = proofs
        self._linking = Linking(memories)
        self._conflicts = Conflicts(memories)
        self._health = health
        self._status = status
        self._max_body = max_body
        self._api_key = api_key.encode() if api_key is not None else None
        self._any_host = any_host
        self._hosts = frozenset(map(str.lower, hosts))

    def application(self) -> web.Application:
        """Routes. `Runner` answers for everything else."""
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
            ("POST", "/links", self.link),
            ("DELETE", "/links", self.unlink),
            ("GET", "/links/{id}", self.links),
            ("GET", "/search", self.search),
            ("GET", "/conflicts", self.conflicts),
            ("GET", "/conflicts/{id}", self.conflict),
            ("POST", "/conflicts/{id}/resolve", self.resolve),
            ("GET", "/identities", self.identities),
            ("POST", "/identities", self.identity),
            ("POST", "/identities/rotate", self.rotate),
            ("POST", "/identities/reload", self.reload),
            ("GET", "/verify", self.verified),
            ("GET", "/verify/{id}", self.verify),
            ("GET", "/namespaces", self.namespaces),
            ("GET", "/stats", self.stats),
            ("GET", "/sync/status", self.status),
            ("POST", "/sync/settle", self.settle),
            ("POST", "/sync/versions", self.adopt),
        )
        for method, path, handler in routes:
            application.router.add_route(method, PREFIX + path, self._checked(handler))
        return application

    def _checked(self, handler: Handler) -> Handler:
        async def wrapped(request: web.Request) -> web.StreamResponse:
            self._check_sender(request)
            return await handler(request)

        return wrapped

    def _check_sender(self, request: web.Request) -> None:
        if not self._any_host:
            host = request.headers.get("Host", "")
            if not self._is_ours(_name(f"//{host}")):
                raise ApiError("forbidden_host", f"Host is {host[:60]!r}, expected localhost or 127.0.0.1")
            origin = request.headers.get("Origin")
            if origin is not None and not self._is_ours(_name(origin)):
                raise ApiError("forbidden_host", f"Origin is {origin[:60]!r}, expected none, or one on this machine")
        # Whether the node lives is no secret to whoever watches over it.
        if self._api_key is not None and request.path != f"{PREFIX}/health":
            given = request.headers.get("X-Api-Key", "").encode("utf-8", "replace")
            if not hmac.compare_digest(given, self._api_key):
                raise ApiError("unauthorized", "missing or invalid API key: send it as X-Api-Key")

    def _is_ours(self, name: str | None) -> bool:
        return name in LOOPBACK_NAMES or name in self._hosts

    async def _body(self, request: web.Request) -> bytes:
        # A page elsewhere can send a form without being asked for permission, but not JSON.
        return await read_json(request, self._max_body, BODY_PATIENCE)

    async def health(self, request: web.Request) -> web.StreamResponse:
        return json_response(self._health())

    async def create(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._memories.create(await self._body(request), _agent(request)), 201)

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

    async def link(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        return json_response(await self._linking.create(body, _agent(request), request.query.get("namespace")), 201)

    async def unlink(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request) if request.can_read_body else None
        return json_response(await self._linking.delete(body, request.query, _agent(request)))

    async def links(self, request: web.Request) -> web.StreamResponse:
        return raw_response(await self._linking.listed(request.match_info["id"], request.query))

    async def search(self, request: web.Request) -> web.StreamResponse:
        return raw_response(await self._memories.search(request.query))

    async def conflicts(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._conflicts.listed(request.query))

    async def conflict(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._conflicts.get(request.match_info["id"], request.query.get("namespace")))

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        return json_response(
            await self._conflicts.resolve(
                request.match_info["id"], body, _agent(request), request.query.get("namespace")
            )
        )

    async def identities(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._identities.listed())

    async def identity(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._identities.generate(await self._body(request)))

    async def rotate(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._identities.rotate(await self._body(request)))

    async def reload(self, request: web.Request) -> web.StreamResponse:
        await self._body(request)
        return json_response(await self._identities.reload())

    async def verified(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._proofs.page(request.query))

    async def verify(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._proofs.one(request.match_info["id"], request.query.get("namespace")))

    async def namespaces(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._memories.namespaces())

    async def stats(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._memories.stats())

    async def settle(self, request: web.Request) -> web.StreamResponse:
        await self._body(request)
        return json_response(await self._memories.settle_future())

    async def adopt(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._memories.adopt(await self._body(request)))

    async def status(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._status())


def _name(url: str) -> str | None:
    """The host in a URL; None where there is none, or it is no URL."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _agent(request: web.Request) -> str | None:
    return request.headers.get("X-Agent-Id")
