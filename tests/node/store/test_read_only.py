"""A disk that cannot be written: a clear error, nothing half-written, reads that go on, and a store that resumes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import disks
import pytest
from disks import Disk
from stores import PASSPHRASE, Keeper, faults, files_of, foreign, raw

from node.store import Store
from node.store.connection import explained
from node.store.errors import Damaged, StoreError, StoreFull, StoreLocked, StoreReadOnly


def opens_read_only(disk: Disk) -> list[list[str]]:
    """Open a store that is there, and make one that is not."""
    found = []
    for name in ("old.db", "new.db"):
        try:
            Store.open(disk.folder / name, PASSPHRASE, create=True).close()
            found.append(["opened", ""])
        except StoreError as error:
            found.append([type(error).__name__, str(error)])
    return found


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A closed store with one memory."""
    keeper = Keeper(tmp_path / "old.db")
    keeper.write("one")
    keeper.close()
    return keeper.path


@pytest.mark.usefixtures("mounts")
def test_a_store_on_a_read_only_disk_says_so(old: Path) -> None:
    """Opening and making raise StoreReadOnly with the path and what to check; the store is untouched."""
    before = old.read_bytes()
    for kind, text in disks.run(opens_read_only, old.parent, "read-only disk"):
        assert kind == "StoreReadOnly"
        assert str(old.parent) in text
        assert "can be written" in text or "permissions" in text
    assert old.read_bytes() == before
    assert [path.name for path in old.parent.iterdir() if path.name.startswith("new")] == []


def test_the_same_opening_succeeds_on_a_disk_that_can_be_written(old: Path) -> None:
    """Control: it is the read-only disk that makes it fail."""
    assert disks.run(opens_read_only, old.parent, "limited files") == [["opened", ""], ["opened", ""]]


def test_a_folder_without_permission_says_so(old: Path) -> None:
    """Where the folder may not be written by this user, the errors are the same."""
    old.with_name("old.db.lock").unlink()
    try:
        told = disks.run(opens_read_only, old.parent, "no permission")
    finally:
        old.parent.chmod(0o700)
    assert [kind for kind, _ in told] == ["StoreReadOnly"] * 2
    assert all("Permission denied" in text and "can be written" in text for _, text in told)


def set_read_only(keeper: Keeper, value: bool) -> None:
    """Let the database refuse every write of the writer's connection, with the error of a read-only disk."""
    keeper.store.writer._connection.execute(f"PRAGMA query_only={value:d}")


WRITES: dict[str, Callable[[Keeper], Any]] = {
    "a small write": lambda keeper: keeper.write("two"),
    "a page of a peer": lambda keeper: keeper.take(*(foreign(f"theirs {number}") for number in range(20))),
    "a change": lambda keeper: keeper.change("one", content="changed"),
    "a new life": lambda keeper: keeper.do(keeper.engine.begin_life, keeper.tick(), "start"),
}


@pytest.mark.parametrize("what", WRITES)
def test_a_running_store_reads_on_and_resumes(what: str, keeper: Keeper) -> None:
    """Each kind of write fails by name and leaves nothing; reads go on; once it can be written, writes succeed."""
    keeper.write("one", "apple")
    position, lives = keeper.store.position, keeper.store.lives
    set_read_only(keeper, True)
    for _ in range(3):
        with pytest.raises(StoreReadOnly, match="cannot be written"):
            WRITES[what](keeper)
    assert (keeper.store.position, keeper.store.lives) == (position, lives)
    assert keeper.titles() == keeper.search("apple") == ["one"]
    set_read_only(keeper, False)
    assert keeper.do(lambda ledger: (ledger.position(), tuple(ledger.lives()))) == (position, lives)
    WRITES[what](keeper)
    keeper.write("last")
    keeper.index()
    keeper.close()
    assert faults(keeper.path) == []


def test_a_closed_log_is_not_lost_when_the_disk_is_read_only(keeper: Keeper) -> None:
    """A store that closes while it cannot be written keeps its log beside it, and the next opening takes it in."""
    keeper.write("one", "apple")
    set_read_only(keeper, True)
    keeper.close()
    again = Keeper(keeper.path, create=False)
    assert again.titles() == again.search("apple") == ["one"]
    again.close()
    assert [path.suffix for path in files_of(keeper.path)] == [".db", ".lock"]


class DatabaseTrouble(Exception):
    """An error as the driver raises it, with the name that SQLite gives it (none, from some of its functions)."""

    def __init__(self, text: str, name: str | None) -> None:
        super().__init__(text)
        self.sqlite_errorname = name


TROUBLES: dict[str, tuple[str, str | None, type[StoreError]]] = {
    "full": ("database or disk is full", "SQLITE_FULL", StoreFull),
    "full, unnamed": ("database or disk is full", None, StoreFull),
    "read-only": ("attempt to write a readonly database", "SQLITE_READONLY", StoreReadOnly),
    "moved away": ("attempt to write a readonly database", "SQLITE_READONLY_DBMOVED", StoreReadOnly),
    "damaged": ("database disk image is malformed", "SQLITE_CORRUPT", Damaged),
    "damaged index": ("database disk image is malformed", "SQLITE_CORRUPT_VTAB", Damaged),
    "damaged, unnamed": ("database disk image is malformed", None, Damaged),
    "in use": ("database is locked", "SQLITE_BUSY", StoreLocked),
    "cannot be opened": ("unable to open database file", "SQLITE_CANTOPEN", StoreReadOnly),
    "failing disk": ("disk I/O error", "SQLITE_IOERR_WRITE", StoreReadOnly),
    "anything else": ("no such table: x", "SQLITE_ERROR", StoreError),
}


@pytest.mark.parametrize("what", TROUBLES)
def test_each_trouble_of_the_database_has_its_error(what: str, tmp_path: Path) -> None:
    """Every error has a class of its own kind, one sentence, and a next step; at last the database's own name for it.

    Never its own words: they may quote what it was given.
    """
    text, name, kind = TROUBLES[what]
    found = explained(DatabaseTrouble(text, name), tmp_path / "memories.db")
    assert type(found) is kind
    assert str(found).endswith(found.next_step)
    assert text not in str(found)
    assert (f"{name}." in str(found)) == (kind is StoreError)


def test_another_program_that_locks_the_file_is_named(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that holds a write transaction makes writes fail as locked, and they succeed after it."""
    keeper.do(lambda ledger: None)
    keeper.store.writer._connection.execute("PRAGMA busy_timeout=10")
    with raw(keeper.path) as tool:
        tool.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked, match="in use"):
            keeper.write("one")
        tool.execute("ROLLBACK")
    keeper.write("one")
    assert keeper.titles() == ["one"]
