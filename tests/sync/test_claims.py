"""What a version says of our own lives: lies are survived and told, truths that we forgot prove a rollback."""

from dataclasses import dataclass, field

import pytest
import versions
from keys import agent_of
from versions import ALICE, BOB, CAROL, PEER, SECOND, Desk

from sync import lives
from sync.clock import covers
from sync.receive import Receiver
from sync.record import load
from sync.version import Key, Version

TO = f"{ALICE}.1.1.00112233445566aa.0123abcd"


def lie(desk: Desk, key: Key, *, about: str = "", seen: dict[str, int] | None = None) -> Version:
    """A version by a liar who claims a far greater number of one of our lives than it ever reached."""
    claim = {about or desk.life: (10**6 << 20) | 12_345}
    return versions.version({CAROL: 1, **(seen or {}), **claim}, id=key[1], content="a lie", title="x")


def contents(desk: Desk, key: Key) -> set[str]:
    return {load(one.version.doc).content for one in desk.kept(key)}


def kinds(desk: Desk, *some: Version) -> list[str]:
    return [alarm.kind for alarm in desk.take(*some).alarms]


# --- lies


def test_a_lie_about_the_live_life_hides_nothing() -> None:
    """What it would hide is written again under a new life, with its content and time; then the lie is let in."""
    desk = Desk()
    mine = desk.write("x", "mine").version
    liar = lie(desk, mine.key)
    taken = desk.take(liar)
    (alarm,) = taken.alarms
    assert (alarm.kind, alarm.peer) == ("forged_claim", PEER)
    assert agent_of(liar) in alarm.detail
    assert contents(desk, mine.key) == {"mine", "a lie"}
    again = next(one for one in desk.kept(mine.key) if one.version.tag != liar.tag)
    assert (again.version.at, again.version.content, again.giver) == (mine.at, mine.content, None)
    assert covers(again.version.clock, mine.clock)
    assert [life.reason for life in desk.store.lives()] == [lives.START, lives.FORGED_CLAIM]
    assert set(again.version.clock) == {*mine.clock, desk.life}
    assert (taken.applied, taken.life) == (1, desk.life)


def test_without_the_check_a_lie_makes_an_honest_write_vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: it is the check of the claim that keeps it."""
    monkeypatch.setattr(Receiver, "_check_claims", lambda *_: None)
    desk = Desk()
    mine = desk.write("x", "mine").version
    assert kinds(desk, lie(desk, mine.key)) == []
    assert contents(desk, mine.key) == {"a lie"}


def test_a_lie_about_an_ended_life_begins_no_new_one() -> None:
    """Nothing more can be issued in it; what it would hide is written again all the same."""
    desk = Desk()
    mine = desk.write("x", "mine").version
    ended = desk.life
    desk.begin(lives.START)
    assert kinds(desk, lie(desk, mine.key, about=ended)) == ["forged_claim"]
    assert contents(desk, mine.key) == {"mine", "a lie"}
    assert [life.reason for life in desk.store.lives()] == [lives.START] * 2


def test_a_deleted_memory_does_not_come_back_by_a_lie() -> None:
    """Our tombstone is written again beside it, like any other version."""
    desk = Desk()
    mine = desk.write("x", "mine").version
    desk.delete(mine.key)
    desk.take(lie(desk, mine.key))
    assert {one.version.kind for one in desk.kept(mine.key)} == {"m", "t"}


def test_what_others_wrote_is_not_ours_to_write_again() -> None:
    """A lie about us that also claims a true version of another supersedes that one; only its author can tell."""
    desk = Desk()
    theirs = versions.version({ALICE: 3}, title="x")
    desk.take(theirs)
    desk.take(lie(desk, theirs.key, seen={ALICE: 3}))
    assert contents(desk, theirs.key) == {"a lie"}


def test_a_lie_that_hides_nothing_is_told_and_ends_the_life() -> None:
    """So that it cannot hide what this life would have written next."""
    desk = Desk()
    key = ("a", versions.ID)
    assert kinds(desk, lie(desk, key)) == ["forged_claim"]
    assert [life.reason for life in desk.store.lives()] == [lives.START, lives.FORGED_CLAIM]
    desk.update(key, content="mine")
    assert contents(desk, key) == {"mine"}


def test_a_lie_that_others_built_on_is_seen_through_again() -> None:
    """Taken in while it hid nothing, it must not hide our write once an honest node joined it to what it knew."""
    desk = Desk()
    desk.take(versions.version({ALICE: 1}, title="x", content="theirs"))
    mine = desk.update(("a", versions.ID), content="mine").version
    liar = lie(desk, mine.key)
    assert kinds(desk, liar) == ["forged_claim"]
    assert contents(desk, mine.key) == {"mine", "a lie"}
    joined = versions.version({**liar.clock, ALICE: 2}, title="x", content="honest")
    assert kinds(desk, joined) == []
    assert contents(desk, mine.key) == {"mine", "honest"}
    assert len(desk.store.lives()) == 2


def test_what_was_written_again_once_is_not_written_again() -> None:
    """A version that truly saw it supersedes it, lie or no lie in its clock."""
    desk = Desk()
    mine = desk.write("x", "mine").version
    liar = lie(desk, mine.key)
    desk.take(liar)
    seen = {actor: n for one in desk.kept(mine.key) for actor, n in one.version.clock.items()} | liar.clock
    assert kinds(desk, versions.version({**seen, BOB: 1}, id=mine.id, title="x", content="settled")) == []
    assert contents(desk, mine.key) == {"settled"}


def test_lies_are_answered_however_often_they_come() -> None:
    """The hourly limit on new lives is for proofs of a rollback: each lie about the live life begins another."""
    desk = Desk()
    mine = desk.write("x", "mine").version
    for n in range(1, 5):
        assert kinds(desk, lie(desk, mine.key, seen={CAROL: n})) == ["forged_claim"]
        assert "mine" in contents(desk, mine.key)
    assert [life.reason for life in desk.store.lives()] == [lives.START, *[lives.FORGED_CLAIM] * 4]


def test_a_counter_of_another_record_is_a_lie() -> None:
    """A true counter, moved from one key to another, does not bear that key's MAC."""
    desk = Desk()
    mine = desk.write("x", "mine").version
    other = desk.write("y", "other").version
    stolen = versions.version({CAROL: 1, **other.clock}, id=mine.id, title="x", content="stolen")
    assert kinds(desk, stolen) == ["forged_claim"]
    assert contents(desk, mine.key) == {"mine", "stolen"}


def test_an_honest_edit_of_our_memory_is_no_lie() -> None:
    """Its clock has our counter because it saw our write."""
    desk = Desk()
    mine = desk.write("x", "mine").version
    edit = versions.version({**mine.clock, ALICE: 1}, id=mine.id, title="x", content="edited")
    assert kinds(desk, edit) == []
    assert contents(desk, mine.key) == {"edited"}
    assert len(desk.store.lives()) == 1


# --- truths that we forgot


@dataclass
class Restored:
    """A desk whose store was replaced by an older copy, unannounced, and what it had written since."""

    desk: Desk = field(default_factory=Desk)
    lost: list[Version] = field(default_factory=list)

    def __post_init__(self) -> None:
        desk = self.desk
        desk.take(versions.version({BOB: 1}, id="theirs", title="theirs"), to=TO)
        old = desk.store.copy()
        self.lost = [desk.write(title).version for title in "xyz"]
        desk.store.restore(old)
        desk.begin(lives.START)


def test_a_true_claim_beyond_what_we_issued_proves_a_rollback() -> None:
    """A new life begins, cursors on all peers are forgotten, the version is taken in, and the operator is told."""
    world = Restored()
    desk = world.desk
    assert desk.store.peer(PEER).held
    taken = desk.take(world.lost[0])
    assert [alarm.kind for alarm in taken.alarms] == ["rolled_back"]
    assert desk.store.lives()[-1].reason == lives.ROLLED_BACK
    assert (desk.store.peer(PEER).held, taken.moved) == ((), False)
    assert desk.tags(world.lost[0].key) == {world.lost[0].tag}


def test_one_rollback_is_proven_once() -> None:
    """All that comes back from before it belongs to the same rollback, from whomever and whenever it comes."""
    world = Restored()
    desk = world.desk
    assert kinds(desk, world.lost[0]) == ["rolled_back"]
    assert kinds(desk, world.lost[1]) == []
    desk.now += 2 * 3600 * SECOND
    assert [alarm.kind for alarm in desk.take(world.lost[2], peer="another").alarms] == []
    assert len(desk.store.lives()) == 3
    assert {one.tag for one in world.lost} <= {one[0].version.tag for one in desk.store.everything().values()}


def test_the_same_peer_proves_another_rollback_only_an_hour_later() -> None:
    """It cannot make us begin a life with each page; its versions are taken in all the same."""
    world = Restored()
    desk = world.desk
    assert kinds(desk, world.lost[0]) == ["rolled_back"]
    for wait, expected in ((0, []), (3_599, []), (3_600, ["rolled_back"])):
        old = desk.store.copy()
        lost = desk.write(f"after {wait}").version
        desk.store.restore(old)
        desk.begin(lives.START)
        desk.now = versions.NOW + wait * SECOND
        assert kinds(desk, lost) == expected
        assert desk.tags(lost.key) == {lost.tag}


def test_what_came_with_the_proof_has_no_giver() -> None:
    """The page moved no cursor, since all of them were forgotten in its transaction."""
    world = Restored()
    page = {"after": TO, "to": TO.replace(".1.1.", ".2.2.")}
    taken = world.desk.take(world.lost[0], versions.version({BOB: 2}, id="new"), **page)
    assert (taken.moved, taken.have) == (False, None)
    cut = world.desk.cut(made_for=ALICE)
    assert cut.page.count == 3


def test_a_claim_that_we_can_have_issued_proves_nothing() -> None:
    """Our own version, coming back while we still hold it or after it was superseded."""
    desk = Desk()
    first = desk.write("x", "first").version
    second = desk.write("x", "second").version
    desk.begin(lives.START)
    for version in (first, second):
        assert kinds(desk, version) == []
    assert desk.tags(first.key) == {second.tag}
    assert len(desk.store.lives()) == 2
