"""The bytes that are hashed (protocol section 5): RFC 8785 canonical JSON of what a memory or a link says.

Two ways lead to the same bytes. The `rfc8785` library is the reference; the fast path is the JSON codec with sorted
keys, taken only where the two cannot differ: no fractional or long numbers but a plain `confidence`, keys in ASCII
(whose order by code point is the order by UTF-16 unit that RFC 8785 section 3.2.3 asks for).
"""

import hashlib
from typing import Any

import msgspec
import rfc8785

from sync.memory import Memory, is_long

MOST_WRITTEN_OUT = 1e21
"""From here on RFC 8785 writes an exponent (ECMA-262, Number::toString)."""
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
    metadata = {key: value for key, value in memory.metadata.items() if key != "attestation"}
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
    content.metadata = _in_doubles(metadata)
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
    return not isinstance(value, float) and not is_long(value)


def has_floats(value: Any) -> bool:
    """True where some number in a JSON value is not an integer as it was read."""
    if isinstance(value, dict):
        return any(map(has_floats, value.values()))
    if isinstance(value, list):
        return any(map(has_floats, value))
    return isinstance(value, float)


def in_integers(value: Any) -> Any:
    """With every number that RFC 8785 writes without a point or an exponent as that integer: 1.0 and 1 are one."""
    if isinstance(value, dict):
        return {key: in_integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [in_integers(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < MOST_WRITTEN_OUT:
        return int(rfc8785.dumps(value))
    return value


def _in_doubles(value: Any) -> Any:
    """With every integer that only a double can be for all readers as that double (RFC 8785 section 3.2.2.3)."""
    if isinstance(value, dict):
        return {key: _in_doubles(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_doubles(item) for item in value]
    return float(value) if is_long(value) else value
