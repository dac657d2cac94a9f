"""Local writes: what create, update, move, rename and delete make of the feed, and the time and place of each."""

import random

import pytest
import versions
from keys import Nobody, agent_of
from versions import ALICE, BOB, ID, NOW, SECOND, Desk

from sync import lives, moment, writes
from sync.batch import Batch
from sync.draft import Fields
from sync.errors import RemoteError
from sync.ids import memory_id
from sync.lives import issued_by
from sync.merge import ordered
from sync.ports import Kept
from sync.record import load
from sync.version import Key, Version
from sync.writes import SKEW_BOUND, Missing, TitleTaken, Written, restate_future

X0, X1 = (("a", memory_id("a", "x", k)) for k in (0, 1))


def only(desk: Desk, key: Key) -> Version:
    """The one version that is kept of a key."""
    (one,) = desk.kept(key)
    return one.version


# --- create


def test_storing_a_new_title_makes_a_memory_with_the_titles_own_id() -> None:
    """Two nodes that store the same title make two versions of one record."""
    here, there = Desk(1), Desk(2)
    one, other = here.write("x", "here"), there.write("x", "there")
    assert (one.created, one.changed, one.version.key) == (True, True, X0)
    assert other.version.key == X0
    here.take(other.version)
    assert here.tags(X0) == {one.version.tag, other.version.tag}


def test_storing_under_a_title_that_exists_updates_that_memory() -> None:
    """Same id, first writer and creation time; what is not given stays."""
    desk = Desk()
    desk.write("x", "first", tags=["t"], priority=9)
    desk.now += SECOND
    again = desk.write("x", "second")
    memory = load(only(desk, X0).doc)
    assert (again.created, again.changed, again.version.key) == (False, True, X0)
    assert (memory.content, memory.tags, memory.priority) == ("second", ["t"], 9)
    assert (memory.created_at, memory.updated_at) == (moment.text(NOW), moment.text(NOW + SECOND))


def test_a_write_that_changes_nothing_takes_no_number() -> None:
    """Storing or updating the same again leaves version and feed as they are."""
    desk = Desk()
    first = desk.write("x")
    desk.now += SECOND
    for again in (desk.write("x"), desk.update(X0, content="text"), desk.update(X0)):
        assert again == Written(first.version, created=False, changed=False)
    assert desk.store.position().number == 1


def test_storing_again_renews_an_expiry_and_an_update_does_not() -> None:
    """What an agent stores once more lives as long again as a new memory would; nothing that lives for ever expires."""
    week = 7 * 86_400 * SECOND
    desk = Desk()
    desk.write("x", tier="mid")
    desk.now += 3_600 * SECOND
    desk.update(X0, content="other")
    assert load(only(desk, X0).doc).expires_at == moment.text(NOW + week)
    desk.write("x", "other", tier="mid")
    assert load(only(desk, X0).doc).expires_at == moment.text(desk.now + week)
    desk.update(X0, tier="long")
    desk.write("x", "again")
    assert not isinstance(load(only(desk, X0).doc).expires_at, str)


def test_a_title_that_was_renamed_away_is_free_and_its_next_memory_gets_another_id() -> None:
    """The renamed memory keeps the first id, so the second of that title has k = 1."""
    desk = Desk()
    desk.write("x", "first")
    assert desk.update(X0, title="y").version.key == X0
    second = desk.write("x", "second")
    assert (second.created, second.version.key) == (True, X1)
    assert load(only(desk, X0).doc).title == "y"
    assert desk.write("x", "third").version.key == X1


def test_a_deleted_title_comes_back_under_its_id_and_has_seen_the_delete() -> None:
    """So the tombstone does not win against it, anywhere."""
    desk = Desk()
    desk.write("x", "first")
    stone = desk.delete(X0).version
    again = desk.write("x", "second")
    assert (again.created, again.version.key) == (True, X0)
    assert again.version.context.names(stone.dot)
    assert desk.tags(X0) == {again.version.tag}


def test_the_writer_is_in_the_attestation_and_the_first_one_in_the_metadata() -> None:
    """An edit by another agent is signed by it, and leaves who first wrote the memory."""
    desk = Desk()
    desk.write("x")
    version = desk.do(desk.engine.update, X0, Fields(content="other"), "agent:second").version
    assert agent_of(version) == "agent:second"
    assert load(version.doc).metadata["agent_id"] == "agent:desk"


def test_one_invalid_draft_leaves_the_others_of_its_bulk_alone() -> None:
    """It is answered by its error, in its place."""
    desk = Desk()
    drafts = [(Fields(title=title, content="c", namespace="a"), "agent:x") for title in ("x", "", "x", "y")]
    first, bad, again, last = desk.do(desk.engine.store_many, drafts)
    assert isinstance(bad, RemoteError)
    assert (first.created, again.created, again.version.key, last.created) == (True, False, X0, True)
    assert len(desk.store.everything()) == 2


def test_a_title_stored_twice_in_one_bulk_is_one_memory() -> None:
    """The second draft finds what the first one made in the same transaction, and what a rename in it freed."""
    desk = Desk()
    drafts = [(Fields(title="x", content=str(n), namespace="a"), "agent:x") for n in range(3)]
    results = desk.do(desk.engine.store_many, drafts)
    assert {result.version.key for result in results} == {X0}
    assert load(only(desk, X0).doc).content == "2"
    assert desk.store.position().number == 3


# --- update, move, delete


@pytest.mark.parametrize("verb", ["update", "delete"])
def test_what_is_not_there_is_missing(verb: str) -> None:
    """Neither a key that never was nor a deleted one can be changed or deleted."""
    desk = Desk()
    desk.write("x")
    desk.delete(X0)
    number = desk.store.position().number
    for key in (X0, ("a", "never")):
        assert (desk.update(key, content="y") if verb == "update" else desk.delete(key)) == Missing()
    assert desk.store.position().number == number


def test_no_more_than_so_many_ids_of_a_title_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer may take as many of them as it likes, under other titles; the memory gets an id that nobody could know."""
    desk = Desk()
    ids = [memory_id("a", "x", k) for k in range(200)]
    desk.take(*(versions.version({ALICE: 1 + k}, id=one, title=f"taken {k}") for k, one in enumerate(ids)))
    looked = []
    true = writes._is_memory
    monkeypatch.setattr(writes, "_is_memory", lambda batch, key: (looked.append(key), true(batch, key))[1])
    first, second = (desk.write("x", text).version for text in ("one", "two"))
    assert first.id not in ids
    assert (first.id, load(second.doc).content) == (second.id, "two")
    assert len(looked) <= writes.MAX_TRIED + 1


@pytest.mark.parametrize("fields", [{"title": "y"}, {"namespace": "b"}], ids=["rename", "move"])
def test_a_title_that_another_memory_has_is_taken(fields: dict[str, str]) -> None:
    """A rename or a move onto it changes nothing and names the other; onto its own title it is no collision."""
    desk = Desk()
    desk.write("x")
    other = desk.write(**{"title": "x", "content": "other", **fields})
    before = desk.store.position()
    assert desk.update(X0, **fields) == TitleTaken(other.version.id)
    assert desk.store.position() == before
    assert isinstance(desk.update(X0, title="x", content="mine"), Written)


def test_a_move_is_a_tombstone_there_and_the_same_id_here() -> None:
    """In one transaction; who may read only the old place learns of a delete and of nothing else."""
    desk = Desk()
    desk.write("x", "secret")
    moved = desk.update(X0, namespace="b").version
    stone = only(desk, X0)
    assert (moved.namespace, moved.id, load(moved.doc).content) == ("b", X0[1], "secret")
    assert (stone.kind, stone.title) == ("t", "")
    assert b"secret" not in stone.doc
    assert b'"b"' not in stone.doc


def test_a_moved_memory_never_takes_the_place_of_a_renamed_one() -> None:
    """Where its id belongs to a memory that was renamed there, the one that moves gets the title's next id."""
    desk = Desk()
    desk.write("x", "first")
    first = desk.update(X0, namespace="b").version.key
    desk.update(first, title="y")
    assert desk.write("x", "second").version.key == X0
    second = desk.update(X0, namespace="b").version
    assert load(only(desk, first).doc).content == "first"
    assert load(only(desk, second.key).doc).content == "second"
    assert second.key == ("b", memory_id("b", "x", 0))
    assert only(desk, X0).kind == "t"


def test_without_a_look_at_the_place_a_moved_memory_overwrites_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with the id that it had, one of the two is gone."""
    monkeypatch.setattr(writes, "_free_id", lambda *_: X0[1])
    with pytest.raises(AssertionError):
        test_a_moved_memory_never_takes_the_place_of_a_renamed_one()


def test_a_move_may_rename_and_edit_at_once() -> None:
    """And may come back to a place that it left."""
    desk = Desk()
    desk.write("x")
    moved = desk.update(X0, namespace="b", title="y", content="other").version
    assert (moved.title, load(moved.doc).content) == ("y", "other")
    back = desk.update(moved.key, namespace="a", title="x").version
    assert back.key == X0
    assert only(desk, moved.key).kind == "t"


def test_an_edit_settles_the_conflict_that_it_has_seen() -> None:
    """Its context covers all that was kept, so every node that gets it keeps this one alone."""
    desk = Desk()
    desk.take(versions.version({ALICE: 1}, content="1"), versions.version({BOB: 1}, content="2"))
    assert len(desk.kept()) == 2
    settled = desk.update(("a", ID), content="both").version
    assert desk.tags() == {settled.tag}
    assert {entry.actor for entry in settled.context} == {ALICE, BOB}
    assert settled.depth == 2


def test_saying_the_winner_again_settles_a_conflict() -> None:
    """With a conflict there is something to write even where nothing else changes."""
    desk = Desk()
    desk.take(versions.version({ALICE: 1}, content="1"), versions.version({BOB: 1}, content="2", seconds=1))
    written = desk.update(("a", ID), content="2")
    assert written.changed
    assert desk.tags() == {written.version.tag}


def test_a_look_up_by_title_answers_the_winner_of_two_that_share_it() -> None:
    """Both stay; storing under the title updates the later one."""
    desk = Desk()
    desk.write("x", "mine")
    desk.take(versions.version(content="theirs", seconds=60))
    assert desk.write("x", "new").version.key == ("a", ID)
    assert load(only(desk, X0).doc).content == "mine"


# --- dot and time


def test_each_write_takes_the_next_number_and_a_counter_that_proves_it() -> None:
    """Whatever the kind of write, its counter names the number of its commit and bears the life's MAC."""
    desk = Desk()
    life = desk.store.lives()[-1]
    desk.write("x")
    desk.update(X0, content="other")
    desk.update(X0, namespace="b")
    desk.delete(("b", X0[1]))
    for key, number in desk.store.numbers().items():
        version = only(desk, key)
        assert issued_by(life, version.key, version.dot)
        assert (version.dot.actor, version.dot.number) == (life.actor, number)
    assert sorted(desk.store.numbers().values()) == [3, 5]


# seconds from now at which kept versions were written: when the next write says that it was
TIMES = {
    "nothing kept": ((), 0),
    "an older one": ((-60,), 0),
    "one of this very moment": ((0,), 0.000001),
    "one ahead": ((200,), 200.000001),
    "one at the bound": ((300,), 300.000001),
    "one beyond the bound": ((300.000001,), 0),
    "one a year ahead": ((31_536_000,), 0),
    "one ahead and one beyond": ((200, 400), 200.000001),
}


@pytest.mark.parametrize("case", TIMES)
def test_a_write_is_later_than_what_it_replaces_unless_that_is_not_believed(case: str) -> None:
    """The time of now, or a microsecond after the newest kept version that lies at most 300 s ahead."""
    seconds, expected = TIMES[case]
    desk = Desk()
    desk.now = NOW + 10**9 * SECOND  # so that all of these are taken in
    desk.take(*(versions.version({f"{n:016x}": 1}, seconds=s, id=X0[1]) for n, s in enumerate(seconds)))
    assert len(desk.kept(X0)) == len(seconds)
    desk.now = NOW
    written = desk.write("x", "new").version
    assert written.at == moment.text(NOW + round(expected * SECOND))
    assert desk.tags(X0) == {written.tag}


def test_the_bound_is_300_seconds() -> None:
    """For writes and for what is received alike."""
    assert SKEW_BOUND == 300 * SECOND


def test_without_the_bound_a_clock_a_year_ahead_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: it is the bound that keeps one wrong clock from spreading."""
    monkeypatch.setattr(writes, "SKEW_BOUND", 10**8 * SECOND)
    with pytest.raises(AssertionError):
        test_a_write_is_later_than_what_it_replaces_unless_that_is_not_believed("one a year ahead")


def test_only_what_is_ours_and_beyond_the_bound_is_written_again() -> None:
    """Of a key: what others wrote is theirs to write again, and what lies at the bound is believed as it is."""
    at_bound, beyond = SKEW_BOUND // SECOND, SKEW_BOUND // SECOND + 1
    some = {
        "ours of now": (0, None),
        "ours at the bound": (at_bound, None),
        "ours beyond it": (beyond, None),
        "theirs beyond it": (beyond, 0),
    }
    kept = [
        Kept(versions.version({f"{n:016x}": 1}, content=name, seconds=seconds), giver)
        for n, (name, (seconds, giver)) in enumerate(some.items())
    ]
    desk = Desk()
    batch = Batch(desk.store, lives.minting(random.Random(2).randbytes))
    batch.put(("a", ID), ordered(kept))
    restate_future(batch, ("a", ID), Nobody(), moment.text(NOW + SKEW_BOUND), NOW)
    found = {load(one.version.doc).content: one for one in batch.kept(("a", ID))}
    assert [name for name in some if found[name] not in kept] == ["ours beyond it"]
    assert len(found) == len(some)
    assert found["ours beyond it"].version.at == moment.text(NOW + SKEW_BOUND + 1)
