"""The two pulling clients, a step at a time: the catch-up loop of `serve`, and a cycle of `sync-daemon`.

Neither loops until it is done, neither retries a row, and both move their watermark on over what they could not store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rust_daemon.calling import UNANSWERED, Caller, Heard, encoded
from rust_daemon.messages import PUSH, SINCE
from rust_daemon.rules import memory_fault
from rust_daemon.serde import REQUIRED, Refused, Shape, integer, memory_shape, parsed, sequence
from rust_daemon.store import Memory, compact

if TYPE_CHECKING:
    from rust_daemon.daemon import RustDaemon

Headers = list[tuple[str, str]]
Failed = Literal["unanswered", "refused", "poisoned"]
"""No answer; another status than 2xx; a page one row of which has no shape, so that all of it is thrown away."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What one page came to."""

    rows: int
    stored: int
    failed: Failed | None = None


@dataclass(frozen=True, slots=True)
class Cycle:
    """One turn of `sync-daemon` with one peer. `pushed`: rows in the push; `answer`: what was said to it."""

    pulled: Pulled
    pushed: int = 0
    answer: Heard | None = None
    failed: Failed | None = None


async def _asked(peer: Caller, query: str, headers: Headers) -> Heard | Failed:
    try:
        heard = await peer.get(f"{SINCE}?{query}", headers)
    except UNANSWERED:
        return "unanswered"
    return heard if heard.good else "refused"


async def _merged(daemon: "RustDaemon", rows: Sequence[Memory]) -> int:
    """Rows that were stored. The caller holds the lock, and moves on over the others."""
    stored = 0
    for row in rows:
        await daemon.spent()
        stored += daemon.store.merge(row)
    return stored


async def catch_up(daemon: "RustDaemon", peer: Caller, index: int = 0) -> Pulled:
    """One step of the loop of `serve`. `index`: the peer's place in `--quorum-peers`, all that it is known by.

    A row without shape is left out; the watermark becomes the latest time of the rows that are valid.
    """
    state = (daemon.agent, f"peer-{index}")
    since = daemon.store.seen(*state)
    query = (f"since={encoded(since)}&" if since is not None else "") + f"peer={daemon.agent}"
    headers = [("x-peer-id", daemon.agent)] if daemon.release.peer_id else []  # and no API key
    heard = await _asked(peer, query, headers)
    if isinstance(heard, str):
        return Pulled(0, 0, heard)
    page = heard.json["memories"]
    rows = [row for row in (_shaped(daemon, one) for one in page) if row is not None and memory_fault(row) is None]
    async with daemon.lock:
        stored = await _merged(daemon, rows)
        if rows:
            daemon.store.observe(*state, max(row["updated_at"] for row in rows))
    return Pulled(len(page), stored)


def _shaped(daemon: "RustDaemon", value: Any) -> Memory | None:
    try:
        return memory_shape(daemon.release)(value)
    except Refused:
        return None


@dataclass(frozen=True, slots=True)
class SyncDaemon:
    """`sync-daemon`: a process of its own over the store of `daemon`. `agent`: by default it changes at every start."""

    daemon: "RustDaemon"
    agent: str
    batch: int = 500
    api_key: str | None = None

    async def cycle(self, peer: Caller) -> Cycle:
        """One page in, one page out: with what was just pulled in it."""
        pulled = await self.pull(peer)
        if pulled.failed is not None:
            return Cycle(pulled)
        return await self.push(peer, pulled)

    async def pull(self, peer: Caller) -> Pulled:
        """One row without shape, and the whole page is thrown away; the watermark becomes the time of the last row."""
        state = (self.agent, peer.url)
        since = self.daemon.store.seen(*state)
        query = f"limit={self.batch}&peer={encoded(self.agent)}"
        if since is not None:
            query += f"&since={encoded(since)}"
        heard = await _asked(peer, query, [*self._identity(), *self._key()])
        if isinstance(heard, str):
            return Pulled(0, 0, heard)
        count, rows = (integer("u64", 2**64), REQUIRED), (sequence(memory_shape(self.daemon.release)), REQUIRED)
        try:
            page = Shape("SyncSinceResponse", {"count": count, "limit": count, "memories": rows})(parsed(heard.body))
        except Refused:
            return Pulled(0, 0, "poisoned")
        async with self.daemon.lock:
            stored = await _merged(self.daemon, [row for row in page["memories"] if memory_fault(row) is None])
            if page["memories"]:
                self.daemon.store.observe(*state, page["memories"][-1]["updated_at"])
        return Pulled(len(page["memories"]), stored)

    async def push(self, peer: Caller, pulled: Pulled) -> Cycle:
        store = self.daemon.store
        rows = store.since(store.pushed(self.agent, peer.url), self.batch)
        if not rows:
            return Cycle(pulled)
        body: dict[str, Any] = {
            "sender_agent_id": self.agent,
            "sender_clock": {"entries": {}},
            "memories": [store.wire(row) for row in rows],
            "dry_run": False,
        }
        headers = [*self._identity(), ("content-type", "application/json"), *self._key()]
        try:
            heard = await peer.post(PUSH, headers, compact(body).encode())
        except UNANSWERED:
            return Cycle(pulled, len(rows), failed="unanswered")
        if not heard.good:
            return Cycle(pulled, len(rows), heard, "refused")  # the same rows again, for ever
        store.record_push(self.agent, peer.url, rows[-1]["updated_at"])
        return Cycle(pulled, len(rows), heard)

    def _identity(self) -> Headers:
        peer = [("x-peer-id", self.agent)] if self.daemon.release.peer_id else []
        return [("x-agent-id", self.agent), *peer]

    def _key(self) -> Headers:
        return [("x-api-key", self.api_key)] if self.api_key is not None else []
