"""From a record's bytes to a version and back: the only place that reads or writes an attestation.

What a peer sends is never trusted to describe itself: limits, content digest and identity are computed here from the
row. Unsigned records carry the attestation's clock, time and agent; signatures have their place in the same object.
"""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from sync import clock as clocks
from sync import moment
from sync.canonical import TOMBSTONE_CONTENT, content_digest
from sync.clock import Clock
from sync.memory import Memory, Tombstone, agent_fault, id_fault, memory_fault, namespace_fault
from sync.version import Kind, Version

ATTESTATION_VERSION = 1


class _Attested(msgspec.Struct):
    """What every record but a memory has in one place."""

    attestation: dict[str, Any]


_memory = msgspec.json.Decoder(Memory)
_tombstone = msgspec.json.Decoder(Tombstone)
_attested = msgspec.json.Decoder(_Attested)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that was not taken, and why. `detail` is a sentence for the sender's operator."""

    id: str
    kind: Kind
    reason: str
    """`limits`, `malformed`, `bad_attestation`, `scope`, `clock_skew` or `unsupported`."""
    detail: str


def read(raw: bytes, kind: Literal["m", "t"]) -> Version | Refused:
    """A memory or a tombstone as a peer sent it: JSON, UTF-8. Never raises. (Links: `sync.link.read`.)"""
    try:
        return _read_memory(_memory.decode(raw)) if kind == "m" else _read_tombstone(_tombstone.decode(raw))
    except RecursionError:
        return Refused("", kind, "malformed", "the record is nested too deeply")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # ValidationError is a DecodeError
        return Refused(id_of(raw, "id"), kind, "malformed", f"not a record: {error}")


def load(doc: bytes) -> Memory:
    """The memory in a version's own document (which this room wrote)."""
    return _memory.decode(doc)


def agent_of(version: Version) -> str:
    """The agent that the version's attestation names as its writer."""
    if version.kind == "m":
        return str(_memory.decode(version.doc).metadata["attestation"]["agent"])
    return str(_attested.decode(version.doc).attestation["agent"])


def memory_version(memory: Memory, agent: str, clock: Clock) -> Version:
    """A version of a memory that satisfies its limits. Its document is the normalised record with its attestation."""
    memory.access_count = 0  # local bookkeeping: no part of what is replicated
    memory.last_accessed_at = msgspec.UNSET
    if memory.expires_at is None:
        memory.expires_at = msgspec.UNSET
    memory.metadata.setdefault("agent_id", agent)
    content = content_digest(memory)
    memory.metadata["attestation"] = attestation(agent, content.hex(), memory.updated_at, clock)
    return _version(memory, clock, content)


def tombstone_version(namespace: str, record_id: str, at: str, agent: str, clock: Clock) -> Version:
    """The version that a delete makes."""
    stone = Tombstone(id=record_id, namespace=namespace, deleted_at=at, attestation=attestation(agent, None, at, clock))
    return Version(namespace, record_id, "t", at, clock, TOMBSTONE_CONTENT, b"", _encode(stone))


def _read_memory(memory: Memory) -> Version | Refused:
    if fault := memory_fault(memory):
        return Refused(memory.id[:128], "m", "limits", fault)
    content = content_digest(memory)
    found = read_attestation(memory.metadata.get("attestation"), content.hex(), memory.updated_at)
    if isinstance(found, Fault):
        return Refused(memory.id, "m", found.reason, found.detail)
    memory.access_count = 0
    memory.last_accessed_at = msgspec.UNSET
    if memory.expires_at is None:
        memory.expires_at = msgspec.UNSET
    return _version(memory, found, content)


def _read_tombstone(stone: Tombstone) -> Version | Refused:
    fault = id_fault(stone.id) or namespace_fault(stone.namespace)
    if fault is None and not moment.is_canonical(stone.deleted_at):
        fault = f"deleted_at: {stone.deleted_at[:40]!r}, expected the form 2026-01-31T12:00:00.000000+00:00"
    if fault is not None:
        return Refused(stone.id[:128], "t", "limits", fault)
    found = read_attestation(stone.attestation, None, stone.deleted_at)
    if isinstance(found, Fault):
        return Refused(stone.id, "t", found.reason, found.detail)
    return Version(stone.namespace, stone.id, "t", stone.deleted_at, found, TOMBSTONE_CONTENT, b"", _encode(stone))


def _version(memory: Memory, clock: Clock, content: bytes) -> Version:
    return Version(
        memory.namespace,
        memory.id,
        "m",
        memory.updated_at,
        clock,
        content,
        b"",
        _encode(memory),
        memory.title,
    )


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an attestation."""

    reason: str
    detail: str


def attestation(agent: str, content: str | None, at: str, clock: Clock) -> dict[str, Any]:
    """The attestation of a version; `content`: its digest in hex, None where it has none (a delete)."""
    made: dict[str, Any] = {"v": ATTESTATION_VERSION, "agent": agent}
    if content is not None:
        made["content"] = content
    made["at"] = at
    made["clock"] = dict(clock)
    return made


_CONTENT_KEYS = frozenset(("v", "agent", "content", "at", "clock"))
_TOMBSTONE_KEYS = _CONTENT_KEYS - {"content"}


def read_attestation(found: Any, content: str | None, at: str) -> Clock | Fault:
    """The clock in an attestation that fits the record around it, or what is wrong. `content`, `at`: the record's."""
    expected = _TOMBSTONE_KEYS if content is None else _CONTENT_KEYS
    if not isinstance(found, dict):
        return Fault("bad_attestation", "metadata.attestation: none found, an object expected")
    if found.keys() != expected:
        odd = ", ".join(sorted(map(str, found.keys() ^ expected)))[:80]
        return Fault("bad_attestation", f"attestation: {odd} missing or not known, exactly {sorted(expected)} expected")
    if type(found["v"]) is not int or found["v"] != ATTESTATION_VERSION:  # true and 1.0 equal 1, and are not it
        return Fault("unsupported", f"attestation: version {str(found['v'])[:20]}, {ATTESTATION_VERSION} expected")
    agent, clock = found["agent"], found["clock"]
    if not isinstance(agent, str) or agent_fault(agent):
        return Fault("bad_attestation", "attestation.agent: not an agent id")
    if found["at"] != at:
        return Fault("bad_attestation", "attestation.at: differs from the record's own time")
    if found.get("content") != content:
        return Fault("bad_attestation", "attestation.content: is not the digest of this record's content")
    if not isinstance(clock, dict) or not all(type(counter) is int for counter in clock.values()):
        return Fault("bad_attestation", "attestation.clock: expected actor to counter")
    fault = clocks.fault(clock)
    return Fault("limits", fault) if fault else clock


def id_of(raw: bytes, *members: str) -> str:
    """What these members of a record say, as far as it can be read: only to name a refused one to its sender."""
    try:
        found = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        return " ".join(msgspec.json.decode(found[name], type=str)[:128] for name in members if name in found)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
