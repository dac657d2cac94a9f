"""Contexts: what they cover, how they are joined, and how they are kept short where they are made."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync import context
from sync.context import MAX_ENTRIES, NOTHING, Context, context_fault, join, read_entries
from sync.dot import LEGACY, MAC_BITS, MAX_COUNTER, Dot, check_of, legacy_dot, seen_until

A, B, C = "a" * 16, "b" * 16, "c" * 16
NOW = 10**15
FOUND = (C, 9 << MAC_BITS, NOW)
"""Actor and counter of the version's own dot, and its time."""


def dot(actor: str, counter: int, said: str = "") -> Dot:
    return Dot(actor, counter << MAC_BITS, check_of(f"{actor} {counter} {said}".encode()))


def strangers(count: int) -> list[Dot]:
    return [dot(f"{n:016x}", 1) for n in range(count)]


@pytest.mark.parametrize(
    ("seen", "asked", "covers"),
    [
        (dot(A, 2), dot(A, 2), True),
        (dot(A, 2), dot(A, 1), True),
        (dot(A, 2), dot(A, 3), False),
        (dot(A, 2), dot(B, 1), False),
        (dot(A, 2), dot(A, 2, "other content"), False),
        (dot(A, 3), dot(A, 2, "other content"), True),
        (dot(A, 2)._replace(counter=(2 << MAC_BITS) + 9), dot(A, 2), False),
        (seen_until(5), legacy_dot(check_of(b"")), False),
    ],
    ids=[
        "itself",
        "before it",
        "after it",
        "another's",
        "a copy",
        "before it, whatever it was",
        "a number taken twice",
        "a daemon's",
    ],
)
def test_a_context_covers_what_its_author_had_seen(seen: Dot, asked: Dot, *, covers: bool) -> None:
    """An entry stands for one write, content included, and for all that its actor wrote before."""
    assert Context((seen,)).covers(asked) is covers


def test_a_context_names_the_very_last_write_only() -> None:
    """What is covered by a later one is not named."""
    assert Context((dot(A, 2),)).names(dot(A, 2))
    assert not Context((dot(A, 2),)).names(dot(A, 1))
    assert not Context((dot(A, 2),)).names(dot(A, 2, "other"))


def test_a_join_has_the_greatest_counter_of_each_actor() -> None:
    """And at equal numbers each content: both twins were seen."""
    joined = join([(Context((dot(A, 1), dot(B, 4))), dot(C, 1)), (Context((dot(B, 3),)), dot(A, 2))], NOW)
    assert set(joined) == {dot(A, 2), dot(B, 4), dot(C, 1)}
    twins = join([(NOTHING, dot(A, 2)), (NOTHING, dot(A, 2, "other"))], NOW)
    assert set(twins) == {dot(A, 2), dot(A, 2, "other")}


def test_what_was_joined_last_stands_last() -> None:
    """So that what goes first is what was joined longest ago."""
    assert join([(Context((dot(A, 1), dot(B, 1))), dot(C, 1)), (NOTHING, dot(A, 1))], NOW).entries == (
        dot(B, 1), dot(C, 1), dot(A, 1),
    )  # fmt: skip


def test_daemons_are_never_seen_beyond_ones_own_time() -> None:
    """No reader believes more, whatever the versions that are joined say."""
    ahead = [(Context((seen_until(NOW + 5),)), dot(A, 1))]
    assert join(ahead, NOW).legacy == NOW
    assert join(ahead, NOW + 9).legacy == NOW + 5


def test_a_join_is_never_longer_than_a_reader_takes() -> None:
    """33 versions with full contexts, none of them alike."""
    pasts = [
        (Context((*(dot(f"{n:08x}{m:08x}", 1) for m in range(MAX_ENTRIES - 1)), seen_until(5))), dot(f"{n:016x}", 9))
        for n in range(1, 34)
    ]
    joined = join(pasts, NOW)
    assert len(joined) == MAX_ENTRIES
    assert {entry for _, entry in pasts} | {seen_until(5)} <= set(joined)
    assert context_fault(joined, *FOUND) is None
    assert joined.covers(dot(f"{33:08x}{MAX_ENTRIES - 2:08x}", 1)), "joined last"
    assert not joined.covers(dot(f"{1:08x}{0:08x}", 1)), "joined first"


DOTS = st.builds(dot, st.sampled_from([f"{n:016x}" for n in range(12)]), st.integers(1, 3), st.sampled_from("12"))
CONTEXTS = st.lists(st.tuples(st.lists(DOTS, max_size=6), DOTS), max_size=4)


@given(CONTEXTS, st.integers(5, 9))
def test_whatever_is_joined_a_reader_takes(some: Sequence[tuple[list[Dot], Dot]], most: int) -> None:
    """And it covers every version that it was made of, though it be full."""
    pasts = [(join([(NOTHING, entry) for entry in entries], NOW), own) for entries, own in some]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "MAX_ENTRIES", most)
        joined = join(pasts, NOW)
        assert context_fault(joined, "f" * 16, 9 << MAC_BITS, NOW) is None
    assert all(joined.covers(own) for _, own in pasts)


def test_without_the_bound_at_writing_a_reader_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a limit at reading alone is not closed."""
    with monkeypatch.context() as patch:
        patch.setattr(context, "MAX_ENTRIES", 10**6)
        joined = join([(NOTHING, one) for one in strangers(MAX_ENTRIES + 1)], NOW)
    assert context_fault(joined, *FOUND) == f"context: {MAX_ENTRIES + 1} entries, at most {MAX_ENTRIES}"


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (strangers(MAX_ENTRIES + 1), f"{MAX_ENTRIES + 1} entries, at most {MAX_ENTRIES}"),
        ([dot(A, 1), dot(A, 1)], "twice"),
        ([dot(A, 1), dot(A, 2)], f"two numbers of {A}"),
        ([Dot("old", 1, "0" * 24)], "actor 'old'"),
        ([Dot(A, MAX_COUNTER + 1, "0" * 24)], "1 to 9007199254740992"),
        ([dot(C, 9)], f"number 9 of {C}, less than the version's own 9 expected"),
        ([dot(C, 10)], f"number 10 of {C}, less than"),
        ([seen_until(NOW + 1)], f"at most the version's own time {NOW} expected"),
        ([Dot(LEGACY, 1, "0" * 24)], "none expected"),
    ],
)
def test_what_is_no_context_is_named(entries: list[Dot], said: str) -> None:
    """With what was found and what was expected."""
    found = context_fault(Context(entries), *FOUND)
    assert found is not None
    assert said in found


@pytest.mark.parametrize(
    "entries", [[], strangers(MAX_ENTRIES), [dot(C, 8)], [dot(A, 1), dot(A, 1, "twin")], [seen_until(NOW)]]
)
def test_a_context_is_taken(entries: list[Dot]) -> None:
    """Up to 256 entries, of which two may be twins."""
    assert context_fault(Context(entries), *FOUND) is None


ZEROS = "0" * 24
CLEAR: dict[str, list[tuple[str, int, str]]] = {
    "nothing": [],
    "two nodes": [(A, 1, ZEROS), (B, MAX_COUNTER, "0123456789abcdef" + "0" * 8)],
    "as many as there may be": [(f"{n:016x}", 1, ZEROS) for n in range(MAX_ENTRIES)],
}
UNCLEAR: dict[str, list[tuple[str, int, str]]] = {
    "too many": [(f"{n:016x}", 1, ZEROS) for n in range(MAX_ENTRIES + 1)],
    "no actor of a node": [("A" * 16, 1, ZEROS)],
    "daemons": [(LEGACY, 1, "")],
    "a number of none": [(A, 0, ZEROS)],
    "a number below none": [(A, -1, ZEROS)],
    "a check of 23 digits": [(A, 1, "0" * 23)],
    "twins": [(A, 1, ZEROS), (A, 1, "1" * 24)],
    "a great counter": [(A, MAX_COUNTER + 1, ZEROS)],
    "the version's own actor": [(A, 1, ZEROS), (C, 1, ZEROS)],
}
APART: dict[str, list[tuple[str, int, str]]] = {
    "a comma in an actor": [(f"{A},{B}", 1, ZEROS)],
    "an entry in an actor": [(f"{A}:1:{ZEROS},{B}", 1, ZEROS)],
    "a colon in an actor": [("a:b", 1, ZEROS)],
    "a colon in a check": [(A, 1, "0:0")],
    "a comma in a check": [(A, 1, "0,0")],
}


@pytest.mark.parametrize("case", [*CLEAR, *UNCLEAR])
def test_what_is_in_order_at_one_look_is_not_looked_at_again(case: str) -> None:
    """Everything else is: it may be right, and it may be wrong."""
    parts = (CLEAR | UNCLEAR)[case]
    found = read_entries(parts, C)
    assert found is not None
    made, is_plain = found
    assert is_plain is (case in CLEAR)
    assert made == Context(parts)
    assert [tuple(entry) for entry in made] == parts
    if is_plain:
        assert context_fault(made, *FOUND) is None


@pytest.mark.parametrize("case", APART)
def test_parts_that_would_be_read_as_other_entries_are_none(case: str) -> None:
    """A comma stands between two entries, and a colon between two parts of one."""
    assert read_entries(APART[case], C) is None


def test_contexts_are_equal_that_say_the_same() -> None:
    """In the same order; and nothing else is."""
    assert Context([dot(A, 1), dot(B, 1)]) == Context.of_text(Context([dot(A, 1), dot(B, 1)]).text)
    assert Context([dot(A, 1), dot(B, 1)]) != Context([dot(B, 1), dot(A, 1)])
    assert Context([dot(A, 1)]) != NOTHING
    assert NOTHING != ()


def test_a_context_is_shown_by_its_actors_and_counters() -> None:
    """For whoever reads a failed test."""
    assert repr(NOTHING) == "nothing"
    assert repr(Context([Dot(A, 7, ZEROS), Dot(B, 8, ZEROS)])) == f"{A}:7 {B}:8"
