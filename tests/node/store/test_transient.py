"""A disk that fails once: what was asked then may fail, and nothing that is asked later does."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stores
from stores import Keeper, faults, until

from node.store import connection, lookups, writer
from node.store.connection import Connection, DatabaseError, is_spoiling
from node.store.errors import Damaged, StoreError, StoreFull, StoreReadOnly

PAGE = 4_096
ALL = "SELECT sum(length(doc)) FROM memory"


class Disk:
    """The second half of the database reads as something else while it fails."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._true = b""

    def fail(self) -> None:
        self._true = self._path.read_bytes()
        broken = bytearray(self._true)
        for page in range(len(broken) // PAGE // 2, len(broken) // PAGE):
            broken[page * PAGE + 700] ^= 1
        self._path.write_bytes(broken)

    def recover(self) -> None:
        self._path.write_bytes(self._true)


@pytest.fixture
def cold(tmp_path: Path) -> Iterator[Keeper]:
    """A store with some hundred pages, none of which is in any cache."""
    path = tmp_path / "memories.db"
    path.write_bytes(stores.empty())
    first = Keeper(path, create=False)
    for number in range(200):
        first.write(f"title {number}", "word " * 600)
    first.index()
    first.close()
    keeper = Keeper(path, create=False)
    until(lambda: not keeper.store.writer._log.is_due)  # so nothing is written to the file while it is exchanged
    yield keeper
    keeper.close()


def read(keeper: Keeper) -> int:
    return int(keeper.rows(ALL)[0][0])


def look_up(keeper: Keeper) -> int:
    """As `read`, on the way without a transaction."""
    return int(keeper.store.reader._one_statement(lambda one: one.execute(ALL).fetchone())[0])


def in_a_task(keeper: Keeper) -> int:
    """As `read`, by the writer, in the middle of a task."""

    def task(ledger: Any) -> int:
        ledger.execute("PRAGMA shrink_memory")  # it has read all rows at its start
        return int(ledger.execute(ALL).fetchone()[0])

    return keeper.do(task)


WAYS: dict[str, Callable[[Keeper], int]] = {"a reader": read, "a look-up": look_up, "the writer": in_a_task}


@pytest.mark.parametrize("way", WAYS)
def test_after_an_error_that_passed_everything_works(way: str, cold: Keeper) -> None:
    """The one that met it is told; later reads, writes, searches and lists succeed on every connection."""
    disk = Disk(cold.path)
    position = cold.store.position
    disk.fail()
    try:
        for _ in range(3):
            with pytest.raises((Damaged, StoreReadOnly)):
                WAYS[way](cold)
    finally:
        disk.recover()
    assert cold.store.position == position
    assert read(cold) == look_up(cold) == in_a_task(cold) > 200 * 3_000
    cold.write("after", "apple")
    assert cold.search("apple") == ["after"]
    cold.index()
    assert cold.search("apple") == ["after"]
    assert len(cold.titles()) == 201
    cold.close()
    assert faults(cold.path) == []


@pytest.mark.parametrize("way", WAYS)
def test_a_connection_that_goes_on_refuses_for_ever(way: str, cold: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: without opening it anew, SQLCipher remembers an error that is gone."""

    def roll_back(self: Connection, error: BaseException) -> bool:
        if self.in_transaction:
            self._within.execute("ROLLBACK")
        return False

    disk = Disk(cold.path)
    with monkeypatch.context() as patched:
        patched.setattr(Connection, "undo", roll_back)
        disk.fail()
        try:
            with pytest.raises(StoreError):
                WAYS[way](cold)
        finally:
            disk.recover()
        with pytest.raises(StoreError):
            for _ in range(8):  # each reader of the pool has its turn
                WAYS[way](cold)
                cold.write("after")


def test_a_read_that_failed_once_is_done_again(cold: Keeper) -> None:
    """Nobody is told of an error that was gone a moment later: the second attempt has a connection of its own."""
    disk, meanwhile = Disk(cold.path), [True]

    def task(reader: Any) -> int:
        if not meanwhile:
            disk.recover()
        meanwhile.clear()
        return int(reader.execute(ALL).fetchone()[0])

    disk.fail()
    try:
        assert cold.read(task) > 200 * 3_000
    finally:
        disk.recover()


def test_errors_that_spoil_nothing_close_nothing(keeper: Keeper) -> None:
    """A full disk, a lock, a constraint: the connection goes on, with its cache."""
    opened = keeper.store.writer._connection
    before = opened.openings
    with pytest.raises(StoreError, match="SQLITE_CONSTRAINT"):
        keeper.do(lambda ledger: [ledger.execute("INSERT INTO head VALUES(0, x'', x'')") for _ in range(2)])
    keeper.write("one")
    assert opened.openings == before


NAMES = {
    "SQLITE_FULL": False, "SQLITE_BUSY": False, "SQLITE_BUSY_SNAPSHOT": False, "SQLITE_LOCKED": False,
    "SQLITE_CONSTRAINT_UNIQUE": False, "SQLITE_INTERRUPT": False, "SQLITE_READONLY": False,
    "SQLITE_IOERR": True, "SQLITE_IOERR_READ": True, "SQLITE_CORRUPT": True, "SQLITE_NOTADB": True,
    "SQLITE_NOMEM": True, "SQLITE_CANTOPEN": True, "SQLITE_ERROR": True, None: True,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_which_errors_spoil(name: str | None) -> None:
    """By SQLite's names; what has none, and SQLCipher's "out of memory", may have spoilt the connection."""
    error = DatabaseError("a text")
    error.sqlite_errorname = name
    assert is_spoiling(error) is NAMES[name]
    assert is_spoiling(MemoryError())
    assert not is_spoiling(ValueError())


def test_while_it_cannot_be_opened_anew_each_task_is_told(cold: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that stays away for a while is an error for each task, not the end of the store."""
    true = connection.sqlcipher.connect

    def refuse(*_: object, **__: object) -> None:
        error = DatabaseError("unable to open database file")
        error.sqlite_errorname = "SQLITE_CANTOPEN"
        raise error

    cold.store.writer._connection.undo(DatabaseError("disk I/O error"))
    monkeypatch.setattr(connection.sqlcipher, "connect", refuse)
    for _ in range(3):
        with pytest.raises(StoreReadOnly, match="cannot be opened"):
            cold.write("lost")
    monkeypatch.setattr(connection.sqlcipher, "connect", true)
    cold.write("kept")
    assert "kept" in cold.titles()
    assert "lost" not in cold.titles()


def test_a_store_that_is_another_than_the_node_knows_is_not_written(
    cold: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a connection was opened anew, what is in memory is compared; the writer ends where they differ."""
    ended, true = threading.Event(), lookups.position
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    cold.store.writer.on_end(ended.set)
    cold.store.writer._connection.undo(DatabaseError("disk I/O error"))
    monkeypatch.setattr(lookups, "position", lambda execute: replace(true(execute), number=10**6))
    with pytest.raises(StoreError, match="Restart the node"):
        cold.write("one")
    assert ended.wait(stores.PATIENCE)
    until(lambda: not cold.store.writer.is_running)
    with pytest.raises(StoreError):
        cold.write("two")


class Hindered:
    """Stands in for what a connection has within: statements that write fail, as on a full disk."""

    def __init__(self, within: Any) -> None:
        self.within = within

    def execute(self, statement: str, values: Any = ()) -> Any:
        if statement.startswith(("INSERT INTO memory", "UPDATE located")):
            raise DatabaseError("database or disk is full")
        return self.within.execute(statement, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.within, name)


def test_the_writer_finds_out_by_itself_that_the_trouble_is_over(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a write that failed it tries again and again, though nobody asks: so its health is known."""
    monkeypatch.setattr(writer, "PROBE_EVERY", 0.01)
    keeper.write("one")
    assert keeper.store.writer.trouble is None
    opened = keeper.store.writer._connection
    hindered = opened._within = Hindered(opened._within)
    with pytest.raises(StoreFull):
        keeper.write("two")
    keeper.do(lambda ledger: ledger.position())  # one that writes nothing proves nothing
    assert isinstance(keeper.store.writer.trouble, StoreFull)
    opened._within = hindered.within
    until(lambda: keeper.store.writer.trouble is None)
    keeper.write("two")
    assert keeper.titles() == ["one", "two"]
