"""What a client asks for: a memory to store, or fields of one to change. The rules are those for a peer's records."""

from typing import Any

import msgspec

from sync import moment
from sync.errors import RemoteError
from sync.memory import DEFAULT_NAMESPACE, TIERS, TTL_US, Memory, foreign, memory_fault

Unset = msgspec.UnsetType
UNSET = msgspec.UNSET


class Fields(msgspec.Struct, kw_only=True, frozen=True):
    """Fields of a memory that a client may set; what is left out stays as it is, or gets its default."""

    title: str | Unset = UNSET
    content: str | Unset = UNSET
    namespace: str | Unset | None = UNSET
    tier: str | Unset | None = UNSET
    tags: list[str] | Unset | None = UNSET
    priority: int | Unset | None = UNSET
    confidence: float | Unset | None = UNSET
    source: str | Unset | None = UNSET
    expires_at: str | Unset | None = UNSET
    """RFC 3339, any offset; null takes the expiry away."""
    ttl_secs: int | Unset | None = UNSET
    metadata: dict[str, Any] | Unset | None = UNSET
    agent_id: str | Unset | None = UNSET
    """The writer; without it the caller's `X-Agent-Id`, or the node."""
    scope: str | Unset | None = UNSET
    """Kept as `metadata.scope`."""


MAX_TTL_SECS = 100 * 366 * 86_400
DEFAULT_TIER = "long"
"""Of what is stored without one: a memory that vanishes does so because somebody said it may."""


def new_memory(fields: Fields, record_id: str, now: int) -> Memory:
    """A new memory. `now`: microseconds. Raises RemoteError `invalid` naming the field."""
    if not isinstance(fields.title, str) or not isinstance(fields.content, str):
        missing = "title" if not isinstance(fields.title, str) else "content"
        raise RemoteError("invalid", f"{missing}: missing, some text expected")
    at = moment.text(now)
    tier = _tier(fields) or DEFAULT_TIER
    memory = Memory(
        id=record_id,
        tier=tier,  # type: ignore[arg-type]  # one of TIERS, by _tier
        namespace=fields.namespace if isinstance(fields.namespace, str) else DEFAULT_NAMESPACE,
        title=fields.title,
        content=fields.content,
        tags=_or(fields.tags, []),
        priority=_or(fields.priority, 5),
        confidence=_or(fields.confidence, 1.0),
        source=_or(fields.source, "api"),
        created_at=at,
        updated_at=at,
        expires_at=_expiry(fields, tier, now),
        metadata=_metadata(fields, {}),
    )
    return _checked(memory)


def edited(memory: Memory, fields: Fields, now: int, *, renewed: bool = False) -> Memory:
    """A copy with these fields set; id, creation time and first writer stay. Raises RemoteError `invalid`.

    `renewed`: it is stored once more, so a memory that expires lives as long again as a new one would. One that has
    expired is nothing that its writer could see: it gets the tier of a new one.
    """
    expires: str | Unset | None = memory.expires_at
    is_over = renewed and isinstance(expires, str) and expires <= moment.text(now)
    tier = _tier(fields) or (DEFAULT_TIER if is_over else memory.tier)
    renewed = renewed and isinstance(expires, str)
    if renewed or tier != memory.tier or fields.expires_at is not UNSET or fields.ttl_secs is not UNSET:
        expires = _expiry(fields, tier, now)
    changed = msgspec.structs.replace(
        memory,
        tier=tier,
        namespace=_or(fields.namespace, memory.namespace),
        title=_or(fields.title, memory.title),
        content=_or(fields.content, memory.content),
        tags=_or(fields.tags, memory.tags),
        priority=_or(fields.priority, memory.priority),
        confidence=_or(fields.confidence, memory.confidence),
        source=_or(fields.source, memory.source),
        expires_at=expires,
        metadata=_metadata(fields, memory.metadata),
    )
    return _checked(changed)


def says_the_same(a: Memory, b: Memory) -> bool:
    """True where a write would change nothing but the time."""
    return _said(a) == _said(b)


def _said(memory: Memory) -> tuple[Any, ...]:
    expires = memory.expires_at if isinstance(memory.expires_at, str) else None
    return (
        memory.tier, memory.namespace, memory.title, memory.content, memory.tags, memory.priority, memory.confidence,
        memory.source, expires, foreign(memory.metadata),
    )  # fmt: skip


def _or(value: Any, default: Any) -> Any:
    return default if value is UNSET or value is None else value


def _tier(fields: Fields) -> str | None:
    tier = fields.tier
    if not isinstance(tier, str):
        return None
    if tier not in TIERS:
        raise RemoteError("invalid", f"tier: {tier[:40]!r}, one of {', '.join(TIERS)} expected")
    return tier


def _expiry(fields: Fields, tier: str, now: int) -> str | None:
    if isinstance(fields.expires_at, str):
        at = moment.canonical(fields.expires_at)
        if at is None:
            raise RemoteError("invalid", f"expires_at: {fields.expires_at[:40]!r}, an RFC 3339 time expected")
        return at
    if isinstance(fields.ttl_secs, int):
        if not 0 < fields.ttl_secs <= MAX_TTL_SECS:
            raise RemoteError("invalid", f"ttl_secs: {fields.ttl_secs}, 1 to {MAX_TTL_SECS} expected")
        return moment.text(now + fields.ttl_secs * moment.SECOND)
    if fields.expires_at is None:
        return None
    ttl = TTL_US[tier]
    return None if ttl is None else moment.text(now + ttl)


def _metadata(fields: Fields, before: dict[str, Any]) -> dict[str, Any]:
    metadata = dict(before)
    if isinstance(fields.metadata, dict):
        metadata = {key: before[key] for key in ("agent_id",) if key in before} | foreign(fields.metadata)
    metadata.pop("attestation", None)
    if isinstance(fields.scope, str):
        metadata["scope"] = fields.scope
    return metadata


def _checked(memory: Memory) -> Memory:
    if fault := memory_fault(memory):
        raise RemoteError("invalid", fault)
    return memory
