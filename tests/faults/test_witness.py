"""The judge notices what it is there for, and blames nobody for what could not be helped."""

from collections.abc import Sequence

import pytest

from tests.faults.witness import Key, Look, Seen, Witness, Written

KEY: Key = ("n", "id")
A, B = 0, 1


def version(token: str | None, **clock: int) -> Seen:
    return Seen(KEY, token, frozenset(clock.items()))


class Story:
    """Acknowledged writes, one after the other."""

    def __init__(self) -> None:
        self.witness = Witness()

    def write(self, made: Seen, *seen: Seen, node: int = A, at: float = 1.0, acknowledged: bool = True) -> "Story":
        written = Written(made.token, node, "put", seen, KEY, at, acknowledged, made.clock)
        self.witness.wrote(written)
        return self

    def kinds(self, *kept: Seen, in_file: Sequence[Seen] | None = None) -> list[str]:
        return [one.kind for one in self.witness.judge(kept, lambda key: kept if in_file is None else in_file)]


ONE, TWO = version("one", a=1), version("two", b=1)
BOTH = version("both", a=2, b=1)
GONE = version(None, a=3, b=1)


def test_what_is_kept_is_not_lost() -> None:
    """As the winner or as a conflict."""
    assert Story().write(ONE).write(TWO, node=B).kinds(ONE, TWO) == []


def test_a_write_that_vanished_is_lost() -> None:
    """One of two that knew nothing of each other: the last writer does not win here."""
    assert Story().write(ONE).write(TWO, node=B).kinds(TWO) == ["lost"]


def test_a_write_that_was_seen_and_replaced_may_go() -> None:
    """With everything that it had replaced itself; a delete replaces, too."""
    assert Story().write(ONE).write(TWO, node=B).write(BOTH, ONE, TWO).kinds(BOTH) == []
    assert Story().write(ONE).write(TWO, node=B).write(BOTH, ONE, TWO).write(GONE, BOTH).kinds() == []


def test_what_was_seen_and_replaced_must_go() -> None:
    """The same version, come back from the dead."""
    assert Story().write(ONE).write(GONE, ONE).kinds(ONE) == ["undead"]
    assert Story().write(ONE).write(BOTH, ONE).kinds(BOTH, ONE) == ["undead"]


def test_a_version_that_was_written_again_by_its_node_may_stay() -> None:
    """Under another clock it is another version, that nobody had seen."""
    assert Story().write(ONE).write(GONE, ONE).kinds(version("one", a=1, c=5)) == []


def test_what_arrived_between_look_and_write_may_go() -> None:
    """Then only the clock of the write says that it was seen; the store's file has it, tombstones included."""
    story = Story().write(ONE).write(TWO, node=B).write(BOTH, TWO)
    assert story.kinds(BOTH) == []
    assert [one.by_arrival for one in story.witness.writes] == [True, False, False]
    assert Story().write(ONE).write(GONE, node=B).kinds(in_file=[GONE]) == []


def test_a_re_write_that_claims_to_have_seen_more_proves_nothing() -> None:
    """The program wrote `two` again under a clock that covers `one`; whoever wrote `two` had not seen it."""
    assert Story().write(ONE).write(TWO, node=B).kinds(version("two", a=1, b=9)) == ["lost"]


def test_an_unanswered_write_may_have_happened_or_not() -> None:
    """It owes nothing, and what it had seen counts as replaced only once it shows up."""
    assert Story().write(ONE).write(BOTH, ONE, acknowledged=False).kinds(ONE) == []
    assert Story().write(ONE).write(BOTH, ONE, acknowledged=False).kinds(BOTH) == []
    assert Story().write(ONE).write(version("x", d=1), ONE, acknowledged=False).kinds() == ["lost"]


def disk(*kept: Seen) -> Look:
    return lambda key: [one for one in kept if one.key == key]


@pytest.mark.parametrize(
    ("elsewhere", "kinds"),
    [([disk()], []), ([disk(ONE)], ["lost"]), ([disk(), disk(ONE)], ["lost"]), ([disk(BOTH)], ["lost"])],
)
def test_only_what_was_on_no_other_disk_may_die_with_one(elsewhere: list[Look], kinds: list[str]) -> None:
    """What another disk held at that moment, or what had replaced it there, must still be there in the end."""
    story = Story().write(ONE, at=5.0)
    story.witness.disk_lost(A, 4.0, elsewhere)
    assert story.kinds() == kinds


def test_a_disk_takes_only_its_own_newest_writes_with_it() -> None:
    """Not those of other nodes, and not those from before the copy that took its place."""
    for node, since in ((B, 4.0), (A, 6.0)):
        story = Story().write(ONE, at=5.0)
        story.witness.disk_lost(node, since, [disk()])
        assert story.kinds() == ["lost"]


@pytest.mark.parametrize(
    ("elsewhere", "kinds"),
    [
        pytest.param([disk(ONE)], [], id="not yet deleted there"),
        pytest.param([disk()], [], id="never there at all"),
        pytest.param([disk(), disk(GONE)], ["undead"], id="deleted there"),
        pytest.param([disk(version("new", a=4, b=1))], ["undead"], id="written anew there after the delete"),
    ],
)
def test_a_delete_that_died_with_a_disk_undoes_nothing(elsewhere: list[Look], kinds: list[str]) -> None:
    """What it had deleted may come back; had the delete reached another disk, it might not."""
    story = Story().write(ONE, at=1.0).write(GONE, ONE, node=B, at=5.0)
    story.witness.disk_lost(B, 4.0, elsewhere)
    assert story.kinds(ONE) == kinds


def test_a_tombstone_of_one_memory_is_no_proof_of_the_deletes_of_others() -> None:
    """One is shown where it is in conflict; a delete of something else died with its disk all the same."""
    story = Story().write(ONE, at=1.0).write(GONE, ONE, node=B, at=5.0)
    story.witness.disk_lost(B, 4.0, [disk()])
    assert story.kinds(ONE, Seen(("n", "other"), None, frozenset({("c", 1)}))) == []


def test_a_delete_that_was_still_on_its_way_may_have_happened() -> None:
    """It was on no other disk yet, and arrived after that of its node was lost."""
    story = Story().write(ONE, at=1.0).write(GONE, ONE, node=B, at=5.0)
    story.witness.disk_lost(B, 4.0, [disk(ONE)])
    assert story.kinds() == []


def test_a_move_may_reach_another_disk_by_half() -> None:
    """The memory under its new key has arrived, the tombstone under the old one has not."""
    moved = Seen(("m", "id"), "moved", frozenset({("b", 2)}))
    for elsewhere, kinds in ((disk(moved), []), (disk(moved, GONE), ["undead"])):
        story = Story().write(ONE, at=1.0)
        story.witness.wrote(Written("moved", B, "move", (ONE,), moved.key, 5.0, True, moved.clock))
        story.witness.disk_lost(B, 4.0, [elsewhere])
        assert story.kinds(ONE, moved) == kinds
