"""What release 0.7.0 asks of a caller's name: the header `x-peer-id`, whose rows it may read, and the daily quota.

All of it is free text that the caller chooses; the certificate says nothing about it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rust_daemon.moment import Clock
from rust_daemon.store import Memory, compact

NOTE = (
    "set AI_MEMORY_FED_TRUST_BODY_AGENT_ID=1 to opt out (legacy peers); pre-v0.7.0 federation peers must be upgraded "
    "to send `x-peer-id`."
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What is configured for one peer id."""

    senders: Sequence[str] = ()
    """Ids that it may push in the name of, besides its own."""
    namespaces: Sequence[str] = ()
    """Globs of what it may read."""


@dataclass(frozen=True, slots=True)
class Trust:
    """The environment of the daemon. The default is the one in which federation works at all."""

    scopes: Mapping[str, Scope] = field(default_factory=dict)
    sync_trust_peer: bool = True
    trust_body_agent_id: bool = False

    def push_fault(self, claimed: str, header: str | None) -> dict[str, Any] | None:
        """The body of a 403, or None."""
        if self.trust_body_agent_id:
            return None
        if not header:
            return {"error": "peer_id_header_missing", "claimed": "", "peer_header": "", "note": NOTE}
        scope = self.scopes.get(header)
        if claimed == header or (scope is not None and claimed in scope.senders):
            return None
        return {"error": "sender_agent_id_mismatch", "claimed": claimed, "peer_header": header, "note": NOTE}

    def reading(self, header: str | None) -> tuple[str, Sequence[str] | None]:
        """The status of a reader, and the globs that its page is filtered by afterwards; None: no filter."""
        scope = self.scopes.get(header or "")
        if scope is not None:
            return "scoped", scope.namespaces
        return ("legacy_bypass", None) if self.sync_trust_peer else ("no_allowlist_default_deny", ())


def in_scope(namespace: str, globs: Sequence[str]) -> bool:
    return any(_matches(namespace, glob) for glob in globs)


def _matches(namespace: str, glob: str) -> bool:
    if glob in ("*", "**"):
        return True
    if glob.endswith("/**"):
        return namespace == glob[:-3] or namespace.startswith(glob[:-2])
    if glob.endswith("/*"):
        return namespace.startswith(glob[:-1]) and "/" not in namespace[len(glob) - 1 :]
    if glob.startswith("*/"):
        return namespace.endswith(glob[1:]) and "/" not in namespace[: -len(glob) + 1]
    return namespace == glob


def _size(memory: Memory) -> int:
    parts = (memory["title"], memory["content"], compact(memory["metadata"]))
    return sum(len(part.encode()) for part in parts)


class Quota:
    """Rows a day for each author: charged for every row that comes, also for one that changes nothing."""

    def __init__(self, clock: Clock, per_day: int = 1000) -> None:
        self.clock, self.per_day = clock, per_day
        self._today = ""
        self.used: Counter[str] = Counter()
        self.stored: Counter[str] = Counter()

    def charge(self, agent: str, memory: Memory) -> bool:
        """False where the day's rows are used up."""
        self._turn()
        if self.used[agent] >= self.per_day:
            return False
        self.used[agent] += 1
        self.stored[agent] += _size(memory)
        return True

    def refund(self, agent: str, memory: Memory) -> None:
        """Only for a row that SQL refused; not for one that lost, or that was there."""
        self.used[agent] = max(self.used[agent] - 1, 0)
        self.stored[agent] = max(self.stored[agent] - _size(memory), 0)

    def _turn(self) -> None:
        today = self.clock.now()[:10]
        if today != self._today:
            self._today = today
            self.used.clear()

    @property
    def reset_at(self) -> str:
        """The midnight to come."""
        day = Clock()
        day.freeze(f"{self.clock.now()[:10]}T00:00:00+00:00")
        day.advance(86_400)
        return day.now()

    def status(self, agent: str) -> dict[str, Any]:
        self._turn()
        now = self.clock.now()
        return {
            "agent_id": agent,
            "created_at": now,
            "current_links_today": 0,
            "current_memories_today": self.used[agent],
            "current_storage_bytes": self.stored[agent],
            "day_started_at": now[:10],
            "max_links_per_day": 5000,
            "max_memories_per_day": self.per_day,
            "max_storage_bytes": 104_857_600,
            "updated_at": now,
        }
