"""Version clocks: an order of knowledge with a join, counters that only their store can make, and limits on both."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from versions import ALICE, BOB

from sync import clock as clocks
from sync.clock import MAX_COUNTER, MAX_ENTRIES, Clock, counter, covers, dominates, fault, join, number_of

CLOCKS = st.dictionaries(st.sampled_from([f"{n:016x}" for n in range(4)]), st.integers(1, 3))
SECRET = b"s" * 32


def events(clock: Clock) -> set[tuple[str, int]]:
    """What a clock stands for: each write that it knows of."""
    return {(actor, n) for actor, last in clock.items() for n in range(1, last + 1)}


@given(CLOCKS, CLOCKS)
def test_the_order_of_clocks_is_the_order_of_the_sets_they_stand_for(a: Clock, b: Clock) -> None:
    """Covering is superset, dominating is strict superset, joining is union."""
    assert covers(a, b) == (events(a) >= events(b))
    assert dominates(a, b) == (events(a) > events(b))
    assert events(join((a, b))) == events(a) | events(b)


@given(st.lists(CLOCKS, max_size=5))
def test_a_join_is_the_least_clock_above_all(some: list[Clock]) -> None:
    """It covers each, in whatever order they come, and nothing beyond them."""
    joined = join(some)
    assert all(covers(joined, one) for one in some)
    assert joined == join(reversed(some)) == join((*some, joined))
    assert events(joined) == set().union(*map(events, some))


def test_concurrent_clocks_cover_neither_way() -> None:
    """Each knows something that the other does not."""
    a, b = {ALICE: 2, BOB: 1}, {ALICE: 1, BOB: 2}
    assert not covers(a, b)
    assert not covers(b, a)
    assert not dominates(join((a, b)), join((a, b)))


# --- counters


@given(st.integers(1, 2**33 - 1), st.integers(1, 2**33 - 1))
def test_counters_grow_with_the_feed_and_stay_within_what_json_can_say(earlier: int, later: int) -> None:
    """A counter names its number, lies within the limit, and a later number always has the greater counter."""
    first, second = (counter(SECRET, "a", "id", n) for n in (earlier, later))
    assert number_of(first) == earlier
    assert 0 < first < MAX_COUNTER
    assert (first < second) == (earlier < later)


@pytest.mark.parametrize(
    "other",
    [(b"t" * 32, "a", "id", 7), (SECRET, "b", "id", 7), (SECRET, "a", "di", 7), (SECRET, "ai", "d", 7)],
    ids=["another life's secret", "another namespace", "another id", "parts run together"],
)
def test_the_low_bits_depend_on_secret_and_key(other: tuple[bytes, str, str, int]) -> None:
    """Whoever lacks the secret cannot move a counter to another record or make one up."""
    mine, theirs = counter(SECRET, "a", "id", 7), counter(*other)
    assert number_of(mine) == number_of(theirs) == 7
    assert mine != theirs


def test_a_counter_is_for_ever_the_same() -> None:
    """Stored clocks are checked against it years later: this value can never change."""
    assert counter(bytes(range(32)), "a/b", "0b5c6a4e-0000-5000-8000-000000000001", 4711) == KNOWN_COUNTER


KNOWN_COUNTER = 4_940_787_692


def test_a_guessed_counter_is_right_hardly_ever() -> None:
    """Twenty bits are spread evenly: over a thousand numbers the low bits repeat only by chance."""
    low = [counter(SECRET, "a", "id", n) % 2**20 for n in range(1, 1001)]
    assert len(set(low)) > 990
    assert 2**20 * 0.45 < sum(low) / len(low) < 2**20 * 0.55


# --- limits


def many(count: int) -> Clock:
    return {f"{n:016x}": 1 for n in range(count)}


@pytest.mark.parametrize(
    "clock",
    [{ALICE: 1}, {ALICE: MAX_COUNTER}, many(MAX_ENTRIES)],
    ids=["smallest", "greatest counter", "most entries"],
)
def test_a_clock_at_its_limits_passes(clock: Clock) -> None:
    """1 to 1,024 entries, each 1 to 2^53."""
    assert fault(clock) is None


REFUSED: dict[str, tuple[Clock, str]] = {
    "no entry": ({}, "no entry found, at least one expected"),
    "one entry too many": (many(MAX_ENTRIES + 1), "1025 entries, at most 1024"),
    "counter zero": ({ALICE: 0}, f"counter 0 of {ALICE}"),
    "counter below zero": ({ALICE: -1}, f"counter -1 of {ALICE}"),
    "counter one too great": ({ALICE: MAX_COUNTER + 1}, f"counter {2**53 + 1} of {ALICE}, 1 to {2**53} expected"),
    "actor in capitals": ({"A" * 16: 1}, "16 hex digits (or legacy) expected"),
    "actor too short": ({"a" * 15: 1}, "16 hex digits (or legacy) expected"),
    "actor too long": ({"a" * 17: 1}, "16 hex digits (or legacy) expected"),
    "actor with a newline": ({"a" * 16 + "\n": 1}, "16 hex digits (or legacy) expected"),
    "actor of other digits": ({"٣" * 16: 1}, "16 hex digits (or legacy) expected"),
    "actor of another kind": ({"old": 1}, "actor 'old', 16 hex digits (or legacy) expected"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_clock_over_its_limits_is_refused_in_words(case: str) -> None:
    """The sentence names what was found and what is allowed."""
    clock, expected = REFUSED[case]
    assert (fault(clock) or "").startswith("clock: ")
    assert expected in (fault(clock) or "")


def test_a_very_long_actor_is_not_repeated_whole() -> None:
    """What a peer sent appears cut short in a message."""
    assert len(fault({"x" * 10_000: 1}) or "") < 120


def test_without_the_limit_a_long_clock_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: it is the limit that refuses."""
    monkeypatch.setattr(clocks, "MAX_ENTRIES", 2_000)
    assert fault(many(1_025)) is None
