"""A version: what one write made of one record. The unit that is merged, stored and sent.

A record's key is `(namespace, id)`; what a node keeps for it is a set of versions none of which supersedes another.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from sync.context import Context
from sync.dot import Dot

Key = tuple[str, str]
Kind = Literal["m", "t", "l", "u"]
LINK_SEPARATOR = "\x1f"
"""Joins source, target and relation to a link's id; the limits let it into no other id."""
TAG_BYTES = 16
Rank = tuple[str, bytes, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one record."""

    namespace: str
    id: str
    kind: Kind
    """`m` a memory, `t` a tombstone, `l` a link, `u` an unlink (a link's tombstone)."""
    at: str
    """`updated_at` (of a tombstone `deleted_at`), canonical text."""
    dot: Dot
    context: Context
    """What its author had seen of the record."""
    depth: int
    """One more than the greatest of what it replaced."""
    content: bytes
    """SHA-256 of the canonical content; of a tombstone or an unlink the digest of nothing."""
    signature: bytes
    """Empty where the version is unsigned."""
    doc: bytes
    """The record as it goes over the wire: one JSON object, UTF-8, its attestation included."""
    title: str = ""
    """Of a link: the id of the memory it leads to."""
    tag: bytes = field(default=b"")
    """16 bytes that name the version; computed where not given."""

    def __post_init__(self) -> None:
        if not self.tag:
            object.__setattr__(self, "tag", tag_of(self.kind, self.namespace, self.id, self.dot, self.signature))

    @property
    def key(self) -> Key:
        return (self.namespace, self.id)

    @property
    def stamp(self) -> bytes:
        """Dot, depth and context as one text, for a store. `unstamped` reads it."""
        return stamp_text(self.dot, self.depth, self.context)

    @property
    def shown(self) -> str:
        """The id for people: a link's is `source relation target`."""
        return shown_id(self.id)

    @property
    def rank(self) -> Rank:
        """The order in which versions win (protocol section 4): time, signature, content; the tag makes it total."""
        return (self.at, self.signature, self.content, self.tag)


def winner(versions: Iterable[Version]) -> Version:
    """What readers see of a record."""
    return max(versions, key=lambda version: version.rank)


def stamp_text(dot: Dot, depth: int, context: Context) -> bytes:
    return f"{dot.actor}:{dot.counter}:{dot.check} {depth} {context.text}".encode()


def unstamped(stamp: bytes) -> tuple[Dot, Context, int]:
    """Dot, context and depth, from `Version.stamp`."""
    said, depth, context = stamp.decode().split(" ")
    actor, counter, check = said.split(":")
    return Dot(actor, int(counter), check), Context.of_text(context), int(depth)


def tag_of(kind: Kind, namespace: str, record_id: str, dot: Dot, signature: bytes) -> bytes:
    """What names a version. The dot's check stands for all that it says, so no relay can alter it unnoticed."""
    said = "\0".join((kind, namespace, record_id, dot.actor, str(dot.counter), dot.check, ""))
    return hashlib.sha256(said.encode() + signature).digest()[:TAG_BYTES]


def shown_id(record_id: str) -> str:
    """An id for people: a link's is `source relation target`."""
    parts = record_id.split(LINK_SEPARATOR)
    return f"{parts[0]} {parts[2]} {parts[1]}" if len(parts) == 3 else record_id
