"""Backups: a file copy, `VACUUM INTO`, SQLite's own backup: each is whole, encrypted, and opens as the store does."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlcipher3 import dbapi2 as sqlcipher
from stores import PASSPHRASE, Keeper, faults, foreign, holding, raw

from node.store import Store, backup, connection
from node.store.backup import back_up
from node.store.connection import Connection
from node.store.errors import Damaged, StoreError, StoreReadOnly, StoreReplaced, WrongFile, WrongPassphrase
from node.store.wal import WriteAheadLog
from sync import digest

MARKER = "tell-tale-heart"
TABLES = ("memory", "conflict", "life", "head", "peer", "certificate", "waiting")


def fill(keeper: Keeper) -> None:
    for number in range(40):
        keeper.write(f"{MARKER} {number}", f"{MARKER} number {number}", tags=[MARKER])
    keeper.take(foreign(f"{MARKER} 3"), foreign(f"{MARKER} late", now=keeper.now + 10**10))
    keeper.index()
    for number in range(5):
        keeper.write(f"{MARKER} {number}", "changed after the index had it")


def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables."""
    with raw(path) as connection:
        return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in TABLES}


def closed_copy(keeper: Keeper, target: Path) -> None:
    keeper.close()
    shutil.copy(keeper.path, target)


def open_copy(keeper: Keeper, target: Path) -> None:
    """As a tool that copies the folder of a running node takes it: the log belongs to it."""
    shutil.copy(keeper.path, target)
    shutil.copy(f"{keeper.path}-wal", f"{target}-wal")


def vacuumed(keeper: Keeper, target: Path) -> None:
    assert back_up(keeper.path, PASSPHRASE, target) == target.stat().st_size


def stock(path: Path) -> Connection:
    connection = sqlcipher.connect(str(path))
    connection.execute(f"PRAGMA key = '{PASSPHRASE}'")
    return connection


def sqlite_backup(keeper: Keeper, target: Path) -> None:
    """`Connection.backup` from a stock SQLCipher, beside the running node."""
    source, into = stock(keeper.path), stock(target)
    source.backup(into)
    source.close()
    into.close()


WAYS: dict[str, Callable[[Keeper, Path], None]] = {
    "copy of a closed store": closed_copy,
    "copy of an open store with its log": open_copy,
    "VACUUM INTO": vacuumed,
    "backup by another SQLCipher": sqlite_backup,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_backup_is_whole_and_opens_with_the_same_passphrase(way: str, keeper: Keeper, tmp_path: Path) -> None:
    """Every row of every table is in it, its checks find nothing, and a node can go on from it."""
    fill(keeper)
    target = tmp_path / "backup.db"
    WAYS[way](keeper, target)
    keeper.close()
    assert content(target) == content(keeper.path)
    assert faults(target) == []
    restored = Keeper(target, create=False)
    assert len(restored.titles()) == 40
    assert restored.search("changed") == titles(5)
    assert restored.search('"number 7"') == [f"{MARKER} 7"]
    restored.write("a new one")
    restored.close()


def titles(count: int) -> list[str]:
    return [f"{MARKER} {number}" for number in range(count)]


@pytest.mark.parametrize("way", WAYS)
def test_a_backup_is_as_encrypted_as_the_store(way: str, keeper: Keeper, tmp_path: Path) -> None:
    """No text of any memory is in any file of it, and another passphrase does not open it."""
    fill(keeper)
    target = tmp_path / "backup.db"
    WAYS[way](keeper, target)
    assert holding(MARKER, sorted(tmp_path.glob("backup*"))) == []
    with pytest.raises(WrongPassphrase):
        Store.open(target, "another passphrase")


def test_a_copy_without_its_log_lacks_what_was_written_last(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: the log is part of an open store, so the comparison of contents does see a backup that lacks it."""
    monkeypatch.setattr(WriteAheadLog, "settle", lambda log: None)
    fill(keeper)
    shutil.copy(keeper.path, tmp_path / "backup.db")
    keeper.close()
    try:
        found = content(tmp_path / "backup.db")
    except (StoreError, sqlcipher.DatabaseError):
        return  # not even the tables had been copied from the log
    assert found != content(keeper.path)


@pytest.mark.parametrize("existing", [b"", b"precious"])
def test_a_backup_never_overwrites(existing: bytes, keeper: Keeper, tmp_path: Path) -> None:
    """A target that exists, even an empty file, is left as it is."""
    target = tmp_path / "backup.db"
    target.write_bytes(existing)
    with pytest.raises(StoreError, match=r"exists already\. Name a new file"):
        back_up(keeper.path, PASSPHRASE, target)
    assert target.read_bytes() == existing


def test_a_backup_into_no_folder_says_where(keeper: Keeper, tmp_path: Path) -> None:
    """A folder that does not exist is named, and the store goes on."""
    target = tmp_path / "no such folder" / "backup.db"
    with pytest.raises(WrongFile, match="no such folder"):
        back_up(keeper.path, PASSPHRASE, target)
    keeper.write("goes on")
    assert keeper.titles() == ["goes on"]


def test_a_backup_is_private(keeper: Keeper, tmp_path: Path) -> None:
    """Nobody but its owner may read it."""
    back_up(keeper.path, PASSPHRASE, tmp_path / "backup.db")
    assert (tmp_path / "backup.db").stat().st_mode & 0o777 == 0o600


def test_writes_go_on_during_a_backup_and_it_holds_one_moment(keeper: Keeper, tmp_path: Path) -> None:
    """A backup made amid writes is a state that the store had: a prefix of the feed, with its head and its digest."""
    fill(keeper)
    targets = [tmp_path / f"backup{number}.db" for number in range(6)]
    stop, written = threading.Event(), []

    def write() -> None:
        while not stop.is_set():
            written.append(keeper.write(f"during {len(written) % 50}", "text " * 100 + str(len(written))))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for target in targets:
            before = len(written)
            back_up(keeper.path, PASSPHRASE, target)
            assert len(written) >= before
    finally:
        stop.set()
        thread.join()
    keeper.close()
    assert written
    heads = {number: head for number, head, _ in content(keeper.path)["head"]}
    for target in targets:
        restored = Store.open(target, PASSPHRASE)
        position = restored.position
        restored.close()
        assert heads[position.number] == position.head
        assert faults(target) == []
        with raw(target) as connection:
            tags = [tag for (tag,) in connection.execute("SELECT tag FROM memory UNION ALL SELECT tag FROM conflict")]
        assert digest.changed(0, (), tags) == position.total


def test_a_backup_follows_no_link(keeper: Keeper, tmp_path: Path) -> None:
    """Neither one that leads to a file, nor one that leads nowhere."""
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "link.db").symlink_to(tmp_path / "precious")
    (tmp_path / "nowhere.db").symlink_to(tmp_path / "elsewhere")
    for name in ("link.db", "nowhere.db"):
        with pytest.raises(StoreError, match=rf"{name} exists already"):
            back_up(keeper.path, PASSPHRASE, tmp_path / name)
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["{}-wal", "{}-shm", "{}-journal", "{}.lock", ".{}.restoring"])
@pytest.mark.parametrize("through", [".", "link"])
def test_a_backup_is_never_a_file_of_the_store(name: str, through: str, keeper: Keeper, tmp_path: Path) -> None:
    """Not even while there is none of that name, and whatever the folder is called by."""
    (tmp_path / "link").symlink_to(tmp_path)
    keeper.write("one")
    keeper.close()
    target = tmp_path / through / name.format(keeper.path.name)
    with pytest.raises(StoreError, match=r"is a file of the running store|exists already"):
        back_up(keeper.path, PASSPHRASE, target)
    assert keeper.path.exists()
    again = Keeper(keeper.path, create=False)
    assert again.titles() == ["one"]
    again.close()


@pytest.mark.parametrize("side", ["-wal", "-shm", "-journal"])
def test_a_backup_is_not_put_beside_anothers_log(side: str, keeper: Keeper, tmp_path: Path) -> None:
    """It would be replayed into the backup when that is opened."""
    (tmp_path / f"backup.db{side}").touch()
    with pytest.raises(StoreError, match=rf"backup\.db{side} lies there already"):
        back_up(keeper.path, PASSPHRASE, tmp_path / "backup.db")
    assert not (tmp_path / "backup.db").exists()


def test_until_it_is_whole_a_backup_has_no_name_and_is_private(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off before, nothing is there that could be taken for one; the next attempt takes the rest away."""
    fill(keeper)
    folder, seen = tmp_path / "backups", []
    folder.mkdir()

    def cut_off(finished: Path, target: Path) -> None:
        seen.append((finished.stat().st_mode & 0o777, finished.parent.stat().st_mode & 0o777, target.exists()))
        raise KeyboardInterrupt

    before = os.umask(0)
    try:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(backup, "publish", cut_off)
            back_up(keeper.path, PASSPHRASE, folder / "backup.db")
    finally:
        os.umask(before)
    assert seen == [(0o600, 0o700, False)]
    assert list(folder.iterdir()) == []
    back_up(keeper.path, PASSPHRASE, folder / "backup.db")
    assert [one.name for one in folder.iterdir()] == ["backup.db"]


def test_a_backup_of_what_is_exchanged_at_that_moment_is_refused(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore may put another file there while this one is opened; what was opened might be a mixture."""
    real = backup.connect

    def exchanging(path: Path, *arguments: Any, **options: Any) -> Connection:
        opened = real(path, *arguments, **options)
        shutil.copy(path, path.with_name("other.db"))
        path.with_name("other.db").replace(path)
        return opened

    monkeypatch.setattr(backup, "connect", exchanging)
    with pytest.raises(StoreReplaced, match="exchanged for another at this moment"):
        back_up(keeper.path, PASSPHRASE, tmp_path / "backup.db")
    assert not (tmp_path / "backup.db").exists()


class Trouble(sqlcipher.DatabaseError):  # type: ignore[misc, no-any-unimported]
    """An error as the database reports it."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.sqlite_errorname = name


COPYING: dict[str, tuple[str, str, bool, type[StoreError], str]] = {
    "remounted read-only": ("disk I/O error", "SQLITE_IOERR_WRITE", True, WrongFile, "is mounted read-only. Name a"),
    "read-only": ("attempt to write a readonly database", "SQLITE_READONLY", True, WrongFile, "is mounted read-only."),
    "denied": ("attempt to write a readonly database", "SQLITE_READONLY", False, WrongFile, "permission denied. Name"),
    "full": ("database or disk is full", "SQLITE_FULL", False, WrongFile, "no space is left for .*backup.db"),
    "the store is damaged": (
        "database disk image is malformed",
        "SQLITE_CORRUPT",
        False,
        Damaged,
        "page of .*memories.db",
    ),
    "a failing disk": ("disk I/O error", "SQLITE_IOERR_READ", False, StoreReadOnly, "disk of the store reports"),
}


@pytest.mark.parametrize("case", COPYING)
def test_what_stops_a_copy_is_the_files_trouble_or_the_stores(
    case: str, keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the disk of the backup the advice is about that; a store that is damaged is called by its own name."""
    text, name, is_read_only, kind, said = COPYING[case]

    class Failing:
        def execute(self, *_: object) -> None:
            raise Trouble(text, name)

        def close(self) -> None:
            pass

    monkeypatch.setattr(backup, "_opened", lambda *_: Failing())
    monkeypatch.setattr(connection, "is_read_only", lambda path: is_read_only)
    with pytest.raises(kind, match=said) as refused:
        back_up(keeper.path, PASSPHRASE, tmp_path / "backup.db")
    assert type(refused.value) is kind
    assert not (tmp_path / "backup.db").exists()
