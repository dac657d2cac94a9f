"""The merge laws, over generated sets of versions: what is kept depends on what was received, and on nothing else."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cmp_to_key
from typing import Any

import pytest
import versions
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from stamps import over, stamp
from versions import ALICE, BOB, CAROL, NOW, SECOND, Desk

from sync import moment, receive
from sync.attest import Stamp, signer_of, writer_of
from sync.context import Context
from sync.dot import LEGACY, legacy_dot
from sync.legacy.past import Past, altered, written
from sync.merge import MAX_KEPT, Added, Unchanged, is_after, is_echo, merge, ordered, supersedes
from sync.ports import Kept
from sync.version import Version, winner

Merge = Callable[[Sequence[Kept], Kept], Added | Unchanged]


@st.composite
def one_version(draw: st.DrawFn) -> Version:
    """Few actors, small counters, few contents: twins, signed copies, altered ones, lies and ties are all common."""
    kind = draw(st.sampled_from("mmt"))
    seconds = draw(st.integers(0, 2))
    stamp = draw(one_stamp(seconds))
    signature = draw(st.sampled_from((b"", b"", b"s" * 64, b"t" * 64)))
    if kind == "t":
        return replace(versions.stone(stamp, seconds=seconds), signature=signature, tag=b"")
    content, priority, tier = (
        draw(st.sampled_from("12")),
        draw(st.integers(5, 6)),
        draw(st.sampled_from(("mid", "long"))),
    )
    return versions.version(stamp, seconds=seconds, signature=signature, content=content, priority=priority, tier=tier)


@st.composite
def one_stamp(draw: st.DrawFn, seconds: int) -> Stamp:
    """Of a write that has seen what its clock says, at any depth; of a daemon's row, or of a copy that it altered."""
    clock = draw(st.dictionaries(st.sampled_from((ALICE, BOB, CAROL)), st.integers(1, 3), min_size=1))
    made = stamp(clock, draw(st.sampled_from((None, None, 1, 2, 9))))
    if not draw(st.booleans()):
        return made
    past = Past.of(versions.version(made))
    time = NOW + seconds * SECOND
    return draw(st.sampled_from((written((), time), written((past,), time), altered(past, time))))


@st.composite
def one_link(draw: st.DrawFn) -> Version:
    """Likewise: daemons' links with another validity or observer are common."""
    seconds = draw(st.integers(0, 1))
    made = draw(one_stamp(seconds))
    if draw(st.booleans()):
        return versions.unlink(made, seconds=seconds)
    said = {name: draw(st.sampled_from((None, moment.text(NOW)))) for name in ("valid_from", "valid_until")}
    said |= {"observed_by": draw(st.sampled_from((None, "ai:a", "ai:b")))}
    signature = draw(st.sampled_from((b"", b"", b"s" * 64)))
    return replace(versions.link(made, seconds=seconds, **said), signature=signature, tag=b"")


SETS = st.one_of(
    st.lists(some.map(lambda version: Kept(version, 0)), max_size=8) for some in (one_version(), one_link())
)
PAIRS = st.one_of(st.tuples(some, some) for some in (one_version(), one_link()))


def take_all(received: Iterable[Kept], how: Merge = merge, start: tuple[Kept, ...] = ()) -> tuple[Kept, ...]:
    """What is kept after these arrived one by one, each looked at again whenever something was dropped."""
    kept, seen = start, [*start]
    for one in received:
        seen.append(one)
        some: Iterable[Kept] = (one,)
        while some:
            dropped = False
            for other in some:
                if isinstance(result := how(kept, other), Added):
                    kept, dropped = result.kept, dropped or bool(result.dropped)
            some = tuple(seen) if dropped else ()
    return kept


def tags(kept: Iterable[Kept]) -> list[bytes]:
    return [one.version.tag for one in kept]


def kernel(received: Sequence[Kept]) -> set[bytes]:
    """By the definition: none of them supersedes another, and each other one is superseded by one of them."""
    found: list[Version] = []
    for version in sorted((one.version for one in received), key=cmp_to_key(lambda a, b: -1 if is_after(a, b) else 1)):
        if not any(supersedes(other, version) for other in found):
            found.append(version)
    return {version.tag for version in found}


@given(st.data())
def test_what_is_kept_is_the_kernel_whatever_the_order_and_repetition(data: st.DataObject) -> None:
    """Received in any order, some of it twice, the same versions leave the same set, the winner first."""
    received = data.draw(SETS)
    order = data.draw(st.permutations([*received, *received[::2]]))
    kept = take_all(order)
    assert set(tags(kept)) == kernel(received)
    assert tags(kept) == tags(take_all(received))


@given(SETS)
def test_a_merge_is_idempotent(received: list[Kept]) -> None:
    """What is kept, taken in once more, changes nothing."""
    kept = take_all(received)
    assert take_all(kept, start=kept) == kept


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


@given(PAIRS)
def test_no_lie_makes_a_circle(some: tuple[Version, Version]) -> None:
    """Whatever two versions say of each other, at most one takes the other's place: the later in one total order."""
    a, b = some
    assert not supersedes(a, a)
    assert not (supersedes(a, b) and supersedes(b, a))
    assert is_after(a, b) or not supersedes(a, b)
    if a.tag != b.tag:
        assert is_after(a, b) is not is_after(b, a)


def test_two_versions_that_say_they_have_seen_each_other_are_one_before_the_other() -> None:
    """The deeper one stays, then the later one; so it is on every node."""
    first, second = (versions.version(stamp(clock, 2)) for clock in ({BOB: 1, ALICE: 1}, {ALICE: 1, BOB: 1}))
    assert first.context.covers(second.dot)
    assert second.context.covers(first.dot)
    assert supersedes(first, second) is is_after(first, second)
    assert supersedes(second, first) is is_after(second, first)


SEEN = versions.version({ALICE: 2})


def row(seconds: float, *seen: Version, **fields: Any) -> Version:
    """What a daemon wrote then, over one of these."""
    return versions.version(written(map(Past.of, seen), NOW + round(seconds * SECOND)), seconds=seconds, **fields)


def copy(of: Version, **fields: Any) -> Version:
    """What a daemon made of a version on the way."""
    return versions.version(altered(Past.of(of), NOW), **fields)


@pytest.mark.parametrize(
    ("a", "b", "is_superseded"),
    [
        (versions.version({ALICE: 2}), versions.version({ALICE: 1}), True),
        (versions.version({ALICE: 1}), versions.version({ALICE: 2}), False),
        (versions.version({ALICE: 1, BOB: 1}), versions.version({ALICE: 1}), True),
        (versions.version({ALICE: 1}), versions.version({BOB: 1}), False),
        (versions.version(over(SEEN, actor=BOB)), SEEN, True),
        (versions.version(over(SEEN, actor=BOB)), versions.version({ALICE: 2}, content="copy"), False),
        (versions.version(over(SEEN, actor=BOB, depth=1)), SEEN, False),
        (versions.version({ALICE: 2}, content="1"), versions.version({ALICE: 2}, content="2"), False),
        (versions.version({ALICE: 2}, priority=6), versions.version({ALICE: 2}), False),
        (versions.version(signature=b"s" * 64), versions.version(), True),
        (versions.version(), versions.version(signature=b"s" * 64), False),
        (versions.version(signature=b"s" * 64), versions.version(signature=b"t" * 64), False),
        (versions.version({ALICE: 1}, signature=b"s" * 64), versions.version({ALICE: 2}), False),
        (versions.stone({ALICE: 2}), versions.version({ALICE: 1}, seconds=9), True),
        (versions.stone({ALICE: 1}, seconds=9), versions.version({ALICE: 2}), False),
        (row(2), row(1), True),
        (row(1), row(2), False),
        (row(2), SEEN, False),
        (row(3, SEEN), SEEN, True),
        (row(9), row(3, SEEN), False),
        (row(9, SEEN), row(3, SEEN), True),
        (SEEN, copy(SEEN, priority=6), True),
        (copy(SEEN, priority=6), SEEN, False),
        (copy(SEEN, priority=6), copy(SEEN, priority=7), False),
        (copy(SEEN, priority=7), copy(SEEN, priority=6), True),
        (row(1, priority=7), row(1, priority=6), True),
        (row(1, content="1"), row(1, content="2"), False),
    ],
    ids=[
        "later write", "earlier write", "one who saw it", "one who did not", "one who named it", "one who saw a copy",
        "one who lies no deeper", "counter used twice", "counter used twice, with more weight", "signed copy",
        "unsigned copy", "two signatures", "signature is not knowledge", "a delete that saw it",
        "an edit that saw the delete", "a daemon's later row", "a daemon's earlier row", "a row is no knowledge",
        "a row over it", "a later row that had not seen as much", "a later row that had", "what was altered on the way",
        "as it was altered", "altered with less weight", "altered with more weight", "one row, altered on the way",
        "two rows of one time",
    ],
)  # fmt: skip
def test_only_knowledge_supersedes(a: Version, b: Version, *, is_superseded: bool) -> None:
    """Whose author had seen the other supersedes it, whatever the times; of one write the signed copy does."""
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
    """The winner's content stays, in its author's name, by one who has seen all: so the conflict ends everywhere."""
    desk, alarms = settle(MAX_KEPT + 1)
    (one,) = desk.kept()
    assert one.giver is None
    assert b'"content":"by 32"' in one.version.doc
    assert all(one.version.context.names(version.dot) for version in concurrent(33))
    assert writer_of(one.version) == ("agent:other", b"")
    assert signer_of(one.version) == "node:desk"
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
    if any(one.version.dot[:2] == incoming.version.dot[:2] for one in kept):
        return "same"
    return merge(kept, incoming)


def the_first_few_are_enough(kept: Sequence[Kept], incoming: Kept) -> Any:
    result = merge(kept, incoming)
    return replace(result, kept=result.kept[:2]) if isinstance(result, Added) else result


def counterexample(how: Merge) -> list[Kept]:
    """A small set of versions of which this merge keeps something else than the kernel."""
    quick = settings(max_examples=300, database=None, phases=(Phase.generate,))
    return find(SETS, lambda received: set(tags(take_all(received, how))) != kernel(received), settings=quick)


@pytest.mark.parametrize("broken", [newest_wins, nothing_is_dropped, twins_are_one, the_first_few_are_enough])
def test_a_broken_merge_is_caught(broken: Merge) -> None:
    """Control: the property of kernels has a counterexample for each of these."""
    assert counterexample(broken)


def test_the_search_for_a_counterexample_comes_back_empty_for_the_real_merge() -> None:
    """Control of the control: what finds the broken ones finds nothing wrong here."""
    with pytest.raises(NoSuchExample):
        counterexample(merge)


# --- what has to hold beside the order, for what daemons wrote


DEEP = versions.version({BOB: 5})
"""Something else than `SEEN`, and deeper."""


def signed(of: Version) -> Version:
    return replace(of, signature=b"s" * 64, tag=b"")


def told(seconds: float, *, made: float = 0, **said: Any) -> Version:
    """A link as a daemon tells it."""
    at, created_at = (moment.text(NOW + round(one * SECOND)) for one in (seconds, made))
    stamp = written((), NOW + round(seconds * SECOND))
    return versions.link(stamp, created_at=created_at, at=at, **said)


AFTER = versions.version(stamp({LEGACY: NOW, ALICE: 2}))
# what: (what comes after the other in the order, the other, whether it takes its place)
BESIDES: dict[str, tuple[Version, Version, bool]] = {
    "later, and has not seen what the other's author had": (row(9, DEEP), row(3, SEEN), False),
    "one statement, signed": (signed(row(1, priority=7)), row(1, priority=6), False),
    "one statement, the other signed": (row(1, DEEP), signed(row(1)), False),
    "one statement, unsigned": (row(1, DEEP), row(1), True),
    "two times": (
        versions.version(altered(Past.of(SEEN), NOW), seconds=2),
        versions.version(altered(Past.of(SEEN), NOW), seconds=1),
        False,
    ),
    "an edit of a copy's original": (versions.version(over(SEEN, actor=BOB)), copy(SEEN), False),
    "a copy, and a row of its time": (copy(SEEN, priority=7, seconds=1), row(1), False),
    "one statement by who had seen less": (row(1, DEEP), row(1, SEEN), False),
    "a signed one that says it is a copy": (SEEN, signed(copy(SEEN)), False),
    "the very version that the other's author had seen": (
        AFTER, signed(versions.version(Stamp(Context((AFTER.dot,)), 0, legacy_dot))), True,
    ),
    "one link, said with less": (told(1, valid_until=moment.text(NOW)), told(1), True),
    "two links of two times": (told(1, valid_until=moment.text(NOW)), told(1, made=1), False),
}  # fmt: skip


@pytest.mark.parametrize("case", BESIDES)
def test_the_order_alone_takes_no_place(case: str) -> None:
    """Nor does the lesser of two ever take that of the greater."""
    a, b, is_superseded = BESIDES[case]
    assert is_after(a, b)
    assert supersedes(a, b) is is_superseded
    assert not supersedes(b, a)


@pytest.mark.parametrize("content", "12345678")
def test_at_one_depth_and_time_a_daemons_own_preference_decides(content: str) -> None:
    """Greater priority, and of links what says more of its validity; the tag only where all that is equal."""
    greater, lesser = (versions.version({ALICE: 1}, priority=priority, content=content) for priority in (6, 5))
    assert is_after(greater, lesser) and not is_after(lesser, greater)
    more, less = (versions.link(stamp({ALICE: int(content)}), valid_until=until) for until in (moment.text(NOW), None))
    assert is_after(more, less) and not is_after(less, more)


def test_a_link_that_a_daemon_was_given_is_an_echo_of_what_is_kept() -> None:
    """Where neither has seen the other and it says no more; an unlink says nothing that could be said again."""
    ours = versions.link(stamp({ALICE: 1}), valid_from=moment.text(NOW))
    assert is_echo(told(9), [ours])
    assert is_echo(told(9, valid_from=moment.text(NOW)), [versions.unlink(stamp({BOB: 1})), ours])
    assert not is_echo(told(9, valid_until=moment.text(NOW)), [ours])
    assert not is_echo(told(9), [])
    assert not is_echo(told(9), [versions.unlink(stamp({ALICE: 1}))])
    assert not is_echo(told(1), [told(9)])
    assert not is_echo(told(9), [told(1)])
    assert not is_echo(versions.unlink(stamp({BOB: 1})), [ours])
