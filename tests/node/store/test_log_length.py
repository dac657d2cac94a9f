"""The write-ahead log has its length before commits need it, and nobody can tell but by their speed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import stores
from stores import PASSPHRASE, Keeper, faults, raw

from node.store import Store, wal
from node.store.connection import DatabaseError
from node.store.wal import READY, WriteAheadLog

COMMITS = 60
"""Each writes at least 4 pages of 4 KiB."""


def log_of(keeper: Keeper) -> Path:
    return keeper.path.with_name(f"{keeper.path.name}-wal")


def is_ready(keeper: Keeper) -> Callable[[], bool]:
    return lambda: log_of(keeper).stat().st_size == READY and not keeper.store.writer._log.is_due


def after_commits(keeper: Keeper, content: str = "first") -> int:
    """The log's size after a run of commits without a pause in which it would be looked after."""
    for number in range(COMMITS):
        keeper.write(f"title {number}", content)
    return log_of(keeper).stat().st_size


def test_an_idle_store_gives_its_log_its_length(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """No commit has to make the file grow. Without the favour, every one of them does."""
    stores.until(is_ready(keeper))
    assert after_commits(keeper) == READY
    keeper.close()
    monkeypatch.setattr(WriteAheadLog, "settle", lambda log: None)
    without = Keeper(keeper.path, create=False)
    before = log_of(without).stat().st_size
    assert after_commits(without, "second") > before + COMMITS * 4 * 4_096
    without.close()


def test_a_copy_with_the_long_log_is_whole(keeper: Keeper, tmp_path: Path) -> None:
    """What follows the last commit in the file is taken for the log's end, by a copy and after a crash alike."""
    stores.until(is_ready(keeper))
    keeper.store.writer.call(lambda ledger: None)  # the housekeeping of the writer is not under way now
    after_commits(keeper)
    copy = tmp_path / "copy" / keeper.path.name
    copy.parent.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{keeper.path}{suffix}", f"{copy}{suffix}")
    assert copy.with_name(f"{copy.name}-wal").stat().st_size == READY
    again = Keeper(copy, create=False)
    assert again.titles() == sorted(f"title {number}" for number in range(COMMITS))
    again.close()
    assert faults(copy) == []


def test_writes_between_the_steps_are_kept(keeper: Keeper) -> None:
    """The log is made longer behind its last page only, with a commit before each step."""
    for number in range(20):
        before = log_of(keeper).stat().st_size
        keeper.write(f"title {number}")
        stores.until(lambda before=before: log_of(keeper).stat().st_size >= before + wal.GROWTH)  # type: ignore[misc]
    titles = sorted(f"title {number}" for number in range(20))
    assert keeper.titles() == titles
    keeper.close()
    again = Keeper(keeper.path, create=False)
    assert again.titles() == titles
    again.close()


def test_another_stores_log_is_left_alone(keeper: Keeper, tmp_path: Path) -> None:
    """Where the store's files were exchanged under it, it goes on with the log that it has open, and harms nobody."""
    before = log_of(keeper).stat().st_size
    assert before < READY
    ours = log_of(keeper).rename(tmp_path / "ours")
    log_of(keeper).write_bytes(b"another store's")
    stores.until(lambda: ours.stat().st_size == READY)
    assert log_of(keeper).read_bytes() == b"another store's"


def test_nobody_else_writes_during_a_step(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another process either: what it appended between the look at the file's end and the zeros would be lost."""
    keeper.close()
    tried = []

    def lengthened(file: int) -> bool:
        with raw(keeper.path) as beside:
            beside.execute("PRAGMA busy_timeout=0")
            try:
                beside.execute("BEGIN IMMEDIATE")
            except DatabaseError as error:
                tried.append(str(error))
            else:
                tried.append("it may write")
        return False

    monkeypatch.setattr(wal, "_lengthened", lengthened)
    again = Keeper(keeper.path, create=False)
    stores.until(lambda: not again.store.writer._log.is_due)
    assert tried == ["database is locked"]
    again.close()


@pytest.mark.parametrize("free", [wal.PLENTY, wal.PLENTY - 4_096])
def test_a_disk_that_is_nearly_full_is_left_alone(keeper: Keeper, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """The log takes what it needs there, and no byte before."""
    keeper.close()
    true = os.fstatvfs

    def told(file: int) -> os.statvfs_result:
        found = list(true(file))
        found[1], found[4] = 1, free  # f_frsize, f_bavail
        return os.statvfs_result(found)

    monkeypatch.setattr(wal.os, "fstatvfs", told)
    again = Keeper(keeper.path, create=False)
    again.write("one")
    stores.until(lambda: not again.store.writer._log.is_due)
    assert (log_of(again).stat().st_size == READY) == (free >= wal.PLENTY)
    again.close()


def test_a_disk_that_refuses_is_not_asked_again(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was a favour: the store goes on, and its thread waits for tasks and not for space."""
    keeper.close()
    asked: list[int] = []

    def refuse(file: int, data: bytes, offset: int) -> int:
        asked.append(offset)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wal, "os", SimpleNamespace(**{**vars(os), "pwrite": refuse}))  # not the lock's own, too
    again = Keeper(keeper.path, create=False)
    again.write("one")
    stores.until(lambda: not again.store.writer._log.is_due)
    again.write("two")
    stores.until(lambda: not again.store.writer._log.is_due)
    assert len(asked) == 1
    assert again.titles() == ["one", "two"]
    again.close()


def test_a_closed_store_has_no_log(keeper: Keeper) -> None:
    """However long it was."""
    stores.until(is_ready(keeper))
    keeper.close()
    assert not log_of(keeper).exists()
    Store.open(keeper.path, PASSPHRASE).close()
