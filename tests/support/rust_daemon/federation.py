"""The two endpoints between peers: `POST /sync/push` and `GET /sync/since`."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from rust_daemon import pending
from rust_daemon.messages import Answer, Request, Stop, body_fault, caller, error, refused, unsigned
from rust_daemon.moment import is_rfc3339
from rust_daemon.rules import agent_fault, id_fault, link_fault, memory_fault
from rust_daemon.serde import Refused, parsed, push_shape
from rust_daemon.trust import in_scope

if TYPE_CHECKING:
    from rust_daemon.daemon import RustDaemon

CAP = 1000
CAPPED = (
    "memories",
    "deletions",
    "archives",
    "restores",
    "pendings",
    "pending_decisions",
    "namespace_meta",
    "namespace_meta_clears",
)
"""Links have no cap."""
COUNTERS = (
    "applied",
    "archived",
    "deleted",
    "links_applied",
    "namespace_meta_applied",
    "namespace_meta_cleared",
    "noop",
    "pending_decisions_applied",
    "pendings_applied",
    "restored",
    "skipped",
)
SINCE_DEFAULT, SINCE_MOST = 500, 10_000
Body = dict[str, Any]


async def push(daemon: "RustDaemon", request: Request) -> Answer:
    """Row by row, each on its own: an answer of 200 says nothing about any of them but the counters."""
    fault = body_fault(request)
    if fault is not None:
        return fault
    try:
        body = push_shape(daemon.release)(parsed(request.body))
    except Refused as refusal:
        return refused(refusal)
    sender = body["sender_agent_id"]
    if daemon.release.peer_id:
        forbidden = daemon.trust.push_fault(sender, request.header("x-peer-id"))
        if forbidden is not None:
            return Answer(403, forbidden)
    says = agent_fault(sender)
    if says is not None:
        return error(400, f"invalid sender_agent_id: {says}")
    for name in CAPPED:
        if len(body[name]) > CAP:
            return error(400, f"sync_push limited to {CAP} {name} per request")
    receiver = caller(request)
    async with daemon.lock:
        return await _Push(daemon, body, receiver).carried_out()


class _Push:
    """One push while it is carried out."""

    def __init__(self, daemon: "RustDaemon", body: Body, receiver: str) -> None:
        self.daemon, self.store, self.body, self.receiver = daemon, daemon.store, body, receiver
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self.latest: str | None = None

    async def carried_out(self) -> Answer:
        over = await self._memories()
        if over is not None:
            return over  # nothing after the rows is looked at
        self._each("deletions", self._delete)
        self._each("archives", self._archive)
        self._each("restores", self._restore)
        self._each("links", self._link)
        self._each("pendings", self._pending)
        self._each("pending_decisions", self._decide)
        self._each("namespace_meta", self._standard)
        self._each("namespace_meta_clears", self._clear)
        if self.latest is not None and not self.body["dry_run"]:
            self.store.observe(self.receiver, self.body["sender_agent_id"], self.latest)
        answer = {
            **self.counts,
            "dry_run": self.body["dry_run"],
            "receiver_agent_id": self.receiver,
            "receiver_clock": {"entries": self.store.entries(self.receiver)},
        }
        if self.daemon.release.quota:
            answer["quota_refused"] = 0
        return Answer(200, answer)

    async def _memories(self) -> Answer | None:
        for memory in self.body["memories"]:
            if memory_fault(memory) is not None:
                self.counts["skipped"] += 1
                continue
            # Before the row is stored, and whether it will be.
            self.latest = max(self.latest or "", memory["updated_at"])
            if self.body["dry_run"]:
                self.counts["noop"] += 1
                continue
            over = self._charged(memory)
            if over is not None:
                return over
            await self.daemon.spent()
            if self.store.merge(memory):
                self.counts["applied"] += 1
                continue
            self.counts["skipped"] += 1
            if self.daemon.release.quota:
                self.daemon.quota.refund(self._author(memory), memory)
        return None

    def _author(self, memory: Body) -> str:
        """Whose quota a row is charged to."""
        author = memory["metadata"].get("agent_id")
        return author if isinstance(author, str) and author else str(self.body["sender_agent_id"])

    def _charged(self, memory: Body) -> Answer | None:
        if not self.daemon.release.quota:
            return None
        quota, agent = self.daemon.quota, self._author(memory)
        if quota.charge(agent, memory):
            return None
        body = {
            "error": "QUOTA_EXCEEDED",
            "limit": "memories_per_day",
            "current": quota.used[agent],
            "max": quota.per_day,
            "agent_id": agent,
            "applied_before_refusal": self.counts["applied"],
            "quota_refused": 1,
            "reset_at": quota.reset_at,
        }
        return Answer(429, body, {"x-quota-reset-at": quota.reset_at, "x-quota-limit": "memories_per_day"})

    def _each(self, name: str, act: Any) -> None:
        """Count what `act` says of each item; `act` returns None where the item is refused."""
        for item in self.body[name]:
            self.counts[act(item) or "skipped"] += 1

    @property
    def _dry(self) -> bool:
        return bool(self.body["dry_run"])

    def _delete(self, item: str) -> str | None:
        if id_fault(item) is not None:
            return None
        return "deleted" if not self._dry and self.store.delete(item) else "noop"

    def _archive(self, item: str) -> str | None:
        if id_fault(item) is not None:
            return None
        return "archived" if not self._dry and self.store.archive(item, "sync_push") else "noop"

    def _restore(self, item: str) -> str | None:
        if id_fault(item) is not None:
            return None
        outcome = "missing" if self._dry else self.store.restore(item)
        return {"done": "restored", "missing": "noop", "failed": None}[outcome]

    def _link(self, item: Body) -> str | None:
        ends = item["source_id"], item["target_id"], item["relation"]
        if link_fault(*ends, self.daemon.release) is not None:
            return None
        if self._dry:
            return "noop"
        at = item["created_at"] if self.daemon.release.keeps_link_time else self.daemon.clock.now()
        return "links_applied" if self.store.link(*ends, at) else None  # its memory may come later: it will not

    def _pending(self, item: Body) -> str | None:
        if self._dry:
            return "noop"
        pending.upsert(self.store, item)
        return "pendings_applied"

    def _decide(self, item: Body) -> str | None:
        if self._dry or pending.decide(self.store, item) == "nothing":
            return "noop"
        return "pending_decisions_applied"

    def _standard(self, item: Body) -> str | None:
        if self._dry:
            return "noop"
        return "namespace_meta_applied" if self.store.set_standard(item) else None

    def _clear(self, item: str) -> str | None:
        return "namespace_meta_cleared" if not self._dry and self.store.clear_standard(item) else "noop"


async def since(daemon: "RustDaemon", request: Request) -> Answer:
    """A page of rows by their authors' times. The scope filters what the limit has left over."""
    asked = request.parameters
    limit = min(unsigned(asked, "limit", SINCE_DEFAULT), SINCE_MOST)
    start = asked.get("since")
    if start and not is_rfc3339(start):
        raise Stop(error(400, "invalid `since` parameter — expected RFC 3339 timestamp"))
    async with daemon.lock:
        page = daemon.store.since(start or None, limit)
        answer: Body = {"limit": limit, "updated_since": start}
        if daemon.release.peer_id:
            status, globs = daemon.trust.reading(request.header("x-peer-id"))
            denied = status == "no_allowlist_default_deny"
            kept = page if globs is None else [row for row in page if in_scope(row["namespace"], globs)]
            answer |= {"scope_status": status, "excluded_for_scope": 0 if denied else len(page) - len(kept)}
            page = kept
        reader, peer = request.header("x-agent-id"), asked.get("peer", "")
        if page and agent_fault(peer) is None and (reader is None or agent_fault(reader) is None):
            # In vain: no client ever asks for the watermark of this pair of names.
            daemon.store.observe(caller(request), peer, page[-1]["updated_at"])
        answer |= {
            "count": len(page),
            "earliest_updated_at": page[0]["updated_at"] if page else None,
            "latest_updated_at": page[-1]["updated_at"] if page else None,
            "memories": [daemon.store.wire(row) for row in page],
        }
    return Answer(200, answer)
