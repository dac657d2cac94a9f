"""The index of the text: filled in short steps after the answers, in the end complete, tidy, and in nobody's way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stores import PATIENCE, Keeper, held, raw, until

from node.store import textindex, writer
from node.store.textindex import TextIndex


def indexed(keeper: Keeper) -> int:
    return int(keeper.rows("SELECT number FROM indexed")[0][0])


def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the writer does not look after the index by itself."""
    monkeypatch.setattr(TextIndex, "is_behind", False)


def stepping(keeper: Keeper, steps: int, rows: int) -> Callable[[Any], list[bool]]:
    """A task that goes some steps, outside of its own transaction."""

    def task(ledger: Any) -> list[bool]:
        ledger._execute("COMMIT")
        done = [keeper.store.writer._text.step(rows) for _ in range(steps)]
        ledger._execute("BEGIN IMMEDIATE")
        return done

    return task


def test_steps_take_in_what_is_new_and_take_out_what_is_dead(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step moves on by so many numbers, and removes so many rows whose memory was overwritten or deleted."""
    for number in range(10):
        keeper.write(f"title {number}", "apple")
    keeper.index()
    stopped(monkeypatch)
    for number in range(6):
        keeper.write(f"title {number}", "pear")
    keeper.delete("title 9")
    assert keeper.rows("SELECT count(*) FROM dead") == [(7,)]
    keeper.do(stepping(keeper, 1, 4))
    assert (indexed(keeper), keeper.rows("SELECT count(*) FROM dead")) == (14, [(3,)])
    assert keeper.rows("SELECT count(*) FROM text WHERE text MATCH 'apple'") == [(6,)]
    keeper.do(stepping(keeper, 1, 4))
    assert (indexed(keeper), keeper.rows("SELECT count(*) FROM dead")) == (17, [(0,)])
    assert keeper.rows("SELECT count(*) FROM text WHERE text MATCH 'apple'") == [(3,)]
    assert keeper.rows("SELECT count(*) FROM text WHERE text MATCH 'pear'") == [(6,)]
    assert not keeper.store.writer._text._dead


def test_what_was_never_indexed_leaves_nothing_behind(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory that is overwritten before the index saw it is no dead row, and neither is a tombstone."""
    stopped(monkeypatch)
    for number in range(5):
        keeper.write("one", f"apple {number}")
    keeper.delete("one")
    keeper.write("one", "again")
    assert keeper.rows("SELECT * FROM dead") == []


def test_a_step_that_fails_changes_nothing_and_the_next_one_does_it(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step is one transaction: half of one is never seen, and the search goes on without it."""
    keeper.write("one", "apple")
    keeper.index()
    stopped(monkeypatch)
    keeper.write("one", "pear")
    with monkeypatch.context() as patched:
        patched.setattr(textindex, "_INSERT", textindex._INSERT.replace("title,", "no_such_column,", 1))
        assert keeper.do(stepping(keeper, 2, 64)) == [False, False]
    assert (indexed(keeper), keeper.rows("SELECT number FROM dead")) == (1, [(1,)])
    assert keeper.search("pear") == ["one"]
    assert keeper.do(stepping(keeper, 1, 64)) == [True]
    assert (indexed(keeper), keeper.rows("SELECT number FROM dead")) == (2, [])


def test_a_store_that_is_opened_again_catches_up_by_itself(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the last process left undone the next one does, without being asked for anything."""
    with monkeypatch.context() as patched:
        stopped(patched)
        for number in range(100):
            keeper.write(f"title {number % 60}", f"apple {number}")  # the same again would be no write
        keeper.close()
    again = Keeper(keeper.path, create=False)
    until(lambda: indexed(again) == 100)
    assert len(again.search("apple", 100)) == 60
    again.close()


def test_bulk_waits_for_an_index_that_lags_too_far_and_small_tasks_do_not(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit of the tail, the index catches up before the next bulk task, and takes turns with small ones."""
    monkeypatch.setattr(textindex, "TAIL", 20)
    monkeypatch.setattr(writer, "STEP", 5)
    monkeypatch.setattr(writer, "SHARED_STEP", 5)
    stopped(monkeypatch)
    for number in range(20):
        keeper.write(f"title {number}")
    lags: dict[str, int] = {}

    def noting(name: str) -> Callable[[Any], None]:
        def task(ledger: Any) -> None:
            keeper.writing(name)(ledger)
            lags[name] = ledger.position().number - ledger._execute("SELECT number FROM indexed").fetchone()[0]

        return task

    with held(keeper.store):
        waiting = [keeper.store.writer._submit(noting(f"bulk {n}"), True) for n in range(12)]
        waiting += [keeper.store.writer._submit(noting(f"small {n}"), False) for n in range(3)]
    for one in waiting:
        one.result(PATIENCE)
    assert max(lag for name, lag in lags.items() if name.startswith("bulk")) <= 21
    assert min(lag for name, lag in lags.items() if name.startswith("small")) >= 20


@pytest.mark.parametrize("bulk", [True, False], ids=["bulk", "small"])
def test_an_index_that_cannot_go_on_is_in_nobodys_way(
    bulk: bool, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a damaged index, or a disk without room for it, tasks are still answered and the store still closes."""
    monkeypatch.setattr(textindex, "TAIL", 3)
    monkeypatch.setattr(textindex, "_INSERT", "INSERT INTO no_such_table SELECT ?, ?")
    for number in range(8):
        keeper.store.writer._submit(keeper.writing(f"title {number}", "apple"), bulk).result(PATIENCE)
    assert len(keeper.search("apple")) == 8
    keeper.close()
    assert not keeper.store.writer._thread.is_alive()


def test_many_small_steps_are_merged(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search looks into every segment of the index, so what small steps leave behind is merged while all is quiet."""
    monkeypatch.setattr(textindex, "STEPS_BEFORE_MERGE", 10)
    for number in range(12):
        keeper.write(f"title {number}", "apple")
        until(lambda number=number: indexed(keeper) == number + 1)  # type: ignore[misc]  # mypy infers no lambda with a default

    until(lambda: segments(keeper) < 6)
    until(lambda: not keeper.store.writer._text.is_untidy)
    assert len(keeper.search("apple")) == 12
    with raw(keeper.path) as beside:
        beside.execute("INSERT INTO text(text) VALUES('integrity-check')")


def segments(keeper: Keeper) -> int:
    return int(keeper.rows("SELECT count(DISTINCT segid) FROM text_idx")[0][0])


@pytest.mark.parametrize("looks", [True, False])
def test_what_the_process_before_left_untidy_is_merged(
    looks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended after a load, a node would search every small segment for ever. Control: one that looks only at its own."""
    with monkeypatch.context() as patch:
        patch.setattr(TextIndex, "tidy", lambda self: None)
        before = Keeper(tmp_path / "store.db")
        for number in range(8):
            before.write(f"title {number}", "apple")
            until(lambda number=number: indexed(before) == number + 1)  # type: ignore[misc]  # mypy infers no lambda with a default
        assert segments(before) == 8
        before.close()
    if not looks:
        made = TextIndex.__init__

        def forgetful(self: TextIndex, connection: Any) -> None:
            made(self, connection)
            self._steps = 0

        monkeypatch.setattr(TextIndex, "__init__", forgetful)
    after = Keeper(tmp_path / "store.db", create=False)
    try:
        until(lambda: not after.store.writer._text.is_untidy)
        assert (segments(after) < 4) == looks
    finally:
        after.close()
