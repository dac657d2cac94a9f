"""Who wrote a version: the text that is signed, the attestation that carries the signature, and reading both back.

Protocol section 5. What is signed is a short text, the same in any language: one line for each thing said, each ended
by `\n`, UTF-8. None of the values can contain a line's end: the limits of ids, namespaces and agents see to that. A
link's text names its namespace beside its ends, and the digest of what it says, as no relay may alter either. The last
line is the dot; the digest of those before it is the dot's check.

A node that writes on, for itself, what somebody else wrote signs that it did, and carries the first author's
attestation inside its own (`first`): the text is worth what both signatures are worth, never more.
"""

import base64
import binascii
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from sync import context as context_module
from sync import ed25519, moment
from sync.context import Context, context_fault, read_entries
from sync.dot import LEGACY, Dot, check_of, fault
from sync.memory import agent_fault
from sync.version import LINK_SEPARATOR, Key, Kind, Version, tag_of

ATTESTATION_VERSION = 1
MAX_DEPTH = 2**53
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
class First:
    """What whoever wrote a content first said of it, carried by a node that only writes it on."""

    attestation: dict[str, Any]
    tag: bytes
    """Of the version that it was the attestation of."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where a write stands among the writes of its key (protocol section 4)."""

    context: Context
    """What its author has seen."""
    depth: int
    dot: Callable[[str], Dot]
    """The dot of the write whose check this is."""
    first: First | None = None
    """None where the author of the write is the author of its content."""


@dataclass(frozen=True, slots=True)
class Attested:
    """What a well-formed attestation says. Nothing of it is proven before `is_genuine`."""

    dot: Dot
    context: Context
    depth: int
    agent: str
    key: bytes
    """32 bytes; empty where the version is unsigned."""
    signature: bytes
    """64 bytes; empty where the version is unsigned."""
    text: bytes
    """What is signed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an attestation."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a signature is over, less the dot."""

    kind: Kind
    namespace: str
    id: str
    agent: str
    content: bytes
    """SHA-256 of the canonical content; of no meaning for a tombstone and an unlink."""
    at: str
    context: Context
    depth: int
    first: bytes = b""
    """The tag of the version whose content this one only writes on; empty where its author wrote it."""

    @property
    def undotted(self) -> bytes:
        """The text that is signed less its last line, UTF-8: its digest is the dot's check."""
        lines = [_FIRST_LINE[self.kind]]
        if self.kind in ("l", "u"):
            source_id, target_id, relation = self.id.split(LINK_SEPARATOR)
            lines += [f"source {source_id}", f"target {target_id}", f"relation {relation}"]
        else:
            lines.append(f"id {self.id}")
        lines += [f"agent {self.agent}", f"namespace {self.namespace}"]
        if self.kind in ("m", "l"):
            lines.append(f"content sha256:{self.content.hex()}")
        lines += [f"at {self.at}", f"depth {self.depth}", f"context {self.context.text}"]
        if self.first:
            lines.append(f"first {self.first.hex()}")
        return "\n".join((*lines, "")).encode()


def dotted(undotted: bytes, dot: Dot) -> bytes:
    """The text that is signed."""
    return b"%bdot %b:%d\n" % (undotted, dot.actor.encode(), dot.counter)


@dataclass(frozen=True, slots=True)
class Signed:
    """What came of signing: the attestation as it goes over the wire, and what a version needs of it."""

    attestation: dict[str, Any]
    dot: Dot
    signature: bytes


def sign(kind: Kind, key: Key, content: bytes, at: str, author: Author, stamp: Stamp) -> Signed:
    """Sign a write. `content`: the digest of what it says; of no meaning for a tombstone and an unlink."""
    first = stamp.first.tag if stamp.first is not None else b""
    undotted = Said(kind, *key, author.agent, content, at, stamp.context, stamp.depth, first).undotted
    dot = stamp.dot(check_of(undotted))
    signature = author.sign(dotted(undotted, dot)) if author.key else b""
    made: dict[str, Any] = {"v": ATTESTATION_VERSION, "agent": author.agent}
    if author.key:
        made["key"] = base64url(author.key)
    if kind in ("m", "l"):
        made["content"] = content.hex()
    made["at"] = at
    made["dot"] = [dot.actor, dot.counter]
    made["context"] = [list(entry) for entry in stamp.context]
    made["depth"] = stamp.depth
    if stamp.first is not None:
        made["first"] = stamp.first.attestation
    if author.key:
        made["sig"] = base64url(signature)
    return Signed(made, dot, signature)


_CONTENT_KEYS = frozenset(("v", "agent", "content", "at", "dot", "context", "depth"))
_TOMBSTONE_KEYS = _CONTENT_KEYS - {"content"}
_SIGNED_KEYS = frozenset(("key", "sig"))


def read(found: Any, kind: Kind, namespace: str, record_id: str, content: bytes, at: str) -> Attested | Fault:
    """An attestation that fits the record around it, or what is wrong. The arguments after it are the record's own.

    `content`: the digest of its content; of no meaning for a tombstone and an unlink.
    """
    if not isinstance(found, dict):
        return Fault("bad_attestation", "metadata.attestation: none found, an object expected")
    first = b""
    if "first" in found:
        carried = found["first"]
        if not isinstance(carried, dict) or "first" in carried:
            return Fault("bad_attestation", "attestation.first: an attestation without a further one expected")
        before = _read_one(carried, kind, namespace, record_id, content, carried.get("at"), b"")
        if isinstance(before, Fault):
            return Fault(before.reason, f"attestation.first: {before.detail}")
        first = tag_of(kind, namespace, record_id, before.dot, before.signature)
        found = {name: value for name, value in found.items() if name != "first"}
    return _read_one(found, kind, namespace, record_id, content, at, first)


def _read_one(
    found: dict[Any, Any], kind: Kind, namespace: str, record_id: str, content: bytes, at: Any, first: bytes
) -> Attested | Fault:
    has_content = kind in ("m", "l")
    expected = _CONTENT_KEYS if has_content else _TOMBSTONE_KEYS
    if found.keys() != expected and found.keys() != expected | _SIGNED_KEYS:
        odd = ", ".join(sorted(map(str, found.keys() ^ expected)))[:80]
        wanted = f"exactly {sorted(expected)} expected, and key and sig where it is signed"
        return Fault("bad_attestation", f"attestation: {odd} missing or not known, {wanted}")
    if type(found["v"]) is not int or found["v"] != ATTESTATION_VERSION:  # true and 1.0 equal 1, and are not it
        return Fault("unsupported", f"attestation: version {str(found['v'])[:20]}, {ATTESTATION_VERSION} expected")
    agent = found["agent"]
    if not isinstance(agent, str) or agent_fault(agent):
        return Fault("bad_attestation", "attestation.agent: not an agent id")
    if not isinstance(at, str) or found["at"] != at or not moment.is_canonical(at):
        return Fault("bad_attestation", "attestation.at: differs from the record's own time")
    if has_content and found["content"] != content.hex():
        return Fault("bad_attestation", "attestation.content: is not the digest of this record's content")
    stamp = _read_stamp(found, at)
    if isinstance(stamp, Fault):
        return stamp
    (actor, counter), context, depth = stamp
    undotted = Said(kind, namespace, record_id, agent, content, at, context, depth, first).undotted
    dot = Dot(actor, counter, check_of(undotted))
    if wrong := fault(dot):
        return Fault("limits", f"dot: {wrong}")
    text = dotted(undotted, dot)
    if "sig" not in found:
        return Attested(dot, context, depth, agent, b"", b"", text)
    key = from_base64url(found["key"], ed25519.PUBLIC_BYTES)
    signature = from_base64url(found["sig"], ed25519.SIGNATURE_BYTES)
    if key is None or signature is None:
        name, size = ("key", ed25519.PUBLIC_BYTES) if key is None else ("sig", ed25519.SIGNATURE_BYTES)
        return Fault("bad_attestation", f"attestation.{name}: base64url without padding of {size} bytes expected")
    return Attested(dot, context, depth, agent, key, signature, text)


def _read_stamp(found: dict[Any, Any], at: str) -> tuple[tuple[str, int], Context, int] | Fault:
    dot, entries, depth = found["dot"], found["context"], found["depth"]
    if not (isinstance(dot, list) and [type(part) for part in dot] == [str, int]):
        return Fault("bad_attestation", "attestation.dot: [actor, counter] expected")
    if dot[0] == LEGACY:
        return Fault("limits", f"dot: actor {LEGACY!r}, the actor of one write expected")
    if not isinstance(entries, list):
        return Fault("bad_attestation", "attestation.context: a list of [actor, counter, check] expected")
    if len(entries) > context_module.MAX_ENTRIES:
        return Fault("limits", f"context: {len(entries)} entries, at most {context_module.MAX_ENTRIES}")
    try:
        parts = msgspec.convert(entries, list[tuple[str, int, str]])
    except msgspec.ValidationError:
        return Fault("bad_attestation", "attestation.context: a list of [actor, counter, check] expected")
    if type(depth) is not int:
        return Fault("bad_attestation", "attestation.depth: a whole number expected")
    if not 0 <= depth <= MAX_DEPTH:
        return Fault("limits", f"depth: {depth}, 0 to {MAX_DEPTH} expected")
    made = read_entries(parts, dot[0])
    if made is None:
        return Fault("limits", "context: a comma or colon in an entry, hex digits, a number and hex digits expected")
    context, is_plain = made
    if not is_plain and (wrong := context_fault(context, dot[0], dot[1], moment.microseconds(at))):
        return Fault("limits", wrong)
    return (dot[0], dot[1]), context, depth


class _Words(msgspec.Struct):
    agent: str
    at: str
    key: str = ""
    first: "_Words | None" = None


class _InMetadata(msgspec.Struct):
    attestation: _Words


class _Memory(msgspec.Struct):
    metadata: _InMetadata


class _Whole(msgspec.Struct):
    attestation: dict[str, Any]


class _WholeMemory(msgspec.Struct):
    metadata: _Whole


_memory = msgspec.json.Decoder(_Memory)
_other = msgspec.json.Decoder(_InMetadata)
_whole_memory = msgspec.json.Decoder(_WholeMemory)
_whole_other = msgspec.json.Decoder(_Whole)
_CARRIES = b'"first":{'


@dataclass(frozen=True, slots=True)
class Word:
    """Who says a thing: an agent, by a key (empty where nobody signed), and when."""

    agent: str
    key: bytes
    at: str


def words_of(version: Version) -> tuple[Word, ...]:
    """Who stands for a version: whoever wrote its content, and before them the node that only wrote it on, if any."""
    words = _words(version)
    return tuple(
        Word(one.agent, (from_base64url(one.key, ed25519.PUBLIC_BYTES) or b"") if one.key else b"", one.at)
        for one in (words, words.first)
        if one is not None
    )


def writer_of(version: Version) -> tuple[str, bytes]:
    """The agent that wrote a version's content first, and its key (empty where it did not sign)."""
    word = words_of(version)[-1]
    return word.agent, word.key


def signer_of(version: Version) -> str:
    """The agent that wrote the version itself: `writer_of`, or the node that wrote it on."""
    return _words(version).agent


def signed_by(version: Version) -> str:
    """For people: who signed a version, and with which key. The name alone is anybody's to use."""
    words = _words(version)
    return f"{words.agent} (key ed25519:{words.key})" if version.signature else f"{words.agent} (unsigned)"


def is_carried(version: Version) -> bool:
    """True where a node only wrote on what somebody else had written. Cheap where it is not."""
    return _CARRIES in version.doc and _words(version).first is not None


def first_of(version: Version) -> First:
    """What whoever wrote a version's content first said of it."""
    found = _whole_memory.decode(version.doc).metadata if version.kind == "m" else _whole_other.decode(version.doc)
    made = found.attestation
    if "first" not in made:
        return First(made, version.tag)
    carried = _carried(version, made["first"])
    return First(made["first"], tag_of(version.kind, *version.key, carried.dot, carried.signature))


def _carried(version: Version, first: dict[str, Any]) -> Attested:
    read = _read_one(first, version.kind, *version.key, version.content, first["at"], b"")
    assert isinstance(read, Attested), read  # it was read with the version
    return read


def _words(version: Version) -> _Words:
    found = _memory.decode(version.doc).metadata if version.kind == "m" else _other.decode(version.doc)
    return found.attestation


Claim = tuple[bytes, bytes, bytes]
"""Key, text and signature, for `ed25519.verifies`."""


def claims_of(version: Version) -> tuple[Claim, ...]:
    """What is to be verified of a signed version: each of these, for it to be genuine."""
    first = first_of(version) if is_carried(version) else None
    own = words_of(version)[0]
    said = Said(
        version.kind, *version.key, own.agent, version.content, version.at, version.context, version.depth,
        first.tag if first is not None else b"",
    )  # fmt: skip
    claim = (own.key, dotted(said.undotted, version.dot), version.signature)
    carried = _carried(version, first.attestation) if first is not None else None
    if carried is None or not carried.key:
        return (claim,)
    return (claim, (carried.key, carried.text, carried.signature))


def is_genuine(version: Version) -> bool:
    """True for a version that is signed by the keys which it names. About 0.1 ms: never on an event loop."""
    return bool(version.signature) and all(ed25519.verifies(*claim) for claim in claims_of(version))


def genuine(versions: Iterable[Version]) -> frozenset[int]:
    """The places of those among these that are signed by the keys which they name.

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
