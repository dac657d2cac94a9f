"""What a version says of our own lives: lies are survived and told, truths that we forgot prove a rollback."""

from dataclasses import dataclass, field, replace

import pytest
import versions
from keys import agent_of
from stamps import UNKNOWN, over
from versions import ALICE, BOB, CAROL, PEER, SECOND, Desk

from sync import claims, lives, writes
from sync.attest import Stamp
from sync.context import Context
from sync.dot import Dot
from sync.merge import supersedes
from sync.ports import Kept
from sync.record import Refused, load, read
from sync.version import Key, Version

TO = f"{ALICE}.1.1.00112233445566aa.0123abcd"


def claim(desk: Desk, about: str = "") -> Dot:
    """A far greater number of one of our lives than it ever reached."""
    return Dot(about or desk.life, (10**6 << 20) | 12_345, UNKNOWN)


def lie(desk: Desk, key: Key, *seen: Version, about: str = "", counter: int = 1) -> Version:
    """A version by a liar who claims that, besides what it has truly seen."""
    stamp = over(*seen, actor=CAROL, counter=counter, depth=99, lies=(claim(desk, about),))
    return versions.version(stamp, id=key[1], content=f"lie {counter}", title="x")


def contents(desk: Desk, key: Key) -> set[str]:
    return {load(one.version.doc).content for one in desk.kept(key)}


def kinds(desk: Desk, *some: Version) -> list[str]:
    return [alarm.kind for alarm in desk.take(*some).alarms]


# --- lies


@pytest.mark.parametrize("is_over", [False, True], ids=["of the live life", "of an ended life"])
def test_a_lie_about_a_life_of_ours_hides_nothing(*, is_over: bool) -> None:
    """What it would hide is written again by an actor that writes once, with its content and time."""
    desk = Desk()
    mine, about = desk.write("x", "mine").version, desk.life
    if is_over:
        desk.begin(lives.START)
    liar = lie(desk, mine.key, about=about)
    taken = desk.take(liar)
    (alarm,) = taken.alarms
    assert (alarm.kind, alarm.peer) == ("forged_claim", PEER)
    assert agent_of(liar) in alarm.detail
    assert contents(desk, mine.key) == {"mine", "lie 1"}
    again = next(one for one in desk.kept(mine.key) if one.version.tag != liar.tag)
    assert (again.version.at, again.version.content, again.giver) == (mine.at, mine.content, None)
    assert (again.version.context.entries, again.version.depth) == ((mine.dot,), mine.depth + 1)
    assert again.version.dot.actor not in {life.actor for life in desk.store.lives()}
    assert [life.reason for life in desk.store.lives()] == [lives.START] * (1 + is_over)
    assert (taken.applied, taken.life) == (1, desk.life)


def test_without_the_look_at_what_it_hides_an_honest_write_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: it is the check of the claim that keeps it."""
    monkeypatch.setattr(claims, "is_seen", lambda *_: True)
    desk = Desk()
    mine = desk.write("x", "mine").version
    assert kinds(desk, lie(desk, mine.key)) == ["forged_claim"]
    assert contents(desk, mine.key) == {"lie 1"}


def test_other_content_under_the_counter_of_our_write_hides_nothing() -> None:
    """An edit of the copy names the copy, whatever number it has: ours stays beside it."""
    desk = Desk()
    mine = desk.write("x", "mine").version
    under_it = Stamp(mine.context, mine.depth, lambda check: Dot(mine.dot.actor, mine.dot.counter, check))
    copy = versions.version(under_it, id=mine.id, content="a copy", title="x")
    edit = versions.version(over(copy, actor=ALICE), id=mine.id, content="an edit of it", title="x")
    (alarm,) = desk.take(edit).alarms
    assert alarm.kind == "forged_claim"
    assert contents(desk, mine.key) == {"mine", "an edit of it"}
    # Whoever edits what a liar wrote takes over what it says to have seen: that is no lie of theirs.
    assert "says it has seen writes of this node that it never made; it may have taken that over" in alarm.detail


def test_whoever_signs_under_a_life_of_ours_is_named_without_an_excuse() -> None:
    desk = Desk()
    mine = desk.write("x", "mine").version
    forged = Stamp(mine.context, 99, lambda check: Dot(mine.dot.actor, claim(desk).counter, check))
    (alarm,) = desk.take(versions.version(forged, id=mine.id, content="a lie", title="x")).alarms
    assert "claims writes of this node" in alarm.detail
    assert "taken that over" not in alarm.detail


def test_a_deleted_memory_does_not_come_back_by_a_lie() -> None:
    """Our tombstone is written again beside it, like any other version."""
    desk = Desk()
    mine = desk.write("x", "mine").version
    desk.delete(mine.key)
    desk.take(lie(desk, mine.key))
    assert {one.version.kind for one in desk.kept(mine.key)} == {"m", "t"}


def test_a_lie_under_a_counter_that_ours_has_seen_is_stale_by_what_is_written_again() -> None:
    """The liar signs a second thing below a counter of its own that our write has seen, no deeper than our write."""
    desk = Desk()
    first = versions.version(over(actor=CAROL, counter=5), title="x", content="first")
    desk.take(first)
    mine = desk.update(first.key, content="mine").version
    stamp = over(actor=CAROL, counter=3, depth=mine.depth, lies=(claim(desk),))
    late = versions.version(stamp, id=first.id, content="lie", title="x", seconds=200)
    assert supersedes(late, mine)
    assert not supersedes(mine, late)
    assert kinds(desk, late, late) == ["forged_claim"]
    assert contents(desk, mine.key) == {"mine"}


def test_what_others_wrote_is_not_ours_to_write_again() -> None:
    """A lie about us that has also seen a version of another supersedes that one; only its author can tell."""
    desk = Desk()
    theirs = versions.version({ALICE: 3}, title="x")
    desk.take(theirs)
    desk.take(lie(desk, theirs.key, theirs))
    assert contents(desk, theirs.key) == {"lie 1"}


def test_a_write_over_a_lie_is_by_an_actor_that_nobody_lied_about() -> None:
    """So it cannot be hidden by that lie, and every reader takes it: no counter of its own actor lies above it."""
    desk = Desk()
    key = ("a", versions.ID)
    assert kinds(desk, lie(desk, key)) == ["forged_claim"]
    written = desk.update(key, content="mine").version
    assert contents(desk, key) == {"mine"}
    assert written.dot.actor not in {life.actor for life in desk.store.lives()}
    assert read(written.doc, "m") == written
    assert desk.write("y").version.dot.actor == desk.life, "a counter holds for one key, and a lie as well"


def test_whatever_number_a_lie_names_a_write_over_it_is_taken() -> None:
    """The one that the write would have had, as those around it."""
    for number in range(1, 9):
        desk = Desk()
        mine = desk.write("x", "mine").version
        told = Dot(desk.life, (number << 20) | 12_345, UNKNOWN)
        stamp = over(actor=CAROL, depth=99, lies=(told,))
        desk.take(versions.version(stamp, id=mine.id, title="x", content="lie"))
        written = desk.write("x", "over it").version
        assert read(written.doc, "m") == written, number
        assert contents(desk, mine.key) == {"over it"}


def test_without_that_look_a_write_over_a_lie_is_taken_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: under the life's own counter it says that it has seen later writes of its own."""
    monkeypatch.setattr(writes, "_is_lied_about", lambda *_: False)
    desk = Desk()
    desk.take(lie(desk, ("a", versions.ID)))
    found = read(desk.update(("a", versions.ID), content="mine").version.doc, "m")
    assert isinstance(found, Refused)
    assert "less than the version's own" in found.detail


def test_a_lie_that_others_built_on_is_seen_through_again() -> None:
    """Taken in while it hid nothing, it must not hide our write once an honest node joined it to what it knew."""
    desk = Desk()
    theirs = versions.version({ALICE: 1}, title="x", content="theirs")
    desk.take(theirs)
    mine = desk.update(("a", versions.ID), content="mine").version
    liar = lie(desk, mine.key)
    assert kinds(desk, liar) == ["forged_claim"]
    joined = versions.version(over(theirs, liar, actor=ALICE, counter=2), title="x", content="honest")
    assert kinds(desk, joined) == []
    assert contents(desk, mine.key) == {"mine", "honest"}
    assert len(desk.store.lives()) == 1


def test_what_was_written_again_once_is_not_written_again() -> None:
    """A version that truly saw it supersedes it, lie or no lie in its context."""
    desk = Desk()
    mine = desk.write("x", "mine").version
    liar = lie(desk, mine.key)
    desk.take(liar)
    kept = [one.version for one in desk.kept(mine.key)]
    settled = versions.version(over(*kept, actor=BOB), id=mine.id, title="x", content="settled")
    assert kinds(desk, settled) == []
    assert contents(desk, mine.key) == {"settled"}


def test_lies_are_answered_however_often_they_come_and_begin_no_life() -> None:
    """About the life, and about each actor that wrote once because of the lie before."""
    desk = Desk()
    mine = desk.write("x", "mine").version
    about = desk.life
    for n in range(1, 5):
        desk.take(lie(desk, mine.key, about=about, counter=n))
        assert "mine" in contents(desk, mine.key)
        (again,) = [one.version for one in desk.kept(mine.key) if one.giver is None]
        about = again.dot.actor
    assert len(desk.store.lives()) == 1


def test_a_counter_of_another_record_is_a_lie() -> None:
    """A true counter, moved from one key to another, does not bear that key's MAC."""
    desk = Desk()
    mine = desk.write("x", "mine").version
    other = desk.write("y", "other").version
    stolen = versions.version(over(other, actor=CAROL), id=mine.id, title="x", content="stolen")
    assert kinds(desk, stolen) == ["forged_claim"]
    assert contents(desk, mine.key) == {"mine", "stolen"}


def test_an_honest_edit_of_our_memory_is_no_lie() -> None:
    """It names our write because it saw it; or a later one of that life."""
    desk = Desk()
    mine = desk.write("x", "mine").version
    edit = versions.version(over(mine, actor=ALICE), id=mine.id, title="x", content="edited")
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


def test_a_number_that_was_given_again_proves_nothing() -> None:
    """A store that lost one write and made another has given as many numbers as the lost one says."""
    desk = Desk()
    desk.write("x")
    old = desk.store.copy()
    lost = desk.write("y").version
    desk.store.restore(old)
    desk.write("z")
    assert desk.store.position().number == lost.dot.number
    assert kinds(desk, lost) == []
    assert desk.tags(lost.key) == {lost.tag}


def test_a_lie_that_is_kept_is_told_once() -> None:
    """Its signed copy says no more than it did."""
    desk = Desk()
    liar = versions.version(Stamp(Context(), 1, lambda check: Dot(desk.life, 10**6 << 20, check)))
    assert kinds(desk, liar) == ["forged_claim"]
    signed = replace(liar, signature=b"s" * 64, tag=b"")
    assert kinds(desk, signed) == []
    assert desk.tags(liar.key) == {signed.tag}


# --- one counter, used twice


def _twins() -> tuple[Version, list[Kept]]:
    signed = [versions.version({ALICE: 1}, content=text, signature=b"s" * 64) for text in ("one", "two")]
    return signed[1], [Kept(one, 0) for one in signed]


@pytest.mark.parametrize("keys", [1, 2])
def test_of_two_keys_none_is_accused_alone(keys: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A liar has only to sign something under a counter that it read: then whose the counter is has done nothing."""
    version, kept = _twins()
    monkeypatch.setattr(claims, "signed_by", lambda one: f"key {load(one.doc).content if keys == 2 else 'one'}")
    told = claims.equivocation(version, kept, claims.Own((), {}, 0))
    assert told is not None and "under one counter" in told
    assert ("or one of these took the other's counter to accuse it" in told) is (keys == 2)


@pytest.mark.parametrize("is_copied", [False, True], ids=["taken", "of a copied node"])
def test_under_a_counter_of_ours_a_lie_is_no_twin(monkeypatch: pytest.MonkeyPatch, *, is_copied: bool) -> None:
    """That is a forged claim, and told as one. Both are ours only where this node was copied, with its secret."""
    version, kept = _twins()
    true = {one.version.dot for one in kept if is_copied or one.version is not version}
    monkeypatch.setattr(lives, "issued_by", lambda life, key, dot: dot in true)
    own = claims.Own((lives.Life(ALICE, 0, b"s" * 32, lives.START),), {ALICE: 0}, 1)
    assert (claims.equivocation(version, kept, own) is not None) is is_copied
