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


Look = Callable[[Key], Sequence[Seen]]
"""All versions that a store's file has of a key, tombstones included."""


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
    spared: frozenset[Seen] = frozenset()
    """Of `seen`: those that no other disk held as replaced when its own was lost."""
    by_arrival: bool = False
    """It had just arrived where another was written over it; found out from that one's clock."""

    @property
    def told(self) -> str:
        """For whoever reads of a loss."""
        return f"{self.token or 'a delete'} ({self.what}, acknowledged by {'abcdefgh'[self.node]})"


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

    def disk_lost(self, node: int, since: float, others: Sequence[Look]) -> None:
        """The disk of a node is gone, or went back to `since`. `others`: what is kept of a key on each other disk.

        What it had acknowledged and no other disk holds may be gone for good. A delete is held where what it deleted
        is replaced, and not where that never was.
        """
        for write in self.writes:
            if write.node != node or write.ended < since or write.key is None:
                continue
            held = {key: [one for look in others for one in look(key)] for key in {write.key, *map(_key, write.seen)}}
            write.spared |= {
                one for one in write.seen if not any(dominates(other.clock, one.clock) for other in held[one.key])
            }
            write.mortal |= not self._is_held(write, held[write.key]) if write.token else bool(write.spared)

    def _is_held(self, write: Written, kept: Sequence[Seen]) -> bool:
        """Whether a write, or what replaced it, is among these."""
        return any(
            write.token == one.token
            or write.token in self._before.get(one.token or "", ())
            or (write.clock is not None and dominates(one.clock, write.clock))
            for one in kept
        )

    def judge(self, kept: Sequence[Seen], look: Look) -> list[Loss]:
        """What is broken, where all nodes agree on `kept`. `look` reads a store of theirs."""
        self.saw(kept)
        tokens = frozenset(one.token for one in kept if one.token is not None)  # a tombstone is not everybody's delete
        certain = [one for one in self.writes if one.token in tokens or (one.acknowledged and not one.mortal)]
        # What a delete did may still have been on its way when its disk was lost.
        deletes = [one for one in self.writes if one.mortal and one.token is None]
        superseded = frozenset[str]().union(*(self._ancestors(one.seen) for one in (*certain, *deletes)))
        found = []
        for write in certain:
            if write.token is None or write.token in tokens or write.token in superseded or write.by_arrival:
                continue
            write.by_arrival = write.key is not None and self._covered(write, look(write.key))
            if not write.by_arrival:
                found.append(Loss("lost", f"{write.told} {write.key}"))
        dead = {(one.token, one.clock): write for write in certain for one in write.seen if one not in write.spared}
        found += [
            Loss("undead", f"{one.token} {one.key}, which {dead[one.token, one.clock].told} had seen and replaced")
            for one in kept
            if one.token is not None and (one.token, one.clock) in dead
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


def _key(one: Seen) -> Key:
    return one.key


def dominates(a: Clock, b: Clock) -> bool:
    """Whether a version with clock `a` had seen one with clock `b`."""
    has = dict(a)
    return a != b and all(has.get(actor, -1) >= counter for actor, counter in b)
