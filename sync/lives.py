"""The lives of a store (protocol section 4, *Actor*): when one begins, and whose counter a clock's entry is."""

from collections.abc import Callable, Sequence

from sync import clock as clocks
from sync.ports import Life
from sync.version import Version

START = "start"
CLOCK_JUMP = "clock_jump"
ROLLED_BACK = "rolled_back"
FORGED_CLAIM = "forged_claim"

Mint = Callable[[int, str], Life]
"""Makes a life that begins after a feed number, for a reason."""


def minting(random_bytes: Callable[[int], bytes]) -> Mint:
    """A mint over a source of randomness (of the system, or a seeded one in a simulation)."""

    def mint(began_after: int, reason: str) -> Life:
        return Life(random_bytes(8).hex(), began_after, random_bytes(32), reason)

    return mint


def last_rollback(lives: Sequence[Life]) -> int:
    """Index of the last life that began because a rollback was proven; 0 where none did.

    What older lives are said to have issued proves only the rollback that is known already.
    """
    for index in range(len(lives) - 1, 0, -1):
        if lives[index].reason == ROLLED_BACK:
            return index
    return 0


def issued_by(life: Life, version: Version) -> bool:
    """True where the version's claim on this life of ours is one that only this store can have made."""
    claim = version.clock[life.actor]
    return clocks.counter(life.secret, *version.key, clocks.number_of(claim)) == claim


def author(version: Version, lives: Sequence[Life]) -> str | None:
    """Which of our lives wrote a version of ours: of the true claims on them, the one with the greatest number.

    The claims are checked again here: a lie about an older life, once accepted, lives on in the clocks of later writes.
    """
    true = [life.actor for life in lives if life.actor in version.clock and issued_by(life, version)]
    return max(true, key=lambda actor: clocks.number_of(version.clock[actor]), default=None)
