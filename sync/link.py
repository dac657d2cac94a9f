"""The link between two memories, its unlink, and their limits (protocol sections 4 and 5).

A link is a version like any other. Its key is the namespace of the memory that it begins at, and an id made of source,
target and relation: so scope, feed, merge, offers and digest treat it as they treat a memory. What is signed names the
namespace beside them, as a tombstone's does, so no relay can put a link where more people see it.
"""

from typing import Any

import msgspec

from sync import attest, moment
from sync.attest import Author, Fault, Stamp
from sync.canonical import TOMBSTONE_CONTENT, link_digest
from sync.context import Context
from sync.dot import Dot
from sync.memory import MAX_ID_BYTES, agent_fault, id_fault, namespace_fault
from sync.record import Refused, id_of
from sync.version import LINK_SEPARATOR, Key, Version

RELATIONS = ("related_to", "supersedes", "contradicts", "derived_from", "reflects_on", "derives_from")
"""As the existing daemon has them: the first four since v0.6.3, the others since v0.7.0."""
DEFAULT_RELATION = "related_to"
MAX_LINK_ID_BYTES = 2 * MAX_ID_BYTES + max(map(len, RELATIONS)) + 2 * len(LINK_SEPARATOR)

Unset = msgspec.UnsetType
UNSET = msgspec.UNSET


class Link(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A link as it goes over the wire. Times are RFC 3339 text in the canonical form."""

    source_id: str
    target_id: str
    relation: str
    namespace: str
    """That of the memory it begins at, when it was made."""
    created_at: str
    updated_at: str
    """The version's time."""
    valid_from: str | Unset | None = UNSET
    valid_until: str | Unset | None = UNSET
    observed_by: str | Unset | None = UNSET
    """The agent that first said so."""
    attestation: dict[str, Any]


class Unlink(msgspec.Struct, kw_only=True):
    """A link that was taken back, as it goes over the wire."""

    source_id: str
    target_id: str
    relation: str
    namespace: str
    deleted_at: str
    attestation: dict[str, Any]


class LinkFields(msgspec.Struct, kw_only=True, frozen=True):
    """What a client asks for: two memories and what one is to the other."""

    source_id: str
    target_id: str
    relation: str = DEFAULT_RELATION
    valid_from: str | Unset | None = UNSET
    """RFC 3339, any offset; null takes it away."""
    valid_until: str | Unset | None = UNSET
    agent_id: str | Unset | None = UNSET
    """The writer; without it the caller's `X-Agent-Id`, or the node."""


class _Kind(msgspec.Struct):
    deleted_at: msgspec.Raw | Unset = UNSET


_kind = msgspec.json.Decoder(_Kind)
_link = msgspec.json.Decoder(Link)
_unlink = msgspec.json.Decoder(Unlink)
_encode = msgspec.json.Encoder().encode


def link_id(source_id: str, target_id: str, relation: str) -> str:
    """The id of a link in its namespace. The separator is a control character, which no id of a memory can contain."""
    return LINK_SEPARATOR.join((source_id, target_id, relation))


def ends(record_id: str) -> tuple[str, str, str]:
    """Source, target and relation of a link, from its id."""
    source_id, target_id, relation = record_id.split(LINK_SEPARATOR)
    return source_id, target_id, relation


def is_link(key: Key) -> bool:
    """True for the key of a link or an unlink."""
    return LINK_SEPARATOR in key[1]


def triple_fault(source_id: str, target_id: str, relation: str) -> str | None:
    """What is wrong with a link's ends or its relation; None where nothing is."""
    if fault := id_fault(source_id):
        return f"source_{fault}"
    if fault := id_fault(target_id):
        return f"target_{fault}"
    if source_id == target_id:
        return "target_id: a memory cannot be linked to itself, another one expected"
    if relation not in RELATIONS:
        return f"relation: {relation[:40]!r}, one of {', '.join(RELATIONS)} expected"
    return None


def link_version(
    namespace: str,
    source_id: str,
    target_id: str,
    relation: str,
    created_at: str,
    author: Author,
    stamp: Stamp,
    *,
    at: str | None = None,
    valid_from: str | None = None,
    valid_until: str | None = None,
    observed_by: str | None = None,
) -> Version:
    """The version of a link that satisfies its limits: the same arguments make the same version on every node.

    Times are canonical text. `at`: the version's own time, where it is not that of the link's making.
    """
    at = at or created_at
    content = link_digest(source_id, target_id, relation, created_at, valid_from, valid_until, observed_by)
    made = attest.sign("l", (namespace, link_id(source_id, target_id, relation)), content, at, author, stamp)
    link = Link(
        source_id=source_id,
        target_id=target_id,
        relation=relation,
        namespace=namespace,
        created_at=created_at,
        updated_at=at,
        valid_from=valid_from or UNSET,
        valid_until=valid_until or UNSET,
        observed_by=observed_by or UNSET,
        attestation=made.attestation,
    )
    return _version(link, made.dot, stamp.context, stamp.depth, content, made.signature)


def unlink_version(
    namespace: str, source_id: str, target_id: str, relation: str, at: str, author: Author, stamp: Stamp
) -> Version:
    """The version that takes a link back."""
    record_id = link_id(source_id, target_id, relation)
    made = attest.sign("u", (namespace, record_id), TOMBSTONE_CONTENT, at, author, stamp)
    unlink = Unlink(
        source_id=source_id,
        target_id=target_id,
        relation=relation,
        namespace=namespace,
        deleted_at=at,
        attestation=made.attestation,
    )
    return _unlink_version(unlink, made.dot, stamp.context, stamp.depth, made.signature)


def load(doc: bytes) -> Link:
    """The link in a version's own document (which this room wrote)."""
    return _link.decode(doc)


def renewed(link: Link, key: Key, at: str, author: Author, stamp: Stamp) -> Version:
    """What a link says, said again at another time; `key` may be another one, where its memory moved."""
    source_id, target_id, relation = ends(key[1])
    return link_version(
        key[0], source_id, target_id, relation, link.created_at, author, stamp,
        at=at, valid_from=text_of(link.valid_from), valid_until=text_of(link.valid_until),
        observed_by=text_of(link.observed_by),
    )  # fmt: skip


def text_of(value: str | Unset | None) -> str | None:
    """A member that may be absent."""
    return value if isinstance(value, str) else None


def read(raw: bytes) -> Version | Refused:
    """A link or an unlink as a peer sent it: JSON, UTF-8. Never raises. An unlink has `deleted_at`."""
    try:
        if _kind.decode(raw).deleted_at is UNSET:
            return _read_link(_link.decode(raw))
        return _read_unlink(_unlink.decode(raw))
    except RecursionError:
        return Refused("", "l", "malformed", "the record is nested too deeply")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # ValidationError is a DecodeError
        return Refused(id_of(raw, "source_id", "relation", "target_id"), "l", "malformed", f"not a link: {error}")


def _read_link(link: Link) -> Version | Refused:
    for name in ("valid_from", "valid_until", "observed_by"):
        if getattr(link, name) is None:  # absent and null are one
            setattr(link, name, UNSET)
    times = {name: getattr(link, name) for name in ("created_at", "updated_at", "valid_from", "valid_until")}
    fault = triple_fault(link.source_id, link.target_id, link.relation) or namespace_fault(link.namespace)
    fault = fault or next((wrong for name, value in times.items() if (wrong := _time_fault(name, value))), None)
    if fault is None and isinstance(link.observed_by, str) and agent_fault(link.observed_by):
        fault = f"observed_by: {link.observed_by[:40]!r}, an agent id expected"
    if fault is not None:
        return Refused(_shown(link), "l", "limits", fault)
    content = link_digest(
        link.source_id, link.target_id, link.relation, link.created_at,
        text_of(link.valid_from), text_of(link.valid_until), text_of(link.observed_by),
    )  # fmt: skip
    record_id = link_id(link.source_id, link.target_id, link.relation)
    found = attest.read(link.attestation, "l", link.namespace, record_id, content, link.updated_at)
    if isinstance(found, Fault):
        return Refused(_shown(link), "l", found.reason, found.detail)
    return _version(link, found.dot, found.context, found.depth, content, found.signature)


def _read_unlink(unlink: Unlink) -> Version | Refused:
    fault = (
        triple_fault(unlink.source_id, unlink.target_id, unlink.relation)
        or namespace_fault(unlink.namespace)
        or _time_fault("deleted_at", unlink.deleted_at)
    )
    if fault is not None:
        return Refused(_shown(unlink), "u", "limits", fault)
    record_id = link_id(unlink.source_id, unlink.target_id, unlink.relation)
    found = attest.read(unlink.attestation, "u", unlink.namespace, record_id, TOMBSTONE_CONTENT, unlink.deleted_at)
    if isinstance(found, Fault):
        return Refused(_shown(unlink), "u", found.reason, found.detail)
    return _unlink_version(unlink, found.dot, found.context, found.depth, found.signature)


def _version(link: Link, dot: Dot, context: Context, depth: int, content: bytes, signature: bytes) -> Version:
    record_id = link_id(link.source_id, link.target_id, link.relation)
    # The title's place has the target: a store finds by it what points at a memory.
    return Version(
        link.namespace, record_id, "l", link.updated_at, dot, context, depth, content, signature, _encode(link),
        link.target_id,
    )  # fmt: skip


def _unlink_version(unlink: Unlink, dot: Dot, context: Context, depth: int, signature: bytes) -> Version:
    record_id = link_id(unlink.source_id, unlink.target_id, unlink.relation)
    return Version(
        unlink.namespace, record_id, "u", unlink.deleted_at, dot, context, depth, TOMBSTONE_CONTENT, signature,
        _encode(unlink),
    )  # fmt: skip


def _time_fault(name: str, value: str | Unset | None) -> str | None:
    if isinstance(value, str) and not moment.is_canonical(value):
        return f"{name}: {value[:40]!r}, expected the form 2026-01-31T12:00:00.000000+00:00"
    return None


def _shown(one: Link | Unlink) -> str:
    return f"{one.source_id[:MAX_ID_BYTES]} {one.relation[:40]} {one.target_id[:MAX_ID_BYTES]}"
