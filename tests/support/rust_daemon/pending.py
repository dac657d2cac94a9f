"""Actions that wait for an approval. A peer's decision is carried out as it comes, whoever "decided"."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from rust_daemon.draft import drafted
from rust_daemon.store import Store, compact

_COLUMNS = (
    "id",
    "action_type",
    "memory_id",
    "namespace",
    "payload",
    "requested_by",
    "requested_at",
    "status",
    "decided_by",
    "decided_at",
    "approvals",
)


def upsert(store: Store, pending: Mapping[str, Any]) -> None:
    """Every column is overwritten, the status too."""
    given = {**pending, "payload": compact(pending["payload"]), "approvals": compact(pending["approvals"])}
    values = [given[column] for column in _COLUMNS]
    store.change(f"INSERT OR REPLACE INTO pending_actions VALUES ({', '.join('?' * len(_COLUMNS))})", *values)


def listed(store: Store) -> list[dict[str, Any]]:
    found = []
    for row in store.rows("SELECT * FROM pending_actions ORDER BY requested_at DESC"):
        one = {name: row[name] for name in _COLUMNS if row[name] is not None}
        found.append(one | {"payload": json.loads(one["payload"]), "approvals": json.loads(one["approvals"])})
    return found


def decide(store: Store, decision: Mapping[str, Any]) -> Literal["done", "nothing"]:
    """`nothing` where it does not exist or was decided before."""
    rows = store.rows("SELECT * FROM pending_actions WHERE id = ? AND status = 'pending'", decision["id"])
    if not rows:
        return "nothing"
    status = "approved" if decision["approved"] else "rejected"
    store.change(
        "UPDATE pending_actions SET status = ?, decided_by = ?, decided_at = ? WHERE id = ?",
        *(status, decision["decider"], store.clock.now(), decision["id"]),
    )
    if decision["approved"]:
        _carry_out(store, rows[0]["action_type"], rows[0]["memory_id"], json.loads(rows[0]["payload"]))
    return "done"


def _carry_out(store: Store, action: str, memory_id: str | None, payload: Any) -> None:
    if action == "delete" and memory_id is not None:
        store.delete(memory_id)
    elif action == "promote" and memory_id is not None:
        now = store.clock.now()
        store.change(
            "UPDATE memories SET tier = 'long', expires_at = NULL, updated_at = ? WHERE id = ?", now, memory_id
        )
    elif action == "store":
        # An id of its own on each node that carries it out, so the nodes part here.
        store.store(drafted(store.release, store.clock.now_ns(), **payload))
