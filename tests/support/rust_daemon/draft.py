"""A memory that a client of the daemon writes: the members that it does not name, as the daemon fills them in."""

import uuid
from typing import Any

from rust_daemon.moment import expiry, text
from rust_daemon.release import Release
from rust_daemon.serde import EXTRA_FIELDS, memory_shape
from rust_daemon.store import Memory


def drafted(release: Release, now_ns: int, *, title: str, content: str, tier: str = "mid", **fields: Any) -> Memory:
    """A new memory with a fresh id; `fields` override."""
    now = text(now_ns)
    shape = memory_shape(release)
    defaults = {name: default for name, (_, default) in shape.members.items() if name in EXTRA_FIELDS}
    return {
        **defaults,
        "id": str(uuid.uuid4()),
        "tier": tier,
        "namespace": "global",
        "title": title,
        "content": content,
        "tags": [],
        "priority": 5,
        "confidence": 1.0,
        "source": "api",
        "access_count": 0,
        "created_at": now,
        "updated_at": now,
        "last_accessed_at": None,
        "expires_at": expiry(tier, now_ns),
        "metadata": {},
        **fields,
    }
