"""Causal contexts: what the author of a version had seen, in at most 256 entries (protocol section 4, *Context*).

An entry is the last dot of an actor that was seen, and stands for all that this actor wrote under lesser numbers. A
context is bounded where it is made: over the limit the entries that were joined longest ago go, but never what covers a
version that the write replaces. So what a node writes is short enough for every reader, whatever it replaces; a reader
never shortens a context, as it is signed. What was pushed out may come back as a sibling of its successor, and is never
lost.

Dotted version vectors (Preguiça et al., "Dotted Version Vectors: Logical Clocks for Optimistic Replication", 2010) with
a bound; why it is this rule and not a simpler one is decision 0044.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sync.dot import LEGACY, MAC_BITS, MAX_COUNTER, Dot, fault, seen_until

MAX_ENTRIES = 256
"""At least 35: the kept versions of a key (33), `legacy`, and one more."""
_PLAIN = re.compile(r"(?:,[0-9a-f]{16}:[1-9][0-9]{0,15}:[0-9a-f]{24})*,")
_ENTRY = re.compile(r"([^:,]*):(-?[0-9]+):([^:,]*)")


class Context:
    """An immutable sequence of entries, the most recently joined last. Of one actor all have one number.

    It is held as the text that is signed, between two commas: most contexts that come are stored and sent on, and of
    256 entries objects would take six times the room. What is asked more than once is taken apart once.
    """

    __slots__ = ("_places", "_said")

    def __init__(self, entries: Iterable[Sequence[Any]] = ()) -> None:
        """`entries`: dots, or the three parts of each; with no comma and no colon in any (`read_entries`)."""
        self._said = ",".join(["", *[f"{actor}:{counter}:{check}" for actor, counter, check in entries], ""])
        self._places: dict[str, int] | None = None

    @classmethod
    def of_text(cls, text: str) -> "Context":
        """From `text`, of a context that was found to be well formed."""
        made = cls.__new__(cls)
        made._said = f",{text}," if text else ","
        made._places = None
        return made

    @property
    def text(self) -> str:
        """As it is signed and stored: `actor:counter:check`, separated by commas."""
        return self._said[1:-1]

    @property
    def entries(self) -> tuple[Dot, ...]:
        return tuple([Dot(actor, int(counter), check) for actor, counter, check in _ENTRY.findall(self._said)])

    @property
    def legacy(self) -> int:
        """The time up to which writes of daemons without lives were seen, in microseconds; 0 for none."""
        if f",{LEGACY}:" not in self._said:  # no hex digit is in that word, so this look is a quick one
            return 0
        return next(entry.counter for entry in self.entries if entry.actor == LEGACY)

    def __len__(self) -> int:
        return self._said.count(",") - 1

    def __iter__(self) -> Iterator[Dot]:
        return iter(self.entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and self._said == other._said

    def __hash__(self) -> int:
        return hash(self._said)

    def __repr__(self) -> str:
        return " ".join(f"{entry.actor}:{entry.counter}" for entry in self.entries) or "nothing"

    @property
    def places(self) -> Mapping[str, int]:
        """By actor: which of the entries is its last one, from 1."""
        if self._places is None:
            parts = enumerate(self._said.split(","))
            self._places = {part[: part.find(":")]: place for place, part in parts if part}
        return self._places

    def number(self, actor: str) -> int:
        """The number up to which this actor's writes were seen; -1 for none."""
        if actor not in self.places:
            return -1
        begin = self._said.rindex(f",{actor}:") + len(actor) + 2
        return int(self._said[begin : self._said.index(":", begin)]) >> MAC_BITS

    def names(self, dot: Dot) -> bool:
        """True where this very write was seen, and nothing later by its actor."""
        return self.number(dot.actor) == dot.number and f",{dot.actor}:{dot.counter}:{dot.check}," in self._said

    def covers(self, dot: Dot) -> bool:
        """True where a write was seen: a later one of its actor was, or an entry names it, content included."""
        number = self.number(dot.actor)
        if number != dot.number:
            return number > dot.number
        return f",{dot.actor}:{dot.counter}:{dot.check}," in self._said

    def of(self, actors: Collection[str]) -> list[Dot]:
        """The entries of these actors."""
        if not any(actor in actors for actor in self.places):
            return []
        return [entry for entry in self.entries if entry.actor in actors]


NOTHING = Context()
"""What the first version of a key has seen."""


def join(pasts: Sequence[tuple[Context, Dot]], latest: int) -> Context:
    """What one has seen who has seen these versions: their contexts and their dots, in this order.

    Of an actor the greatest number stays, at equal numbers each write. `latest`: the time of the write, in
    microseconds, beyond which it cannot claim to have seen what daemons wrote: no reader believes more.
    """
    dots = [dot for _, dot in pasts]
    until = max([0, *(context.legacy for context, _ in pasts), *(dot.counter for dot in dots if dot.actor == LEGACY)])
    legacy = [seen_until(min(until, latest))] if until else []
    at_top = _Tops(pasts)
    by_actor = {actor: at_top.of(actor) for actor in reversed(_newest(pasts))}  # the most recently joined last
    # What is replaced has to stay covered: by its own dot, or by a later one of its actor.
    replaced = [dot for dot in dots if dot.actor != LEGACY]
    needed = {dot if dot in by_actor[dot.actor] else by_actor[dot.actor][-1] for dot in replaced}
    entries = [entry for some in by_actor.values() for entry in some]
    others = [entry for entry in entries if entry not in needed]
    gone = set(others[: max(0, len(legacy) + len(entries) - MAX_ENTRIES)])
    return Context([*legacy, *(entry for entry in entries if entry not in gone)])


def _newest(pasts: Sequence[tuple[Context, Dot]]) -> list[str]:
    """Actors that may stay, but for `legacy`: the most recently joined first. What cannot stay is not looked at."""
    found: dict[str, None] = {}
    for context, dot in reversed(pasts):
        found.setdefault(dot.actor)
        for actor in reversed(list(context.places)):
            if len(found) > MAX_ENTRIES + len(pasts):
                break
            found.setdefault(actor)
    found.pop(LEGACY, None)
    return list(found)


class _Tops:
    """Of an actor, the entries of the greatest number in these pasts."""

    def __init__(self, pasts: Sequence[tuple[Context, Dot]]) -> None:
        self._pasts = pasts
        self._places = [context.places for context, _ in pasts]
        self._apart: dict[int, dict[str, list[Dot]]] = {}

    def of(self, actor: str) -> list[Dot]:
        """The last joined last."""
        seen = {
            place: context.number(actor)
            for place, (context, _) in enumerate(self._pasts)
            if actor in self._places[place]
        }
        own = {place: dot for place, (_, dot) in enumerate(self._pasts) if dot.actor == actor}
        top = max([*seen.values(), *(dot.number for dot in own.values())])
        found: dict[Dot, None] = {}
        for place in sorted({*seen, *own}):
            come = [*self._entries(place)[actor]] if seen.get(place) == top else []
            if place in own and own[place].number == top:
                come.append(own[place])
            for entry in come:
                found.pop(entry, None)
                found[entry] = None
        return list(found)

    def _entries(self, place: int) -> dict[str, list[Dot]]:
        if place not in self._apart:
            found: dict[str, list[Dot]] = {}
            for entry in self._pasts[place][0].entries:
                found.setdefault(entry.actor, []).append(entry)
            self._apart[place] = found
        return self._apart[place]


def read_entries(parts: Sequence[Sequence[Any]], actor: str) -> tuple[Context, bool] | None:
    """A context of parts that came from outside, and whether nothing of it has to be looked at once more.

    None where it would have other entries: a part holds what separates them. `actor`: of the version's own dot.
    """
    made = Context(parts)
    if (made._said.count(","), made._said.count(":")) != (len(parts) + 1, 2 * len(parts)):
        return None
    # One entry an actor, each of a node, and nothing wrong with any: most contexts, seen at one look.
    is_plain = (
        len(parts) <= MAX_ENTRIES
        and _PLAIN.fullmatch(made._said) is not None
        and len({part[0] for part in parts}) == len(parts)
        and max([part[1] for part in parts], default=0) <= MAX_COUNTER
        and f",{actor}:" not in made._said
    )
    return made, is_plain


def context_fault(context: Context, actor: str, counter: int, at: int) -> str | None:
    """What is wrong with a context that came from outside, in words; None where nothing is.

    `actor`, `counter`: of the version's own dot. `at`: its time, in microseconds.
    """
    if len(context) > MAX_ENTRIES:
        return f"context: {len(context)} entries, at most {MAX_ENTRIES}"
    if wrong := _entry_fault(context):
        return f"context: {wrong}"
    own = counter >> MAC_BITS
    if context.number(actor) >= own:
        return f"context: number {context.number(actor)} of {actor}, less than the version's own {own} expected"
    if context.legacy > at:
        return f"context: {context.legacy} of {LEGACY}, at most the version's own time {at} expected"
    return None


def _entry_fault(context: Context) -> str | None:
    entries = context.entries
    if len(set(entries)) != len(entries):
        return "an entry stands in it twice, once expected"
    for entry in entries:
        if wrong := fault(entry):
            return wrong
        if entry.number != context.number(entry.actor):
            return f"two numbers of {entry.actor}, one expected"
    return None
