"""Which offered versions are asked of whom: one body, once, and nobody who offers keeps the others away."""

from collections.abc import Callable

import pytest
import versions
from hypothesis import given
from hypothesis import strategies as st
from versions import ALICE, BOB, PEER, Desk

from sync import asked, wire
from sync.asked import PATIENCE, Asked, Choice
from sync.engine import Engine
from sync.receive import Offer, Page, Part, Policy, Taken

ONE, TWO = b"1" * 16, b"2" * 16
NOW = versions.NOW
OTHER = "sha256:" + "6" * 64
TO = f"{ALICE}.1.1.00112233445566aa.0123abcd"


def asking(*steps: tuple[str, bytes, int]) -> tuple[Asked, list[Choice]]:
    """Offers of one tag each: (peer, tag, microseconds)."""
    book = Asked()
    return book, [book.choose(peer, (tag,), NOW + at) for peer, tag, at in steps]


def test_what_was_asked_of_one_is_not_asked_of_another() -> None:
    """Until a patience is over, which the other is told of; each of two that differ may be asked."""
    _, found = asking(("p", ONE, 0), ("q", ONE, 100_000), ("q", TWO, 100_000), ("q", ONE, PATIENCE))
    assert found == [Choice((ONE,)), Choice((), PATIENCE - 100_000), Choice((TWO,)), Choice((ONE,))]


def test_without_the_memory_each_who_offers_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: where nothing is remembered the same body is asked for twice."""
    monkeypatch.setattr(Asked, "_remember", lambda *_: None)
    _, found = asking(("p", ONE, 0), ("q", ONE, 100_000))
    assert [choice.wanted for choice in found] == [(ONE,), (ONE,)]


def test_the_answer_names_some_and_says_when_to_offer_the_rest() -> None:
    """Of a page's offers those that are free are wanted; the longest wait is told."""
    book, _ = asking(("p", ONE, 0), ("q", b"3" * 16, 200_000))
    assert book.choose("r", (ONE, TWO, b"3" * 16), NOW + 300_000) == Choice((TWO,), PATIENCE - 100_000)


CLEARING: dict[str, Callable[[Asked], None]] = {
    "it came from who was asked": lambda book: book.came("p", (ONE,), NOW + 10),
    "it came from another": lambda book: book.came("q", (ONE,), NOW + 10),
    "who was asked cannot be reached": lambda book: book.failed("p"),
}


@pytest.mark.parametrize("why", CLEARING)
def test_another_is_asked_at_once_where(why: str) -> None:
    """What came may be superseded and offered anew; who cannot be reached sends nothing."""
    book, _ = asking(("p", ONE, 0))
    CLEARING[why](book)
    assert book.choose("q", (ONE,), NOW + 20) == Choice((ONE,))


def test_another_that_cannot_be_reached_changes_nothing() -> None:
    """Control: only the failure of the one who was asked ends its time."""
    book, _ = asking(("p", ONE, 0))
    book.failed("q")
    assert book.choose("q", (ONE,), NOW + 20).wanted == ()


def test_who_sends_what_it_was_asked_for_has_more_time_for_the_rest() -> None:
    """A large page takes longer than a patience; it is not asked of two peers because of that."""
    book = Asked()
    book.choose("p", (ONE, TWO), NOW)
    book.came("p", (ONE,), NOW + PATIENCE - 1)
    assert book.choose("q", (TWO,), NOW + PATIENCE).wanted == ()
    assert book.choose("q", (TWO,), NOW + 2 * PATIENCE - 1).wanted == (TWO,)


def test_who_is_asked_may_be_asked_again() -> None:
    """It lost the answer, or had no room for all."""
    _, found = asking(("p", ONE, 0), ("p", ONE, 1_000), ("p", ONE, PATIENCE), ("p", ONE, 3 * PATIENCE))
    assert {choice.wanted for choice in found} == {(ONE,)}


def test_who_offers_and_never_sends_does_not_keep_the_others_away() -> None:
    """Its time is not begun anew by its offering again, and when it is over, the others come first."""
    book, _ = asking(("liar", ONE, 0), ("q", ONE, 10))
    for at in range(20, PATIENCE, 50_000):
        assert book.choose("liar", (ONE,), NOW + at).wanted == (ONE,)
    assert book.choose("liar", (ONE,), NOW + PATIENCE + 1) == Choice((), PATIENCE - 1)
    assert book.choose("q", (ONE,), NOW + PATIENCE + 2).wanted == (ONE,)


def test_where_nobody_else_offers_it_is_asked_for_after_all() -> None:
    """The others went away: after two patiences the first is asked again."""
    book, _ = asking(("p", ONE, 0), ("q", ONE, 10))
    assert book.choose("p", (ONE,), NOW + 2 * PATIENCE).wanted == (ONE,)


def test_a_clock_that_steps_back_keeps_nobody_away() -> None:
    """What was asked in the future was asked never."""
    _, found = asking(("p", ONE, 0), ("q", ONE, -1))
    assert found[1].wanted == (ONE,)


def test_it_remembers_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more, the oldest may be asked twice."""
    monkeypatch.setattr(asked, "MAX_ASKED", 2)
    book = Asked()
    tags = tuple(bytes([n]) * 16 for n in range(3))
    book.choose("p", tags, NOW)
    assert book.choose("q", tags[1:], NOW + 1).wanted == ()
    assert book.choose("q", tags[:1], NOW + 1).wanted == tags[:1]


@given(st.lists(st.tuples(st.sampled_from("pqr"), st.booleans(), st.integers(0, 300_000)), max_size=30))
def test_whoever_keeps_offering_is_asked(steps: list[tuple[str, bool, int]]) -> None:
    """Whatever others do: one that offers whenever it is told to has been asked after two patiences."""
    book, now = Asked(), NOW
    for peer, comes, after in steps:
        now += after
        if comes:
            book.came(peer, (TWO,), now)
        else:
            book.choose(peer, (ONE, TWO), now)
    until = now + 2 * PATIENCE
    while not (choice := book.choose("honest", (ONE,), now)).wanted:
        assert 0 < choice.again <= PATIENCE
        now += choice.again
        assert now <= until


# --- in the engine


def offered(desk: Desk, peer: str, tag: bytes, now: int = NOW) -> Taken:
    """A page with one offer, and what is answered to it."""
    page = Page(peer, BOB, None, TO, desk.life, False, (Offer(("a", "id"), tag),))
    policy = Policy(versions.EVERYTHING, versions.EVERYTHING.tag)
    taken: Taken = desk.store.transaction(desk.engine.receive, page, Part(()), policy, Taken(), now)
    return desk.engine.asking(page, (), taken, now)


def test_the_cursor_stays_while_another_peer_is_asked() -> None:
    """Nothing is named, and still the version is lacking; the answer says when to offer it again."""
    desk = Desk()
    assert offered(desk, PEER, ONE).wanted == (ONE,)
    second = offered(desk, OTHER, ONE)
    assert (second.wanted, second.again, second.moved, second.have) == ((), PATIENCE, False, None)
    assert wire.decode_answer(wire.encode_answer(second, ())).again == PATIENCE / 1e6
    desk.engine.unreachable(PEER)
    assert offered(desk, OTHER, ONE).wanted == (ONE,)


def test_without_it_both_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the engine names all that is lacking."""
    monkeypatch.setattr(Engine, "asking", lambda _self, _page, _versions, taken, _now: taken)
    desk = Desk()
    assert (offered(desk, PEER, ONE).wanted, offered(desk, OTHER, ONE).wanted) == ((ONE,), (ONE,))
