"""Dots: what makes a counter ours, what names a daemon's write, and what is no dot at all."""

import pytest

from sync import dot as dots
from sync.dot import MAX_COUNTER, Dot, check_of, counter, fault, legacy_dot, seen_until

SECRET = b"s" * 32
ACTOR = "a" * 16
CHECK = check_of(b"what is said")


def test_a_check_is_the_first_12_bytes_of_the_digest() -> None:
    """24 hex digits, whatever is said."""
    assert check_of(b"") == "e3b0c44298fc1c149afbf4c8"
    assert len(CHECK) == dots.CHECK_DIGITS == 24


def test_a_counter_carries_its_number() -> None:
    """And 20 bits below it."""
    made = counter(SECRET, "a", "x", CHECK, 7)
    assert Dot(ACTOR, made, CHECK).number == made >> 20 == 7
    assert 0 < made < MAX_COUNTER


@pytest.mark.parametrize(
    "other",
    [
        (b"t" * 32, "a", "x", CHECK, 7),
        (SECRET, "b", "x", CHECK, 7),
        (SECRET, "a", "y", CHECK, 7),
        (SECRET, "a", "x", check_of(b"something else"), 7),
    ],
    ids=["secret", "namespace", "id", "content"],
)
def test_the_mac_is_over_the_key_and_the_content(other: tuple[bytes, str, str, str, int]) -> None:
    """So a true counter cannot be moved to another key, nor put over another content."""
    assert counter(*other) != counter(SECRET, "a", "x", CHECK, 7)


def test_separators_cannot_be_shifted() -> None:
    """Two keys that read alike when joined have two counters."""
    assert counter(SECRET, "a", "b/c", CHECK, 7) != counter(SECRET, "a/b", "c", CHECK, 7)


@pytest.mark.parametrize(
    "good", [Dot(ACTOR, 1, CHECK), Dot(ACTOR, MAX_COUNTER, CHECK), legacy_dot(CHECK), seen_until(MAX_COUNTER)]
)
def test_a_dot_is_taken(good: Dot) -> None:
    """Up to the greatest counter that every reader of JSON numbers agrees on."""
    assert fault(good) is None


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (Dot("A" * 16, 1, CHECK), "16 hex digits"),
        (Dot("a" * 15, 1, CHECK), "16 hex digits"),
        (Dot("old", 1, CHECK), "actor 'old'"),
        (Dot(f"{ACTOR}\n", 1, CHECK), "16 hex digits"),
        (Dot(ACTOR, 0, CHECK), "1 to 9007199254740992"),
        (Dot(ACTOR, MAX_COUNTER + 1, CHECK), f"counter {MAX_COUNTER + 1} of {ACTOR}"),
        (Dot(ACTOR, 1, ""), "24 hex digits"),
        (Dot(ACTOR, 1, CHECK.upper()), "24 hex digits"),
        (Dot(ACTOR, 1, f"{CHECK}\n"), "24 hex digits"),
        (Dot("legacy", 5, CHECK), "none expected"),
        (Dot(f"legacy-{'0' * 16}", 1, CHECK), f"{legacy_dot(CHECK).actor}:1 expected"),
        (legacy_dot(CHECK)._replace(counter=2), "as its check says"),
    ],
)
def test_what_is_no_dot_is_named(bad: Dot, said: str) -> None:
    """With what was found and what was expected."""
    found = fault(bad)
    assert found is not None
    assert said in found
