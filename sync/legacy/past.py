"""What a daemon of the older protocol had seen when it wrote, and the stamp that its write gets (protocol section 8).

Daemons have no lives: what orders their writes is their time. Each is an actor of its own, and says in the entry
`legacy` of its context up to which time all such writes were seen. Where its row carries the attestation of a version,
its author had seen that one too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from sync.attest import MAX_DEPTH, Stamp
from sync.context import Context, join
from sync.dot import LEGACY, Dot, legacy_dot, seen_until
from sync.version import Version


@dataclass(frozen=True, slots=True)
class Past:
    """A version as something that was seen: its context, its dot and its depth."""

    context: Context
    dot: Dot
    depth: int

    @classmethod
    def of(cls, version: Version) -> Self:
        return cls(version.context, version.dot, version.depth)


def written(seen: Iterable[Past], time: int) -> Stamp:
    """The stamp of what a daemon wrote at a time (µs since 1970), by somebody who had seen these.

    What only daemons wrote is ordered by time alone, as they do it: then depth and dots say nothing.
    """
    seen = list(seen)
    context = join([*((one.context, one.dot) for one in seen), (Context(), seen_until(time))], time)
    if all(entry.actor == LEGACY or entry.is_legacy for entry in context):
        return Stamp(Context((seen_until(time),)), 1, legacy_dot)
    return Stamp(context, min(MAX_DEPTH, 1 + max(one.depth for one in seen)), legacy_dot)


def altered(original: Past, time: int) -> Stamp:
    """The stamp of a copy that a daemon altered on the way: it gives way to what it is a copy of (`sync.merge`).

    `time`: that of the copy, which is the original's.
    """
    return Stamp(join([(original.context, original.dot)], time), max(0, original.depth - 1), legacy_dot)
