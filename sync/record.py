"""From a record's bytes to a version and back.

What a peer sends is never trusted to describe itself: limits, content digest and identity are computed here from the
row. Whether a signature is the key's that it names is looked at later, and elsewhere (`attest.is_genuine`).
"""

from dataclasses import dataclass
from typing import Literal

import msgspec

from sync import attest, moment
from sync.attest import Author, Fault, Stamp
from sync.canonical import TOMBSTONE_CONTENT, content_digest, has_floats, in_integers
from sync.context import Context
from sync.dot import Dot
from sync.memory import Memory, Tombstone, id_fault, memory_fault, namespace_fault
from sync.version import Kind, Version

_memory = msgspec.json.Decoder(Memory)
_tombstone = msgspec.json.Decoder(Tombstone)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that was not taken, and why. `detail` is a sentence for the sender's operator."""

    id: str
    kind: Kind
    reason: str
    """One of those that docs/api.md lists, such as `limits`, `bad_signature` or `scope`."""
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


def memory_version(memory: Memory, author: Author, stamp: Stamp) -> Version:
    """A version of a memory that satisfies its limits. Its document is the normalised record with its attestation."""
    _normalise(memory)
    memory.metadata.setdefault("agent_id", author.agent)
    content = content_digest(memory)
    made = attest.sign("m", (memory.namespace, memory.id), content, memory.updated_at, author, stamp)
    memory.metadata["attestation"] = made.attestation
    return _version(memory, made.dot, stamp.context, stamp.depth, content, made.signature)


def tombstone_version(namespace: str, record_id: str, at: str, author: Author, stamp: Stamp) -> Version:
    """The version that a delete makes."""
    made = attest.sign("t", (namespace, record_id), TOMBSTONE_CONTENT, at, author, stamp)
    stone = Tombstone(id=record_id, namespace=namespace, deleted_at=at, attestation=made.attestation)
    return Version(
        namespace, record_id, "t", at, made.dot, stamp.context, stamp.depth, TOMBSTONE_CONTENT, made.signature,
        _encode(stone),
    )  # fmt: skip


def _read_memory(memory: Memory) -> Version | Refused:
    if fault := memory_fault(memory):
        return Refused(memory.id[:128], "m", "limits", fault)
    content = content_digest(memory)
    found = attest.read(
        memory.metadata.get("attestation"), "m", memory.namespace, memory.id, content, memory.updated_at
    )
    if isinstance(found, Fault):
        return Refused(memory.id, "m", found.reason, found.detail)
    _normalise(memory)
    return _version(memory, found.dot, found.context, found.depth, content, found.signature)


def _read_tombstone(stone: Tombstone) -> Version | Refused:
    fault = id_fault(stone.id) or namespace_fault(stone.namespace)
    if fault is None and not moment.is_canonical(stone.deleted_at):
        fault = f"deleted_at: {stone.deleted_at[:40]!r}, expected the form 2026-01-31T12:00:00.000000+00:00"
    if fault is not None:
        return Refused(stone.id[:128], "t", "limits", fault)
    found = attest.read(stone.attestation, "t", stone.namespace, stone.id, TOMBSTONE_CONTENT, stone.deleted_at)
    if isinstance(found, Fault):
        return Refused(stone.id, "t", found.reason, found.detail)
    return Version(
        stone.namespace, stone.id, "t", stone.deleted_at, found.dot, found.context, found.depth, TOMBSTONE_CONTENT,
        found.signature, _encode(stone),
    )  # fmt: skip


def _normalise(memory: Memory) -> None:
    memory.access_count = 0  # local bookkeeping: no part of what is replicated
    memory.last_accessed_at = msgspec.UNSET
    if memory.expires_at is None:
        memory.expires_at = msgspec.UNSET
    # One number has several spellings, and the digest stands for all of them: each node keeps, and answers, one.
    memory.confidence += 0.0  # of a negative zero
    for key, value in memory.metadata.items():
        if key != "attestation" and has_floats(value):
            memory.metadata[key] = in_integers(value)


def _version(memory: Memory, dot: Dot, context: Context, depth: int, content: bytes, signature: bytes) -> Version:
    return Version(
        memory.namespace, memory.id, "m", memory.updated_at, dot, context, depth, content, signature, _encode(memory),
        memory.title,
    )  # fmt: skip


def id_of(raw: bytes, *members: str) -> str:
    """What these members of a record say, as far as it can be read: only to name a refused one to its sender."""
    try:
        found = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        return " ".join(msgspec.json.decode(found[name], type=str)[:128] for name in members if name in found)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
