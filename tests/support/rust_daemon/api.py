"""The client API: memories, one at a time and in bulk. What is written here goes out to the peers, if there are any."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from rust_daemon.draft import drafted
from rust_daemon.messages import Answer, Request, Stop, body_fault, caller, error, refused, segment, unsigned
from rust_daemon.release import TIERS
from rust_daemon.rules import memory_fault
from rust_daemon.serde import (
    I32,
    Refused,
    Shape,
    anything,
    integer,
    maybe,
    one_of,
    optional,
    parsed,
    real,
    required,
    sequence,
    string,
)
from rust_daemon.store import Memory

if TYPE_CHECKING:
    from rust_daemon.daemon import RustDaemon

Handler = Callable[["RustDaemon", Request], Awaitable[Answer]]
LIST_DEFAULT, LIST_MOST, BULK_MOST = 20, 1000, 1000
CREATE = Shape(
    "CreateMemory",
    {
        **required("title", "content"),
        **maybe("expires_at", "agent_id", "scope", "on_conflict"),
        "tier": (one_of(TIERS), "mid"),
        "namespace": (string, "global"),
        "tags": (sequence(string), []),
        "priority": (integer("i32", I32), 5),
        "confidence": (real, 1.0),
        "source": (string, "api"),
        "metadata": (anything, {}),
    },
)
UPDATE = Shape(
    "UpdateMemory",
    {
        **maybe("title", "content", "namespace", "expires_at"),
        "tier": (optional(one_of(TIERS)), None),
        "tags": (optional(sequence(string)), None),
        "priority": (optional(integer("i32", I32)), None),
        "confidence": (optional(real), None),
        "metadata": (optional(anything), None),
    },
)
FORGET = Shape("Forget", {**maybe("namespace", "pattern"), "tier": (optional(one_of(TIERS)), None)})


def body_of(request: Request, shape: Callable[[Any, str], Any]) -> Any:
    """The body in this shape. Raises Stop."""
    fault = body_fault(request)
    if fault is not None:
        raise Stop(fault)
    try:
        return shape(parsed(request.body), "")
    except Refused as refusal:
        raise Stop(refused(refusal)) from None


def _created(daemon: "RustDaemon", request: Request) -> dict[str, Any]:
    """The body of a create: 0.7.0 words its refusals differently here, and only here."""
    if not daemon.release.duplicate_is_conflict:
        return dict(body_of(request, CREATE))
    fault = body_fault(request)
    if fault is not None:
        raise Stop(fault)
    try:
        return CREATE(parsed(request.body))
    except Refused as refusal:
        says, names = "invalid request body", []
        if refusal.status == 400:
            says = "malformed JSON body"
        elif refusal.missing is not None:
            says, names = f"missing required field: {refusal.missing}", [refusal.missing]
        raise Stop(error(400, says, fields=names)) from None


def _draft(daemon: "RustDaemon", fields: dict[str, Any], now_ns: int, **metadata: Any) -> Memory:
    plain = {name: value for name, value in fields.items() if name not in ("agent_id", "scope", "on_conflict")}
    if plain["expires_at"] is None:
        del plain["expires_at"]
    if isinstance(plain["metadata"], dict):
        plain["metadata"] = plain["metadata"] | metadata
    return drafted(daemon.release, now_ns, **plain)


async def create(daemon: "RustDaemon", request: Request) -> Answer:
    fields = _created(daemon, request)
    agent = caller(request, "agent_id", fields["agent_id"])
    metadata = {"agent_id": agent} | ({"scope": fields["scope"]} if fields["scope"] is not None else {})
    memory = _draft(daemon, fields, daemon.clock.now_ns(), **metadata)
    fault = memory_fault(memory)
    if fault is not None:
        return error(400, fault)
    async with daemon.lock:
        there = daemon.store.titled(memory["title"], memory["namespace"])
        if there is not None and daemon.release.duplicate_is_conflict and fields["on_conflict"] != "merge":
            says = f"memory with title '{memory['title']}' already exists in namespace '{memory['namespace']}'"
            return error(409, says, code="CONFLICT", existing_id=there["id"])
        similar = _similar(daemon, memory)
        if daemon.release.quota and not daemon.quota.charge(agent, memory):
            return _over_quota(daemon, agent)
        await daemon.spent()
        memory["id"] = daemon.store.store(memory)
    answer = {name: memory[name] for name in ("id", "tier", "namespace", "title")} | {"agent_id": agent}
    if similar:
        answer["potential_contradictions"] = similar
    stored = daemon.store.get(memory["id"])
    assert stored is not None, "it was stored a moment ago"
    acks = await daemon.fanout.memories(memory["id"], [stored])
    return Answer(201, answer | ({} if acks is None else {"quorum_acks": acks}))


def _over_quota(daemon: "RustDaemon", agent: str) -> Answer:
    used, most = daemon.quota.used[agent], daemon.quota.per_day
    says = f"QUOTA_EXCEEDED: agent {agent} hit memories_per_day (current={used}, max={most})"
    more = {"code": "QUOTA_EXCEEDED", "limit": "memories_per_day", "current": used, "max": most, "agent_id": agent}
    return error(429, says, **more)


def _similar(daemon: "RustDaemon", memory: Memory) -> list[str]:
    """Ids in the namespace that share a word with the title: the daemon asks its full-text index, and ranks them."""
    words = set(memory["title"].lower().split())
    rows = daemon.store.page(memory["namespace"], None, LIST_MOST, 0)
    return [row["id"] for row in rows if words & set(f"{row['title']} {row['content']}".lower().split())][:5]


async def listing(daemon: "RustDaemon", request: Request) -> Answer:
    asked = request.parameters
    limit = min(unsigned(asked, "limit", LIST_DEFAULT), LIST_MOST)
    rows = daemon.store.page(asked.get("namespace"), asked.get("tier"), limit, unsigned(asked, "offset", 0))
    return Answer(200, {"memories": [daemon.store.wire(row) for row in rows], "count": len(rows)})


def _there(daemon: "RustDaemon", request: Request) -> Memory:
    memory = daemon.store.get(segment(request, 1))
    if memory is None:
        raise Stop(error(404, "not found"))
    return memory


async def get(daemon: "RustDaemon", request: Request) -> Answer:
    memory = _there(daemon, request)
    return Answer(200, {"memory": daemon.store.wire(memory), "links": daemon.store.links(memory["id"])})


async def update(daemon: "RustDaemon", request: Request) -> Answer:
    """What is named is replaced. A delete or move elsewhere is not noticed."""
    changes = {name: value for name, value in body_of(request, UPDATE).items() if value is not None}
    async with daemon.lock:
        before = _there(daemon, request)
        after = before | changes | {"updated_at": daemon.clock.now()}
        author = before["metadata"].get("agent_id")
        if author is not None and isinstance(after["metadata"], dict):
            after["metadata"] = after["metadata"] | {"agent_id": author}
        if after["tier"] == "long":
            after["expires_at"] = None
        fault = memory_fault(after)
        if fault is not None:
            return error(400, fault)
        await daemon.spent()
        if not daemon.store.update(after):
            other = daemon.store.titled(after["title"], after["namespace"])
            assert other is not None, "the index of titles says that it is there"
            says = f"title '{after['title']}' already exists in namespace '{after['namespace']}'"
            return error(409, f"{says} (memory {other['id']})")
    await daemon.fanout.memories(after["id"], [after])
    return Answer(200, daemon.store.wire(after))


async def delete(daemon: "RustDaemon", request: Request) -> Answer:
    async with daemon.lock:
        identifier = _there(daemon, request)["id"]
        daemon.store.delete(identifier)
    await daemon.fanout.send(identifier, deletions=[identifier])
    return Answer(200, {"deleted": True})


async def promote(daemon: "RustDaemon", request: Request) -> Answer:
    async with daemon.lock:
        after = _there(daemon, request) | {"tier": "long", "expires_at": None, "updated_at": daemon.clock.now()}
        await daemon.spent()
        daemon.store.update(after)
    await daemon.fanout.memories(after["id"], [after])
    return Answer(200, {"id": after["id"], "promoted": True, "tier": "long"})


async def bulk(daemon: "RustDaemon", request: Request) -> Answer:
    """All with one time, none with an author; the id that goes out is the new one, also where the row keeps its old."""
    bodies = body_of(request, sequence(CREATE))
    if len(bodies) > BULK_MOST:
        return error(400, f"bulk operations limited to {BULK_MOST} items")
    now_ns, created, faults = daemon.clock.now_ns(), [], []
    async with daemon.lock:
        for fields in bodies:
            memory = _draft(daemon, fields, now_ns)
            fault = memory_fault(memory)
            if fault is not None:
                faults.append(f"{fields['title']}: {fault}")
                continue
            await daemon.spent()
            daemon.store.store(memory)
            created.append(memory)
    await daemon.fanout.bulk(created)
    return Answer(200, {"created": len(created), "errors": faults})


async def forget(daemon: "RustDaemon", request: Request) -> Answer:
    """Tells no peer."""
    asked = body_of(request, FORGET)
    if all(value is None for value in asked.values()):
        return error(400, "at least one of namespace, pattern, or tier is required")
    rows = [
        row["id"]
        for row in daemon.store.all()
        if asked["namespace"] in (None, row["namespace"])
        and asked["tier"] in (None, row["tier"])
        and (asked["pattern"] or "").lower() in f"{row['title']} {row['content']}".lower()
    ]
    for identifier in rows:
        daemon.store.delete(identifier)
    return Answer(200, {"deleted": len(rows)})


async def collect(daemon: "RustDaemon", request: Request) -> Answer:
    """What is over its time goes; no peer is told."""
    gone = daemon.store.change(
        "DELETE FROM memories WHERE expires_at IS NOT NULL AND expires_at < ?", daemon.clock.now()
    )
    return Answer(200, {"expired_deleted": gone})


ROUTES: dict[str, dict[str, Handler]] = {
    "/memories": {"GET": listing, "POST": create},
    "/memories/bulk": {"POST": bulk},
    "/memories/{}": {"GET": get, "PUT": update, "DELETE": delete},
    "/memories/{}/promote": {"POST": promote},
    "/forget": {"POST": forget},
    "/gc": {"POST": collect},
}
