"""Which offered versions are asked of whom: one body, once, and nobody who offers keeps the others away."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import versions
from hypothesis import given
from hypothesis import strategies as st
from versions import ALICE, BOB, PEER, SECOND, Desk

from sync import asked, wire
from sync.asked import PATIENCE, Asked, Choice
from sync.engine import Engine
from sync.receive import Offer, Page, Part, Policy, Taken
from sync.trust import Trust

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
    """Its time is not begun anew by its offering again, and when it is over, whoever offers is asked."""
    book, _ = asking(("liar", ONE, 0), ("q", ONE, 10))
    for at in range(20, PATIENCE, 50_000):
        assert book.choose("liar", (ONE,), NOW + at).wanted == (ONE,)
    assert book.choose("liar", (ONE,), NOW + PATIENCE + 1).wanted == (ONE,)
    for peer in ("q", "r", "liar", "q"):
        assert book.choose(peer, (ONE,), NOW + PATIENCE + 2).wanted == (ONE,)


def test_what_was_waited_for_in_vain_is_not_left_to_anybody_again() -> None:
    """Several who offer and never send do not take turns."""
    book, _ = asking(("liar", ONE, 0), ("q", ONE, 10), ("another", ONE, PATIENCE))
    assert book.choose("q", (ONE,), NOW + PATIENCE + 1).wanted == (ONE,)


def test_where_nobody_else_offers_it_is_asked_for_after_all() -> None:
    """The others went away: after two patiences the first is asked again."""
    book, _ = asking(("p", ONE, 0), ("q", ONE, 10))
    assert book.choose("p", (ONE,), NOW + 2 * PATIENCE).wanted == (ONE,)


def test_a_clock_that_steps_back_keeps_nobody_away() -> None:
    """What was asked in the future was asked never."""
    _, found = asking(("p", ONE, 0), ("q", ONE, -1))
    assert found[1].wanted == (ONE,)


def test_it_remembers_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """While so many are waited for, what is asked for beside them may be asked twice; then the oldest go."""
    monkeypatch.setattr(asked, "MAX_ASKED", 2)
    book = Asked()
    tags = tuple(bytes([n]) * 16 for n in range(3))
    book.choose("p", tags, NOW)
    assert book.choose("q", tags, NOW + 1) == Choice(tags[2:], PATIENCE - 1)
    assert book.choose("r", tags[2:], NOW + PATIENCE).wanted == tags[2:]
    assert list(book._requests) == [tags[1], tags[2]]
    assert book.choose("q", tags[2:], NOW + PATIENCE + 1).wanted == ()


def test_who_is_forgotten_in_vain_keeps_nobody_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gets another patience by offering so much that what it was asked for before is forgotten."""
    monkeypatch.setattr(asked, "MAX_ASKED", 1)
    book, _ = asking(("h", ONE, 0), ("b", ONE, 10), ("h", TWO, PATIENCE), ("h", ONE, PATIENCE + 1))
    assert book.choose("b", (ONE,), NOW + PATIENCE + 2).wanted == (ONE,)


def test_it_remembers_a_bounded_number_of_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that were heard of as of the lazy, who was noted last."""
    monkeypatch.setattr(asked, "MAX_PEERS", 2)
    book = Asked()
    for n in range(4):
        book.choose(f"h{n}", (ONE, TWO), NOW + n)
        book.choose("b", (TWO,), NOW + n)
        book.came(f"h{n}", (ONE,), NOW + n)
        book.refused(f"h{n}", (TWO,))
        book._requests.clear()
    assert (list(book._heard), list(book._lazy)) == (["h2", "h3"], ["h2", "h3"])


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


def test_what_comes_from_another_is_no_sign_of_who_was_asked() -> None:
    """Whoever was asked and sends nothing is given no more time for it."""
    book, _ = asking(("p", ONE, 0), ("p", TWO, 0))
    book.came("q", (ONE,), NOW + 400_000)
    assert book.choose("r", (TWO,), NOW + PATIENCE) == Choice((TWO,))
    book, _ = asking(("p", ONE, 0), ("p", TWO, 0))
    book.came("p", (ONE,), NOW + 400_000)
    assert book.choose("r", (TWO,), NOW + PATIENCE) == Choice((), 400_000)


def came_though_put_off() -> Asked:
    """`p` was asked for ONE, `q` was put off for it, and it came: nobody is waited for, and nobody was lazy."""
    book, _ = asking(("p", ONE, 0), ("q", ONE, 10))
    book.came("p", (ONE,), NOW + 20)
    return book


def test_who_sends_what_another_was_asked_for_gets_no_more_time_for_its_own() -> None:
    """It was not asked for that."""
    book, _ = asking(("p", ONE, 0), ("q", TWO, 0))
    book.came("q", (ONE,), NOW + 400_000)
    assert book.choose("r", (TWO,), NOW + PATIENCE) == Choice((TWO,))


def test_who_sends_the_same_again_gets_no_more_time() -> None:
    """What came is waited for no more; that it comes a second time is no sign that the rest will."""
    book, _ = asking(("p", ONE, 0), ("p", TWO, 0), ("q", ONE, 10))
    book.came("p", (ONE,), NOW + 20)
    book.came("p", (ONE,), NOW + 400_000)
    assert book.choose("r", (TWO,), NOW + PATIENCE + 20) == Choice((TWO,))


def test_what_another_sends_and_is_refused_ends_no_request() -> None:
    """A stripped or altered copy has the tag of the true one, which is still to come."""
    book, _ = asking(("p", ONE, 0))
    book.refused("q", (ONE,))
    assert book.choose("r", (ONE,), NOW + 20).wanted == ()


def test_what_came_is_asked_of_whoever_offers_it_anew() -> None:
    """It may have been superseded by what is gone since."""
    assert came_though_put_off().choose("r", (ONE,), NOW + 30) == Choice((ONE,))


def test_who_sent_what_it_was_asked_for_is_not_lazy_when_it_cannot_be_reached() -> None:
    """Only for what had not come another was put off in vain."""
    book = came_though_put_off()
    book.failed("p")
    book.choose("p", (TWO,), NOW + 30)
    assert book.choose("b", (TWO,), NOW + 40).wanted == ()


def test_what_the_lazy_offer_is_not_left_to_them_once_they_are_forgiven() -> None:
    """It was asked of them while they kept nobody away."""
    book, _ = asking(("h", ONE, 0), ("b", ONE, 1), ("b", ONE, PATIENCE), ("h", TWO, asked.LAZY - 1))
    assert book.choose("b", (TWO,), NOW + asked.LAZY + 1) == Choice((TWO,))


def test_what_is_waited_for_no_more_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for after it is remembered in its place."""
    monkeypatch.setattr(asked, "MAX_ASKED", 1)
    book = came_though_put_off()
    book.choose("p", (TWO,), NOW + 30)
    assert book.choose("q", (TWO,), NOW + 40).wanted == ()


def kept_away(book: Asked, tag: bytes, begin: int) -> int:
    """Microseconds until `b` is asked for what `h` offered first, while `h` sends other things it was asked for."""
    at = begin
    while at < begin + 60 * SECOND:
        book.choose("h", (tag,), at)
        other = at.to_bytes(16, "big")
        book.choose("h", (other,), at)
        book.came("h", (other,), at)
        if book.choose("b", (tag,), at + 1).wanted:
            return at - begin
        at += PATIENCE // 5
    return 60 * SECOND


def test_who_sends_something_else_keeps_others_away_for_a_limit_alone() -> None:
    """Once; after that what it offers is asked of whoever else has it, at once."""
    book = Asked()
    assert asked.LIMIT <= kept_away(book, ONE, NOW) < asked.LIMIT + PATIENCE
    assert kept_away(book, TWO, NOW + 5 * SECOND) == 0


def test_that_is_forgiven_after_a_while() -> None:
    """A link may be slow for a time."""
    book = Asked()
    kept_away(book, ONE, NOW)
    later = NOW + asked.LAZY + 2 * asked.LIMIT
    assert asked.LIMIT <= kept_away(book, TWO, later) < asked.LIMIT + PATIENCE


def test_without_the_limit_it_keeps_them_away_for_ever() -> None:
    """Control."""
    assert kept_away(Asked(limit=10**12), ONE, NOW) == 60 * SECOND


def test_without_the_memory_of_it_each_version_would_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    monkeypatch.setattr(Asked, "_is_lazy", lambda *_: False)
    book = Asked()
    kept_away(book, ONE, NOW)
    assert kept_away(book, TWO, NOW + 5 * SECOND) >= asked.LIMIT


def test_a_slow_link_is_waited_for() -> None:
    """A thousand versions over nearly the whole limit, a hundred and more a page: none is asked of another."""
    book = Asked()
    tags = tuple(n.to_bytes(16, "big") for n in range(1_000))
    assert book.choose("slow", tags, NOW).wanted == tags
    pages = range(0, asked.LIMIT, 200_000)
    for number, at in enumerate(pages):
        rest = tags[len(tags) * number // len(pages) :]
        choice = book.choose("b", rest, NOW + at)
        assert not choice.wanted
        assert 0 < choice.again <= PATIENCE
        book.came("slow", rest[: len(tags) // len(pages)], NOW + at)
    assert book.choose("slow", (ONE,), NOW + asked.LIMIT).wanted == (ONE,)
    assert book.choose("b", (ONE,), NOW + asked.LIMIT).wanted == ()  # it is not lazy


def test_who_sent_nothing_in_time_keeps_nobody_away_for_a_while() -> None:
    """What it was asked for besides, and what it offers from now on, is asked of whoever else offers it, at once."""
    book, _ = asking(("h", ONE, 0), ("b", ONE, 1), ("h", TWO, PATIENCE - 1), ("b", ONE, PATIENCE))
    three = b"3" * 16
    assert book.choose("b", (TWO,), NOW + PATIENCE).wanted == (TWO,)
    assert book.choose("h", (three,), NOW + PATIENCE).wanted == (three,)
    assert book.choose("b", (three,), NOW + PATIENCE + 1).wanted == (three,)
    assert book.choose("h", (three,), NOW + PATIENCE + 2).wanted == ()  # who is asked is waited for
    book, _ = asking(("h", ONE, 0), ("b", ONE, PATIENCE), ("h", TWO, PATIENCE))
    assert book.choose("b", (TWO,), NOW + PATIENCE + 1).wanted == ()  # Control: nobody was put off for it


def test_a_certificate_that_is_listed_again_begins_anew() -> None:
    """And one that only cannot be reached does not."""
    for forgotten in (True, False):
        book, _ = asking(("h", ONE, 0), ("b", ONE, 1), ("b", ONE, PATIENCE))
        (book.forget if forgotten else book.failed)("h")
        book.choose("h", (TWO,), NOW + PATIENCE)
        assert (book.choose("b", (TWO,), NOW + PATIENCE).wanted == ()) is forgotten


Trick = Callable[[Asked, int], None]
OTHERWISE: dict[str, Trick] = {
    "it sends that, to be refused": lambda book, _now: book.refused("h", (ONE,)),
    "it sends that, and it is stale": lambda book, now: book.came("h", (ONE,), now),
    "it cannot be reached for a moment": lambda book, _now: book.failed("h"),
    "it offers as much as can be remembered": lambda book, now: flood(book, now),
}


def flood(book: Asked, now: int) -> None:
    """More offers than are remembered (here, 50)."""
    for n in range(60):
        book.choose("h", ((now + n).to_bytes(16, "big"),), now)


def put_off(book: Asked, trick: Trick) -> int:
    """Microseconds until `b` is asked for what `h` offers again and again, doing this in between."""
    again = NOW + 50_000
    for at in range(NOW, NOW + 20 * SECOND, 100_000):
        trick(book, at)
        book.choose("h", (ONE,), at)
        if at >= again:
            choice = book.choose("b", (ONE,), at)
            if choice.wanted:
                return at - NOW
            again = at + choice.again
    return 20 * SECOND


@pytest.mark.parametrize("how", OTHERWISE)
def test_nobody_gets_another_patience_by_offering_again(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it does in between."""
    monkeypatch.setattr(asked, "MAX_ASKED", 50)
    assert put_off(Asked(), OTHERWISE[how]) <= PATIENCE + 200_000


@pytest.mark.parametrize("how", list(OTHERWISE)[:3])
def test_were_a_request_begun_anew_it_would(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: what is over is forgotten, and nobody is lazy."""
    monkeypatch.setattr(Asked, "_end", lambda book, tag, _request, **_: book._requests.pop(tag))
    assert put_off(Asked(), OTHERWISE[how]) == 20 * SECOND


def pushed(desk: Desk, now: int, *, genuine: bool) -> int:
    """Microseconds until another is asked for what PEER offered, while PEER sends each 0.2 s what it was asked for."""
    for at in range(now, now + 5 * SECOND, SECOND // 5):
        if offered(desk, OTHER, ONE, at).wanted:
            return at - now
        one = versions.version(signature=b"s" * 64, id=f"beat-{at}", title=f"beat {at}")
        assert offered(desk, PEER, one.tag, at).wanted == (one.tag,)
        page = Page(PEER, BOB, None, None, desk.life, False)
        policy = Policy(versions.EVERYTHING, Trust())
        part = Part((one,), genuine=frozenset({0}) if genuine else frozenset())
        taken: Taken = desk.store.transaction(desk.engine.receive, page, part, policy, Taken(), at)
        assert bool(taken.refused) is not genuine
        desk.engine.asking(page, (one,), taken, at)
    return 5 * SECOND


def test_who_sends_what_is_refused_is_not_heard_of() -> None:
    """A patience, where what comes is refused; the limit, where it is taken."""
    desk = Desk()
    assert offered(desk, PEER, ONE).wanted == (ONE,)
    assert PATIENCE <= pushed(desk, NOW, genuine=False) < PATIENCE + SECOND // 5
    desk = Desk()
    assert offered(desk, PEER, ONE).wanted == (ONE,)
    assert asked.LIMIT <= pushed(desk, NOW, genuine=True) < asked.LIMIT + SECOND // 5


def test_were_what_is_refused_an_answer_it_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the engine does not say what was refused."""
    true = Engine.asking
    monkeypatch.setattr(
        Engine,
        "asking",
        lambda engine, page, some, taken, now: true(engine, page, some, replace(taken, refused=()), now),
    )
    desk = Desk()
    assert offered(desk, PEER, ONE).wanted == (ONE,)
    assert pushed(desk, NOW, genuine=False) >= asked.LIMIT
