"""The feed's cursors, heads and digest: which cursor is believed, and what a change leaves behind."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from versions import ALICE, BOB, CAROL, Desk, memory

from sync import digest, feed
from sync.batch import Batch
from sync.errors import RemoteError
from sync.feed import EMPTY, ZERO_HEAD, Cursor, Resolved, advanced, resolve
from sync.lives import minting
from sync.ports import Life, Position

# Three lives of one store: ALICE wrote 1 to 10, BOB 11 to 20, CAROL is alive and has written up to 30.
LIVES = [Life(ALICE, 0, b"", "start"), Life(BOB, 10, b"", "start"), Life(CAROL, 20, b"", "start")]
NOW_AT = Position(30, b"30303030", 0)
TAG = "0123abcd"
FROM_START = Resolved(0, reset=True, rolled_back=False)
PROVES_ROLLBACK = Resolved(0, reset=True, rolled_back=True)


def head(number: int) -> bytes:
    return b"%08d" % number


def head_at(number: int) -> bytes | None:
    """A head is kept where a commit ended: at every fifth number."""
    return head(number) if number % 5 == 0 and number <= 30 else None


def going_on(number: int) -> Resolved:
    return Resolved(number, reset=False, rolled_back=False)


# what: (life, number, top, head, filter), how it is judged
CURSORS: dict[str, tuple[Cursor | None, Resolved]] = {
    "none": (None, FROM_START),
    "of the live life, at the top": (Cursor(CAROL, 30, 30, head(30), TAG), going_on(30)),
    "of the live life, inside a page": (Cursor(CAROL, 27, 30, head(30), TAG), going_on(27)),
    "of the live life, where it began": (Cursor(CAROL, 20, 20, head(20), TAG), going_on(20)),
    "of an ended life, at its end": (Cursor(BOB, 20, 20, head(20), TAG), going_on(20)),
    "of an ended life, inside": (Cursor(BOB, 12, 15, head(15), TAG), going_on(12)),
    "of the first life, at nothing": (Cursor(ALICE, 0, 0, head(0), TAG), going_on(0)),
    "with a number before its life": (Cursor(CAROL, 3, 25, head(25), TAG), going_on(3)),
    "of a life that is not ours": (Cursor("d" * 16, 5, 5, head(5), TAG), PROVES_ROLLBACK),
    "of the live life, beyond what it wrote": (Cursor(CAROL, 35, 35, head(35), TAG), PROVES_ROLLBACK),
    "of the live life, with another head": (Cursor(CAROL, 25, 25, head(99), TAG), PROVES_ROLLBACK),
    "of the live life, where no commit ended": (Cursor(CAROL, 27, 27, head(27), TAG), PROVES_ROLLBACK),
    "of the live life, before it began": (Cursor(CAROL, 10, 10, head(10), TAG), FROM_START),
    "of an ended life, beyond its end": (Cursor(BOB, 25, 25, head(25), TAG), FROM_START),
    "of an ended life, with another head": (Cursor(BOB, 15, 15, head(99), TAG), FROM_START),
    "of an ended life, before it began": (Cursor(BOB, 5, 5, head(5), TAG), FROM_START),
    "under another filter": (Cursor(CAROL, 30, 30, head(30), "ffffffff"), FROM_START),
    "under another filter, of an ended life": (Cursor(BOB, 20, 20, head(20), "ffffffff"), FROM_START),
    "with another head, under another filter": (Cursor(CAROL, 30, 30, head(99), "ffffffff"), PROVES_ROLLBACK),
}


@pytest.mark.parametrize("case", CURSORS)
def test_a_cursor_is_judged_by_life_top_head_and_filter(case: str) -> None:
    """It goes on after its number, starts over, or proves that the store was rolled back; the number is not judged."""
    cursor, expected = CURSORS[case]
    assert resolve(cursor, LIVES, NOW_AT, head_at, TAG) == expected


@pytest.mark.parametrize(
    ("kept", "cursor", "judged"),
    [
        (8, Cursor(CAROL, 25, 25, head(25), TAG), going_on(25)),
        (8, Cursor(CAROL, 20, 20, head(20), TAG), FROM_START),
        (8, Cursor(CAROL, 20, 20, head(99), TAG), FROM_START),  # nothing is proved by a head that nobody can know
        (8, Cursor(BOB, 12, 15, head(15), TAG), FROM_START),
        (30, Cursor(BOB, 12, 15, head(15), TAG), going_on(12)),
    ],
)
def test_a_cursor_from_before_the_kept_heads_reads_from_the_start(
    kept: int, cursor: Cursor, judged: Resolved, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And accuses nobody: that a head is not there any more is no proof of a rollback."""
    monkeypatch.setattr(feed, "HEADS_KEPT", kept)

    def kept_at(number: int) -> bytes | None:
        return head_at(number) if number >= NOW_AT.number - kept else None

    assert resolve(cursor, LIVES, NOW_AT, kept_at, TAG) == judged


@given(
    st.binary(min_size=8, max_size=8),
    st.integers(0, 10**16 - 1),
    st.integers(0, 10**16 - 1),
    st.binary(min_size=8, max_size=8),
    st.binary(min_size=4, max_size=4),
)
def test_a_cursor_reads_back_as_it_was_written(life: bytes, number: int, top: int, top_head: bytes, tag: bytes) -> None:
    """Its text is all that a peer keeps of it."""
    cursor = Cursor(life.hex(), number, top, top_head, tag.hex())
    assert Cursor.parse(cursor.text) == cursor


GOOD = f"{ALICE}.1.2.{BOB}.{TAG}"


@pytest.mark.parametrize(
    "text",
    [
        "", "4711", GOOD.upper(), GOOD[1:], GOOD + "0", GOOD + "\n", " " + GOOD, GOOD.replace(".1.", ".-1."),
        GOOD.replace(".1.", ".."), GOOD.replace(".1.", ".1" + "0" * 16 + "."), GOOD.replace(".1.", ".١."),
        GOOD.replace(".1.", ".1.0."), "x" * 100_000, "2026-01-31T12:00:00+00:00",
    ],
)  # fmt: skip
def test_a_text_that_no_node_issued_is_a_bad_cursor(text: str) -> None:
    """It is refused with a code, a sentence that says the form, and none of the text repeated."""
    Cursor.parse(GOOD)
    with pytest.raises(RemoteError, match=r"life\.number\.top\.head\.filter") as caught:
        Cursor.parse(text)
    assert caught.value.code == "bad_cursor"
    assert len(str(caught.value)) < 200


# --- heads and digest

TAGS = st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=3, unique=True)


@given(TAGS, st.data())
def test_a_head_depends_on_all_that_came_before_it(tags: list[bytes], data: st.DataObject) -> None:
    """Another past, number or version gives another head; the order of conflicting versions does not."""
    here = advanced(ZERO_HEAD, 1, tags)
    assert len(here) == 8
    assert advanced(ZERO_HEAD, 1, data.draw(st.permutations(tags))) == here
    assert advanced(b"another!", 1, tags) != here
    assert advanced(ZERO_HEAD, 2, tags) != here
    assert advanced(ZERO_HEAD, 1, [*tags, b"one more version"]) != here


def test_the_store_position_follows_every_change() -> None:
    """Numbers grow by one for each change, the head is kept for each commit, the digest is the sum of what is kept."""
    desk, rng = Desk(), random.Random(7)
    assert desk.store.position() == EMPTY
    for step in range(1, 40):
        key = next((key for key, kept in desk.store.everything().items() if kept[0].version.kind == "m"), None)
        before = desk.store.position()
        if key is not None and rng.random() < 0.3:
            desk.delete(key)
        else:
            desk.write(f"title {rng.randrange(5)}", f"text {step}")
        after = desk.store.position()
        assert after.number == before.number + 1
        assert desk.store.head_at(after.number) == after.head != before.head
        kept = [one.version for some in desk.store.everything().values() for one in some]
        assert after.total == digest.changed(0, (), [one.tag for one in kept])


def test_a_batch_that_fails_leaves_nothing_behind() -> None:
    """Neither record nor number nor head of it remains."""
    desk = Desk()
    desk.write("x")
    before = desk.store.copy().__dict__
    with pytest.raises(RemoteError):
        desk.update(next(iter(desk.store.everything())), priority=99)
    assert desk.store.__dict__ == before


def test_a_batch_that_changes_nothing_takes_no_number() -> None:
    """Committing it leaves the position where it was."""
    desk = Desk()
    batch = Batch(desk.store, minting(random.Random(1).randbytes))
    assert (batch.has_changes, batch.next_number, batch.kept(("a", memory().id))) == (False, 1, ())
    batch.commit()
    assert desk.store.position() == EMPTY
