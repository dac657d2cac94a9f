"""The local listener's application: what agents on this machine use. Paths and JSON are the existing daemon's.

It is plain HTTP on loopback. In this order each request is asked: is it a browser's, of a page elsewhere (`senders`)?
Who calls (`callers`)? Is a body JSON? May they use this route (`routes`)? What a token may see and write is decided in
the services, which are handed out with the rights of the caller: no handler has any other.
"""

import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any

from aiohttp import web

from node.api import errors
from node.api.callers import Callers
from node.api.errors import ApiError, json_response, raw_response, read_body
from node.api.senders import HEADERS, Senders
from node.api.serving import ANSWERS
from node.conflicts import Conflicts
from node.identities import Identities
from node.linking import Linking
from node.memories import Memories
from node.proofs import Proofs
from node.rights import NOBODY, OWNER, Rights

PREFIX = "/api/v1"
BODY_PATIENCE = 30.0
NONCE = re.compile("[0-9a-f]{64}")
TOLD_TO_ALL = ("status", "service")
"""What `health` says without a key."""


class Right(Enum):
    """What it takes to use a route."""

    NONE = "nothing: whoever reaches the listener is answered"
    CLIENT = "the API key or a token, whose agent and namespaces the services hold to"
    OWNER = "the API key: it is about the whole store, or the node"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, and the services as its caller has them."""

    request: web.Request
    rights: Rights
    memories: Memories
    linking: Linking
    conflicts: Conflicts
    proofs: Proofs
    identities: Identities

    @property
    def id(self) -> str:
        return self.request.match_info["id"]

    @property
    def namespace(self) -> str | None:
        return self.request.query.get("namespace")

    @property
    def agent(self) -> str | None:
        return self.request.headers.get("X-Agent-Id")


Handler = Callable[[Asked], Awaitable[web.StreamResponse]]


class Local:
    """Handlers over the services. `health` and `status` are asked for each time.

    `prove`: shows, for a caller's nonce, that this listener is the node's whose folder the caller reads.
    """

    def __init__(
        self,
        memories: Memories,
        identities: Identities,
        proofs: Proofs,
        health: Callable[[], tuple[dict[str, Any], int]],
        status: Callable[[], Awaitable[dict[str, Any]]],
        *,
        max_body: int,
        prove: Callable[[str], str] = lambda nonce: "",
        callers: Callers | None = None,
        any_host: bool = False,
        hosts: Collection[str] = (),
    ) -> None:
        self._memories, self._identities, self._proofs = memories, identities, proofs
        self._health, self._status, self._prove = health, status, prove
        self._max_body = max_body
        self._callers = callers or Callers(None, None)
        self._senders = Senders(hosts, any_host=any_host)

    @property
    def routes(self) -> tuple[tuple[str, str, Right, Handler], ...]:
        """Every route with what it takes: there is no other way to add one."""
        return (
            ("GET", "/health", Right.NONE, self.health),
            ("POST", "/memories", Right.CLIENT, self.create),
            ("GET", "/memories", Right.CLIENT, self.listed),
            ("POST", "/memories/bulk", Right.CLIENT, self.bulk),
            ("GET", "/memories/{id}", Right.CLIENT, self.get),
            ("PUT", "/memories/{id}", Right.CLIENT, self.update),
            ("DELETE", "/memories/{id}", Right.CLIENT, self.delete),
            ("POST", "/memories/{id}/promote", Right.CLIENT, self.promote),
            ("POST", "/links", Right.CLIENT, self.link),
            ("DELETE", "/links", Right.CLIENT, self.unlink),
            ("GET", "/links/{id}", Right.CLIENT, self.links),
            ("GET", "/search", Right.CLIENT, self.search),
            ("GET", "/conflicts", Right.CLIENT, self.conflicts),
            ("GET", "/conflicts/{id}", Right.CLIENT, self.conflict),
            ("POST", "/conflicts/{id}/resolve", Right.CLIENT, self.resolve),
            ("GET", "/identities", Right.CLIENT, self.identities),
            ("POST", "/identities", Right.OWNER, self.identity),
            ("POST", "/identities/rotate", Right.OWNER, self.rotate),
            ("POST", "/identities/reload", Right.OWNER, self.reload),
            ("GET", "/verify", Right.OWNER, self.verified),
            ("GET", "/verify/{id}", Right.CLIENT, self.verify),
            ("GET", "/namespaces", Right.CLIENT, self.namespaces),
            ("GET", "/stats", Right.CLIENT, self.stats),
            ("GET", "/sync/status", Right.OWNER, self.status),
            ("POST", "/sync/settle", Right.OWNER, self.settle),
            ("POST", "/sync/versions", Right.OWNER, self.adopt),
        )

    def application(self) -> web.Application:
        """Routes, and what comes before all of them. `Runner` answers for everything else."""

        @web.middleware
        async def from_here(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            self._senders.check(request)  # of what has no route, too
            return await handler(request)

        application = web.Application(client_max_size=self._max_body, middlewares=[from_here])
        application[ANSWERS] = HEADERS
        for method, path, right, handler in self.routes:
            # By itself aiohttp takes no brace for part of a name, and an id may hold one.
            application.router.add_route(
                method, PREFIX + path.replace("{id}", "{id:[^/]+}"), self._asked(right, handler)
            )
        return application

    def _asked(self, right: Right, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answered(request: web.Request) -> web.StreamResponse:
            rights = self._callers.rights(request)
            if rights is None and right is not Right.NONE:
                raise ApiError("unauthorized", "missing or invalid API key: send it as X-Api-Key, or a token")
            errors.require_json(request)
            if rights is not None:
                for named in request.headers.getall("X-Agent-Id", ()):
                    rights.require_agent(named)
                if right is Right.OWNER and not rights.is_owner:
                    raise ApiError("forbidden", "a token may not do this: it takes the API key")
            return await handler(self._for(rights or NOBODY, request))

        return answered

    def _for(self, rights: Rights, request: web.Request) -> Asked:
        if rights is OWNER:
            memories, proofs, identities = self._memories, self._proofs, self._identities
        else:
            memories, proofs = self._memories.under(rights), self._proofs.under(rights)
            identities = self._identities.under(rights)
        return Asked(request, rights, memories, Linking(memories), Conflicts(memories), proofs, identities)

    async def _body(self, asked: Asked) -> bytes:
        return await read_body(asked.request, self._max_body, BODY_PATIENCE)

    async def health(self, asked: Asked) -> web.StreamResponse:
        # Whether the node lives is no secret to whoever watches over it; which version it is, is the clients' business.
        told, status = self._health()
        if asked.rights is NOBODY:
            told = {name: told[name] for name in TOLD_TO_ALL if name in told}
        nonce = asked.request.query.get("nonce")
        if nonce is not None:
            if not NONCE.fullmatch(nonce):
                raise ApiError("bad_query", f"nonce: {nonce[:70]!r}, 64 hex digits expected")
            told = told | {"proof": self._prove(nonce)}
        return json_response(told, status)

    async def create(self, asked: Asked) -> web.StreamResponse:
        return json_response(await asked.memories.create(await self._body(asked), asked.agent), 201)

    async def bulk(self, asked: Asked) -> web.StreamResponse:
        return json_response(await asked.memories.create_many(await self._body(asked), asked.agent))

    async def listed(self, asked: Asked) -> web.StreamResponse:
        return raw_response(await asked.memories.listed(asked.request.query))

    async def get(self, asked: Asked) -> web.StreamResponse:
        return raw_response(await asked.memories.get(asked.id, asked.namespace))

    async def update(self, asked: Asked) -> web.StreamResponse:
        body = await self._body(asked)
        return json_response(await asked.memories.update(asked.id, body, asked.agent, asked.namespace))

    async def delete(self, asked: Asked) -> web.StreamResponse:
        return json_response(await asked.memories.delete(asked.id, asked.agent, asked.namespace))

    async def promote(self, asked: Asked) -> web.StreamResponse:
        return json_response(await asked.memories.promote(asked.id, asked.agent, asked.namespace))

    async def link(self, asked: Asked) -> web.StreamResponse:
        return json_response(await asked.linking.create(await self._body(asked), asked.agent, asked.namespace), 201)

    async def unlink(self, asked: Asked) -> web.StreamResponse:
        body = await self._body(asked) if asked.request.can_read_body else None
        return json_response(await asked.linking.delete(body, asked.request.query, asked.agent))

    async def links(self, asked: Asked) -> web.StreamResponse:
        return raw_response(await asked.linking.listed(asked.id, asked.request.query))

    async def search(self, asked: Asked) -> web.StreamResponse:
        return raw_response(await asked.memories.search(asked.request.query))

    async def conflicts(self, asked: Asked) -> web.StreamResponse:
        return json_response(await asked.conflicts.listed(asked.request.query))

    async def conflict(self, asked: Asked) -> web.StreamResponse:
        return json_response(await asked.conflicts.get(asked.id, asked.namespace))

    async def resolve(self, asked: Asked) -> web.StreamResponse:
        body = await self._body(asked)
        return json_response(await asked.conflicts.resolve(asked.id, body, asked.agent, asked.namespace))

    async def identities(self, asked: Asked) -> web.StreamResponse:
        return json_response(await asked.identities.listed())

    async def identity(self, asked: Asked) -> web.StreamResponse:
        return json_response(await asked.identities.generate(await self._body(asked)))

    async def rotate(self, asked: Asked) -> web.StreamResponse:
        return json_response(await asked.identities.rotate(await self._body(asked)))

    async def reload(self, asked: Asked) -> web.StreamResponse:
        await self._body(asked)
        return json_response(await asked.identities.reload())

    async def verified(self, asked: Asked) -> web.StreamResponse:
        return json_response(await asked.proofs.page(asked.request.query))

    async def verify(self, asked: Asked) -> web.StreamResponse:
        return json_response(await asked.proofs.one(asked.id, asked.namespace))

    async def namespaces(self, asked: Asked) -> web.StreamResponse:
        return json_response(await asked.memories.namespaces())

    async def stats(self, asked: Asked) -> web.StreamResponse:
        return json_response(await asked.memories.stats())

    async def settle(self, asked: Asked) -> web.StreamResponse:
        await self._body(asked)
        return json_response(await asked.memories.settle_future())

    async def adopt(self, asked: Asked) -> web.StreamResponse:
        return json_response(await asked.memories.adopt(await self._body(asked)))

    async def status(self, asked: Asked) -> web.StreamResponse:
        return json_response(await self._status())
