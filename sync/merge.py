"""What survives when versions of one record meet. The theory first.

Each version has a dot (which write it is), a context (which dots its author had seen) and a depth. Version `a`
*supersedes* `b` where its context covers `b`'s dot and `a` comes after `b` in one order of all versions: by depth, then
time, then what `_said` looks at, then tag. An honest version comes after all that it covers, as each write is one
deeper than what it replaces; the order is there for lies: whatever anybody signs, no two versions supersede each other,
and none does so in a circle.

Three kinds of versions need more, as nobody's context covers them:
 - one write in two documents, of which one lost its signature on the way: the signed one supersedes;
 - what daemons without lives wrote (`legacy`): what no context orders is ordered by time, as they do it, as long as the
   later one has seen all else that the earlier one had seen;
 - a copy that such a daemon altered on the way (it only ever raises priority and tier, and mixes expiry times): it
   names what it is a copy of, lies no deeper, and gives way; of two such copies the later in the order stays.

Versions and "supersedes" so form a finite graph without circles, which has exactly one *kernel*: a set of versions none
of which supersedes another, while every other is superseded by one of it. A node keeps the kernel of all it has seen as
long as contexts are whole. Where one was full, an entry that was pushed out may let an old version come back beside its
successor; so what is stale is looked at again when what it was stale by goes (`receive.take`), and what is kept beside
others is sent back even to whoever gave it (`PageRequest.skip_giver`). Then nodes that hand each other what they keep
end with the same, and nothing is lost that nobody has seen. (docs/decisions/0044)

Readers see the kept version of the greatest rank; the others are conflicts, kept until an edit that has seen them all
supersedes them. Two kept versions of one actor and counter mean that somebody used a counter twice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sync import link as links
from sync.dot import LEGACY
from sync.ports import Kept
from sync.record import load
from sync.version import Version

MAX_KEPT = 32
"""More kept versions of one key than this are settled by an ordinary local write (protocol section 4)."""


@dataclass(frozen=True, slots=True)
class Added:
    """The version is kept now."""

    kept: tuple[Kept, ...]
    """All that is kept of the key from now on, the winner first."""
    dropped: tuple[Kept, ...]
    """What it superseded."""


Unchanged = Literal["same", "stale"]


def supersedes(a: Version, b: Version) -> bool:
    """True where `a` takes the place of `b`."""
    if a.context.covers(b.dot):
        return is_after(a, b)
    if a.dot == b.dot:
        return bool(a.signature) and not b.signature
    if not b.dot.is_legacy:
        return False
    return is_after(a, b) and (_has_seen_by_time(a, b) or _gives_way(b, a) or _is_one_statement(a, b))


def is_after(a: Version, b: Version) -> bool:
    """The one order that every superseding follows, whoever signed what."""
    if (a.depth, a.at) != (b.depth, b.at):
        return (a.depth, a.at) > (b.depth, b.at)
    return (_said(a), a.tag) > (_said(b), b.tag)


def _has_seen_by_time(a: Version, b: Version) -> bool:
    """A daemon's write is superseded by whoever has seen later ones, and all that its author had seen."""
    return a.context.legacy > b.context.legacy and _has_seen_as_much(a, b)


def _has_seen_as_much(a: Version, b: Version) -> bool:
    return all(a.context.covers(entry) or a.dot == entry for entry in b.context if entry.actor != LEGACY)


def _gives_way(copy: Version, original: Version) -> bool:
    """True for what says of itself that it is that very version, altered on the way. An edit of it would lie deeper."""
    return not copy.signature and copy.context.names(original.dot)


def _is_one_statement(a: Version, b: Version) -> bool:
    """Two copies of one write of a daemon: altered on their ways, or read by nodes that know more or less of it."""
    if a.signature or b.signature or a.kind != b.kind or a.at != b.at or not a.dot.is_legacy:
        return False
    if a.context.legacy != b.context.legacy or not _has_seen_as_much(a, b):
        return False
    if a.kind == "m":
        one, other = load(a.doc), load(b.doc)
        return all(getattr(one, name) == getattr(other, name) for name in ("title", "content", "tags", "source"))
    return a.kind == "l" and links.load(a.doc).created_at == links.load(b.doc).created_at


def is_echo(version: Version, kept: Iterable[Version]) -> bool:
    """True for a link that says no more than a kept one of which its author knew nothing (protocol section 8).

    A daemon without lives that was given a link of ours tells it as its own, with a time of its own.
    """
    return version.kind == "l" and any(
        one.kind == "l"
        and not supersedes(one, version)
        and not supersedes(version, one)
        and _says_no_more(links.load(version.doc), links.load(one.doc))
        for one in kept
    )


def _says_no_more(link: links.Link, kept: links.Link) -> bool:
    """True where a link whose author knew no other says nothing of its validity that a kept one does not say."""
    said = {name: links.text_of(getattr(link, name)) for name in ("valid_from", "valid_until")}
    return all(value in (None, links.text_of(getattr(kept, name))) for name, value in said.items())


def _said(version: Version) -> tuple[Any, ...]:
    """What two versions of one depth and time are ordered by first: which of them a daemon would rather keep.

    Hardly ever asked. Of a link that daemon's push leaves out what its database has of it, so the one that says more
    of its validity comes later.
    """
    signed = bool(version.signature)
    if version.kind == "m":
        return (signed, version.kind, load(version.doc).priority)
    if version.kind == "l":
        link = links.load(version.doc)
        said = (link.valid_until, link.valid_from, link.observed_by)
        return (signed, version.kind, *(links.text_of(one) or "" for one in said))
    return (signed, version.kind)


def merge(kept: Sequence[Kept], incoming: Kept) -> Added | Unchanged:
    """Add a version to what is kept of its key."""
    if not kept:
        return Added((incoming,), ())
    version = incoming.version
    for other in kept:
        if other.version.tag == version.tag:
            return "same"
        if supersedes(other.version, version):
            return "stale"
    survivors: list[Kept] = []
    dropped: list[Kept] = []
    for other in kept:
        (dropped if supersedes(version, other.version) else survivors).append(other)
    return Added(ordered((*survivors, incoming)), tuple(dropped))


def ordered(kept: Iterable[Kept]) -> tuple[Kept, ...]:
    """The winner first."""
    return tuple(sorted(kept, key=lambda one: one.version.rank, reverse=True))
