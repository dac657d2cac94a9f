"""Version clocks: a mapping from actor to counter, ordered as sets of events are.

An *actor* is one life of one store, named by 16 hex digits. A counter is `n * 2**20 + m` (protocol section 4): n the
number that the commit took in that store's feed, m twenty bits of a MAC that only that store can compute, so a node can
tell its own counters from invented ones. One more actor, `legacy`, is all who write through daemons without clocks.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping

Clock = Mapping[str, int]

MAX_ENTRIES = 1_024
MAX_COUNTER = 2**53
MAC_BITS = 20
# `legacy` is everybody who writes through a daemon of the older protocol (protocol section 8).
_ACTOR = re.compile(r"[0-9a-f]{16}|legacy")


def covers(a: Clock, b: Clock) -> bool:
    """True where every event that `b` knows is known to `a` (`b` <= `a`)."""
    if len(b) > len(a):
        return False
    return all(a.get(actor, 0) >= counter for actor, counter in b.items())


def dominates(a: Clock, b: Clock) -> bool:
    """True where `a` knows all that `b` knows, and more (`b` < `a`)."""
    return a != b and covers(a, b)


def join(clocks: Iterable[Clock]) -> dict[str, int]:
    """The least clock that covers all of these."""
    joined: dict[str, int] = {}
    for clock in clocks:
        for actor, counter in clock.items():
            if joined.get(actor, 0) < counter:
                joined[actor] = counter
    return joined


def counter(secret: bytes, namespace: str, record_id: str, number: int) -> int:
    """The counter of the write that takes `number` in the local feed (protocol section 4, *Counter*)."""
    message = b"%d\0%b\0%b" % (number, namespace.encode(), record_id.encode())
    digest = hmac.digest(secret, message, hashlib.sha256)
    return number << MAC_BITS | int.from_bytes(digest[:4], "big") >> 32 - MAC_BITS


def number_of(value: int) -> int:
    """The feed number that a counter claims."""
    return value >> MAC_BITS


def fault(clock: Clock) -> str | None:
    """What is wrong with a clock that came from outside, in words; None where nothing is."""
    if not clock:
        return "clock: no entry found, at least one expected"
    if len(clock) > MAX_ENTRIES:
        return f"clock: {len(clock)} entries, at most {MAX_ENTRIES}"
    for actor, value in clock.items():
        if not _ACTOR.fullmatch(actor):
            return f"clock: actor {actor[:40]!r}, 16 hex digits (or legacy) expected"
        if not 0 < value <= MAX_COUNTER:
            return f"clock: counter {value} of {actor}, 1 to {MAX_COUNTER} expected"
    return None
