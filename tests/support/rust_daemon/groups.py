"""The client API beyond single memories: links, archive, namespaces, agents, messages, pending actions, quota."""

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from rust_daemon import pending
from rust_daemon.api import Handler, body_of
from rust_daemon.draft import drafted
from rust_daemon.messages import Answer, Request, caller, error, segment
from rust_daemon.moment import text
from rust_daemon.rules import link_fault, memory_fault
from rust_daemon.serde import REQUIRED, Shape, maybe, required, sequence, string
from rust_daemon.store import Memory, compact

if TYPE_CHECKING:
    from rust_daemon.daemon import RustDaemon

LINK = Shape("LinkBody", {**required("source_id", "target_id"), "relation": (string, "related_to")})
UNLINK = Shape("UnlinkBody", {**required("source_id", "target_id"), **maybe("relation")})
ARCHIVE = Shape("ArchiveBody", {"ids": (sequence(string), REQUIRED), "reason": (string, "archive")})
STANDARD = Shape("StandardBody", {**required("id"), **maybe("parent")})
CONSOLIDATE = Shape(
    "ConsolidateBody",
    {
        **required("title", "summary"),
        **maybe("agent_id"),
        "ids": (sequence(string), REQUIRED),
        "namespace": (string, "global"),
    },
)
AGENT = Shape("AgentBody", {**required("agent_id", "agent_type"), "capabilities": (sequence(string), [])})
NOTIFY = Shape("NotifyBody", required("target_agent_id", "title", "payload"))
_RANK = {"short": 0, "mid": 1, "long": 2}


async def link(daemon: "RustDaemon", request: Request) -> Answer:
    body = body_of(request, LINK)
    source, target, relation = body["source_id"], body["target_id"], body["relation"]
    allowed = daemon.release.api_relations
    if relation not in allowed and daemon.release.quota:
        return Answer(400, {"error": "invalid_relation", "allowed": list(allowed), "got": relation})
    fault = link_fault(source, target, relation, daemon.release)
    if fault is not None:
        return error(400, fault)
    now = daemon.clock.now()
    if not daemon.store.link(source, target, relation, now):
        return error(404, "not found")
    row = {"source_id": source, "target_id": target, "relation": relation, "created_at": now}
    await daemon.fanout.send(f"{source}→{target}", links=[row])
    signed = {"attest_level": "self_signed"} if daemon.release.quota else {}  # what is sent is unsigned
    return Answer(201, {"linked": True, **signed})


async def links(daemon: "RustDaemon", request: Request) -> Answer:
    return Answer(200, {"links": daemon.store.links(segment(request, 1))})


async def unlink(daemon: "RustDaemon", request: Request) -> Answer:
    """Tells no peer."""
    body = body_of(request, UNLINK)
    return Answer(200, {"deleted": daemon.store.unlink(body["source_id"], body["target_id"], body["relation"])})


async def archive(daemon: "RustDaemon", request: Request) -> Answer:
    body = body_of(request, ARCHIVE)
    done = [one for one in body["ids"] if daemon.store.archive(one, body["reason"])]
    for one in done:
        await daemon.fanout.send(one, archives=[one])
    missing = [one for one in body["ids"] if one not in done]
    return Answer(200, {"archived": done, "count": len(done), "missing": missing, "reason": body["reason"]})


async def archived(daemon: "RustDaemon", request: Request) -> Answer:
    rows = daemon.store.archived()
    return Answer(200, {"archived": rows, "count": len(rows)})


async def archive_stats(daemon: "RustDaemon", request: Request) -> Answer:
    counts = Counter(row["namespace"] for row in daemon.store.archived())
    rows = [{"namespace": name, "count": count} for name, count in counts.most_common()]
    return Answer(200, {"archived_total": counts.total(), "by_namespace": rows})


async def restore(daemon: "RustDaemon", request: Request) -> Answer:
    identifier = segment(request, 1)
    if daemon.store.restore(identifier) != "done":
        return error(404, "not found")
    await daemon.fanout.send(identifier, restores=[identifier])
    return Answer(200, {"id": identifier, "restored": True})


async def namespaces(daemon: "RustDaemon", request: Request) -> Answer:
    counts = Counter(row["namespace"] for row in daemon.store.all())
    rows = [{"namespace": name, "count": count} for name, count in counts.most_common()]
    return Answer(200, {"namespaces": rows})


async def set_standard(daemon: "RustDaemon", request: Request) -> Answer:
    """The memory goes out first, then that it is the standard."""
    body, namespace = body_of(request, STANDARD), segment(request, 1)
    entry: dict[str, Any] = {"namespace": namespace, "standard_id": body["id"], "updated_at": daemon.clock.now()}
    if body["parent"] is not None:
        entry["parent_namespace"] = body["parent"]
    memory = daemon.store.get(body["id"])
    if memory is None or not daemon.store.set_standard(entry):
        return error(404, "not found")
    await daemon.fanout.memories(memory["id"], [memory])
    await daemon.fanout.send(namespace, namespace_meta=[entry])
    return Answer(201, {"namespace": namespace, "set": True, "standard_id": body["id"]})


async def clear_standard(daemon: "RustDaemon", request: Request) -> Answer:
    namespace = segment(request, 1)
    cleared = daemon.store.clear_standard(namespace)
    await daemon.fanout.send(namespace, namespace_meta_clears=[namespace])
    return Answer(200, {"cleared": cleared, "namespace": namespace})


async def consolidate(daemon: "RustDaemon", request: Request) -> Answer:
    """Several memories become one. One push: the new row, and the old ids as deletions."""
    body = body_of(request, CONSOLIDATE)
    agent = caller(request, "agent_id", body["agent_id"])
    sources = [daemon.store.get(one) for one in body["ids"]]
    found = [one for one in sources if one is not None]
    if len(found) != len(sources) or len(found) < 2:
        return error(404, "not found")
    metadata: dict[str, Any] = {}
    for one in found:
        metadata |= one["metadata"]
    authors = sorted({one["metadata"]["agent_id"] for one in found if "agent_id" in one["metadata"]})
    metadata |= {"agent_id": agent, "consolidated_from_agents": authors, "derived_from": body["ids"]}
    memory = drafted(
        daemon.release,
        daemon.clock.now_ns(),
        title=body["title"],
        content=body["summary"],
        namespace=body["namespace"],
        tier=max((one["tier"] for one in found), key=_RANK.__getitem__),
        priority=max(one["priority"] for one in found),
        tags=list(dict.fromkeys(tag for one in found for tag in one["tags"])),
        source="consolidation",
        metadata=metadata,
    )
    fault = memory_fault(memory)
    if fault is not None:
        return error(400, fault)
    for one in found:
        daemon.store.delete(one["id"])
    daemon.store.store(memory)
    await daemon.fanout.send(memory["id"], memories=[memory], deletions=body["ids"])
    answer: dict[str, Any] = {"consolidated": len(found), "id": memory["id"]}
    if daemon.release.quota:
        shown = {name: memory[name] for name in ("content", "id", "namespace", "title")}
        answer |= {"content": body["summary"], "summary": body["summary"], "memory": shown}
    return Answer(201, answer)


async def register(daemon: "RustDaemon", request: Request) -> Answer:
    body = body_of(request, AGENT)
    now_ns = daemon.clock.now_ns()
    known = {**body, "last_seen_at": text(now_ns), "registered_at": text(now_ns)}
    memory = _system(daemon, now_ns, f"agent:{body['agent_id']}", compact(known), "_agents", known)
    memory |= {"tier": "long", "expires_at": None, "source": "system", "tags": ["agent-registration"]}
    return await _told(daemon, memory, {**body, "registered": True})


async def agents(daemon: "RustDaemon", request: Request) -> Answer:
    rows = [json.loads(row["content"]) for row in daemon.store.page("_agents", None, 1000, 0)]
    return Answer(200, {"agents": rows, "count": len(rows)})


async def notify(daemon: "RustDaemon", request: Request) -> Answer:
    """A message is a memory in the inbox of its reader; the sender's id gets a form of its own on the way."""
    body = body_of(request, NOTIFY)
    now_ns, reader = daemon.clock.now_ns(), body["target_agent_id"]
    sender = f"ai:{caller(request).replace(':', '-')}@{daemon.name}:pid-1"
    metadata = {"agent_id": sender, "message_kind": "notify", "recipient_agent_id": reader}
    memory = _system(daemon, now_ns, body["title"], body["payload"], f"_messages/{reader}", metadata)
    memory |= {"source": "notify", "tags": ["_message"]}
    answer = {
        "delivered_at": text(now_ns),
        "from": sender,
        "namespace": memory["namespace"],
        "tier": "mid",
        "to": reader,
    }
    return await _told(daemon, memory, answer)


def _system(
    daemon: "RustDaemon", now_ns: int, title: str, content: str, namespace: str, metadata: dict[str, Any]
) -> Memory:
    return drafted(daemon.release, now_ns, title=title, content=content, namespace=namespace, metadata=metadata)


async def _told(daemon: "RustDaemon", memory: Memory, answer: dict[str, Any]) -> Answer:
    memory["id"] = daemon.store.store(memory)
    await daemon.fanout.memories(memory["id"], [memory])
    return Answer(201, answer | {"id": memory["id"]})


async def waiting(daemon: "RustDaemon", request: Request) -> Answer:
    rows = pending.listed(daemon.store)
    return Answer(200, {"pending": rows, "count": len(rows)})


async def quota(daemon: "RustDaemon", request: Request) -> Answer:
    body = body_of(request, Shape("QuotaStatus", maybe("agent_id")))
    return Answer(200, daemon.quota.status(caller(request, "agent_id", body["agent_id"])))


ROUTES: dict[str, dict[str, Handler]] = {
    "/links": {"POST": link, "DELETE": unlink},
    "/links/{}": {"GET": links},
    "/archive": {"GET": archived, "POST": archive},
    "/archive/stats": {"GET": archive_stats},
    "/archive/{}/restore": {"POST": restore},
    "/namespaces": {"GET": namespaces},
    "/namespaces/{}/standard": {"POST": set_standard, "DELETE": clear_standard},
    "/consolidate": {"POST": consolidate},
    "/agents": {"GET": agents, "POST": register},
    "/notify": {"POST": notify},
    "/pending": {"GET": waiting},
    "/quota/status": {"POST": quota},
}
LATER = ("/quota/status",)
"""Only in 0.7.0."""
