"""Conflicts settled by somebody's word: which version goes on, out of those that were seen (protocol section 4).

What lost a merge stays kept until a write that has seen it. A settling names the versions that it has seen, and is
refused where others are kept: nobody lets go of what they did not know. What it writes is an ordinary local write,
which has seen all that is kept, so the conflict ends on every node that gets it; two that settle apart from each other
are again two versions, alike on all nodes.
"""

from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

from sync import writes
from sync.attest import Author
from sync.batch import Batch
from sync.draft import Fields
from sync.errors import RemoteError
from sync.merge import ordered
from sync.ports import Kept
from sync.version import Key, Version


@dataclass(frozen=True, slots=True)
class Keep:
    """Go on with a kept version; a tombstone's or an unlink's confirms the delete."""

    tag: bytes | None = None
    """None: the winner's."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Go on with none of them: a tombstone, or an unlink."""


@dataclass(frozen=True, slots=True)
class Replace:
    """Go on with the winner's fields and this content; where a delete wins, with those of the greatest memory."""

    content: str


Choice = Keep | Delete | Replace
Reason = Literal["time", "signature", "content", "tag"]
_REASONS: tuple[Reason, ...] = ("time", "signature", "content", "tag")  # in the order of `Version.rank`


@dataclass(frozen=True, slots=True)
class Settled:
    """One version is kept now."""

    version: Version
    let_go: tuple[Version, ...]
    """What was kept before, the winner first."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Other versions are kept than those that were seen; nothing was written."""

    kept: tuple[Version, ...]
    """The winner first."""


@dataclass(frozen=True, slots=True)
class Unanimous:
    """At most one version is kept of this key: there is nothing to settle."""


def settle(
    batch: Batch, key: Key, choice: Choice, seen: Set[bytes], author: Author, now: int
) -> Settled | Changed | Unanimous:
    """Settle a key of which exactly the versions with the tags `seen` are kept.

    Raises RemoteError `invalid` where the choice does not fit them; the batch is not to be committed then.
    """
    kept = ordered(batch.kept(key))
    found = tuple(one.version for one in kept)
    if {version.tag for version in found} != seen:
        return Changed(found)
    if len(found) < 2:
        return Unanimous()
    match choice:
        case Keep(tag):
            version = writes.restate(batch, key, author, now, _with_tag(kept, tag))
        case Delete():
            version = _delete(batch, key, author, now)
        case Replace(content):
            version = _replace(batch, key, content, author, now)
    return Settled(version, found)


def lost_by(winner: Version, other: Version) -> Reason:
    """The first thing in which the winner is greater than another version of its key."""
    pairs = zip(_REASONS, winner.rank, other.rank, strict=True)
    return next(reason for reason, ours, theirs in pairs if ours != theirs)


def _with_tag(kept: tuple[Kept, ...], tag: bytes | None) -> Version:
    found = [one.version for one in kept if tag in (None, one.version.tag)]
    if not found:
        raise RemoteError("invalid", "keep: no kept version has this tag")
    return found[0]


def _delete(batch: Batch, key: Key, author: Author, now: int) -> Version:
    match batch.kept(key)[0].version.kind:
        case "m":
            writes.delete(batch, key, author, now)
        case "l":
            writes.unlink(batch, (key,), author, now)
        case "t" | "u":
            writes.restate(batch, key, author, now)
    return batch.kept(key)[0].version


def _replace(batch: Batch, key: Key, content: str, author: Author, now: int) -> Version:
    memories = [one.version for one in ordered(batch.kept(key)) if one.version.kind == "m"]
    if not memories:
        raise RemoteError("invalid", "content: no memory is among the kept versions; keep one of them, or delete")
    if batch.kept(key)[0].version.kind != "m":
        writes.restate(batch, key, author, now, memories[0])
    writes.update(batch, key, Fields(content=content), author, now)
    return batch.kept(key)[0].version
