"""Turns: how many pushes of one peer are read and applied at a time.

A push is held whole while it is read, and takes several times its size; a peer that keeps up has one under way.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from node.api.errors import ApiError

AT_ONCE = 2
"""The second is for a peer that gave up the first and comes again."""
MOST = 8
"""Those that wait included: their bodies are not read before their turn."""


@dataclass(slots=True)
class _Of:
    """Of one peer."""

    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    count: int = 0


class Turns:
    """By a peer's fingerprint; nothing is kept of those of whom nothing is under way."""

    def __init__(self) -> None:
        self._peers: dict[str, _Of] = {}

    @asynccontextmanager
    async def of(self, fingerprint: str) -> AsyncIterator[None]:
        """Wait for a turn of this peer. Raises ApiError `busy` where too many wait already."""
        mine = self._peers.setdefault(fingerprint, _Of())
        if mine.count >= MOST:
            raise ApiError("busy", f"{mine.count} pushes of yours are under way here, no more are taken: wait for one")
        mine.count += 1
        try:
            async with mine.free:
                yield
        finally:
            mine.count -= 1
            if not mine.count and self._peers.get(fingerprint) is mine:
                del self._peers[fingerprint]
