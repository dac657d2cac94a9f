"""The memory record, the tombstone, and their limits (protocol section 3; field rules as the existing daemon has them).

A record that breaks a limit is refused by name, alone. `LIMITS` and the functions beside it are the whole rule book:
what a peer sends and what a client asks for pass through the same ones.
"""

import re
from typing import Any, Literal

import msgspec
import rfc8785

from sync import moment

TIERS = ("short", "mid", "long")
TTL_US = {"short": 6 * 3600 * moment.SECOND, "mid": 7 * 86_400 * moment.SECOND, "long": None}
SOURCES = frozenset(("user", "claude", "hook", "api", "cli", "import", "consolidation", "system", "chaos", "notify"))
MAX_ID_BYTES = 128
MAX_NAMESPACE = 512
MAX_DEPTH = 8
MAX_TITLE = 512
MAX_CONTENT_BYTES = 65_536
MAX_TAGS = 50
MAX_TAG_BYTES = 128
MAX_METADATA_BYTES = 65_536
MAX_METADATA_DEPTH = 32
MAX_SAFE_INTEGER = 2**53 - 1  # RFC 8785 section 3.2.2.3: what every reader of JSON numbers agrees on
DEFAULT_NAMESPACE = "global"

OWN_KEYS = ("agent_id", "attestation")
"""Keys of `metadata` that are ours to define."""

# Unicode category Cc except \n and \t. An invisible control character in a text is never meant, and \r is what the
# existing daemon refuses.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_NAMESPACE_SEGMENT = re.compile(r"[^\\/\s\x00-\x1f\x7f-\x9f]+")
_LINE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"
)  # an id stands in a line of what is signed, and in lists and logs
_AGENT_ID = re.compile(r"[A-Za-z0-9_\-:@./]{1,128}")


class Memory(msgspec.Struct, omit_defaults=False, kw_only=True):
    """A memory as it goes over the wire, in the existing daemon's field order. Times are RFC 3339 text."""

    id: str
    tier: Literal["short", "mid", "long"]
    namespace: str
    title: str
    content: str
    tags: list[str]
    priority: int
    confidence: float
    source: str
    access_count: int = 0
    created_at: str
    updated_at: str
    last_accessed_at: str | msgspec.UnsetType | None = msgspec.UNSET
    expires_at: str | msgspec.UnsetType | None = msgspec.UNSET
    metadata: dict[str, Any] = {}


class Tombstone(msgspec.Struct, kw_only=True):
    """A deleted memory as it goes over the wire: no content, no title."""

    id: str
    namespace: str
    deleted_at: str
    attestation: dict[str, Any]


def memory_fault(memory: Memory) -> str | None:
    """What is wrong with a record, naming the field, what was found and what is allowed; None where nothing is."""
    return (
        id_fault(memory.id)
        or namespace_fault(memory.namespace)
        or title_fault(memory.title)
        or content_fault(memory.content)
        or tags_fault(memory.tags)
        or _number_fault(memory)
        or (None if memory.source in SOURCES else f"source: {_shown(memory.source)}, one of {sorted(SOURCES)} expected")
        or _times_fault(memory)
        or metadata_fault(memory.metadata)
    )


def id_fault(value: str) -> str | None:
    if found := _LINE.search(value):
        return f"id: control character U+{ord(found[0]):04X} at {found.start()}, none expected"
    return _text_fault("id", value, MAX_ID_BYTES, in_bytes=True)


def title_fault(value: str) -> str | None:
    return _text_fault("title", value, MAX_TITLE, in_bytes=False)


def content_fault(value: str) -> str | None:
    return _text_fault("content", value, MAX_CONTENT_BYTES, in_bytes=True)


def namespace_fault(value: str) -> str | None:
    if len(value) > MAX_NAMESPACE:
        return f"namespace: {len(value)} characters, at most {MAX_NAMESPACE}"
    segments = value.split("/")
    if len(segments) > MAX_DEPTH:
        return f"namespace: {len(segments)} segments, at most {MAX_DEPTH}"
    for segment in segments:
        if segment in ("", ".", "..") or not _NAMESPACE_SEGMENT.fullmatch(segment):
            return (
                f"namespace: segment {_shown(segment)}, expected text without spaces, control characters or "
                "backslashes, not empty, not '.' or '..'"
            )
    return None


def agent_fault(value: str) -> str | None:
    if _AGENT_ID.fullmatch(value):
        return None
    return f"agent_id: {_shown(value)}, expected 1 to 128 of A-Z a-z 0-9 _ - : @ . /"


def tags_fault(tags: list[str]) -> str | None:
    if not tags:
        return None
    if len(tags) > MAX_TAGS:
        return f"tags: {len(tags)} found, at most {MAX_TAGS}"
    for tag in tags:
        if fault := _text_fault("tags", tag, MAX_TAG_BYTES, in_bytes=True):
            return fault
    return None


def metadata_fault(metadata: dict[str, Any]) -> str | None:
    """Limits of `metadata` without our own two keys, which have limits of their own."""
    agent = metadata.get("agent_id")
    if agent is not None and (not isinstance(agent, str) or agent_fault(agent)):
        return f"metadata.agent_id: {_shown(agent)}, expected 1 to 128 of A-Z a-z 0-9 _ - : @ . /"
    rest = foreign(metadata)
    if not rest:
        return None
    if fault := _value_fault(rest, 1):
        return fault
    size = len(msgspec.json.encode(rest))
    if size > MAX_METADATA_BYTES:
        return f"metadata: {size} bytes, at most {MAX_METADATA_BYTES}"
    return None


def foreign(metadata: dict[str, Any]) -> dict[str, Any]:
    """`metadata` less the keys that are ours to define."""
    return {key: value for key, value in metadata.items() if key not in OWN_KEYS}


def _text_fault(field: str, value: str, limit: int, *, in_bytes: bool) -> str | None:
    if not value or value.isspace():
        return f"{field}: empty, some text expected"
    # A string has at least as many bytes as characters, so the cheap length settles nearly every case.
    if in_bytes and len(value) * 4 > limit:
        size = len(value.encode())
        if size > limit:
            return f"{field}: {size} bytes, at most {limit}"
    elif len(value) > limit:
        return f"{field}: {len(value)} characters, at most {limit}"
    found = _CONTROL.search(value)
    if found:
        return f"{field}: control character U+{ord(found[0]):04X} at {found.start()}, only newline and tab are allowed"
    return None


def _number_fault(memory: Memory) -> str | None:
    if not 1 <= memory.priority <= 10:
        return f"priority: {_shown(memory.priority)}, 1 to 10 expected"
    if not 0.0 <= memory.confidence <= 1.0:  # also refuses what is not a number
        return f"confidence: {memory.confidence}, 0.0 to 1.0 expected"
    return None


def _times_fault(memory: Memory) -> str | None:
    for field, value in (
        ("created_at", memory.created_at),
        ("updated_at", memory.updated_at),
        ("expires_at", memory.expires_at),
    ):
        if value is msgspec.UNSET or value is None:
            continue
        if not moment.is_canonical(str(value)):
            return f"{field}: {_shown(value)}, expected the form 2026-01-31T12:00:00.000000+00:00"
    return None


def _value_fault(value: Any, depth: int) -> str | None:
    if depth > MAX_METADATA_DEPTH:
        return f"metadata: nested more than {MAX_METADATA_DEPTH} deep"
    if isinstance(value, dict):
        for item in value.values():
            if fault := _value_fault(item, depth + 1):
                return fault
    elif isinstance(value, list):
        for item in value:
            if fault := _value_fault(item, depth + 1):
                return fault
    elif is_long(value) and not _is_double(value):
        return f"metadata: integer {_shown(value)}, at most 2^53 - 1 either way (RFC 8785); write it as text"
    return None


def is_long(value: Any) -> bool:
    """True for an integer that not every reader of JSON numbers takes for the same one."""
    return isinstance(value, int) and not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER


def _is_double(value: int) -> bool:
    # RFC 8785 writes 1e20 as 100000000000000000000: whoever sends the canonical form must be understood.
    try:
        return rfc8785.dumps(float(value)) == b"%d" % value
    except OverflowError:
        return False


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
