"""Search and recall: whole words, without the ranking of the daemon's full-text index. Recall changes rows."""

import re
from typing import TYPE_CHECKING

from rust_daemon.api import LIST_DEFAULT, LIST_MOST, Handler, body_of
from rust_daemon.messages import Answer, Request, Stop, error, unsigned
from rust_daemon.moment import SECOND_NS, text
from rust_daemon.serde import I64, Shape, integer, maybe, required
from rust_daemon.store import Memory

if TYPE_CHECKING:
    from rust_daemon.daemon import RustDaemon

RECALL_DEFAULT, RECALL_MOST = 10, 50
RECALL = Shape("RecallBody", {**required("context"), **maybe("namespace"), "limit": (integer("usize", I64), 10)})
LIFE_AFTER = {"short": 3600, "mid": 24 * 3600}
"""Seconds from a recall until the row expires. For a row that had a week this is a shorter life, not a longer one."""
PROMOTED_AT = 5


def _words(value: str) -> set[str]:
    return set(re.findall(r"\w+", value.lower()))


def _found(daemon: "RustDaemon", namespace: str | None, wanted: set[str], *, every: bool) -> list[Memory]:
    found = []
    for row in daemon.store.page(namespace, None, LIST_MOST, 0):
        held = wanted & _words(f"{row['title']} {row['content']} {' '.join(row['tags'])}")
        if held == wanted if every else held:
            found.append(row)
    return found


async def search(daemon: "RustDaemon", request: Request) -> Answer:
    asked = request.parameters
    if "q" not in asked:
        return Answer(400, "Failed to deserialize query string: missing field `q`")
    if not asked["q"].strip():
        return error(400, "query is required")
    limit = min(unsigned(asked, "limit", LIST_DEFAULT), LIST_MOST)
    rows = _found(daemon, asked.get("namespace"), _words(asked["q"]), every=True)[:limit]
    return Answer(200, {"results": [daemon.store.wire(r) for r in rows], "count": len(rows), "query": asked["q"]})


async def recall_get(daemon: "RustDaemon", request: Request) -> Answer:
    asked = request.parameters
    if "context" not in asked:
        raise Stop(Answer(400, "Failed to deserialize query string: missing field `context`"))
    limit = unsigned(asked, "limit", RECALL_DEFAULT)
    return await _recalled(daemon, asked["context"], asked.get("namespace"), limit)


async def recall_post(daemon: "RustDaemon", request: Request) -> Answer:
    body = body_of(request, RECALL)
    return await _recalled(daemon, body["context"], body["namespace"], body["limit"])


async def _recalled(daemon: "RustDaemon", context: str, namespace: str | None, limit: int) -> Answer:
    rows = _found(daemon, namespace, _words(context), every=False)[: min(limit, RECALL_MOST)]
    shown = [daemon.store.wire(row) | {"score": 0.0} for row in rows]
    for row in rows:
        _touch(daemon, row)
    return Answer(200, {"memories": shown, "count": len(rows), "mode": "keyword", "tokens_used": 0})


def _touch(daemon: "RustDaemon", row: Memory) -> None:
    """Changes a row but not its time, so that no peer hears of it; until the fifth touch, which promotes it."""
    now_ns = daemon.clock.now_ns()
    count = row["access_count"] + 1
    tier, expires, updated, priority = (row[name] for name in ("tier", "expires_at", "updated_at", "priority"))
    if tier in LIFE_AFTER:
        expires = text(now_ns + LIFE_AFTER[tier] * SECOND_NS)
    if tier == "mid" and count >= PROMOTED_AT:
        tier, expires, updated = "long", None, text(now_ns)
    if count % 10 == 0:
        priority = min(priority + 1, 10)
    daemon.store.change(
        "UPDATE memories SET access_count = ?, last_accessed_at = ?, tier = ?, expires_at = ?, updated_at = ?, "
        "priority = ? WHERE id = ?",
        *(count, text(now_ns), tier, expires, updated, priority, row["id"]),
    )


ROUTES: dict[str, dict[str, Handler]] = {
    "/search": {"GET": search},
    "/recall": {"GET": recall_get, "POST": recall_post},
}
