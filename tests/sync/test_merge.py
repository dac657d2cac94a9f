"""The merge laws, over generated sets of versions: what is kept depends on what was received, and on nothing else."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest
import versions
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from versions import ALICE, BOB, CAROL, NOW, Desk

from sync import moment, receive
from sync.clock import dominates, join
from sync.merge import MAX_KEPT, Added, Unchanged, merge, ordered, supersedes
from sync.ports import Kept
from sync.version import Version, winner

Merge = Callable[[Sequence[Kept], Kept], Added | Unchanged]


@st.composite
def one_version(draw: st.DrawFn) -> Version:
    """Few actors, small counters, few contents: equal clocks, signed twins, altered ones and ties are all common."""
    clock = draw(st.dictionaries(st.sampled_from((ALICE, BOB, CAROL)), st.integers(1, 3), min_size=1))
    kind = draw(st.sampled_from("mmt"))
    seconds = draw(st.integers(0, 2))
    signature = draw(st.sampled_from((b"", b"", b"s" * 64, b"t" * 64)))
    if kind == "t":
        return replace(versions.stone(clock, seconds=seconds), signature=signature, tag=b"")
    content, priority, tier = (
        draw(st.sampled_from("12")),
        draw(st.integers(5, 6)),
        draw(st.sampled_from(("mid", "long"))),
    )
    return versions.version(clock, seconds=seconds, signature=signature, content=content, priority=priority, tier=tier)


@st.composite
def one_link(draw: st.DrawFn) -> Version:
    """Likewise: equal clocks with another validity or observer are common."""
    clock = draw(st.dictionaries(st.sampled_from((ALICE, BOB)), st.integers(1, 2), min_size=1))
    seconds = draw(st.integers(0, 1))
    if draw(st.booleans()):
        return versions.unlink(clock, seconds=seconds)
    said = {name: draw(st.sampled_from((None, moment.text(NOW)))) for name in ("valid_from", "valid_until")}
    said |= {"observed_by": draw(st.sampled_from((None, "ai:a", "ai:b")))}
    signature = draw(st.sampled_from((b"", b"", b"s" * 64)))
    return replace(versions.link(clock, seconds=seconds, **said), signature=signature, tag=b"")


SETS = st.one_of(
    st.lists(some.map(lambda version: Kept(version, 0)), max_size=8) for some in (one_version(), one_link())
)
TRIPLES = st.one_of(st.tuples(some, some, some) for some in (one_version(), one_link()))


def take_all(received: Iterable[Kept], how: Merge = merge, start: tuple[Kept, ...] = ()) -> tuple[Kept, ...]:
    """What is kept after these arrived one by one."""

    def step(kept: tuple[Kept, ...], one: Kept) -> tuple[Kept, ...]:
        result = how(kept, one)
        return result.kept if isinstance(result, Added) else kept

    return reduce(step, received, start)


def tags(kept: Iterable[Kept]) -> list[bytes]:
    return [one.version.tag for one in kept]


def maximal(received: Sequence[Kept]) -> set[bytes]:
    """By the definition: what nothing received supersedes."""
    return {
        one.version.tag
        for one in received
        if not any(supersedes(other.version, one.version) for other in received if other is not one)
    }


@given(st.data())
def test_what_is_kept_is_the_maximal_versions_whatever_the_order_and_repetition(data: st.DataObject) -> None:
    """Received in any order, some of it twice, the same versions leave the same set, the winner first."""
    received = data.draw(SETS)
    order = data.draw(st.permutations([*received, *received[::2]]))
    kept = take_all(order)
    assert set(tags(kept)) == maximal(received)
    assert tags(kept) == tags(take_all(received))


@given(SETS, SETS, SETS)
def test_merge_is_commutative_associative_and_idempotent(a: list[Kept], b: list[Kept], c: list[Kept]) -> None:
    """Nodes may hand each other what they keep in any grouping: the result is what all of it together leaves."""
    x, y, z = take_all(a), take_all(b), take_all(c)

    def both(one: tuple[Kept, ...], other: tuple[Kept, ...]) -> tuple[Kept, ...]:
        return take_all(other, start=one)

    assert tags(both(x, y)) == tags(both(y, x))
    assert tags(both(both(x, y), z)) == tags(both(x, both(y, z)))
    assert both(x, x) == x
    assert set(tags(both(both(x, y), z))) == maximal([*a, *b, *c])


@given(SETS, one_version())
def test_the_answer_says_what_was_done(received: list[Kept], version: Version) -> None:
    """`same` is kept already, `stale` is superseded by something kept, and all that an addition drops is superseded."""
    kept, incoming = take_all(received), Kept(version, 7)
    result = merge(kept, incoming)
    if result == "same":
        assert version.tag in tags(kept)
    elif result == "stale":
        assert any(supersedes(one.version, version) for one in kept)
    else:
        assert isinstance(result, Added)
        assert incoming in result.kept
        assert {*tags(result.kept), *tags(result.dropped)} == {*tags(kept), version.tag}
        assert all(supersedes(version, one.version) for one in result.dropped)


@given(TRIPLES)
def test_supersession_is_a_strict_partial_order(some: tuple[Version, Version, Version]) -> None:
    """Nothing supersedes itself or its superior, and what supersedes passes it on."""
    a, b, c = some
    assert not supersedes(a, a)
    assert not (supersedes(a, b) and supersedes(b, a))
    if supersedes(a, b) and supersedes(b, c):
        assert supersedes(a, c)


@pytest.mark.parametrize(
    ("a", "b", "is_superseded"),
    [
        (versions.version({ALICE: 2}), versions.version({ALICE: 1}), True),
        (versions.version({ALICE: 1}), versions.version({ALICE: 2}), False),
        (versions.version({ALICE: 1, BOB: 1}), versions.version({ALICE: 1}), True),
        (versions.version({ALICE: 1}), versions.version({BOB: 1}), False),
        (versions.version({ALICE: 2}, content="1"), versions.version({ALICE: 2}, content="2"), False),
        (versions.version({ALICE: 2}, priority=6), versions.version({ALICE: 2}), True),
        (versions.version({ALICE: 2}), versions.version({ALICE: 2}, priority=6), False),
        (versions.version({ALICE: 2}, priority=6, content="1"), versions.version({ALICE: 2}, content="2"), False),
        (versions.version({ALICE: 2}, priority=6), versions.version({ALICE: 2}, seconds=1), False),
        (versions.version(signature=b"s" * 64), versions.version(), True),
        (versions.version(), versions.version(signature=b"s" * 64), False),
        (versions.version(signature=b"s" * 64), versions.version(signature=b"t" * 64), False),
        (versions.version({ALICE: 1}, signature=b"s" * 64), versions.version({ALICE: 2}), False),
        (versions.stone({ALICE: 2}), versions.version({ALICE: 1}, seconds=9), True),
        (versions.stone({ALICE: 1}, seconds=9), versions.version({ALICE: 2}), False),
    ],
    ids=[
        "later write", "earlier write", "one who saw it", "one who did not", "counter used twice", "altered on the way",
        "as it was before", "counter used twice, once with more weight", "counter used twice, later", "signed twin",
        "unsigned twin", "two signatures", "signature is not knowledge", "a delete that saw it",
        "an edit that saw the delete",
    ],
)  # fmt: skip
def test_only_knowledge_supersedes(a: Version, b: Version, *, is_superseded: bool) -> None:
    """Whose author had seen the other supersedes it, whatever the times; at equal clocks a signature decides."""
    assert supersedes(a, b) is is_superseded


@pytest.mark.parametrize(
    ("greater", "lesser"),
    [
        (versions.version({ALICE: 1}, seconds=0.000001), versions.version({BOB: 9}, signature=b"s" * 64)),
        (versions.version({ALICE: 1}, signature=b"t" * 64), versions.version({BOB: 9}, signature=b"s" * 64)),
        (versions.version({ALICE: 1}, signature=b"s" * 64), versions.version({BOB: 9})),
        (versions.stone({ALICE: 1}, seconds=1), versions.version({BOB: 1})),
        (versions.version({ALICE: 1}, seconds=1), versions.stone({BOB: 1})),
    ],
    ids=["later time", "greater signature", "signed before unsigned", "later delete", "edit after a delete"],
)
def test_the_winner_is_the_greatest_by_time_then_signature(greater: Version, lesser: Version) -> None:
    """Of kept versions, time decides what readers see, and then the signature; both stay kept."""
    for order in ((greater, lesser), (lesser, greater)):
        kept = take_all(Kept(one, 0) for one in order)
        assert tags(kept) == [greater.tag, lesser.tag]
        assert winner(order) is greater


def test_without_signatures_the_content_decides_the_winner_on_all_nodes() -> None:
    """Two unsigned versions of one time have one winner, by the content hash."""
    a, b = versions.version({ALICE: 1}, content="1"), versions.version({BOB: 1}, content="2")
    assert winner((a, b)) is winner((b, a)) is max((a, b), key=lambda one: one.content)


@given(SETS)
def test_the_order_of_winners_is_total(received: list[Kept]) -> None:
    """No two different versions tie, so every node shows the same winner and the same order of conflicts."""
    different = {one.version.tag: one for one in received}
    ranked = ordered(different.values())
    assert len({one.version.rank for one in ranked}) == len(ranked)
    assert tags(ranked) == tags(ordered(reversed(list(different.values()))))


# --- more than 32 kept versions of one key


def concurrent(count: int) -> list[Version]:
    return [versions.version({f"{n:016x}": 1}, content=f"by {n}", seconds=n) for n in range(count)]


def settle(count: int) -> tuple[Desk, list[str]]:
    desk = Desk()
    return desk, [alarm.kind for version in concurrent(count) for alarm in desk.take(version).alarms]


def test_32_versions_of_one_key_are_kept() -> None:
    """A node keeps as many conflicting versions as the protocol names."""
    desk, alarms = settle(MAX_KEPT)
    assert MAX_KEPT == 32
    assert desk.tags() == {version.tag for version in concurrent(32)}
    assert alarms == []


def test_one_more_version_settles_the_key_by_a_local_write() -> None:
    """The winner's content stays, under a clock that has seen them all, so the conflict ends on every node."""
    desk, alarms = settle(MAX_KEPT + 1)
    (one,) = desk.kept()
    assert one.giver is None
    assert b'"content":"by 32"' in one.version.doc
    assert dominates(one.version.clock, join(version.clock for version in concurrent(33)))
    assert alarms == ["settled"]


def test_without_the_bound_nothing_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the bound is what settles."""
    monkeypatch.setattr(receive, "MAX_KEPT", 99)
    desk, alarms = settle(MAX_KEPT + 1)
    assert (len(desk.kept()), alarms) == (33, [])


# --- controls


def newest_wins(kept: Sequence[Kept], incoming: Kept) -> Any:
    newest = max((*kept, incoming), key=lambda one: one.version.rank)
    return Added((newest,), ()) if newest is incoming else "stale"


def nothing_is_dropped(kept: Sequence[Kept], incoming: Kept) -> Any:
    result = merge(kept, incoming)
    return Added(ordered((*kept, incoming)), ()) if isinstance(result, Added) else result


def twins_are_one(kept: Sequence[Kept], incoming: Kept) -> Any:
    if any(one.version.clock == incoming.version.clock for one in kept):
        return "same"
    return merge(kept, incoming)


def the_first_few_are_enough(kept: Sequence[Kept], incoming: Kept) -> Any:
    result = merge(kept, incoming)
    return replace(result, kept=result.kept[:2]) if isinstance(result, Added) else result


def counterexample(how: Merge) -> list[Kept]:
    """A small set of versions of which this merge keeps something else than the maximal ones."""
    quick = settings(max_examples=300, database=None, phases=(Phase.generate,))
    return find(SETS, lambda received: set(tags(take_all(received, how))) != maximal(received), settings=quick)


@pytest.mark.parametrize("broken", [newest_wins, nothing_is_dropped, twins_are_one, the_first_few_are_enough])
def test_a_broken_merge_is_caught(broken: Merge) -> None:
    """Control: the property of maximal versions has a counterexample for each of these."""
    assert counterexample(broken)


def test_the_search_for_a_counterexample_comes_back_empty_for_the_real_merge() -> None:
    """Control of the control: what finds the broken ones finds nothing wrong here."""
    with pytest.raises(NoSuchExample):
        counterexample(merge)
