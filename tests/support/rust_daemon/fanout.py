"""`serve --quorum-writes W --quorum-peers ...`: what is written here goes to every peer at once, and is counted."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rust_daemon.calling import UNANSWERED, Caller
from rust_daemon.messages import PUSH, Answer, Stop
from rust_daemon.store import Memory, compact

if TYPE_CHECKING:
    from rust_daemon.daemon import RustDaemon

BULK_AT_ONCE = 3
Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Quorum:
    """How many nodes, this one included, have to have a write before the client hears 201."""

    writes: int = 2
    timeout: float = 2.0
    """Seconds, for each request and for the count."""
    retry_gap: float = 0.25
    """Seconds before the one retry."""
    api_key: str | None = None
    """Sent by 0.7.0 alone."""


class Fanout:
    """The writing side of one daemon. Without peers it does nothing, and no answer says a word of quorums."""

    def __init__(self, daemon: "RustDaemon") -> None:
        self.daemon = daemon
        self.peers: Sequence[Caller] = ()
        self.quorum = Quorum()
        self.stragglers: set[asyncio.Task[bool]] = set()
        """Deliveries that nobody waits for any more."""

    async def memories(self, key: str, rows: Sequence[Memory], **more: Any) -> int | None:
        return await self.send(key, memories=rows, **more)

    async def send(self, key: str, memories: Sequence[Memory] = (), **sections: Any) -> int | None:
        """One push to each peer: the acknowledgements, this node's included; None without peers.

        Raises Stop with a 503 where they are too few. What was written here stays written.
        """
        if not self.peers:
            return None
        body = self._body(memories, **sections)
        tasks = [asyncio.create_task(self._delivered(peer, key, body)) for peer in self.peers]
        return await self._counted(tasks)

    async def bulk(self, rows: Sequence[Memory]) -> None:
        """A push for each row, a few at once; then all rows again in one, whatever came of the first."""
        if not self.peers or not rows:
            return
        places = asyncio.Semaphore(BULK_AT_ONCE)

        async def one(row: Memory) -> None:
            async with places:
                body = self._body([row])
                await asyncio.gather(*(self._delivered(peer, row["id"], body) for peer in self.peers))

        await asyncio.gather(*(one(row) for row in rows))
        body = self._body(rows)
        headers = [("content-type", "application/json"), ("x-catchup", "bulk"), *self._identity()]
        for peer in self.peers:
            await _acknowledged(peer, headers, body, None)

    async def settled(self) -> None:
        """Wait until no delivery is on its way."""
        await asyncio.gather(*self.stragglers, return_exceptions=True)

    def _body(self, memories: Sequence[Memory], **sections: Any) -> bytes:
        rows = [self.daemon.store.wire(row) for row in memories]
        members = {"sender_agent_id": self.daemon.agent, "memories": rows, "dry_run": False, **sections}
        return compact(members).encode()

    def _identity(self) -> Headers:
        if not self.daemon.release.peer_id:
            return []
        key = [("x-api-key", self.quorum.api_key)] if self.quorum.api_key is not None else []
        return [*key, ("x-peer-id", self.daemon.agent)]

    async def _delivered(self, peer: Caller, key: str, body: bytes) -> bool:
        # The key of a link holds an arrow, and goes out as raw UTF-8.
        headers = [("content-type", "application/json"), ("idempotency-key", key), *self._identity()]
        if await _acknowledged(peer, headers, body, key):
            return True
        await asyncio.sleep(self.quorum.retry_gap)
        return await _acknowledged(peer, headers, body, key)

    async def _counted(self, tasks: list[asyncio.Task[bool]]) -> int:
        needed = min(max(self.quorum.writes, 1), len(tasks) + 1)
        waiting, acks = set(tasks), 1
        deadline = asyncio.get_running_loop().time() + self.quorum.timeout
        while waiting:
            left = deadline - asyncio.get_running_loop().time()
            done, waiting = await asyncio.wait(waiting, timeout=max(left, 0), return_when=asyncio.FIRST_COMPLETED)
            acks += sum(task.result() for task in done)
            if acks >= needed or not done:
                break
        self.stragglers |= waiting
        for task in waiting:
            task.add_done_callback(self.stragglers.discard)
        if acks >= needed:
            return acks
        # The wrong way round: a peer that refuses fast is a "timeout", one that is slow is "unreachable".
        reason = "unreachable" if waiting else "timeout"
        body = {"error": "quorum_not_met", "got": acks, "needed": needed, "reason": reason}
        raise Stop(Answer(503, body, {"retry-after": "2"}))


async def _acknowledged(peer: Caller, headers: Headers, body: bytes, key: str | None) -> bool:
    """Any 2xx is an acknowledgement, also of a skipped row; unless it lists other ids, which no daemon does."""
    try:
        heard = await peer.post(PUSH, headers, body)
    except UNANSWERED:
        return False
    if not heard.good:
        return False
    try:
        ids = heard.json.get("ids")
    except (ValueError, AttributeError):
        return True
    return not ids or key is None or key in ids
