"""The daemon's rules about one memory, link or id: what is wrong with it, or None.

A row that breaks one is skipped by a push (which answers 200 all the same) and refused with 400 by the client API. The
sentences about titles, ids of agents and self-links are recorded; the other wordings are this fake's own.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from rust_daemon.moment import is_rfc3339
from rust_daemon.release import Release

SOURCES = ("user", "claude", "hook", "api", "cli", "import", "consolidation", "system", "chaos", "notify")
_AGENT = re.compile(r"[A-Za-z0-9_\-:@./]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def agent_fault(agent: str) -> str | None:
    if not agent or len(agent) > 128:
        return "agent_id must be 1-128 characters"
    for character in agent:
        if not _AGENT.fullmatch(character):
            return f"agent_id contains invalid character '{character}' (allowed: alphanumeric, _-:@./)"
    return None


def id_fault(value: str) -> str | None:
    if not value.strip():
        return "id cannot be empty"
    if len(value.encode()) > 128 or _CONTROL.search(value):
        return "id is too long or contains invalid characters"
    return None


def namespace_fault(value: str) -> str | None:
    if not value.strip() or len(value) > 512:
        return "namespace cannot be empty or longer than 512 characters"
    if re.search(r"[\\\x00-\x20\x7f-\x9f]", value):
        return "namespace contains invalid characters"
    segments = value.split("/")
    if len(segments) > 8 or any(one in ("", ".", "..") for one in segments):
        return "namespace has an empty or relative segment, or more than 8"
    return None


def title_fault(value: str) -> str | None:
    if not value.strip():
        return "title cannot be empty"
    if len(value) > 512:
        return "title exceeds 512 characters"
    return "title contains invalid characters" if _CONTROL.search(value) else None


def content_fault(value: str) -> str | None:
    if not value.strip():
        return "content cannot be empty"
    if len(value.encode()) > 65_536:
        return "content exceeds 65536 bytes"
    return "content contains invalid characters" if _CONTROL.search(value) else None


def tags_fault(tags: list[str]) -> str | None:
    if len(tags) > 50:
        return "too many tags"
    return "tag is empty or too long" if any(not t.strip() or len(t.encode()) > 128 for t in tags) else None


def metadata_fault(metadata: Any) -> str | None:
    if not isinstance(metadata, dict):
        return "metadata must be a JSON object"
    if len(json.dumps(metadata, separators=(",", ":"), ensure_ascii=False).encode()) > 65_536:
        return "metadata exceeds 65536 bytes"
    return "metadata is nested too deeply" if _depth(metadata) > 32 else None


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0) if isinstance(value, dict | list) else 0


def memory_fault(memory: Mapping[str, Any]) -> str | None:
    """What is wrong with a memory whose shape is right already."""
    number = None
    if not 1 <= memory["priority"] <= 10:
        number = "priority must be between 1 and 10"
    elif not (math.isfinite(memory["confidence"]) and 0.0 <= memory["confidence"] <= 1.0):
        number = "confidence must be between 0.0 and 1.0"
    elif memory["access_count"] < 0:
        number = "access_count must not be negative"
    times = ("created_at", "updated_at", "last_accessed_at", "expires_at")
    wrong = next((name for name in times if memory[name] is not None and not is_rfc3339(memory[name])), None)
    return (
        id_fault(memory["id"])
        or namespace_fault(memory["namespace"])
        or title_fault(memory["title"])
        or content_fault(memory["content"])
        or tags_fault(memory["tags"])
        or number
        or (None if memory["source"] in SOURCES else f"invalid source '{memory['source']}'")
        or (f"{wrong} is not a valid RFC3339 timestamp" if wrong else None)
        or metadata_fault(memory["metadata"])
    )


def link_fault(source: str, target: str, relation: str, release: Release) -> str | None:
    if source == target:
        return "cannot link a memory to itself"
    if relation not in (release.push_relations or release.api_relations):
        return f"invalid relation '{relation}' — must be one of: {', '.join(release.api_relations)}"
    return id_fault(source) or id_fault(target)
