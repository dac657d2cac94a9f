"""A link as the older daemon writes it: read leniently, and the version that it is, the same on every node.

The daemon knows no unlink and no later version of a link: what orders two statements of one link is when each was made.
Its signatures are made over other bytes, by keys that no node knows, and are not kept.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from sync import moment
from sync.attest import Unsigned
from sync.dot import fault, seen_until
from sync.legacy.judge import NOBODY
from sync.legacy.past import written
from sync.link import Link, link_version, text_of, triple_fault
from sync.memory import agent_fault
from sync.record import Refused, id_of
from sync.version import Key, Version

FOUR_RELATIONS = frozenset(("related_to", "supersedes", "contradicts", "derived_from"))
"""What v0.6.3 takes; v0.7.0 takes all of `sync.link.RELATIONS`, and refuses a whole push for any other."""
_encode = msgspec.json.Encoder().encode


class _Link(msgspec.Struct):
    source_id: str
    target_id: str
    relation: str
    created_at: str
    valid_from: str | None = None
    valid_until: str | None = None
    observed_by: str | None = None
    signature: Any = None


_link = msgspec.json.Decoder(_Link)


@dataclass(frozen=True, slots=True)
class TheirLink:
    """One link of the daemon's store. Its ends are ids of the daemon's; times are canonical text."""

    source_id: str
    target_id: str
    relation: str
    created_at: str
    valid_from: str | None = None
    valid_until: str | None = None
    observed_by: str | None = None
    is_signed: bool = False

    @property
    def shown(self) -> str:
        """For people."""
        return f"{self.source_id} {self.relation} {self.target_id}"


def read_link(raw: bytes) -> TheirLink | Refused:
    """A link as the daemon sent it, JSON. Never raises; `Refused` names what is wrong with it."""
    try:
        link = _link.decode(raw)
    except RecursionError:
        return Refused("", "l", "malformed", "the record is nested too deeply")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Refused(id_of(raw, "source_id", "relation", "target_id"), "l", "malformed", f"not a link: {error}")
    shown = f"{link.source_id[:128]} {link.relation[:40]} {link.target_id[:128]}"
    if wrong := triple_fault(link.source_id, link.target_id, link.relation):
        return Refused(shown, "l", "limits", wrong)
    times: dict[str, str | None] = {}
    for name in ("created_at", "valid_from", "valid_until"):
        value = getattr(link, name)
        times[name] = moment.canonical(value) if value is not None else None
        if value is not None and times[name] is None:
            return Refused(shown, "l", "limits", f"{name}: {value[:40]!r}, an RFC 3339 time expected")
    created_at = times["created_at"]
    assert created_at is not None, "it is a text, and was found to be a time"
    if wrong := fault(seen_until(moment.microseconds(created_at))):
        return Refused(shown, "l", "limits", f"created_at: {created_at}; {wrong}")
    if link.observed_by is not None and agent_fault(link.observed_by):
        return Refused(shown, "l", "limits", f"observed_by: {link.observed_by[:40]!r}, an agent id expected")
    return TheirLink(
        link.source_id, link.target_id, link.relation, created_at, times["valid_from"], times["valid_until"],
        link.observed_by, bool(link.signature),
    )  # fmt: skip


def version_of(link: TheirLink, source: Key, target_id: str) -> Version | Refused:
    """The version that a link is. `source`, `target_id`: our names for the memories at its ends.

    Two of its memories may be one here: a link between them says nothing then, and is refused.
    """
    if wrong := triple_fault(source[1], target_id, link.relation):
        return Refused(link.shown, "l", "limits", wrong)
    return link_version(
        *source, target_id, link.relation, link.created_at, Unsigned(link.observed_by or NOBODY),
        written((), moment.microseconds(link.created_at)),
        valid_from=link.valid_from, valid_until=link.valid_until, observed_by=link.observed_by,
    )  # fmt: skip


def link_for(link: Link, source_id: str, target_id: str) -> bytes:
    """A link of ours as one for the daemon, under its names for the ends. JSON, UTF-8.

    v0.6.3 passes over the members that it does not know.
    """
    told = {"source_id": source_id, "target_id": target_id, "relation": link.relation, "created_at": link.created_at}
    said = {name: text_of(getattr(link, name)) for name in ("valid_from", "valid_until", "observed_by")}
    return _encode(told | {name: value for name, value in said.items() if value is not None})
