"""The lives of a store (protocol section 4, *Actor*): when one begins, and whose counter a dot has."""

from collections.abc import Callable, Sequence

from sync import dot as dots
from sync.dot import Dot
from sync.ports import Life
from sync.version import Key

START = "start"
CLOCK_JUMP = "clock_jump"
ROLLED_BACK = "rolled_back"
WHAT_TO_DO = (
    "nothing is to be done where an older copy was restored on purpose: what it lacks comes back, and the next start"
    " ends this alarm; otherwise look at the disk"
)
"""Of the alarm of that name, which tells of an event: it is there until a start."""

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


def issued_by(life: Life, key: Key, dot: Dot) -> bool:
    """True where a dot of this life of ours is one that only this store can have made: number, key and content."""
    return dots.counter(life.secret, *key, dot.check, dot.number) == dot.counter
