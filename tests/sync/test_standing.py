"""What a peer tells of where it stands: taken in where it can be that, and never more of it than there is."""

from dataclasses import dataclass

import pytest

from sync.errors import RemoteError
from sync.standing import LONGEST_WAY, MAX_COUNT, MAX_REASONS, Standing, checked

DIGEST = "0123456789abcdef" * 2


@dataclass(frozen=True)
class Told:
    """One that is wrong, and what is said of it."""

    standing: Standing
    words: str


WRONG = {
    "a digest that is too short": Told(Standing(1, DIGEST[1:]), "a digest is 32 hex digits"),
    "a digest that is too long": Told(Standing(1, DIGEST + "0"), "a digest is 32 hex digits"),
    "a digest in capitals": Told(Standing(1, DIGEST.upper()), "a digest is 32 hex digits"),
    "a feed of less than nothing": Told(Standing(-1, DIGEST), "feed is a number from 0"),
    "a feed beyond all counting": Told(Standing(MAX_COUNT + 1, DIGEST), "feed is a number from 0"),
    "a time before all time": Told(Standing(1, DIGEST, at=-1), "at is a number from 0"),
    "a time after all time": Told(Standing(1, DIGEST, at=MAX_COUNT + 1), "at is a number from 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_malformed(case: str) -> None:
    """With what was found."""
    with pytest.raises(RemoteError, match=WRONG[case].words) as caught:
        checked(WRONG[case].standing)
    assert caught.value.code == "malformed"


def test_what_can_be_is_taken_as_it_is() -> None:
    """Up to the last number there is; who says nothing has said nothing."""
    assert checked(None) is None
    for one in (Standing(0, DIGEST), Standing(MAX_COUNT, DIGEST, True, {"scope": MAX_COUNT}, MAX_COUNT)):
        assert checked(one) == one


def test_of_what_it_refuses_only_what_can_be_is_taken() -> None:
    """Names of reasons with a number; so many of them, and no number that nobody can count."""
    told = {"scope": 1, "Scope": 2, "": 3, "x" * 41: 4, "nothing": 0, "less": -1, "many": MAX_COUNT + 1}
    found = checked(Standing(1, DIGEST, refusing=told))
    assert found is not None
    assert found.refusing == {"scope": 1, "many": MAX_COUNT}
    found = checked(Standing(1, DIGEST, refusing={f"reason_{chr(97 + n)}": 1 for n in range(MAX_REASONS + 5)}))
    assert found is not None
    assert len(found.refusing) == MAX_REASONS


def test_one_is_overtaken_by_what_was_said_later_and_came_first() -> None:
    """And by nothing that was said at the same time, before, or by a clock that was set."""
    one = Standing(1, DIGEST, at=LONGEST_WAY)
    for later, is_overtaken in ((-1, False), (0, False), (1, True), (LONGEST_WAY - 1, True), (LONGEST_WAY, False)):
        assert one.is_overtaken(Standing(2, DIGEST, at=one.at + later)) is is_overtaken
