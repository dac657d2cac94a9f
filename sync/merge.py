"""What survives when versions of one record meet. The theory first.

A version carries a clock: the set of writes that its author had seen, itself included. Version `a` *supersedes* `b`
where `a`'s author had seen `b` (`b.clock` < `a.clock`), or where the two are the same write as far as the clocks can
tell and only `a` is signed, or neither is, both say the same in title, content, tags and source, and `a` is greater by
priority and content digest: a daemon of the older protocol that carried the write altered the rest (protocol section
8); of two such links of one making, the one that says more of its validity and its observer. That is a strict partial
order. A node keeps the *maximal* versions of all it ever
received: those that nothing it received supersedes. So what is kept is a function of the set of versions received,
whatever their order, grouping or repetition, and the merge is commutative, associative and idempotent. (A multi-value
register: Shapiro et al., "A comprehensive study of Convergent and Commutative Replicated Data Types", 2011, 3.2.2.)

Readers see the kept version of the greatest rank; the others are conflicts, kept until an edit that has seen them all
supersedes them. Two kept versions with equal clocks and different content mean that somebody used a counter twice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sync import link as links
from sync.clock import dominates
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
    """True where whoever wrote `a` knew all that `b` says."""
    if a.clock == b.clock:
        if a.signature or b.signature:
            return bool(a.signature) and not b.signature
        if a.at != b.at or a.content == b.content:
            return False
        return (a.kind == b.kind == "m" and _is_altered(a, b)) or (a.kind == b.kind == "l" and _says_more(a, b))
    return dominates(a.clock, b.clock)


def _is_altered(a: Version, b: Version) -> bool:
    # Hardly ever asked: equal clocks with different content come from a daemon on the way, a forger, or a clone.
    one, other = load(a.doc), load(b.doc)
    if any(getattr(one, name) != getattr(other, name) for name in ("title", "content", "tags", "source")):
        return False
    return (one.priority, a.content) > (other.priority, b.content)


def _says_more(a: Version, b: Version) -> bool:
    # Such a daemon's push of a link leaves out what its own database has of it.
    one, other = links.load(a.doc), links.load(b.doc)
    if one.created_at != other.created_at:
        return False
    return (_validity(one), a.content) > (_validity(other), b.content)


def _validity(link: links.Link) -> tuple[str, ...]:
    return tuple(links.text_of(said) or "" for said in (link.valid_until, link.valid_from, link.observed_by))


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
    survivors = [other for other in kept if not supersedes(version, other.version)]
    dropped = tuple(other for other in kept if supersedes(version, other.version))
    return Added(ordered((*survivors, incoming)), dropped)


def ordered(kept: Iterable[Kept]) -> tuple[Kept, ...]:
    """The winner first."""
    return tuple(sorted(kept, key=lambda one: one.version.rank, reverse=True))
