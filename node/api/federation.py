"""The federation listener's application: push, since, health. Nothing else exists there.

Who is asking is the certificate that passed the gate, and only that; headers that claim an identity are not read.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from aiohttp import web

from node.api.errors import ApiError, json_response, raw_response, read_json
from node.bridge import Bridge
from node.exchange import Exchange
from node.peers import Peer
from node.replicator import INLINE_BYTES
from sync import wire
from sync.scope import Globs
from sync.serve import Ask
from tls.channel import channel_of

PREFIX = "/api/v1"
DEFAULT_LIMIT = 500
MAX_LIMIT = 10_000
BODY_PATIENCE = 30.0
"""Seconds that a body may take to arrive."""
MAX_PAGE_BYTES = 8 * 2**20
_NOBODY = Globs(())
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
    ) -> None:
        self._exchange = exchange
        self._heard_from = heard_from
        self._max_body = max_body
        self._bridge = bridge
        self._health = {
            "status": "ok",
            "service": "ai-memory",
            "version": version,
            "federation_enabled": True,
            "embedder_ready": False,
        }

    def application(self) -> web.Application:
        """Routes. `Runner` answers for everything else."""
        application = web.Application(client_max_size=self._max_body)
        application.router.add_get(f"{PREFIX}/health", self.health, allow_head=False)
        application.router.add_post(f"{PREFIX}/sync/push", self.push)
        application.router.add_get(f"{PREFIX}/sync/since", self.since, allow_head=False)
        return application

    async def health(self, request: web.Request) -> web.StreamResponse:
        return json_response(self._health)

    async def push(self, request: web.Request) -> web.StreamResponse:
        peer = self._caller(request)
        if not peer.receives:
            raise ApiError(
                "direction", "this node sends to you and takes nothing from you; its operator can change that"
            )
        body = await read_json(request, self._max_body, BODY_PATIENCE)
        if peer.legacy and self._bridge is not None:
            answer = await self._bridge.push(peer, request.headers, body)
            self._heard_from(peer.fingerprint, None)
            return raw_response(answer)
        incoming = (
            wire.decode_push(body, peer.fingerprint)
            if len(body) <= INLINE_BYTES
            else await asyncio.to_thread(wire.decode_push, body, peer.fingerprint)
        )
        taken = await self._exchange.receive(incoming)
        self._heard_from(peer.fingerprint, None)
        return raw_response(wire.encode_answer(taken, incoming.refused, self._alarms_about(peer)))

    async def since(self, request: web.Request) -> web.StreamResponse:
        peer = self._caller(request)
        query = request.query
        if peer.legacy and self._bridge is not None:
            answer = await self._bridge.since(peer, query)
            self._heard_from(peer.fingerprint, None)
            return raw_response(answer)
        limit = _whole(query.get("limit"), DEFAULT_LIMIT, MAX_LIMIT)
        cursor, life = query.get("cursor") or None, query.get("for") or None
        if "since" in query:
            raise ApiError("unsupported", "`since` by time is not supported; use `cursor`, or neither to start over")
        if life is not None and not _LIFE.fullmatch(life):
            raise ApiError("bad_query", f"for: {life[:20]!r}, the 16 hex digits of your life expected")
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
        self._heard_from(peer.fingerprint, cut.number - cut.span)
        return raw_response(wire.encode_since(cut, limit, self._alarms_about(peer)))

    def _caller(self, request: web.Request) -> Peer:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the peer went away")
        fingerprint = channel_of(transport).peer
        # The gate lets nobody through without one. Were it ever bypassed, this is where it stops.
        if fingerprint is None:
            raise TypeError("a connection without a checked certificate reached HTTP")
        return self._exchange.book.find(fingerprint.text)

    def _alarms_about(self, peer: Peer) -> list[str]:
        """What the peer should tell its own operator: that it shares its certificate with another life."""
        return ["duplicate_identity"] if ("duplicate_identity", peer.fingerprint) in self._exchange.alarms else []


def _whole(text: str | None, default: int, most: int) -> int:
    if text is None or text == "":
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ApiError("bad_query", f"limit: {text[:20]!r}, a number from 0 to {most} expected")
    return min(int(text), most)
