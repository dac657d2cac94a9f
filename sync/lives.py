"""The lives of a store (protocol section 4, *Actor*): when one begins, and whose counter a clock's entry is."""

from collections.abc import Callable, Mapping, Sequence

from sync import clock as clocks
from sync.clock import Clock
from sync.ports import Life

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


def author(clock: Clock, own: Mapping[str, int]) -> str | None:
    """Which of our lives wrote a version of ours: the one whose counter names the greatest number."""
    mine = [actor for actor in clock if actor in own]
    return max(mine, key=lambda actor: clocks.number_of(clock[actor]), default=None)
