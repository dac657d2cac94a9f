"""What a page leaves out: only what came from this very life of the peer, under a cursor that still holds."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import versions
from keys import ANYBODY, Nobody
from versions import ALICE, BOB, EVERYTHING, PEER, Desk

from sync import lives, serve
from sync.engine import Engine
from sync.policy import Policy
from sync.ports import PeerState
from sync.scope import Globs
from sync.trust import Trust

TO = f"{ALICE}.1.1.00112233445566aa.0123abcd"
NEXT = f"{ALICE}.2.2.00112233445566aa.0123abcd"
GIVEN = versions.version({ALICE: 1}, title="given")


def new_process(desk: Desk) -> None:
    desk.engine = Engine("node:desk", random.Random(2).randbytes, Nobody())
    desk.begin(lives.START)


def given(**page: Any) -> Desk:
    """A desk that got one version from the peer's life ALICE, in a page that moved the cursor."""
    desk = Desk()
    desk.take(GIVEN, **{"to": TO, **page})
    return desk


def is_sent(desk: Desk, **ask: Any) -> bool:
    """Whether a page for that life of the peer holds the version."""
    cut = desk.cut(**{"made_for": ALICE, **ask})
    assert cut.number == desk.store.position().number
    return GIVEN.doc in cut.page.memories


def test_a_version_is_not_sent_back_to_the_life_that_gave_it() -> None:
    """Its cursor passes the version, which is no news there."""
    desk = given()
    assert not is_sent(desk)
    assert desk.cut(made_for=ALICE).page.is_empty
    assert not is_sent(desk, offer=True)


ASKED: dict[str, dict[str, Any]] = {
    "the asker names no life": {"made_for": None},
    "the asker has another life": {"made_for": BOB},
    "another peer asks": {"peer": "another"},
    "our rules for it have changed": {"policy": Policy(EVERYTHING, Trust())},
}


@pytest.mark.parametrize("case", ASKED)
def test_anybody_else_gets_it(case: str) -> None:
    """Whoever is not certain to have it."""
    assert is_sent(given(), **ASKED[case])


SINCE: dict[str, Callable[[Desk], Any]] = {
    "this process has seen no page of it": new_process,
    "all cursors were forgotten": lambda desk: desk.begin(lives.CLOCK_JUMP),
    "it made us start over": lambda desk: desk.take(after=TO, to=NEXT, reset=True),
    "it began a new life in between": lambda desk: (
        desk.take(life=BOB, after=TO, to=NEXT),
        desk.take(life=ALICE, after=TO, to=NEXT),
    ),
    "another page of it was cut short": lambda desk: desk.store.put_peer(
        PeerState(PEER, desk.store.peer(PEER).generation + 1, desk.store.peer(PEER).held)
    ),
    "there is a conflict": lambda desk: desk.take(versions.version({BOB: 1}, title="given")),
}


@pytest.mark.parametrize("case", SINCE)
def test_it_is_sent_again_once_its_cursor_proves_nothing(case: str) -> None:
    """What happened since may mean that the peer lost it."""
    desk = given()
    SINCE[case](desk)
    assert is_sent(desk)


def test_a_new_process_leaves_it_out_again_once_the_cursor_is_confirmed() -> None:
    """A page of the same life that moves the cursor proves that the peer goes on with what it had."""
    desk = given()
    new_process(desk)
    assert is_sent(desk)
    assert desk.take(after=TO, to=NEXT).moved
    assert not is_sent(desk)


def test_after_a_reset_a_confirmed_cursor_is_not_enough() -> None:
    """What was given before the cursors were forgotten has lost its giver for ever; what comes now has one."""
    desk = given()
    desk.begin(lives.CLOCK_JUMP)
    again = versions.version({ALICE: 2}, id="new", title="new")
    assert desk.take(again, to=NEXT).moved
    assert is_sent(desk)
    assert again.doc not in desk.cut(made_for=ALICE).page.memories


@pytest.mark.parametrize(
    "page",
    [{"to": None}, {"after": NEXT}, {"made_for": BOB}, {"scope": Globs(("a",))}],
    ids=["led nowhere", "went on from elsewhere", "was made for another life", "came under other rules"],
)
def test_a_version_from_a_page_that_moved_no_cursor_has_no_giver(page: dict[str, Any]) -> None:
    """Or none under the rules of now: it is sent back."""
    assert is_sent(given(**page))


def test_a_version_that_we_changed_goes_back() -> None:
    """It is another version, written here."""
    desk = given()
    changed = desk.update(GIVEN.key, content="changed").version
    assert changed.doc in desk.cut(made_for=ALICE).page.memories


@pytest.mark.parametrize(
    ("name", "case"),
    [("_is_confirmed", "this process has seen no page of it"), ("_skippable", "all cursors were forgotten")],
)
def test_without_the_conditions_it_would_not_be_sent_again(
    name: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: each condition is what has it sent."""
    whatever = {"_is_confirmed": True, "_skippable": given().store.kept([GIVEN.key])[GIVEN.key][0].giver}
    monkeypatch.setattr(serve, name, lambda *_: whatever[name])
    with pytest.raises(AssertionError):
        test_it_is_sent_again_once_its_cursor_proves_nothing(case)


# --- offers


def test_only_what_is_relayed_is_offered() -> None:
    """What was written here goes at once; what came from elsewhere is named, until it is wanted."""
    desk = given()
    mine = desk.write("mine").version
    cut = desk.cut(offer=True)
    assert mine.doc in cut.page.memories
    assert GIVEN.doc not in cut.page.memories
    assert GIVEN.tag.hex().encode() in cut.page.offers
    wanted = desk.cut(offer=True, wanted=frozenset((GIVEN.tag,)))
    assert GIVEN.doc in wanted.page.memories
    assert wanted.page.offers == b""


def test_what_waited_is_relayed_like_anything_that_came_from_elsewhere() -> None:
    """Taken in when due, it has no giver and was not written here: it is offered to everybody."""
    desk = Desk()
    desk.take(versions.version({ALICE: 1}, title="given", seconds=400), to=TO)
    desk.now += 400 * versions.SECOND
    desk.do(desk.engine.due, lambda peer: Policy(EVERYTHING, ANYBODY))
    cut = desk.cut(made_for=ALICE, offer=True)
    assert (cut.page.count, cut.page.offers != b"") == (0, True)


# --- what goes as documents next

X, Y = b"x" * 16, b"y" * 16


@pytest.mark.parametrize(
    ("have", "applied", "more", "expected"),
    [
        ("to", 1, False, {Y}),
        ("to", 1, True, {X, Y}),
        ("after", 0, False, {X, Y}),
        ("after", 1, False, {Y}),
        ("elsewhere", 0, False, {Y}),
    ],
    ids=["the page was taken", "and had no room for all", "nothing was new", "something was new", "another cursor"],
)
def test_what_was_sent_stays_wanted_while_it_may_have_to_come_again(
    have: str, applied: int, more: bool, expected: set[bytes]
) -> None:
    """X went with this page, the answer names Y. Where nothing was new and the cursor stays, X may be refused."""
    desk = given()
    if more:
        desk.write("another")
    cut = replace(desk.cut(limit=1), after="after", to="to")
    assert cut.page.more == more
    assert serve.wanted_next(cut, have, applied, frozenset((Y,)), frozenset((X,))) == expected


def test_what_went_before_is_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it, it is offered again."""
    desk = given()
    desk.write("another")
    cut = desk.cut(limit=1)
    before = frozenset(bytes([n]) * 16 for n in range(3))
    for most, kept in ((3, before), (2, frozenset())):
        monkeypatch.setattr(serve, "MAX_BEFORE", most)
        assert serve.wanted_next(cut, cut.to, 1, frozenset(), before) == kept


def test_a_page_with_anything_on_it_is_not_empty() -> None:
    """Be it a document or an offer: only what is empty may be put off."""
    desk = given()
    assert desk.cut(desk.cut().to).page.is_empty
    assert not desk.cut().page.is_empty
    offered = desk.cut(offer=True).page
    assert (offered.count, offered.is_empty) == (0, False)
