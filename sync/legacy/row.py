"""A row as the older daemon writes it: read leniently, judged by the same limits, written back under its own id.

It orders times as text, so the text is kept beside the canonical time. What its newer releases add to a row
(`memory_kind`, `citations`, …) has no place in a record here and is not kept.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from sync import attest, ed25519, moment
from sync.attest import Fault
from sync.legacy.past import Past
from sync.memory import MAX_METADATA_BYTES, MAX_METADATA_DEPTH, Memory, memory_fault
from sync.record import Refused, load
from sync.version import Key, Version

DIGEST_BYTES = 16
_DIGEST = re.compile("[0-9a-f]{64}")
_memory = msgspec.json.Decoder(Memory)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the daemon's store."""

    memory: Memory
    """As a record of ours, times canonical; its `id` is the daemon's."""
    at: str
    """`updated_at` as the daemon wrote it: the text that it orders by."""
    digest: bytes
    """16 bytes that differ where the row differs."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What an attestation says, where it holds by itself whatever became of the row around it.

    One without a signature holds where it is well-formed, and is believed as an unsigned version from that peer is.
    Of which key it was is then said by nothing but a daemon's own dot, which is made of all that its write says.
    """

    agent: str
    content: str
    at: str
    past: Past
    """What somebody has seen who read that version."""
    is_bound: bool
    """It was made for this very key."""


def read_row(raw: bytes) -> Row | Refused:
    """A row as the daemon sent it, JSON. Never raises; `Refused` names what is wrong with it."""
    try:
        memory = _memory.decode(raw)
    except RecursionError:
        return Refused("", "m", "malformed", "the record is nested too deeply")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Refused(_id_in(raw), "m", "malformed", f"not a record: {error}")
    at = memory.updated_at
    for name in ("created_at", "updated_at", "expires_at"):
        value = getattr(memory, name)
        if isinstance(value, str):
            canonical = moment.canonical(value)
            if canonical is None:
                return Refused(memory.id[:128], "m", "limits", f"{name}: {value[:40]!r}, an RFC 3339 time expected")
            setattr(memory, name, canonical)
    if fault := memory_fault(memory):
        return Refused(memory.id[:128], "m", "limits", fault)
    return Row(memory, at, hashlib.sha256(raw).digest()[:DIGEST_BYTES])


def claim_in(metadata: Mapping[str, Any], key: Key) -> Claim | None:
    """The attestation of a row, or None where there is none that holds by itself. `key`: ours for the row.

    A signed one holds where its signature does: over its own words, whatever became of the row around it. It names its
    key, so a row that was moved, or that has come to stand for another record, brings nothing of what it was before.
    """
    found = metadata.get("attestation")
    if not isinstance(found, dict):
        return None
    content, at = found.get("content"), found.get("at")
    if not (isinstance(content, str) and _DIGEST.fullmatch(content)):
        return None
    if not (isinstance(at, str) and moment.is_canonical(at)):
        return None
    read = attest.read(found, "m", *key, bytes.fromhex(content), at)
    if isinstance(read, Fault):
        return None
    if read.key and not ed25519.verifies(read.key, read.text, read.signature):
        return None
    past = Past(read.context, read.dot, read.depth)
    return Claim(read.agent, content, at, past, bool(read.key) or read.dot.is_legacy)


def essence(memory: Memory) -> tuple[str, str, tuple[str, ...], str]:
    """What the daemon takes over whole or not at all: with each of its writes these four change together."""
    return (memory.title, memory.content, tuple(memory.tags), memory.source)


def row_of(version: Version, its_id: str) -> bytes:
    """A version as a row for the daemon, under its own name for it. JSON, UTF-8."""
    memory = load(version.doc)
    memory.id = its_id
    return _encode(memory)


def unfit(version: Version) -> str | None:
    """Why the daemon would skip this memory without a word, or refuse the whole request for it; None where it would
    not. Its limits, as read from it, are those of `sync.memory`, and it counts our own keys of `metadata` too."""
    memory = load(version.doc)
    if fault := memory_fault(memory):
        return fault
    size = len(_encode(memory.metadata))
    if size > MAX_METADATA_BYTES:
        return f"metadata: {size} bytes with its attestation, at most {MAX_METADATA_BYTES}"
    if _depth(memory.metadata) > MAX_METADATA_DEPTH:
        return f"metadata: nested more than {MAX_METADATA_DEPTH} deep"
    return None


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


class _Named(msgspec.Struct):
    id: str = ""


def _id_in(raw: bytes) -> str:
    try:
        return msgspec.json.decode(raw, type=_Named).id[:128]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
