"""A kept version judged anew from the bytes that lie in a store: is it still what was written, and says who wrote it?

A store keeps a version's document, and beside it what look-ups and merges need. All of it follows from the document, so
all of it is made again and compared; then the signature is looked at (`attest.claim_of`).
"""

from dataclasses import dataclass

from sync import link, record
from sync.record import Refused
from sync.version import Kind, Version

_KINDS: dict[bytes, Kind] = {b"m": "m", b"t": "t", b"l": "l", b"u": "u"}


@dataclass(frozen=True, slots=True)
class Stored:
    """The columns of a version as they are found; texts as bytes, as they need not be UTF-8 any more."""

    namespace: bytes
    id: bytes
    kind: bytes
    at: bytes
    title: bytes
    stamp: bytes
    """JSON: `Version.stamp`."""
    content: bytes
    signature: bytes
    tag: bytes
    doc: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """Why something that is kept is not what was written."""

    reason: str
    """A reason for refusing a record, or `altered`."""
    detail: str


def recheck(stored: Stored) -> Version | Broken:
    """The version that these bytes are, all but its signature proven. Never raises."""
    kind = _KINDS.get(stored.kind)
    if kind is None:
        return Broken("altered", f"kind: {stored.kind[:20]!r}, one of m, t, l, u expected")
    read = link.read(stored.doc) if kind in ("l", "u") else record.read(stored.doc, "m" if kind == "m" else "t")
    if isinstance(read, Refused):
        return Broken(read.reason, read.detail)
    beside = (
        ("kind", kind, read.kind),
        ("document", stored.doc, read.doc),
        ("namespace", stored.namespace, read.namespace.encode()),
        ("id", stored.id, read.id.encode()),
        ("time", stored.at, read.at.encode()),
        ("title", stored.title, read.title.encode()),
        ("stamp", stored.stamp, read.stamp),
        ("content digest", stored.content, read.content),
        ("signature", stored.signature, read.signature),
        ("tag", stored.tag, read.tag),
    )
    odd = [name for name, found, expected in beside if found != expected]
    if odd:
        return Broken("altered", f"{', '.join(odd)}: not what the document says")
    return read
