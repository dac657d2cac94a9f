"""Somebody else's database: read whole, its log included, and left exactly as it was; each fault with its own error."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import disks
import pytest
import rust_files
from disks import Disk
from rust_files import PASSPHRASE, daemon_on, folder_state, have_written, row, write_database
from sqlcipher3 import dbapi2 as sqlcipher

from node.legacy.importing import sqlite_file
from node.legacy.importing.source import SourceError
from node.legacy.importing.sqlite_file import SqliteFile

ENCRYPTED = pytest.mark.parametrize("passphrase", [PASSPHRASE, None], ids=["encrypted", "plain"])


def no_passphrase() -> str:
    raise AssertionError("a plain file needs none")


def titles(path: Path, passphrase: str | None) -> list[str]:
    """What is read of a file, by the way of an import."""
    file = SqliteFile(path, no_passphrase if passphrase is None else lambda: passphrase)
    try:
        assert file.is_encrypted == (passphrase is not None)
        return [title.decode() for (title,) in file.connection.execute("SELECT title FROM memories ORDER BY title")]
    finally:
        file.close()


def closed(path: Path, passphrase: str | None) -> Iterator[None]:
    write_database(path, [row(1), row(2)], passphrase)
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    yield


def alive(path: Path, passphrase: str | None) -> Iterator[None]:
    write_database(path, [row(1)], passphrase)
    with daemon_on(path, [row(2)], passphrase):
        yield


def killed(path: Path, passphrase: str | None) -> Iterator[None]:
    write_database(path, [row(1)], passphrase)
    with daemon_on(path, [row(2)], passphrase):
        pass
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0
    assert path.with_name(f"{path.name}-shm").exists()
    yield


def copied(path: Path, passphrase: str | None) -> Iterator[None]:
    yield from _without_shm(killed(path, passphrase), path)


def _without_shm(made: Iterator[None], path: Path) -> Iterator[None]:
    for _ in made:
        path.with_name(f"{path.name}-shm").unlink()
        yield


def emptied(path: Path, passphrase: str | None) -> Iterator[None]:
    """Nothing stands in the `-shm`, as after some ways of copying."""
    for _ in killed(path, passphrase):
        path.with_name(f"{path.name}-shm").write_bytes(b"")
        yield


def idle(path: Path, passphrase: str | None) -> Iterator[None]:
    """It runs, and its log is empty."""
    write_database(path, [row(1), row(2)], passphrase)
    with daemon_on(path, [], passphrase):
        yield


STATES = {one.__name__: contextmanager(one) for one in (closed, alive, killed, copied, emptied, idle)}


@ENCRYPTED
@pytest.mark.parametrize("state", STATES)
def test_all_is_read_and_nothing_is_written(tmp_path: Path, state: str, passphrase: str | None) -> None:
    """Both rows are read, that in the log too; no file beside it appears, goes, or changes by a byte or its time."""
    path = tmp_path / "memory.db"
    with STATES[state](path, passphrase):
        before = folder_state(path)
        assert titles(path, passphrase) == ["title 1", "title 2"]
        assert folder_state(path) == before


@ENCRYPTED
@pytest.mark.parametrize(
    ("state", "parameters", "is_whole"),
    [("killed", "mode=ro", True), ("closed", "mode=ro", True), ("killed", "mode=ro&immutable=1", False)],
)
def test_simpler_ways_write_beside_it_or_leave_out_the_log(
    tmp_path: Path, state: str, parameters: str, passphrase: str | None, is_whole: bool
) -> None:
    """Control: `mode=ro` touches or makes files, `immutable=1` alone reads one row of two."""
    path = tmp_path / "memory.db"
    with STATES[state](path, passphrase):
        before = folder_state(path)
        connection = sqlcipher.connect(f"{path.as_uri()}?{parameters}", uri=True)
        if passphrase is not None:
            connection.set_key(rust_files.key(passphrase))
        found = len(connection.execute("SELECT title FROM memories").fetchall())
        changed = folder_state(path) != before
        connection.close()
        assert (found, changed) == ((2, True) if is_whole else (1, False))


@ENCRYPTED
def test_a_writer_goes_on_and_what_it_writes_meanwhile_is_not_seen(tmp_path: Path, passphrase: str | None) -> None:
    """One state of the file is read, while the daemon writes the next; its writes are there the next time."""
    path = tmp_path / "memory.db"
    write_database(path, [row(1)], passphrase)
    with daemon_on(path, [row(2)], passphrase) as daemon:
        file = SqliteFile(path, lambda: PASSPHRASE)
        have_written(daemon, row(3))
        assert file.connection.execute("SELECT count(*) FROM memories").fetchone() == (2,)
        file.close()
        assert titles(path, passphrase) == ["title 1", "title 2", "title 3"]


@ENCRYPTED
@pytest.mark.parametrize("state", ["closed", "copied"])
def test_a_file_that_is_written_while_nothing_keeps_others_from_it_is_reported(
    tmp_path: Path, state: str, passphrase: str | None
) -> None:
    """Where no lock of the reader's can be seen by others, the file is looked at again at the end."""
    path = tmp_path / "memory.db"
    with STATES[state](path, passphrase):
        file = SqliteFile(path, lambda: PASSPHRASE)
        write_database(path, [row(3)], passphrase)
        with pytest.raises(SourceError, match="written while it was read") as raised:
            file.close()
        assert raised.value.code == "source_changed"


def test_a_private_copy_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a log without `-shm` needs one, in a folder that nobody else can enter."""
    path, scratch = tmp_path / "memory.db", tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(sqlite_file.tempfile, "tempdir", str(scratch))
    with STATES["copied"](path, None):
        file = SqliteFile(path, no_passphrase)
        [folder] = scratch.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {one.name for one in folder.iterdir()} >= {"copy.db", "copy.db-wal"}
        file.close()
        assert list(scratch.iterdir()) == []


def test_a_link_to_the_file_is_followed(tmp_path: Path) -> None:
    """The log lies beside the file itself."""
    folder = tmp_path / "data"
    folder.mkdir()
    link = tmp_path / "link.db"
    link.symlink_to(folder / "memory.db")
    with STATES["killed"](folder / "memory.db", PASSPHRASE):
        assert titles(link, PASSPHRASE) == ["title 1", "title 2"]


@pytest.mark.parametrize("passphrase", ["plain words", "it's", "''", "x'00'", "ü"])
def test_the_daemons_way_with_a_passphrase(tmp_path: Path, passphrase: str) -> None:
    """It is quoted twice there, so quotes are part of it."""
    path = tmp_path / "memory.db"
    write_database(path, [row(1)], passphrase)
    assert titles(path, passphrase) == ["title 1"]


def test_a_passphrase_as_it_is_opens_too(tmp_path: Path) -> None:
    """For a file that was given its passphrase by other means than the daemon's."""
    path = tmp_path / "memory.db"
    connection = sqlcipher.connect(str(path), isolation_level=None)
    connection.set_key(b"plain words")
    connection.executescript(rust_files.SCHEMA)
    connection.close()
    assert titles(path, "plain words") == []


# --- what cannot be read


def fault(path: Path, passphrase: str = PASSPHRASE) -> str:
    """The code of the error; the text says what the file is called, and is a sentence with a next step in it."""
    with pytest.raises(SourceError) as raised:
        file = SqliteFile(path, lambda: passphrase)
        try:
            for _ in file.connection.execute("SELECT * FROM memories"):
                pass
        except sqlcipher.DatabaseError as error:
            raise sqlite_file.explained(error, path) from None
        finally:
            file.close()
    assert path.name in str(raised.value)
    assert PASSPHRASE not in str(raised.value)
    return raised.value.code


def test_a_wrong_passphrase_is_told_apart(tmp_path: Path) -> None:
    """From everything else that can be wrong."""
    write_database(tmp_path / "memory.db", [row(1)])
    assert fault(tmp_path / "memory.db", "wrong") == "source_passphrase"


@pytest.mark.parametrize(
    "content",
    [b"", b"hello\n" * 2_000, bytes(8_192), os.urandom(5_000), b"\x89PNG"],
    ids=["nothing", "text", "zeros", "no whole pages", "too short"],
)
def test_what_is_no_database_is_told_apart(tmp_path: Path, content: bytes) -> None:
    """By its length or its first bytes, without a passphrase."""
    path = tmp_path / "memory.db"
    path.write_bytes(content)
    with pytest.raises(SourceError) as raised:
        SqliteFile(path, no_passphrase)
    assert raised.value.code == "source_not_a_database"


@ENCRYPTED
def test_a_damaged_page_is_told_apart(tmp_path: Path, passphrase: str | None) -> None:
    """Overwritten in the middle: found when that page is read."""
    path = tmp_path / "memory.db"
    write_database(path, [row(n, content="long " * 500) for n in range(40)], passphrase)
    with path.open("r+b") as file:
        for page in range(5, path.stat().st_size // 4_096):
            file.seek(page * 4_096)
            file.write(os.urandom(512))
    assert fault(path) == "source_damaged"


def test_an_unfinished_transaction_is_told_apart(tmp_path: Path) -> None:
    """A journal beside it would have to be played back into the file first, which is its owner's to do."""
    path = tmp_path / "memory.db"
    write_database(path, [row(1)], None)
    path.with_name("memory.db-journal").write_bytes(b"x" * 1_024)
    assert fault(path) == "source_unfinished"


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    """With its name, as for every file that a command is given."""
    with pytest.raises(FileNotFoundError):
        SqliteFile(tmp_path / "none.db", no_passphrase)


def test_the_files_of_these_tests_are_what_they_say(tmp_path: Path) -> None:
    """Control: the plain one is opened by any SQLite, the encrypted one by none without its key."""
    write_database(tmp_path / "plain.db", [row(1)], None)
    write_database(tmp_path / "encrypted.db", [row(1)])
    shutil.copy(tmp_path / "plain.db", tmp_path / "copy.db")

    def count(name: str) -> Any:
        connection = sqlite3.connect(tmp_path / name)
        try:
            return connection.execute("SELECT count(*) FROM memories").fetchone()[0]
        finally:
            connection.close()

    assert count("copy.db") == 1
    with pytest.raises(sqlite3.DatabaseError):
        count("encrypted.db")


# --- a disk that cannot be written


def reads(disk: Disk) -> list[Any]:
    """What is read of the files in a folder."""
    found: list[Any] = []
    for path in sorted(disk.folder.glob("*.db")):
        try:
            found.append([path.stem, titles(path, PASSPHRASE)])
        except SourceError as error:
            found.append([path.stem, error.code])
    return found


@pytest.mark.usefixtures("mounts")
def test_a_read_only_disk_is_read_whole(tmp_path: Path) -> None:
    """A file that was closed, one of a killed daemon and a copy without `-shm`: media of a backup are usually so."""
    for state in ("closed", "killed", "copied"):
        (tmp_path / state).mkdir()
        with STATES[state](tmp_path / state / f"{state}.db", PASSPHRASE):
            for one in (tmp_path / state).iterdir():
                one.rename(tmp_path / one.name)
    found = disks.run(reads, tmp_path, "read-only disk")
    assert found == [[state, ["title 1", "title 2"]] for state in ("closed", "copied", "killed")]
