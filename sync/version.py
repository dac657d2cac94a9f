"""A version: what one write made of one record. The unit that is merged, stored and sent.

A record's key is `(namespace, id)`; what a node keeps for it is a set of versions none of which dominates another.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from sync.clock import Clock

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
    clock: Clock
    content: bytes
    """SHA-256 of the canonical content; of a tombstone or an unlink the digest of nothing."""
    signature: bytes
    """Empty where the version is unsigned."""
    doc: bytes
    """The record as it goes over the wire: one JSON object, UTF-8, its attestation included."""
    title: str = ""
    """Of a link: the id of the memory it leads to."""
    tag: bytes = field(default=b"")
    """16 bytes that identify the version; computed where not given."""

    def __post_init__(self) -> None:
        if not self.tag:
            object.__setattr__(self, "tag", _tag(self))

    @property
    def key(self) -> Key:
        return (self.namespace, self.id)

    @property
    def shown(self) -> str:
        """The id for people: a link's is `source relation target`."""
        parts = self.id.split(LINK_SEPARATOR)
        return f"{parts[0]} {parts[2]} {parts[1]}" if len(parts) == 3 else self.id

    @property
    def rank(self) -> Rank:
        """The order in which versions win (protocol section 4): time, signature, content; the tag makes it total."""
        return (self.at, self.signature, self.content, self.tag)


def winner(versions: Iterable[Version]) -> Version:
    """What readers see of a record."""
    return max(versions, key=lambda version: version.rank)


def _tag(version: Version) -> bytes:
    # Everything that the rules of merge look at, and nothing that a relay could alter without being noticed.
    digest = hashlib.sha256(
        b"%b\0%b\0%b\0%b\0"
        % (version.kind.encode(), version.namespace.encode(), version.id.encode(), version.at.encode())
    )
    for actor in sorted(version.clock):
        digest.update(b"%b:%d," % (actor.encode(), version.clock[actor]))
    digest.update(b"\0" + version.content + version.signature)
    return digest.digest()[:TAG_BYTES]
