"""Who wrote a version: the text that is signed, the attestation that carries the signature, and reading both back.

Protocol section 5. What is signed is a short text, the same in any language: one line for each thing said, each ended
by `\n`, UTF-8. None of the values can contain a line's end: the limits of ids, namespaces and agents see to that. A
link's text names its namespace beside its ends, and the digest of what it says, as no relay may alter either.
"""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from sync import clock as clocks
from sync import ed25519
from sync.clock import Clock
from sync.memory import agent_fault
from sync.version import LINK_SEPARATOR, Kind, Version

ATTESTATION_VERSION = 1
_FIRST_LINE: dict[Kind, str] = {
    "m": "ai-memory/memory/v1",
    "t": "ai-memory/tombstone/v1",
    "l": "ai-memory/link/v1",
    "u": "ai-memory/unlink/v1",
}


class Author(Protocol):
    """Who writes, and how that is proven."""

    @property
    def agent(self) -> str: ...

    @property
    def key(self) -> bytes:
        """The public key, 32 bytes; empty for an author that does not sign."""

    def sign(self, text: bytes) -> bytes:
        """64 bytes; empty where there is no key."""


@dataclass(frozen=True, slots=True)
class Unsigned:
    """An author without a key, such as whoever wrote a row of the older daemon."""

    agent: str
    key: bytes = b""

    def sign(self, text: bytes) -> bytes:
        return b""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An agent's key pair."""

    agent: str
    key: bytes
    seed: bytes = field(repr=False)
    """The private half, 32 bytes."""

    @classmethod
    def of(cls, agent: str, seed: bytes) -> "KeyPair":
        return cls(agent, ed25519.public_of(seed), seed)

    def sign(self, text: bytes) -> bytes:
        return ed25519.sign(self.seed, self.key, text)


class Keychain(Protocol):
    """The key pairs of a node's own agents."""

    def author(self, agent: str) -> Author:
        """Who signs for this agent."""


@dataclass(frozen=True, slots=True)
class Attested:
    """What a well-formed attestation says. Nothing of it is proven before `is_genuine`."""

    clock: Clock
    agent: str
    key: bytes
    """32 bytes; empty where the version is unsigned."""
    signature: bytes
    """64 bytes; empty where the version is unsigned."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an attestation."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a signature is over."""

    kind: Kind
    namespace: str
    id: str
    agent: str
    content: bytes
    """SHA-256 of the canonical content; of no meaning for a tombstone and an unlink."""
    at: str
    clock: Clock

    @property
    def text(self) -> bytes:
        """The text that is signed, UTF-8."""
        lines = [_FIRST_LINE[self.kind]]
        if self.kind in ("l", "u"):
            source_id, target_id, relation = self.id.split(LINK_SEPARATOR)
            lines += [f"source {source_id}", f"target {target_id}", f"relation {relation}"]
        else:
            lines.append(f"id {self.id}")
        lines.append(f"agent {self.agent}")
        if self.kind != "m":  # a memory's namespace is part of its content
            lines.append(f"namespace {self.namespace}")
        if self.kind in ("m", "l"):
            lines.append(f"content sha256:{self.content.hex()}")
        entries = ",".join(f"{actor}:{self.clock[actor]}" for actor in sorted(self.clock))
        lines += [f"at {self.at}", f"clock {entries}", ""]
        return "\n".join(lines).encode()


def attestation(said: Said, author: Author) -> tuple[dict[str, Any], bytes]:
    """The attestation of what an author says, as it goes over the wire, and the signature in it."""
    made: dict[str, Any] = {"v": ATTESTATION_VERSION, "agent": said.agent}
    signature = author.sign(said.text) if author.key else b""
    if author.key:
        made["key"] = base64url(author.key)
    if said.kind in ("m", "l"):
        made["content"] = said.content.hex()
    made["at"] = said.at
    made["clock"] = dict(said.clock)
    if author.key:
        made["sig"] = base64url(signature)
    return made, signature


_SIGNED_KEYS = frozenset(("key", "sig"))
_CONTENT_KEYS = frozenset(("v", "agent", "content", "at", "clock"))
_TOMBSTONE_KEYS = _CONTENT_KEYS - {"content"}


def read(found: Any, content: str | None, at: str) -> Attested | Fault:
    """An attestation that fits the record around it, or what is wrong. `content`, `at`: the record's own."""
    expected = _TOMBSTONE_KEYS if content is None else _CONTENT_KEYS
    if not isinstance(found, dict):
        return Fault("bad_attestation", "metadata.attestation: none found, an object expected")
    if found.keys() != expected and found.keys() != expected | _SIGNED_KEYS:
        odd = ", ".join(sorted(map(str, found.keys() ^ expected)))[:80]
        wanted = f"exactly {sorted(expected)} expected, and key and sig where it is signed"
        return Fault("bad_attestation", f"attestation: {odd} missing or not known, {wanted}")
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
    if fault := clocks.fault(clock):
        return Fault("limits", fault)
    if "sig" not in found:
        return Attested(clock, agent, b"", b"")
    key = from_base64url(found["key"], ed25519.PUBLIC_BYTES)
    signature = from_base64url(found["sig"], ed25519.SIGNATURE_BYTES)
    if key is None or signature is None:
        name, size = ("key", ed25519.PUBLIC_BYTES) if key is None else ("sig", ed25519.SIGNATURE_BYTES)
        return Fault("bad_attestation", f"attestation.{name}: base64url without padding of {size} bytes expected")
    return Attested(clock, agent, key, signature)


class _Writer(msgspec.Struct):
    agent: str
    key: str = ""


class _InMetadata(msgspec.Struct):
    attestation: _Writer


class _Memory(msgspec.Struct):
    metadata: _InMetadata


_memory = msgspec.json.Decoder(_Memory)
_other = msgspec.json.Decoder(_InMetadata)


def writer_of(version: Version) -> tuple[str, bytes]:
    """The agent that a version's attestation names, and its key (empty where it is unsigned)."""
    found = _memory.decode(version.doc).metadata if version.kind == "m" else _other.decode(version.doc)
    writer = found.attestation
    return writer.agent, (from_base64url(writer.key, ed25519.PUBLIC_BYTES) or b"") if writer.key else b""


def claim_of(version: Version) -> tuple[bytes, bytes, bytes]:
    """What is to be verified of a signed version: key, text and signature, for `ed25519.verifies`."""
    agent, key = writer_of(version)
    said = Said(version.kind, version.namespace, version.id, agent, version.content, version.at, version.clock)
    return key, said.text, version.signature


def is_genuine(version: Version) -> bool:
    """True for a version that is signed by the key which it names. About 0.1 ms: never on an event loop."""
    return ed25519.verifies(*claim_of(version))


def genuine(versions: Iterable[Version]) -> frozenset[int]:
    """The places of those among these that are signed by the key which they name.

    Places and not tags: a forger's copy that names another agent has the tag of what it copies.
    """
    return frozenset(place for place, one in enumerate(versions) if one.signature and is_genuine(one))


def base64url(data: bytes) -> str:
    """RFC 4648 section 5, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: Any, size: int) -> bytes | None:
    """What `base64url` wrote; None for anything but the one text that stands for so many bytes."""
    if not isinstance(text, str) or len(text) != -(-size * 8 // 6):
        return None
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64url(data) == text else None
