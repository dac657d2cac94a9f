"""What is refused between this node and each peer *now*, by which of the two, and why.

Of what this node refuses the table is exact: a record leaves it when it comes again and is taken, and all of them when
the rules change under which they were judged, for then the peer's feed is read from its start. What the peer refuses is
what it says itself, anew with every message: nothing is remembered beyond its last word.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from node.told import Told
from sync.record import Refused
from sync.standing import Standing
from sync.wire import RefusedEntry

MOST_REMEMBERED = 1_000
"""Records of a peer that are known by name; of more only the number is."""
MOST_SHOWN = 300
"""Characters of what a peer says."""
MOST_OF_AN_ID = 600
"""Characters of a record's name; more than any link's id has, and less than a peer could send."""
OURS, THEIRS = "this node", "the peer"
NOT_NAMED = "not_named"
"""In the place of a reason: so many of one page were refused that the rest was only counted."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a peer last said of where it stands."""

    standing: Standing
    number: int
    """Where our feed stood when it came."""
    at: float
    """Monotonic seconds."""


@dataclass(slots=True)
class _Of:
    """Of one peer."""

    ours: dict[str, str] = field(default_factory=dict)  # id to reason
    more: Counter[str] = field(default_factory=Counter)  # by reason: what found no room above
    rules: str | None = None  # the tag under which ours were judged
    theirs: dict[str, str] = field(default_factory=dict)
    said: dict[str, tuple[str, str]] = field(default_factory=dict)  # by who: the last reason and sentence
    heard: Heard | None = None


class Refusals:
    """By a peer's fingerprint. One lives as long as the peer may come."""

    def __init__(self, told: Told) -> None:
        self._peers: dict[str, _Of] = {}
        self._told = told

    def note(self, fingerprint: str, name: str, who: str, entry: Refused | RefusedEntry) -> None:
        """`who` refused a record. Each record is logged once, under the peer's `name`."""
        if who == OURS and entry.reason == "clock_skew":
            return  # what waits is told of with how long it has to
        found = self._of(fingerprint)
        table = found.ours if who == OURS else found.theirs
        found.said[who] = entry.reason[:40], entry.detail[:MOST_SHOWN]
        name_of_it = entry.id[:MOST_OF_AN_ID]
        is_news = name_of_it not in table
        if is_news and len(table) >= MOST_REMEMBERED:
            if who == OURS:  # for reasons that this node has: a peer can invent as many as it likes
                found.more[entry.reason[:40]] += 1
            return
        table[name_of_it] = entry.reason[:40]
        if is_news:
            code, reason = found.said[who]
            self._told.warn("sync.refused", name, by=who, id=name_of_it, code=code, reason=reason)

    def note_more(self, fingerprint: str, count: int) -> None:
        """So many records of the peer were refused here beside those that were named."""
        if count:
            self._of(fingerprint).more[NOT_NAMED] += count

    def judged_under(self, fingerprint: str, rules: str) -> None:
        """A page comes in, and is judged by rules of this tag: under others nothing that was refused counts."""
        found = self._of(fingerprint)
        if found.rules != rules:
            found.rules = rules
            self._clear(found)

    def begun_anew(self, fingerprint: str) -> None:
        """The peer's feed is read from its start: whatever is refused of it is told once more."""
        self._clear(self._of(fingerprint))

    def taken(self, fingerprint: str, ids: Iterable[str]) -> None:
        """These came again, and were not refused."""
        found = self._peers.get(fingerprint)
        if found is not None and found.ours:
            for one in ids:
                found.ours.pop(one, None)

    def heard(self, fingerprint: str, standing: Standing | None, number: int) -> None:
        """The peer says where it stands, and what it refuses; `number`: where our feed stands."""
        if standing is None:
            return
        found = self._of(fingerprint)
        if found.heard is not None and standing.is_overtaken(found.heard.standing):
            return
        found.heard = Heard(standing, number, time.monotonic())
        if not standing.refusing:
            found.theirs.clear()
            found.said.pop(THEIRS, None)

    def forget(self, fingerprint: str) -> None:
        """That peer may not come any more."""
        self._peers.pop(fingerprint, None)

    # --- what is told

    def last_heard(self, fingerprint: str) -> Heard | None:
        found = self._peers.get(fingerprint)
        return None if found is None else found.heard

    def here(self, fingerprint: str) -> Mapping[str, int]:
        """By reason: how many of the peer's records this node refuses."""
        found = self._peers.get(fingerprint)
        return {} if found is None else Counter(found.ours.values()) + found.more

    def there(self, fingerprint: str) -> Mapping[str, int]:
        """By reason: how many of this node's records the peer refuses, in its own words; what it named, at least."""
        found = self._peers.get(fingerprint)
        if found is None:
            return {}
        named = Counter(found.theirs.values())
        return named if found.heard is None else found.heard.standing.refusing

    def said(self, fingerprint: str, who: str) -> tuple[str, str] | None:
        """The last reason, and its sentence."""
        found = self._peers.get(fingerprint)
        return None if found is None else found.said.get(who)

    def rules(self, fingerprint: str) -> str | None:
        """Tag of the rules under which `here` was found."""
        found = self._peers.get(fingerprint)
        return None if found is None else found.rules

    def _of(self, fingerprint: str) -> _Of:
        return self._peers.setdefault(fingerprint, _Of())

    @staticmethod
    def _clear(found: _Of) -> None:
        found.ours.clear()
        found.more.clear()
        found.said.pop(OURS, None)
