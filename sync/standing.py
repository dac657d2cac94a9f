"""What a node tells a peer of where it stands, in every message: so that "in step" is proved, or is not said.

It is the peer's word about itself and about what it refuses. It decides nothing here: no cursor, no merge, no alarm.
"""

import re
from collections.abc import Mapping

import msgspec

from sync import moment
from sync.errors import RemoteError

MAX_REASONS = 16
"""More reasons than that are not taken in; there are fewer (docs/api.md)."""
MAX_COUNT = 2**53
LONGEST_WAY = 120 * moment.SECOND
"""Microseconds that a message is on its way at most: twice the time of a request."""
_DIGEST = re.compile("[0-9a-f]{32}")
_REASON = re.compile("[a-z][a-z_]{0,39}")


class Standing(msgspec.Struct, frozen=True):
    """One side of a link, as it is at this moment."""

    feed: int
    """The last number of the sender's feed."""
    digest: str
    """Of all that it keeps: 32 hex digits."""
    whole: bool = False
    """Its rules for the receiver leave nothing out: all namespaces, both directions."""
    refusing: dict[str, int] = {}
    """Reason to number of records: what it refuses of the receiver's now."""
    at: int = 0
    """Microseconds since 1970 by the sender's clock, when it said so: two messages may overtake each other."""

    def is_overtaken(self, by: "Standing") -> bool:
        """True where `by` came first and was said later. A clock that was set back overtakes nothing for long."""
        return 0 < by.at - self.at < LONGEST_WAY


def standing(feed: int, digest: str, whole: bool, refusing: Mapping[str, int], at: int) -> Standing:
    """`digest`: as a position has it."""
    return Standing(feed, digest, whole, dict(refusing), at)


def checked(told: Standing | None) -> Standing | None:
    """What a peer told, if it can be that. Raises RemoteError `malformed`."""
    if told is None:
        return None
    if not _DIGEST.fullmatch(told.digest):
        raise RemoteError("malformed", f"standing: a digest is 32 hex digits, found {told.digest[:40]!r}")
    for name, number in (("feed", told.feed), ("at", told.at)):
        if not 0 <= number <= MAX_COUNT:
            raise RemoteError("malformed", f"standing: {name} is a number from 0 to 2^53, found {number}")
    some = [(reason, count) for reason, count in told.refusing.items() if _REASON.fullmatch(reason) and count > 0]
    refusing = {reason: min(count, MAX_COUNT) for reason, count in some[:MAX_REASONS]}
    return Standing(told.feed, told.digest, told.whole, refusing, told.at)
