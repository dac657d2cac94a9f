"""Dots: the name of one write, which cannot stand for any other content (protocol section 4, *Dot*).

An *actor* is one life of one store, named by 16 hex digits. A counter is `n * 2**20 + m`: n the number that the commit
took in that store's feed, m twenty bits of a MAC that only that store can compute, so a node can tell its own counters
from invented ones. The *check* is a digest of all that the write says, so whoever names a dot names its content too: a
liar that signs other content under the same counter has made another dot. Dots of one actor are ordered by n alone: a
store that was rolled back and writes on without knowing takes a number twice, and neither write has seen the other.

Daemons of the older protocol have no lives. Each of their writes is an actor of its own, `legacy-` and the first 16 hex
digits of its check, with the counter 1; and the entry `legacy` of a context says up to which time, in microseconds,
such writes were seen.
"""

import hashlib
import hmac
import re
from typing import NamedTuple

MAX_COUNTER = 2**53
MAC_BITS = 20
CHECK_DIGITS = 24
LEGACY = "legacy"
_LEGACY_DIGITS = 16
_ACTOR = re.compile(r"(?:legacy-)?[0-9a-f]{16}|legacy")
_CHECK = re.compile(r"[0-9a-f]{24}")


class Dot(NamedTuple):
    """One write of one key; or, in a context, the last of an actor that was seen."""

    actor: str
    counter: int
    check: str
    """24 hex digits; empty for the entry `legacy` of a context, which names a time and no write."""

    @property
    def number(self) -> int:
        """The place among its actor's writes: greater is later."""
        return self.counter >> MAC_BITS

    @property
    def is_legacy(self) -> bool:
        """True for a write of a daemon without lives."""
        return self.actor.startswith("legacy-")


def check_of(text: bytes) -> str:
    """The first 12 bytes of SHA-256, as 24 hex digits. `text`: what is signed, less its line with the dot."""
    return hashlib.sha256(text).hexdigest()[:CHECK_DIGITS]


def counter(secret: bytes, namespace: str, record_id: str, check: str, number: int) -> int:
    """The counter of the write that takes `number` in the local feed (protocol section 4, *Counter*)."""
    message = b"%d\0%b\0%b\0%b" % (number, namespace.encode(), record_id.encode(), check.encode())
    digest = hmac.digest(secret, message, hashlib.sha256)
    return number << MAC_BITS | int.from_bytes(digest[:4], "big") >> 32 - MAC_BITS


def legacy_dot(check: str) -> Dot:
    """The dot of a write that a daemon of the older protocol made."""
    return Dot(f"legacy-{check[:_LEGACY_DIGITS]}", 1, check)


def seen_until(time: int) -> Dot:
    """The entry of a context that says: every daemon's write up to this time (µs since 1970) was seen."""
    return Dot(LEGACY, time, "")


def fault(dot: Dot) -> str | None:
    """What is wrong with a dot that came from outside, in words; None where nothing is."""
    if not _ACTOR.fullmatch(dot.actor):
        return f"actor {dot.actor[:40]!r}, 16 hex digits (or legacy) expected"
    if not 0 < dot.counter <= MAX_COUNTER:
        return f"counter {dot.counter} of {dot.actor}, 1 to {MAX_COUNTER} expected"
    if dot.actor == LEGACY:
        return f"check {dot.check[:40]!r} of {LEGACY}, none expected" if dot.check else None
    if not _CHECK.fullmatch(dot.check):
        return f"check {dot.check[:40]!r} of {dot.actor}, {CHECK_DIGITS} hex digits expected"
    if dot.is_legacy and dot != legacy_dot(dot.check):
        return f"{dot.actor}:{dot.counter}, {legacy_dot(dot.check).actor}:1 expected, as its check says"
    return None
