"""Conflicts settled by somebody's word: what is written, what is refused, and that nodes agree in any order."""

from collections.abc import Sequence
from typing import Any

import pytest
import versions
from hypothesis import given
from hypothesis import strategies as st
from keys import agent_of
from stamps import over
from versions import ALICE, BOB, CAROL, ID, SECOND, Desk

from sync import settle, writes
from sync.context import NOTHING
from sync.draft import Fields
from sync.errors import RemoteError
from sync.link import ends
from sync.merge import ordered, supersedes
from sync.ports import Kept
from sync.record import load
from sync.settle import Changed, Choice, Delete, Keep, Replace, Settled, Unanimous, lost_by
from sync.version import Key, Version

KEY = ("a", ID)
OURS = versions.version({ALICE: 1}, content="ours", seconds=2, tags=["t"], priority=9)
THEIRS = versions.version({BOB: 1}, content="theirs", seconds=1)
STONE = versions.stone({CAROL: 1}, seconds=3)
LINK = versions.link({ALICE: 1}, seconds=1)
UNLINK = versions.unlink({BOB: 1}, seconds=2)


def desk_with(*some: Version, seed: int = 1) -> Desk:
    desk = Desk(seed)
    desk.now += 10 * SECOND
    desk.take(*some)
    return desk


def resolve(desk: Desk, choice: Choice, seen: frozenset[bytes] | None = None, key: Key = KEY) -> Any:
    return desk.do(desk.engine.resolve, key, choice, desk.tags(key) if seen is None else seen, "agent:judge")


def only(desk: Desk, key: Key = KEY) -> Version:
    (one,) = desk.kept(key)
    return one.version


# --- what goes on


@pytest.mark.parametrize(
    ("choice", "kind", "content"),
    [
        (Keep(), "m", "ours"),
        (Keep(OURS.tag), "m", "ours"),
        (Keep(THEIRS.tag), "m", "theirs"),
        (Delete(), "t", None),
        (Replace("both"), "m", "both"),
        (Replace("ours"), "m", "ours"),
    ],
)
def test_one_version_goes_on_and_has_seen_all(choice: Choice, kind: str, content: str | None) -> None:
    """It is a local write of whoever settles, later than all, and has seen them all."""
    desk = desk_with(OURS, THEIRS)
    result = resolve(desk, choice)
    assert isinstance(result, Settled)
    version = only(desk)
    assert (result.version, result.let_go) == (version, (OURS, THEIRS))
    assert (version.kind, agent_of(version)) == (kind, "agent:judge")
    assert version.at > OURS.at
    assert supersedes(version, OURS)
    assert supersedes(version, THEIRS)
    if content is not None:
        assert load(version.doc).content == content


def test_what_is_kept_goes_on_whole_and_a_merged_text_has_the_winners_fields() -> None:
    """Title, tags, priority and first writer are those of the version that was chosen, or that wins."""
    desk = desk_with(OURS, THEIRS)
    resolve(desk, Keep(THEIRS.tag))
    memory = load(only(desk).doc)
    assert (memory.tags, memory.priority, memory.metadata["agent_id"]) == ([], 5, "agent:other")
    desk = desk_with(OURS, THEIRS)
    resolve(desk, Replace("both"))
    memory = load(only(desk).doc)
    assert (memory.tags, memory.priority) == (["t"], 9)


@pytest.mark.parametrize("choice", [Keep(), Keep(STONE.tag), Delete()])
def test_a_delete_that_goes_on_is_confirmed(choice: Choice) -> None:
    """The tombstone is a new one that has seen the edit made apart, so no node shows the edit any more."""
    desk = desk_with(OURS, STONE)
    resolve(desk, choice)
    assert only(desk).kind == "t"
    assert supersedes(only(desk), OURS)
    assert supersedes(only(desk), STONE)


def test_an_edit_that_lost_against_a_delete_is_brought_back() -> None:
    """As it was, or with a text merged by hand into the fields of the greatest memory."""
    desk = desk_with(OURS, THEIRS, STONE)
    resolve(desk, Keep(THEIRS.tag))
    assert load(only(desk).doc).content == "theirs"
    desk = desk_with(OURS, THEIRS, STONE)
    resolve(desk, Replace("both"))
    memory = load(only(desk).doc)
    assert (memory.content, memory.tags) == ("both", ["t"])
    assert all(supersedes(only(desk), one) for one in (OURS, THEIRS, STONE))


@pytest.mark.parametrize(
    ("choice", "kind"),
    [(Keep(), "u"), (Keep(LINK.tag), "l"), (Keep(UNLINK.tag), "u"), (Delete(), "u")],
)
def test_links_are_settled_like_memories(choice: Choice, kind: str) -> None:
    """The link stands again, or stays taken back."""
    desk = desk_with(LINK, UNLINK)
    resolve(desk, choice, key=LINK.key)
    version = only(desk, LINK.key)
    assert (version.kind, ends(version.id)) == (kind, ends(LINK.id))


def test_two_links_are_taken_back_by_a_delete() -> None:
    """Where the winner is a link, it is an unlink that goes on."""
    desk = desk_with(LINK, versions.link({BOB: 1}, seconds=2))
    resolve(desk, Delete(), key=LINK.key)
    assert only(desk, LINK.key).kind == "u"


# --- what is refused


def test_nothing_is_let_go_that_was_not_seen() -> None:
    """A version that came after the look refuses the settling, and so does one that is gone; nothing is written."""
    desk = desk_with(OURS, THEIRS)
    seen = frozenset(desk.tags())
    desk.take(STONE)
    for tags in (seen, seen | {STONE.tag, b"x" * 16}, frozenset[bytes]()):
        before = desk.store.position()
        assert resolve(desk, Keep(), tags) == Changed((STONE, OURS, THEIRS))
        assert desk.store.position() == before
    assert desk.tags() == {OURS.tag, THEIRS.tag, STONE.tag}
    assert isinstance(resolve(desk, Keep(), seen | {STONE.tag}), Settled)


def test_without_the_comparison_what_was_not_seen_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a settling that takes whatever is kept as seen drops the version that came meanwhile."""
    desk = desk_with(OURS, THEIRS)
    seen = frozenset(desk.tags())
    desk.take(STONE)
    honest = settle.settle

    def trusting(batch: Any, key: Key, choice: Choice, seen: Any, agent: str, now: int) -> Any:
        return honest(batch, key, choice, {one.version.tag for one in batch.kept(key)}, agent, now)

    monkeypatch.setattr(settle, "settle", trusting)
    assert isinstance(resolve(desk, Keep(OURS.tag), seen), Settled)
    assert STONE.tag not in desk.tags()


def test_without_a_conflict_there_is_nothing_to_settle() -> None:
    """One version, or none: no number is taken."""
    desk = desk_with(OURS)
    before = desk.store.position()
    assert resolve(desk, Delete()) == Unanimous()
    assert resolve(desk, Delete(), key=("a", "nothing")) == Unanimous()
    assert desk.store.position() == before


@pytest.mark.parametrize(
    ("some", "choice", "words"),
    [
        ((OURS, THEIRS), Keep(b"x" * 16), "keep: no kept version has this tag"),
        ((OURS, THEIRS), Replace("x" * 70_000), "content: "),
        ((OURS, STONE), Replace(""), "content: "),
        ((STONE, versions.stone({BOB: 1})), Replace("x"), "content: no memory is among the kept versions"),
        ((LINK, UNLINK), Replace("x"), "content: no memory is among the kept versions"),
    ],
)
def test_a_choice_that_does_not_fit_changes_nothing(some: Sequence[Version], choice: Choice, words: str) -> None:
    """It is `invalid`, and all versions stay."""
    key = some[0].key
    desk = desk_with(*some)
    before = desk.store.position()
    with pytest.raises(RemoteError, match=words) as raised:
        resolve(desk, choice, key=key)
    assert raised.value.code == "invalid"
    assert desk.store.position() == before
    assert desk.tags(key) == {one.tag for one in some}


# --- why one wins


def variant(clock: str, **fields: Any) -> Version:
    return versions.version({clock: 1}, **fields)


REASONS = {
    "time": (variant(ALICE, seconds=1, signature=b"s" * 64), variant(BOB, seconds=2)),
    "signature": (variant(ALICE, signature=b"s" * 64, content="2"), variant(BOB, signature=b"t" * 64)),
    "content": (variant(ALICE), variant(BOB, content="2")),
    "tag": (variant(ALICE), variant(BOB)),
}


@pytest.mark.parametrize("reason", REASONS)
def test_the_reason_is_the_first_thing_in_which_the_winner_is_greater(reason: str) -> None:
    """In the order of the protocol: time, signature bytes, content; and the winner is the one that nodes show."""
    some = [Kept(version, 0) for version in REASONS[reason]]
    greater, lesser = (one.version for one in ordered(some))
    assert lost_by(greater, lesser) == reason
    assert ordered(reversed(some)) == ordered(some)


# --- nodes agree


ACTORS = st.sampled_from((ALICE, BOB, CAROL))


@st.composite
def some_of_the_key(draw: st.DrawFn) -> list[Version]:
    """Writes that have seen some of those before them, and all of their own actor; few times, so that conflicts and
    deletes are common."""
    made: list[Version] = []
    for number in range(draw(st.integers(2, 6))):
        actor = draw(ACTORS)
        chosen = [one for one in made if one.dot.actor == actor or draw(st.booleans())]
        # Whoever has seen a version has seen what that one had seen.
        seen = [one for one in made if one in chosen or any(other.context.covers(one.dot) for other in chosen)]
        stamp = over(*seen, actor=actor, counter=number + 1)
        seconds = draw(st.integers(0, 2))
        if draw(st.integers(0, 3)) == 0:
            made.append(versions.stone(stamp, seconds=seconds))
        else:
            made.append(versions.version(stamp, seconds=seconds, content=draw(st.sampled_from("123"))))
    return made


@st.composite
def choice(draw: st.DrawFn, desk: Desk) -> Choice:
    some: list[Choice] = [Keep(), Delete(), *(Keep(tag) for tag in sorted(desk.tags()))]
    if any(one.version.kind == "m" for one in desk.kept()):
        some.append(Replace(draw(st.sampled_from("12"))))
    return draw(st.sampled_from(some))


def exchange(one: Desk, other: Desk) -> None:
    ours, theirs = ([kept.version for kept in desk.kept()] for desk in (one, other))
    one.take(*theirs)
    other.take(*ours)


def shown(desk: Desk) -> list[bytes]:
    return [kept.version.tag for kept in desk.kept()]


@given(st.data())
def test_nodes_that_settle_at_once_converge_and_show_the_same_winner(data: st.DataObject) -> None:
    """Any order of arrival gives one order of winners; two settlings made apart are kept by both, one more ends it."""
    received = data.draw(some_of_the_key())
    one, other = desk_with(*received, seed=1), desk_with(*data.draw(st.permutations(received)), seed=2)
    assert shown(one) == shown(other)
    before = {kept.version.tag for kept in one.kept()}
    results = [resolve(desk, data.draw(choice(desk))) for desk in (one, other)]
    assert {type(result) for result in results} == ({Settled} if len(before) > 1 else {Unanimous})
    exchange(one, other)
    assert shown(one) == shown(other)
    assert one.store.position().digest == other.store.position().digest
    if len(before) > 1:
        assert set(shown(one)) == {result.version.tag for result in results}
        last = resolve(one, data.draw(choice(one)))
        exchange(one, other)
        assert shown(one) == shown(other) == [last.version.tag]


def test_a_settling_meets_an_edit_made_apart_and_both_are_kept() -> None:
    """Who settles lets go of what was seen and of nothing else."""
    one, other = desk_with(OURS, THEIRS, seed=1), desk_with(OURS, THEIRS, seed=2)
    result = resolve(one, Keep(THEIRS.tag))
    edit = other.update(KEY, content="an edit").version
    exchange(one, other)
    assert set(shown(one)) == set(shown(other)) == {result.version.tag, edit.tag}


def test_without_the_join_a_settled_conflict_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a settling that has not seen the losers does not end the conflict on the other node."""
    one, other = desk_with(OURS, THEIRS, seed=1), desk_with(OURS, THEIRS, seed=2)
    monkeypatch.setattr(writes, "join", lambda pasts, latest: NOTHING)
    resolve(one, Keep())
    exchange(one, other)
    assert {OURS.tag, THEIRS.tag} <= set(shown(other))


def test_storing_the_title_again_settles_too() -> None:
    """An ordinary edit needs no word of what was seen: it is what the winner's reader wrote."""
    desk = desk_with(OURS, THEIRS)
    desk.do(desk.engine.update, KEY, Fields(content="edited"), "agent:desk")
    assert resolve(desk, Keep()) == Unanimous()
