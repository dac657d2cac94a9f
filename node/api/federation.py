"""The federation listener's application: push, since, health. Nothing else exists there.

Who is asking is the certificate that passed the gate, and only that; headers that claim an identity are not read.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from node import health as node_health
from node.api.errors import ApiError, json_response, raw_response, read_json
from node.api.sending import sent
from node.api.underway import Bounds, UnderWay
from node.bridge import Bridge
from node.exchange import Exchange
from node.peers import Peer
from node.replicator import is_inline
from node.turns import Turns
from sync import wire
from sync.scope import Globs
from sync.serve import Ask
from tls.channel import channel_of
from tls.fingerprint import Fingerprint

PREFIX = "/api/v1"
DEFAULT_LIMIT = 500
MAX_LIMIT = 10_000
BODY_PATIENCE = 30.0
"""Seconds that a body may take to arrive."""
MAX_PAGE_BYTES = 8 * 2**20
_NOBODY = Globs(())
_BOUNDS = Bounds()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_LIFE = re.compile("[0-9a-f]{16}")

log = structlog.get_logger("federation")


@dataclass(frozen=True, slots=True)
class Caller:
    """The peer behind a request."""

    peer: Peer


class Federation:
    """Handlers over an `Exchange`. `heard_from(fingerprint, reached)` is told of every request of a peer."""

    def __init__(
        self,
        exchange: Exchange,
        heard_from: Callable[[str, int | None], None],
        version: str,
        max_body: int = wire.MAX_BODY,
        bridge: Bridge | None = None,
        health: Callable[[], tuple[dict[str, Any], int]] | None = None,
        bounds: Bounds = _BOUNDS,
    ) -> None:
        self._exchange = exchange
        self._heard_from = heard_from
        self._max_body = max_body
        self._bridge = bridge
        self._health = health or (lambda: node_health.answer((), version=version, federation_enabled=True))
        self._turns = Turns()
        self._under_way = UnderWay(bounds)

    def application(self) -> web.Application:
        """Routes. `Runner` answers for everything else."""
        application = web.Application(client_max_size=self._max_body, middlewares=[self._bounded])
        application.router.add_get(f"{PREFIX}/health", self.health, allow_head=False)
        application.router.add_post(f"{PREFIX}/sync/push", self.push)
        application.router.add_get(f"{PREFIX}/sync/since", self.since, allow_head=False)
        return application

    async def health(self, request: web.Request) -> web.StreamResponse:
        return json_response(*self._health())

    async def push(self, request: web.Request) -> web.StreamResponse:
        peer = self._caller(request)
        if not peer.receives:
            raise ApiError(
                "direction", "this node sends to you and takes nothing from you; its operator can change that"
            )
        if not peer.write.patterns:
            raise ApiError(
                "scope", "this node takes no namespace from you; its operator can change that, or set your direction"
            )
        async with self._turns.of(peer.fingerprint):
            return raw_response(await self._pushed(peer, request))

    async def _pushed(self, peer: Peer, request: web.Request) -> bytes:
        body = await read_json(request, self._max_body, BODY_PATIENCE)
        self._require_unchanged(request, peer)
        if peer.legacy and self._bridge is not None:
            answer = await self._bridge.push(peer, request.headers, body)
            self._heard_from(peer.fingerprint, None)
            return answer
        incoming = (
            wire.decode_push(body, peer.fingerprint)
            if is_inline(body)
            else await asyncio.to_thread(wire.decode_push, body, peer.fingerprint)
        )
        taken = await self._exchange.receive(incoming)
        self._heard_from(peer.fingerprint, None)
        self._exchange.heard(peer.fingerprint, incoming.standing)
        found, standing = self._exchange.found_about(peer.fingerprint), self._exchange.standing(peer)
        return wire.encode_answer(taken, incoming.refused, found, standing, incoming.left_out)

    async def since(self, request: web.Request) -> web.StreamResponse:
        peer = self._caller(request)
        query = request.query
        if peer.legacy and self._bridge is not None:
            answer = await self._bridge.since(peer, query)
            self._require_unchanged(request, peer)
            self._heard_from(peer.fingerprint, None)
            return raw_response(answer)
        limit = _whole(query.get("limit"), DEFAULT_LIMIT, MAX_LIMIT)
        cursor, life = query.get("cursor") or None, query.get("for") or None
        if "since" in query:
            raise ApiError("unsupported", "`since` by time is not supported; use `cursor`, or neither to start over")
        if life is not None and not _LIFE.fullmatch(life):
            raise ApiError("bad_query", f"for: {life[:20]!r}, the 16 hex digits of your life expected")
        told = wire.decode_standing(query["standing"]) if "standing" in query else None
        ask = Ask(
            peer.fingerprint,
            cursor,
            life,
            peer.read if peer.sends else _NOBODY,
            self._exchange.book.policy(peer.fingerprint),
            max(1, limit),
            MAX_PAGE_BYTES,
        )
        cut = await self._exchange.cut(ask)
        self._require_unchanged(request, peer)
        self._heard_from(peer.fingerprint, cut.number - cut.span)
        self._exchange.heard(peer.fingerprint, told)
        found, standing = self._exchange.found_about(peer.fingerprint), self._exchange.standing(peer)
        return raw_response(wire.encode_since(cut, limit, found, standing))

    @web.middleware
    async def _bounded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Of each peer so much at a time is read and answered; and all of it until it is sent."""
        if isinstance(request.match_info.http_exception, web.HTTPException):
            return await handler(request)  # no such route
        async with self._under_way.place(_peer_of(request).text, self._cost(request)) as place:
            if request.transport is None:
                raise ConnectionResetError("the peer went away while it waited")
            response = await handler(request)
            self._under_way.holds_only(place, response.content_length or 0)
            return await sent(request, response)

    def _cost(self, request: web.Request) -> int:
        """Bytes that this may come to hold, by what it says of itself."""
        if request.method == "POST":
            is_plain = request.headers.get("Content-Encoding", "identity") == "identity"
            length = request.content_length if is_plain else None
            return min(self._max_body, self._max_body if length is None else length)
        return MAX_PAGE_BYTES if request.path.endswith("/since") else 0

    def _caller(self, request: web.Request) -> Peer:
        return self._exchange.book.find(_peer_of(request).text)

    def _require_unchanged(self, request: web.Request, peer: Peer) -> None:
        """Raises where the caller may not do any more what it might when its request came: that ends at once."""
        if self._caller(request) != peer:
            raise ApiError("busy", "this node's rules for you changed while it worked on your request; send it again")


def _peer_of(request: web.Request) -> Fingerprint:
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the peer went away")
    fingerprint = channel_of(transport).peer
    # The gate lets nobody through without one. Were it ever bypassed, this is where it stops.
    if fingerprint is None:
        raise TypeError("a connection without a checked certificate reached HTTP")
    return fingerprint


def _whole(text: str | None, default: int, most: int) -> int:
    if text is None or text == "":
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ApiError("bad_query", f"limit: {text[:20]!r}, a number from 0 to {most} expected")
    return min(int(text), most)
