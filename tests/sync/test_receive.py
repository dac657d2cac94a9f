"""Taking in pages: what is applied, what is wanted, and when our cursor on the sender moves."""

from dataclasses import replace
from typing import Any

import pytest
import versions
from keys import ANYBODY
from stamps import over
from versions import ALICE, BOB, CAROL, EVERYTHING, ID, PEER, SECOND, Desk

from sync import lives, receive
from sync.keyring import EMPTY
from sync.policy import Policy
from sync.ports import Giver, Held, PeerState
from sync.receive import MAX_HELD, Offer, Page, Part, Taken, current_cursor
from sync.scope import Globs
from sync.trust import Trust
from sync.version import Version

TO = f"{ALICE}.1.1.00112233445566aa.0123abcd"
NEXT = f"{ALICE}.2.2.00112233445566aa.0123abcd"
POLICY = Policy(EVERYTHING, ANYBODY)
MINE = versions.version({ALICE: 1})
OTHER = versions.version({BOB: 1}, id="other")


def held(desk: Desk, life: str = ALICE) -> str | None:
    return current_cursor(desk.store.peer(PEER), life, POLICY)


def in_parts(desk: Desk, page: Page, *parts: tuple[Version, ...]) -> Taken:
    """Apply a page in several transactions."""
    taken = Taken()
    for index, some in enumerate(parts):
        part = Part(some, index == 0, index + 1 == len(parts))
        taken = taken.joined(desk.do(desk.engine.receive, page, part, POLICY, taken))
    desk.engine.received(page, taken, desk.now)
    return taken


def test_a_page_is_applied_and_told_in_numbers() -> None:
    """What changed something here, what did not, and how many of the changes were deletes."""
    desk = Desk()
    taken = desk.take(MINE, OTHER, MINE, versions.stone({ALICE: 2}), to=TO)
    assert (taken.applied, taken.noop, taken.deleted, taken.refused, taken.wanted) == (3, 1, 1, (), ())
    assert (taken.have, taken.moved, taken.life) == (TO, True, desk.life)
    assert desk.kept()[0].version.kind == "t"
    again = desk.take(MINE, OTHER, versions.stone({ALICE: 2}), after=TO, to=NEXT)
    assert (again.applied, again.noop) == (0, 3)


# what: (the page's fields beside `to`, whether the cursor moves); the receiver has no cursor yet
MOVES: dict[str, tuple[dict[str, Any], bool]] = {
    "the page that goes on from it": ({}, True),
    "a page that starts over": ({"reset": True}, True),
    "a page that goes on from elsewhere": ({"after": NEXT}, False),
    "a page made for another life": ({"made_for": CAROL}, False),
    "a page made for no life": ({"made_for": None}, False),
    "a page that leads nowhere": ({"to": None}, False),
    "an offer that is lacking": ({"offers": (Offer(("a", "lacking"), b"t" * 16),)}, False),
    "an offer of another version of what is kept": ({"offers": (Offer(MINE.key, b"t" * 16),)}, False),
    "an offer that is kept": ({"offers": (Offer(MINE.key, MINE.tag),)}, True),
    "an offer outside our scope": ({"offers": (Offer(("hidden", "x"), b"t" * 16),)}, True),
}


@pytest.mark.parametrize("case", MOVES)
def test_the_data_are_applied_in_any_case_and_the_cursor_moves_under_conditions(case: str) -> None:
    """It moves for a page that goes on from it, was made for the live life and leaves nothing lacking."""
    fields, moves = MOVES[case]
    desk = Desk()
    taken = desk.take(MINE, scope=Globs(("a",)), **{"to": TO, **fields})
    assert desk.tags() == {MINE.tag}
    assert (taken.moved, taken.have) == (moves, TO if moves else None)
    assert (current_cursor(desk.store.peer(PEER), ALICE, Policy(Globs(("a",)), ANYBODY)) == TO) is moves


@pytest.mark.parametrize("case", ["an offer that is lacking", "an offer of another version of what is kept"])
def test_what_is_lacking_is_wanted(case: str) -> None:
    """The answer names the tags; once they came, the same page moves the cursor."""
    (offer,) = MOVES[case][0]["offers"]
    desk = Desk()
    assert desk.take(MINE, offers=(offer,), to=TO).wanted == (offer.tag,)
    came = replace(versions.version({BOB: 1}, id=offer.key[1]), tag=offer.tag)
    taken = desk.take(came, offers=(), to=TO)
    assert (taken.wanted, taken.moved) == ((), True)


def test_an_offer_that_is_no_longer_kept_is_wanted_again() -> None:
    """What counts is what is kept now, not what was seen once: another version may have taken its place in between."""
    desk = Desk()
    desk.take(MINE)
    desk.take(versions.version({ALICE: 2}, content="later"))
    taken = desk.take(offers=(Offer(MINE.key, MINE.tag),), to=TO)
    assert (taken.wanted, taken.moved) == ((MINE.tag,), False)


def test_fewer_may_be_wanted_than_are_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer stays small; the cursor stays too, so the rest is offered again."""
    monkeypatch.setattr(receive, "MAX_WANTED", 2)
    offers = tuple(Offer(("a", str(n)), bytes([n]) * 16) for n in range(5))
    taken = Desk().take(offers=offers, to=TO)
    assert (taken.wanted, taken.moved) == ((b"\0" * 16, b"\1" * 16), False)


def test_a_version_outside_what_the_peer_may_write_is_refused_for_good() -> None:
    """By reason, alone; the cursor moves on, as it will never be taken."""
    desk = Desk()
    hidden = versions.version({ALICE: 2}, id="hidden", namespace="secret")
    taken = desk.take(hidden, MINE, scope=Globs(("a/**",)), to=TO)
    (refused,) = taken.refused
    assert (refused.id, refused.kind, refused.reason) == ("hidden", "m", "scope")
    assert (taken.applied, taken.moved) == (1, True)
    assert desk.kept(hidden.key) == ()


def test_a_cursor_reached_under_other_rules_counts_as_none() -> None:
    """A wider scope reads the peer from the start; back under the old one, the old cursor counts again."""
    desk = Desk()
    narrow = Globs(("a",))
    desk.take(MINE, scope=narrow, to=TO)
    assert held(desk) is None
    assert not desk.take(OTHER, after=TO, to=NEXT).moved
    assert desk.take(after=TO, to=NEXT, scope=narrow).moved


# --- cursors by life


def test_a_life_not_seen_before_begins_with_the_last_cursor_moved() -> None:
    """A restart of the sender costs no resync; each life then has a cursor of its own."""
    desk = Desk()
    desk.take(MINE, to=TO)
    assert held(desk, BOB) == TO
    assert desk.take(life=BOB, after=TO, to=NEXT).moved
    assert (held(desk, ALICE), held(desk, BOB), held(desk, CAROL)) == (TO, NEXT, NEXT)


def test_cursors_on_the_last_8_lives_are_kept() -> None:
    """The life that was heard of longest ago goes first."""
    desk = Desk()
    lives_ = [f"{n:016x}" for n in range(MAX_HELD + 1)]
    after = None
    for n, life in enumerate(lives_):
        to = f"{life}.{n}.{n}.00112233445566aa.0123abcd"
        assert desk.take(life=life, after=after, to=to).moved
        after = to
    assert [one.life for one in desk.store.peer(PEER).held] == lives_[:0:-1]


def test_cursors_belong_to_one_certificate() -> None:
    """Another peer that names the same life begins with nothing."""
    desk = Desk()
    desk.take(MINE, to=TO)
    assert current_cursor(desk.store.peer("another"), ALICE, POLICY) is None


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (PeerState(PEER), None),
        (PeerState(PEER, 2, (Held(ALICE, TO, POLICY.tag),)), TO),
        (PeerState(PEER, 2, (Held(ALICE, TO, "ffffffff"),)), None),
        (PeerState(PEER, 2, (Held(BOB, NEXT, POLICY.tag), Held(ALICE, TO, POLICY.tag))), TO),
        (PeerState(PEER, 2, (Held(BOB, NEXT, POLICY.tag),)), NEXT),
        (PeerState(PEER, 2, (Held(BOB, NEXT, "ffffffff"), Held(CAROL, TO, POLICY.tag))), None),
    ],
    ids=["none", "its own", "its own, other rules", "its own before the last", "the last", "the last, other rules"],
)
def test_the_current_cursor_is_the_lifes_own_or_the_last(state: PeerState, expected: str | None) -> None:
    """Under today's rules; else none."""
    assert current_cursor(state, ALICE, POLICY) == expected


# --- pages in several transactions


def test_the_cursor_moves_with_the_last_part() -> None:
    """After all of the data, so a crash anywhere costs a repetition and no record."""
    desk = Desk()
    first = desk.do(desk.engine.receive, desk.page(to=TO), Part((MINE,), last=False), POLICY, Taken())
    assert (first.moved, first.have, held(desk)) == (False, None, None)
    assert desk.store.peer(PEER).generation % 2 == 1
    last = desk.do(desk.engine.receive, desk.page(to=TO), Part((OTHER,), first=False), POLICY, first)
    total = first.joined(last)
    assert (total.applied, total.moved, total.have, held(desk)) == (2, True, TO, TO)
    assert desk.store.peer(PEER).generation % 2 == 0


def test_parts_add_up() -> None:
    """Counters, refusals and alarms of all; cursor and life of the last."""
    refused = receive.Refused("x", "m", "scope", "no")
    alarm = receive.Alarm("settled", PEER, "no")
    a = Taken(1, 2, 3, 4, (refused,), (alarm,), full=True, life=ALICE)
    b = Taken(10, 20, 30, 40, (), (alarm,), wanted=(b"w",), have=TO, moved=True, life=BOB)
    sums = Taken(11, 22, 33, 44, (refused,), (alarm, alarm), full=True, wanted=(b"w",), have=TO, moved=True, life=BOB)
    assert a.joined(b) == sums
    assert (b.joined(a).full, b.joined(b).full) == (True, False)


def sent_back(desk: Desk) -> set[str]:
    """Ids of what a page for the same life of the same peer holds."""
    page = desk.cut(made_for=ALICE).page
    return {one.id for one in (MINE, OTHER) if one.doc in page.memories}


def test_a_page_cut_short_by_a_crash_leaves_no_giver() -> None:
    """What its first part brought goes back to the sender, since the cursor that covers it never moved."""
    desk = Desk()
    desk.do(desk.engine.receive, desk.page(to=TO), Part((MINE,), last=False), POLICY, Taken())
    assert sent_back(desk) == {ID}
    assert in_parts(desk, desk.page(to=TO), (MINE,), (OTHER,)).moved
    assert sent_back(desk) == {ID}


def test_a_whole_page_in_parts_has_a_giver() -> None:
    """Nothing of it is sent back to the life that sent it."""
    desk = Desk()
    assert in_parts(desk, desk.page(to=TO), (MINE,), (OTHER,)).moved
    assert sent_back(desk) == set()


def test_a_page_that_begins_anew_and_is_cut_short_leaves_no_giver_either() -> None:
    """Its giver is that of the next generation, which the page after the crash must not be."""
    desk = Desk()
    desk.take(to=TO)
    begun = desk.page(after=TO, to=NEXT, reset=True)
    desk.do(desk.engine.receive, begun, Part((MINE,), last=False), POLICY, Taken())
    assert desk.take(OTHER, after=TO, to=NEXT).moved
    assert sent_back(desk) == {ID}


def test_without_the_mark_a_torn_page_would_count_as_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the odd generation between the parts is what voids the giver."""
    real = receive.replace

    def without_mark(state: Any, **changes: Any) -> Any:
        changes = {name: value - value % 2 if name == "generation" else value for name, value in changes.items()}
        return real(state, **changes)

    monkeypatch.setattr(receive, "replace", without_mark)
    with pytest.raises(AssertionError):
        test_a_page_cut_short_by_a_crash_leaves_no_giver()


def test_a_local_write_between_two_parts_is_kept() -> None:
    """Small writes get in between the transactions of a page, and are merged like any others."""
    desk = Desk()
    mine = desk.write("x", "mine").version
    theirs = versions.version({ALICE: 3}, id=mine.id)
    desk.do(desk.engine.receive, desk.page(to=TO), Part((OTHER,), last=False), POLICY, Taken())
    later = desk.update(mine.key, content="later").version
    desk.do(desk.engine.receive, desk.page(to=TO), Part((theirs,), first=False), POLICY, Taken())
    assert desk.tags(mine.key) == {later.tag, theirs.tag}
    assert held(desk) == TO


# --- what a page leaves alone


@pytest.mark.parametrize(
    "page",
    [
        {"to": None},
        {"after": NEXT},
        {"made_for": CAROL},
        {"to": None, "reset": True},
        {"offers": (Offer(("a", "lacking"), b"t" * 16),)},
    ],
)
def test_a_page_that_moves_nothing_leaves_the_givers_as_they_were(page: dict[str, Any]) -> None:
    """What an earlier page brought is covered by the cursor as before, and is not sent back."""
    desk = Desk()
    assert desk.take(MINE, to=TO).moved
    before = desk.store.peer(PEER)
    assert not desk.take(OTHER, **{"after": TO, "to": NEXT, **page}).moved
    assert desk.store.peer(PEER) == before
    assert sent_back(desk) == {"other"}


def test_a_page_that_finds_no_room_to_wait_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was to move the cursor and does not: all that it and earlier ones brought is sent back."""
    monkeypatch.setattr(receive, "WAITING_LIMIT", 0)
    desk = Desk()
    assert desk.take(OTHER, to=TO).moved
    taken = desk.take(MINE, versions.version({CAROL: 1}, id="early", seconds=400), after=TO, to=NEXT)
    assert (taken.applied, taken.full, taken.moved) == (1, True, False)
    assert sent_back(desk) == {ID, "other"}


def test_a_page_between_whose_parts_a_life_began_gives_nothing() -> None:
    """Its first part counted on a move that its last one cannot make."""
    desk = Desk()
    assert desk.take(to=TO).moved
    page = desk.page(after=TO, to=NEXT)
    first = desk.do(desk.engine.receive, page, Part((MINE,), last=False), POLICY, Taken())
    desk.begin(lives.START)
    last = desk.do(desk.engine.receive, page, Part((OTHER,), first=False), POLICY, first)
    assert (last.applied, last.moved, held(desk)) == (1, False, TO)
    assert sent_back(desk) == {ID, "other"}


def test_a_page_of_nothing_makes_no_giver() -> None:
    """Its sender gave nothing, though the cursor on it moves."""
    desk = Desk()
    assert desk.take(to=TO).moved
    assert desk.store.find_giver(Giver(PEER, ALICE, desk.store.peer(PEER).generation)) == 0
    assert desk.take(MINE, after=TO, to=NEXT).moved
    assert desk.store.find_giver(Giver(PEER, ALICE, desk.store.peer(PEER).generation)) != 0


@pytest.mark.parametrize("is_kept", [True, False], ids=["kept", "new"])
def test_some_reasons_are_told_of_what_is_kept_as_well(*, is_kept: bool) -> None:
    """They are about what the sender does; those about whom we believe now say nothing of what was taken before."""
    signed = versions.version({ALICE: 1}, signature=b"s" * 64)
    for part, policy, reason in (
        (versions.verified([signed]), Policy(Globs(("b",)), ANYBODY), "scope"),
        (Part((signed,)), POLICY, "bad_signature"),
        (versions.verified([signed]), Policy(EVERYTHING, Trust(EMPTY, "enrolled")), "unsigned_refused"),
    ):
        desk = Desk()
        if is_kept:
            assert desk.take(signed).applied == 1
        taken = desk.do(desk.engine.receive, desk.page(), part, policy, Taken())
        told = [] if is_kept and reason == "unsigned_refused" else [reason]
        assert [one.reason for one in taken.refused] == told
        assert (taken.applied, taken.noop) == (0, 1 - len(told))


# --- second looks


def stale_of(*some: Version) -> list[Version]:
    """What the first part of a page of these leaves to be looked at again."""
    desk = Desk()
    taken: Taken = desk.do(desk.engine.receive, desk.page(), versions.verified(some, last=False), POLICY, Taken())
    return [one.version for one in taken.stale]


def test_only_so_many_stale_versions_of_a_key_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer may send any number of them; of each key a few are remembered."""
    monkeypatch.setattr(receive, "MAX_SECOND_LOOKS", 2)
    last = versions.version({ALICE: 9})
    some = [versions.version({ALICE: n}) for n in range(1, 5)]
    assert stale_of(last, *some) == some[:2]
    assert stale_of(last, *some, OTHER, versions.version({BOB: 2}, id="other"), OTHER) == [*some[:2], OTHER]


def test_what_is_kept_takes_no_place_of_what_is_stale() -> None:
    """However often it comes."""
    before, after = MINE, versions.version({ALICE: 2})
    assert stale_of(after, after, before, after) == [before]


# --- one counter used twice


SIGNED = {"signature": b"s" * 64}
PAIRS: dict[str, tuple[tuple[Version, Version], bool]] = {
    "signed twins": (
        (versions.version({ALICE: 1}, **SIGNED), versions.version({ALICE: 1}, content="b", **SIGNED)),
        True,
    ),
    "one of them unsigned": (
        (versions.version({ALICE: 1}), versions.version({ALICE: 1}, content="b", **SIGNED)),
        False,
    ),
    "the later unsigned": ((versions.version({ALICE: 1}, **SIGNED), versions.version({ALICE: 1}, content="b")), False),
    "two actors": ((versions.version({ALICE: 1}, **SIGNED), versions.version({BOB: 1}, **SIGNED)), False),
    "two numbers": (
        (
            versions.version(over(actor=ALICE, counter=1), **SIGNED),
            versions.version(over(actor=ALICE, counter=2), content="b", **SIGNED),
        ),
        False,
    ),
}


@pytest.mark.parametrize("case", PAIRS)
def test_two_signed_versions_under_one_counter_are_told(case: str) -> None:
    """Both are kept, and so is any other pair that has not seen each other, of which nothing is told."""
    pair, is_told = PAIRS[case]
    desk = Desk()
    taken = desk.take(*pair)
    assert [alarm.kind for alarm in taken.alarms] == ["equivocation"] * is_told
    assert desk.tags() == {one.tag for one in pair}
    unsigned = versions.version({ALICE: 1}, content="c")
    assert [alarm.kind for alarm in desk.take(unsigned).alarms] == []


def test_a_signed_copy_of_what_was_written_here_once_takes_its_place() -> None:
    """It is the same write, though nobody can name a later one of an actor that writes once."""
    desk = Desk()
    desk.now += 3_600 * SECOND
    desk.write()
    desk.now -= 3_600 * SECOND
    assert desk.begin(lives.START) == 1
    ((mine,),) = desk.store.everything().values()
    assert mine.giver is None
    assert mine.version.dot.actor not in {life.actor for life in desk.store.lives()}
    signed = replace(mine.version, signature=b"s" * 64, tag=b"")
    assert desk.take(signed).applied == 1
    assert desk.tags(signed.key) == {signed.tag}
