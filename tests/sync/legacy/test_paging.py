"""Reading an older daemon by time: every row is seen once its page is complete, and no page is passed before."""

import random

import pytest

from sync.legacy import paging
from sync.legacy.paging import OVERLAP, begin, reached, step
from sync.moment import microseconds, text

A, B, C = (f"2027-01-15T08:00:0{n}.000000+00:00" for n in range(3))


@pytest.mark.parametrize(
    ("times", "count", "upto", "since", "limit", "more"),
    [
        ([], 0, None, "x", 3, False),
        ([A, B], 2, B, B, 3, False),
        ([A, B, C], 3, B, B, 3, True),
        ([A, B, B], 3, A, A, 3, True),
        ([B, B, B], 3, None, "x", 6, True),
        ([A], 3, None, "x", 6, True),
        ([], 3, None, "x", 6, True),
        ([A, B], 3, A, A, 3, True),
    ],
    ids=[
        "nothing new", "to the end", "a full page", "cut inside a time", "one time only", "one row, the rest hidden",
        "all hidden", "two rows, one hidden",
    ],
)  # fmt: skip
def test_where_it_goes_on(times: list[str], count: int, upto: str | None, since: str, limit: int, more: bool) -> None:
    """The last time of a full page is left for the next; a page that shows no progress is asked for in a larger one."""
    found = step("x", 3, 3, times, count)
    assert (found.upto, found.since, found.limit, found.more, found.stuck) == (upto, since, limit, more, "")


def test_what_no_page_can_show_is_said() -> None:
    """At the daemon's own limit there is nothing larger to ask for."""
    many = step("x", 10_000, 3, [B] * 10_000, 10_000)
    assert (many.upto, many.since, many.more) == (B, B, True)
    assert "more than 10000 memories have the time" in many.stuck
    hidden = step("x", 10_000, 3, [], 10_000)
    assert (hidden.since, hidden.more) == ("x", False)
    assert "hides the first 10000" in hidden.stuck


@pytest.mark.parametrize("seed", range(40))
def test_every_row_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any rows, any size of page, some of them hidden after the limit: all that is shown is read, in order, once."""
    monkeypatch.setattr(paging, "MAX_LIMIT", 64)
    choose = random.Random(seed)
    rows = sorted((text(choose.randrange(8) * 1_000), n, choose.random() < 0.2) for n in range(choose.randrange(60)))
    usual = choose.randrange(1, 9)
    since, limit, seen = None, usual, []
    for _ in range(500):
        page = [row for row in rows if since is None or row[0] > since][:limit]
        shown = [row for row in page if not row[2]]
        found = step(since, limit, usual, [row[0] for row in shown], len(page))
        seen += [row for row in shown if found.upto is not None and row[0] <= found.upto]
        since, limit = found.since, found.limit
        assert not found.stuck
        if not found.more:
            break
    assert seen == [row for row in rows if not row[2]]


def test_no_look_begins_beyond_our_own_time() -> None:
    """One row of a fast clock would hide all that others write until then."""
    now = microseconds(B)
    assert reached(C, now) == B
    assert reached("9999-12-31T23:59:59Z", now) == B
    assert reached(A, now) == A
    assert reached("2027-01-15T07:00:00.123456789+00:00", now) == "2027-01-15T07:00:00.123456789+00:00"
    assert begin(C) == text(microseconds(C) - OVERLAP)
    assert begin(None) is None


@pytest.mark.parametrize(
    ("since", "counts"),
    [(A, A), (B, B), (C, B), (None, B), ("soon", B)],
    ids=["before", "now", "after", "none", "no time"],
)
def test_no_reading_counts_beyond_our_own_time(since: str | None, counts: str) -> None:
    """And one that ended nowhere counts up to when it began."""
    assert reached(since, microseconds(B)) == counts
    assert reached(B.replace("+00:00", "Z"), microseconds(B)) == B.replace("+00:00", "Z")
