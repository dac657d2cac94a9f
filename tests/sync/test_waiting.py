"""Versions from the future: set aside, told, judged again when they are due; never lost, never let in early."""

from dataclasses import replace

import pytest
import versions
from keys import ANYBODY
from stamps import over
from versions import ALICE, BOB, CAROL, ID, NOW, PEER, SECOND, Desk

from sync import engine, receive
from sync.merge import supersedes
from sync.policy import Policy
from sync.receive import Offer, Receiver, Taken, current_cursor
from sync.scope import Globs
from sync.version import Version

OTHER = "sha256:" + "6" * 64
TO = f"{ALICE}.1.1.00112233445566aa.0123abcd"
KEY = ("a", ID)
EARLY = versions.version({ALICE: 1}, seconds=400)


def due(desk: Desk, scope: Globs = versions.EVERYTHING) -> Taken:
    taken: Taken = desk.do(desk.engine.due, lambda peer: Policy(scope, ANYBODY))
    return taken


def waiting(desk: Desk) -> set[bytes]:
    return {one.version.tag for one in desk.store.waiting_all()}


@pytest.mark.parametrize(
    ("seconds", "waits"), [(-400, False), (0, False), (300, False), (300.000001, True), (10**8, True)]
)
def test_what_lies_more_than_300_seconds_ahead_waits(seconds: float, *, waits: bool) -> None:
    """It is refused for now with `clock_skew`, kept aside, and the cursor moves on over it."""
    desk = Desk()
    version = versions.version({ALICE: 1}, seconds=seconds)
    taken = desk.take(version, to=TO)
    assert [one.reason for one in taken.refused] == (["clock_skew"] if waits else [])
    assert (waiting(desk) == {version.tag}) is waits
    assert (desk.tags() == {version.tag}) is not waits
    assert (taken.applied, taken.moved) == (0 if waits else 1, True)


def test_without_the_bound_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: it is the bound that keeps it out."""
    monkeypatch.setattr(receive, "SKEW_BOUND", 10**9 * SECOND)
    desk = Desk()
    desk.take(EARLY)
    assert (desk.tags(), waiting(desk)) == ({EARLY.tag}, set())


def test_the_refusal_says_how_far_ahead_and_that_it_is_kept() -> None:
    """The sender's operator learns that a clock is wrong, and by how much."""
    (refused,) = Desk().take(EARLY, versions.version({ALICE: 1}, id="now")).refused
    assert refused.id == ID
    assert refused.detail.startswith("its time lies 400 s in the future of this node, at most 300 s are believed")


def test_it_is_taken_in_when_it_is_due_and_has_no_giver_then() -> None:
    """Not a moment earlier, and once; whoever sent it gets it again, as its cursor proves nothing any more."""
    desk = Desk()
    desk.take(EARLY, to=TO)
    desk.now = NOW + 100 * SECOND - 1
    assert due(desk) == Taken(life=desk.life)
    desk.now = NOW + 100 * SECOND
    assert due(desk).applied == 1
    assert (desk.tags(), waiting(desk)) == ({EARLY.tag}, set())
    assert desk.kept()[0].giver == 0
    assert due(desk).applied == 0


def test_it_is_judged_from_the_start_when_it_is_due() -> None:
    """Under today's scope, and against what is kept by then."""
    desk = Desk()
    desk.take(EARLY, versions.version({ALICE: 1}, id="other", namespace="b", seconds=400))
    desk.now += 400 * SECOND
    taken = due(desk, Globs(("b",)))
    assert (taken.applied, [one.reason for one in taken.refused], waiting(desk)) == (1, ["scope"], set())
    assert desk.kept() == ()


def test_without_the_second_look_at_the_scope_it_would_come_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the scope at the due time is what refuses it."""
    monkeypatch.setattr(Globs, "allows", lambda *_: True)
    with pytest.raises(AssertionError):
        test_it_is_judged_from_the_start_when_it_is_due()


def test_what_is_refused_when_it_is_due_is_asked_for_again() -> None:
    """Of whoever sent it: rules may be put back, and others may hold for another peer, who was told that it waits."""
    desk = Desk()
    for peer in (PEER, OTHER):
        assert desk.take(EARLY, to=TO, peer=peer).moved
    desk.now += 400 * SECOND
    assert due(desk, Globs(("b",))).refused
    assert (desk.tags(), waiting(desk)) == (set(), set())
    for peer in (PEER, OTHER):
        assert current_cursor(desk.store.peer(peer), ALICE, Policy(versions.EVERYTHING, ANYBODY)) is None


def test_what_is_taken_when_it_is_due_leaves_the_cursors() -> None:
    """Nothing is read again for it."""
    desk = Desk()
    desk.take(EARLY, to=TO)
    desk.now += 400 * SECOND
    assert due(desk).applied == 1
    assert current_cursor(desk.store.peer(PEER), ALICE, Policy(versions.EVERYTHING, ANYBODY)) == TO


def test_with_the_cursors_left_it_would_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: they have passed what is here no more."""
    monkeypatch.setattr(receive, "forget_cursors", lambda _: None)
    with pytest.raises(AssertionError):
        test_what_is_refused_when_it_is_due_is_asked_for_again()


def a_page_in_three_parts_between_which_something_is_due() -> tuple[Desk, list[Taken]]:
    """Its first part brings what waits; the rules are narrowed just when that is due, and put back."""
    desk, policy = Desk(), Policy(versions.EVERYTHING, ANYBODY)
    page = desk.page(to=TO)
    taken: list[Taken] = []
    for number in range(3):
        one = EARLY if number == 0 else versions.version({ALICE: 1 + number}, id=f"later {number}", seconds=-60)
        part = replace(versions.verified([one]), first=number == 0, last=number == 2)
        taken.append(desk.do(desk.engine.receive, page, part, policy, Taken()))
        if number == 0:
            desk.now += 400 * SECOND
            assert due(desk, Globs(("b",))).refused
    return desk, taken


def test_a_page_during_which_cursors_were_forgotten_moves_none() -> None:
    """Nor does anything of it count as known to its giver, whatever page comes next."""
    desk, taken = a_page_in_three_parts_between_which_something_is_due()
    assert [one.moved for one in taken] == [False, False, False]
    assert current_cursor(desk.store.peer(PEER), ALICE, Policy(versions.EVERYTHING, ANYBODY)) is None
    assert {kept[0].giver for kept in desk.store.everything().values()} == {0}


def test_without_that_look_it_would_pass_what_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a page from the start finds no cursor, as it expects, and moves on over what is here no more."""
    monkeypatch.setattr(receive, "_is_disturbed", lambda *_: False)
    with pytest.raises(AssertionError):
        test_a_page_during_which_cursors_were_forgotten_moves_none()


def test_a_page_that_nothing_disturbs_moves_in_its_last_part() -> None:
    """However many parts it has."""
    desk, policy = Desk(), Policy(versions.EVERYTHING, ANYBODY)
    moved = [
        desk.do(
            desk.engine.receive, desk.page(to=TO), receive.Part((), number == 0, number == 2), policy, Taken()
        ).moved
        for number in range(3)
    ]
    assert moved == [False, False, True]


def test_only_so_many_are_judged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction stays short; the rest comes with the next."""
    monkeypatch.setattr(engine, "MAX_DUE", 2)
    desk = Desk()
    desk.take(*(versions.version({ALICE: n}, id=str(n), seconds=400) for n in range(1, 6)))
    desk.now += 400 * SECOND
    assert [due(desk).applied for _ in range(4)] == [2, 2, 1, 0]


# --- what leaves the table before


@pytest.mark.parametrize(
    ("version", "stays"),
    [
        (EARLY, False),
        (versions.version({ALICE: 2}), True),
        (versions.stone({ALICE: 1, BOB: 1}), True),
        (versions.version({BOB: 1}), True),
        (versions.version({ALICE: 2}, id="another"), True),
    ],
    ids=["the same", "a later version", "a delete that saw it", "a concurrent version", "another record"],
)
def test_what_came_in_leaves_the_table_and_what_is_superseded_stays(version: Version, *, stays: bool) -> None:
    """What it is superseded by may itself be superseded, by one that has not seen it, before it is due."""
    desk = Desk()
    desk.take(EARLY)
    desk.now += 200 * SECOND if version is EARLY else 0
    desk.take(version)
    assert (waiting(desk) == {EARLY.tag}) is stays


def test_what_is_kept_or_waits_already_is_not_set_aside_once_more() -> None:
    """However often it comes."""
    desk = Desk()
    desk.now += 200 * SECOND
    desk.take(EARLY)
    desk.now -= 200 * SECOND
    late = versions.version({BOB: 1}, id="x", seconds=400)
    for _ in range(2):
        desk.take(EARLY, late, late)
    assert [one.version.id for one in desk.store.waiting_all()] == ["x"]


@pytest.mark.parametrize("drops", ["nothing", "what is stale"])
def test_what_was_stale_when_it_came_is_taken_when_it_is_due(drops: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What superseded it is gone by then, by one that has not seen it, and nobody sends it again.

    Control: dropped as stale when it came, it is lost.
    """
    if drops == "what is stale":
        true = Receiver._set_aside

        def setting_aside(self: Receiver, peer: str, version: Version, room: int, full: bool) -> tuple[int, bool]:
            is_stale = any(supersedes(one.version, version) for one in desk.kept(version.key))
            return (room, full) if is_stale else true(self, peer, version, room, full)

        monkeypatch.setattr(Receiver, "_set_aside", setting_aside)
    desk = Desk()
    over_it = versions.version(over(EARLY, actor=BOB))
    desk.take(over_it)
    desk.take(EARLY)
    last = versions.version(over(over_it, actor=CAROL, unseen=(EARLY,)), seconds=1)
    desk.take(last)
    desk.now += 400 * SECOND
    due(desk)
    assert desk.tags() == ({last.tag, EARLY.tag} if drops == "nothing" else {last.tag})


def test_a_local_write_that_did_not_see_it_leaves_it_waiting() -> None:
    """When it is due it is a conflict, as it always was."""
    desk = Desk()
    mine = desk.write("x").version
    theirs = versions.version({ALICE: 1}, id=mine.id, seconds=400)
    desk.take(theirs)
    edited = desk.update(mine.key, content="other").version
    assert waiting(desk) == {theirs.tag}
    desk.now += 400 * SECOND
    due(desk)
    assert desk.tags(mine.key) == {edited.tag, theirs.tag}


def test_an_offer_of_what_waits_is_not_wanted() -> None:
    """It is here; the cursor moves on."""
    desk = Desk()
    desk.take(EARLY)
    taken = desk.take(offers=(Offer(EARLY.key, EARLY.tag),), to=TO)
    assert (taken.wanted, taken.moved) == ((), True)


# --- the table's limit


def small_table(monkeypatch: pytest.MonkeyPatch, count: int) -> list[Version]:
    """Versions from the future, and a table that holds so many of them."""
    early = [versions.version(id=f"early {n}", seconds=400) for n in range(1, 4)]
    monkeypatch.setattr(receive, "WAITING_LIMIT", sum(len(one.doc) for one in early[:count]))
    return early


def test_a_full_table_stops_the_cursor_and_raises_one_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits waits, what is not from the future is applied, and the page will come again."""
    early = small_table(monkeypatch, 1)
    desk = Desk()
    taken = desk.take(*early, versions.version({BOB: 1}), to=TO)
    assert (taken.full, taken.moved, taken.applied) == (True, False, 1)
    assert [alarm.kind for alarm in taken.alarms] == ["waiting_full"]
    assert waiting(desk) == {early[0].tag}
    assert [one.reason for one in taken.refused] == ["clock_skew"] * 3


def test_a_table_that_is_just_full_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit itself still fits."""
    desk = Desk()
    taken = desk.take(*small_table(monkeypatch, 3), to=TO)
    assert (taken.full, taken.moved, taken.alarms) == (False, True, ())


def test_the_cursor_moves_again_once_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same page, sent again when what waited has come in."""
    early = small_table(monkeypatch, 1)
    desk = Desk()
    assert not desk.take(*early[:2], to=TO).moved
    desk.now += 400 * SECOND
    due(desk)
    assert desk.take(*early[:2], to=TO).moved
    assert {one.id for one in early[:2]} == {key[1] for key in desk.store.everything()}


def test_each_peer_has_a_table_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One peer with a wrong clock takes no room from another."""
    early = small_table(monkeypatch, 1)
    desk = Desk()
    assert not desk.take(early[0], to=TO).full
    assert not desk.take(versions.version({BOB: 1}, id="early 9", seconds=400), peer="another", to=TO).full
    assert desk.take(early[1], to=TO, after=TO).full
    assert {one.peer for one in desk.store.waiting_all()} == {PEER, "another"}


def test_a_table_full_since_the_first_part_stops_the_cursor_in_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """However a page is cut into transactions."""
    early = small_table(monkeypatch, 0)
    desk = Desk()
    policy = Policy(versions.EVERYTHING, ANYBODY)
    page = desk.page(to=TO)
    first = desk.do(desk.engine.receive, page, receive.Part(early[:1], last=False), policy, Taken())
    last = desk.do(desk.engine.receive, page, receive.Part((), first=False), policy, first)
    assert (first.full, first.joined(last).full, last.moved) == (True, True, False)
