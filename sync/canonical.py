"""The bytes that are hashed (protocol section 5): RFC 8785 canonical JSON of what a memory or a link says.

Two ways lead to the same bytes. The `rfc8785` library is the reference; the fast path is the JSON codec with sorted
keys, taken only where the two cannot differ: no fractional numbers but a plain `confidence`, keys in ASCII (whose
order by code point is the order by UTF-16 unit that RFC 8785 section 3.2.3 asks for).
"""

import hashlib
from typing import Any

import msgspec
import rfc8785

from sync.memory import Memory, foreign

TOMBSTONE_CONTENT = hashlib.sha256(b"").digest()
"""The content digest of a tombstone, which has none."""


class _Content(msgspec.Struct):
    # RFC 8785 order of the members: sorted by name.
    confidence: float | int
    content: str
    created_at: str
    expires_at: str | None
    metadata: dict[str, Any]
    namespace: str
    priority: int
    source: str
    tags: list[str]
    tier: str
    title: str


_encode = msgspec.json.Encoder(order="deterministic").encode


def content_bytes(memory: Memory) -> bytes:
    """RFC 8785 canonical JSON of the signed part of a memory, UTF-8."""
    metadata = foreign(memory.metadata)
    confidence = memory.confidence
    content = _Content(
        int(confidence) if confidence in (0.0, 1.0) else confidence,
        memory.content,
        memory.created_at,
        memory.expires_at if isinstance(memory.expires_at, str) else None,
        metadata,
        memory.namespace,
        memory.priority,
        memory.source,
        memory.tags,
        memory.tier,
        memory.title,
    )
    if (confidence in (0.0, 1.0) or confidence >= 0.001) and (not metadata or _is_plain(metadata)):
        return _encode(content)
    return rfc8785.dumps(msgspec.to_builtins(content))


def content_digest(memory: Memory) -> bytes:
    """SHA-256 of `content_bytes`, 32 bytes."""
    return hashlib.sha256(content_bytes(memory)).digest()


class _LinkContent(msgspec.Struct):
    # RFC 8785 order again. Nothing but text, so the codec's bytes are the canonical ones.
    created_at: str
    observed_by: str | None
    relation: str
    source_id: str
    target_id: str
    valid_from: str | None
    valid_until: str | None


def link_digest(
    source_id: str,
    target_id: str,
    relation: str,
    created_at: str,
    valid_from: str | None,
    valid_until: str | None,
    observed_by: str | None,
) -> bytes:
    """SHA-256 of RFC 8785 canonical JSON of what a link says, 32 bytes; null where it says nothing."""
    said = _LinkContent(created_at, observed_by, relation, source_id, target_id, valid_from, valid_until)
    return hashlib.sha256(_encode(said)).digest()


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(key.isascii() and _is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return not isinstance(value, float)
