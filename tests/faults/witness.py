"""The judge of a campaign: what clients were told, what they had seen when they wrote, and what must be left of it.

It knows no rule of the protocol. Each write carries a token of its own. Before a client writes it reads all kept
versions of the key at that node; its write supersedes those, and what they superseded. At the end of a round every
acknowledged token must be kept, or superseded by a write that is certain and had seen it; and no version may be kept
that a certain write had seen. Where a version arrived between a client's look and its write, only the clock of that
write can say so (`by_arrival`); such cases are counted.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

Key = tuple[str, str]
Clock = frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Seen:
    """One kept version, as a client sees it. `token` None: a tombstone."""

    key: Key
    token: str | None
    clock: Clock
    title: str = ""


@dataclass(slots=True)
class Written:
    """One write. `token` None: a delete. `seen`: versions kept of its key just before."""

    token: str | None
    node: int
    what: str
    seen: tuple[Seen, ...] = ()
    key: Key | None = None
    ended: float = 0.0
    acknowledged: bool = False
    clock: Clock | None = None
    """As its answer, or a look right after, told it."""
    mortal: bool = False
    """Perhaps its only copy was on a disk that is gone."""
    by_arrival: bool = False
    """It had just arrived where another was written over it; found out from that one's clock."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A broken promise: `lost`, `undead` or `diverged`."""

    kind: str
    detail: str


@dataclass(slots=True)
class Witness:
    """Everything since the mesh began."""

    writes: list[Written] = field(default_factory=list)
    clocks: dict[str, set[Clock]] = field(default_factory=dict)
    """All with which a token was ever read."""
    _before: dict[str, frozenset[str]] = field(default_factory=dict)
    _by_token: dict[str, Written] = field(default_factory=dict)

    def saw(self, versions: Iterable[Seen]) -> None:
        """A client read these."""
        for one in versions:
            if one.token is not None:
                self.clocks.setdefault(one.token, set()).add(one.clock)

    def wrote(self, write: Written) -> None:
        """A request was answered, or never will be; all that can be known of it is known."""
        self.writes.append(write)
        self.saw(write.seen)
        if write.token is not None:
            self._before[write.token] = self._ancestors(write.seen)
            self._by_token[write.token] = write

    def disk_lost(self, node: int, since: float, others: Iterable[Sequence[Seen]]) -> None:
        """The disk of a node is gone, or went back to `since`. `others`: all that is kept on each that can be asked.

        What it had acknowledged and nobody else shows may be gone for good.
        """
        asked = [frozenset(one.token for one in some) for some in others]
        elsewhere = frozenset[str | None]().union(*asked)
        elsewhere |= frozenset[str]().union(*(self._before.get(token or "", frozenset()) for token in elsewhere))
        for write in self.writes:
            if write.node == node and write.ended >= since:
                gone = {one.token for one in write.seen}
                arrived = write.token in elsewhere if write.token else any(gone.isdisjoint(some) for some in asked)
                write.mortal |= not arrived

    def judge(self, kept: Sequence[Seen], look: Callable[[Key], Sequence[Seen]]) -> list[Loss]:
        """What is broken, where all nodes agree on `kept`. `look`: all versions that the store's file has of a key."""
        self.saw(kept)
        tokens = frozenset(one.token for one in kept)
        certain = [one for one in self.writes if one.token in tokens or (one.acknowledged and not one.mortal)]
        superseded = frozenset[str]().union(*(self._ancestors(one.seen) for one in certain))
        found = []
        for write in certain:
            if write.token is None or write.token in tokens or write.token in superseded or write.by_arrival:
                continue
            write.by_arrival = write.key is not None and self._covered(write, look(write.key))
            if not write.by_arrival:
                place = "abcdefgh"[write.node]
                found.append(Loss("lost", f"{write.token} ({write.what} {write.key}, acknowledged by {place})"))
        dead = {(one.token, one.clock) for write in certain for one in write.seen if one.token is not None}
        found += [
            Loss("undead", f"{one.token} {one.key}, which a later write had seen and replaced")
            for one in kept
            if (one.token, one.clock) in dead
        ]
        return found

    def _covered(self, write: Written, kept: Sequence[Seen]) -> bool:
        """Whether a client's write, as it was made, had seen this one; a re-write by a program proves nothing."""
        for clock in (*self.clocks.get(write.token or "", ()), *((write.clock,) if write.clock else ())):
            for one in kept:
                author = self._by_token.get(one.token or "")
                written = one.clock if author is None or author.clock is None else author.clock
                if one.token != write.token and dominates(written, clock):
                    return True
        return False

    def _ancestors(self, seen: Iterable[Seen]) -> frozenset[str]:
        tokens = [one.token for one in seen if one.token is not None]
        return frozenset(tokens).union(*(self._before.get(token, frozenset()) for token in tokens))


def dominates(a: Clock, b: Clock) -> bool:
    """Whether a version with clock `a` had seen one with clock `b`."""
    has = dict(a)
    return a != b and all(has.get(actor, -1) >= counter for actor, counter in b)
