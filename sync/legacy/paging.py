"""Reading the older daemon's store by time, without its faults: where to go on after each page of its `since`.

It answers rows with `updated_at` greater than `since`, as text, at most `limit`, and says neither whether there is more
nor where. So a full page may end in the middle of rows of one time, of which the rest would never be seen: the last
time of a full page is left for the next one. A newer daemon filters by scope after the limit, so an empty page may be a
full one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sync import moment

MAX_LIMIT = 10_000
"""What the daemon takes at most."""
OVERLAP = 10 * moment.SECOND
"""How far back each look at what is new begins: rows are written in another order than their times."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do with a page, and what to ask next."""

    upto: str | None
    """Rows of this time (as text) and before are complete; None: no row is."""
    since: str | None
    """Ask on after this text."""
    limit: int
    more: bool
    stuck: str = ""
    """Why rows may have been missed, in words."""


def step(since: str | None, limit: int, usual: int, times: Sequence[str], count: int) -> Step:
    """Judge a page. `times`: `updated_at` of its rows; `count`: rows that it had, those that a scope hid included;
    `usual`: rows of a page where nothing is in the way."""
    last = max(times, default=None)
    if count < limit:
        return Step(last, last if last is not None else since, usual, more=False)
    wider = min(2 * limit, MAX_LIMIT)
    if last is None:
        if limit < MAX_LIMIT:
            return Step(None, since, wider, more=True)
        return Step(None, since, usual, more=False, stuck=f"its scope for this node hides the first {limit} memories")
    complete = max((time for time in times if time < last), default=None)
    if complete is not None:
        return Step(complete, complete, usual, more=True)
    if limit < MAX_LIMIT:
        return Step(None, since, wider, more=True)
    return Step(last, last, usual, more=True, stuck=f"more than {limit} memories have the time {last}")


def reached(since: str | None, now: int) -> str | None:
    """How far a reading that ended at `since` counts. `now`: when it began, µs.

    Never beyond our own time: one row of a fast clock would hide everything that is written until then.
    """
    canonical = moment.canonical(since) if since is not None else None
    return moment.text(now) if canonical is None or moment.microseconds(canonical) > now else since


def begin(newest: str | None) -> str | None:
    """The `since` of the next look at what is new, given how far the last one counts."""
    canonical = moment.canonical(newest) if newest is not None else None
    return None if canonical is None else moment.text(max(0, moment.microseconds(canonical) - OVERLAP))
