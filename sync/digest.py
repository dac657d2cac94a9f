"""One short text for all that a store keeps: equal on two nodes that keep the same, in whatever order it came.

Each tag is spread over 2,048 bits, the spread ones are added up, and what is told is a hash of the sum. A peer chooses
the tags of what it signs, by trying. Were the sum as wide as a tag, it would find two sets that add up to the same in
moments (Wagner, *A Generalized Birthday Problem*, 2002), and two nodes that keep one each would call each other
identical. With 2,048 bits that takes some 2^90 steps (Bellare and Micciancio, *A New Paradigm for Collision-Free
Hashing*, 1997).
"""

import hashlib
from collections.abc import Iterable

WIDTH = 256
"""Bytes of a sum."""
_MODULUS = 1 << 8 * WIDTH
_TOLD = 32
"""Hex digits of what is told: as many as of a tag."""


def changed(total: int, gone: Iterable[bytes], come: Iterable[bytes]) -> int:
    """The sum when the versions with these tags are dropped and those kept."""
    for tag in gone:
        total -= _spread(tag)
    for tag in come:
        total += _spread(tag)
    return total % _MODULUS


def text(total: int) -> str:
    """What people and peers are told of a sum: 32 hex digits."""
    return hashlib.sha256(stored(total)).hexdigest()[:_TOLD]


def stored(total: int) -> bytes:
    """A sum as a store keeps it: 256 bytes, the most significant first."""
    return total.to_bytes(WIDTH, "big")


def loaded(data: bytes) -> int:
    """The sum that `stored` wrote; of nothing, 0."""
    return int.from_bytes(data, "big")


def _spread(tag: bytes) -> int:
    return int.from_bytes(hashlib.shake_256(tag).digest(WIDTH), "big")
