"""What a version says of our own lives, and of who used a counter twice (protocol section 4, *Lies*). Pure.

A counter of ours is a number and a MAC over the key and the content, so only what this store wrote can name one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sync import lives
from sync.attest import signed_by
from sync.dot import Dot
from sync.ports import Kept, Life
from sync.version import Version


@dataclass(frozen=True, slots=True)
class Own:
    """Our lives, oldest first, and the last number that the live one gave."""

    lives: Sequence[Life]
    places: Mapping[str, int]
    """By actor, its place in `lives`."""
    issued: int

    def end_of(self, place: int) -> int:
        """The last number that a life gave."""
        return self.issued if place + 1 == len(self.lives) else self.lives[place + 1].began_after


@dataclass(frozen=True, slots=True)
class Judged:
    """What is wrong with what a version says of us."""

    lies: tuple[Dot, ...] = ()
    """Dots under a life of ours that it never gave."""
    proves_rollback: bool = False
    """A true one lies beyond what we gave: this store once held more than it does."""


def claims(version: Version, own: Own) -> list[Dot]:
    """What a version says of our lives: its dot, and entries of its context."""
    first = [version.dot] if version.dot.actor in own.places else []
    return [*first, *version.context.of(own.places)]


def judged(version: Version, kept: Sequence[Kept], own: Own) -> Judged:
    """Of what it says that nothing kept of its key said before: what is a lie, and what proves a rollback."""
    lies: list[Dot] = []
    proves_rollback = False
    for dot in claims(version, own):
        if any(one.version.dot == dot or one.version.context.names(dot) for one in kept):
            continue
        place = own.places[dot.actor]
        if not lives.issued_by(own.lives[place], version.key, dot):
            lies.append(dot)
        elif dot.number > own.end_of(place) and place >= lives.last_rollback(own.lives):
            proves_rollback = True
    return Judged(tuple(lies), proves_rollback)


def is_seen(version: Version, ours: Version, own: Own) -> bool:
    """True where a version that drops one of ours says so truly: it names it, or a later one that we wrote."""
    if version.context.names(ours.dot) or version.dot == ours.dot:
        return True
    place = own.places.get(ours.dot.actor)
    if place is None:  # an actor that wrote once: there is no later one
        return False
    life = own.lives[place]
    return all(lives.issued_by(life, ours.key, dot) for dot in version.context.of((life.actor,)))


def accusation(version: Version, lies: Sequence[Dot]) -> str:
    """Who signed what this node never made. An entry of a context may be somebody else's lie, taken over."""
    is_author = version.dot in lies
    told = "claims writes" if is_author else "says it has seen writes"
    excuse = "" if is_author else "; it may have taken that over from a version which it replaced"
    return (
        f"{signed_by(version)} signed a version of {version.shown} that {told} of this node that it never made{excuse}"
    )


def equivocation(version: Version, kept: Sequence[Kept], own: Own) -> str | None:
    """Who used a counter twice, where a version is one of several signed ones under it; None where none is.

    One key that signed two is accused. Of two keys one may have taken the other's counter, and only the node whose it
    is knows which: by the MAC, under which a lie is no twin of what that node wrote.
    """
    dot, place = version.dot, own.places.get(version.dot.actor)
    twins = [
        one.version
        for one in kept
        if one.version.dot.actor == dot.actor
        and one.version.dot.number == dot.number
        and one.version.signature
        and (place is None or lives.issued_by(own.lives[place], one.version.key, one.version.dot))
    ]
    if len(twins) < 2 or not version.signature:
        return None
    signers = sorted({signed_by(one) for one in twins})
    who = f"{' and '.join(signers)} signed {len(twins)} versions of {version.shown} under one counter"
    told = "" if len(signers) == 1 else ": a node was copied, or one of these took the other's counter to accuse it"
    return f"{who}{told}; all of them are kept"
