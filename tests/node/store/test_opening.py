"""Opening a store: what is wrong with a file is told apart, by name, with what to do next."""

import fcntl
import os
import random
import sqlite3
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from stores import PASSPHRASE, Keeper, faults, files_of, raw

from node import store as store_module
from node.store import Store, key, lock, schema
from node.store.connection import DatabaseError
from node.store.errors import (
    Damaged,
    NotADatabase,
    NotEncrypted,
    StoreError,
    StoreLocked,
    StoreMissing,
    StoreReadOnly,
    StoreTooNew,
    StoreTooOld,
    WrongPassphrase,
)

PAGE = 4_096


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a sound, closed store with some hundred memories."""
    keeper = Keeper(tmp_path_factory.mktemp("whole") / "memories.db")
    for number in range(100):
        keeper.write(f"title {number}", "word " * 200)
    keeper.close()
    return keeper.path.read_bytes()


def picture(_: bytes) -> bytes:
    """A PNG file as programs write them: 64 by 64 pixels of noise."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    pixels = b"".join(b"\0" + random.Random(row).randbytes(64 * 3) for row in range(64))
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def plain(_: bytes) -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE memory(id)")
    return connection.serialize()


BROKEN: dict[str, tuple[Callable[[bytes], bytes], type[StoreError], str]] = {
    "plain SQLite": (plain, NotEncrypted, "plain, unencrypted SQLite"),
    "0 bytes": (lambda whole: b"", Damaged, "0 bytes"),
    "cut below a page": (lambda whole: whole[:1_000], Damaged, "cut short: 1000 bytes"),
    "cut inside a page": (lambda whole: whole[: 20 * PAGE + 7], Damaged, "cut short"),
    "cut after the first page": (lambda whole: whole[:PAGE], Damaged, "damaged"),
    "cut between two pages": (lambda whole: whole[: 20 * PAGE], Damaged, "damaged"),
    "cut by the last page": (lambda whole: whole[:-PAGE], Damaged, "damaged"),
    "cut inside the last page": (lambda whole: whole[:-2_048], Damaged, "cut short"),
    "cut below a sector": (lambda whole: whole[:10], Damaged, "cut short: 10 bytes"),
    "flipped bit in the salt": (lambda whole: flipped(whole, 3), WrongPassphrase, "first page of the file is damaged"),
    "flipped bit in the first page": (lambda whole: flipped(whole, 900), WrongPassphrase, "first page"),
    "text": (lambda whole: b"Dear diary, today I wrote to no database.\n" * 200, NotADatabase, "not a database"),
    "picture": (picture, NotADatabase, "not a database"),
    "zeros": (lambda whole: bytes(4 * PAGE), NotADatabase, "not a database"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_a_file_has_its_own_error(case: str, whole: bytes, tmp_path: Path) -> None:
    """Each kind of broken file raises its own class, naming the file and what to do, and is left as it is."""
    make, kind, text = BROKEN[case]
    path = tmp_path / "memories.db"
    data = make(whole)
    path.write_bytes(data)
    with pytest.raises(StoreError) as found:
        Store.open(path, PASSPHRASE, create=True)
    assert type(found.value) is kind
    assert str(path) in str(found.value)
    assert text in str(found.value)
    assert len(found.value.next_step) > 10
    assert str(found.value).endswith(found.value.next_step)
    assert path.read_bytes() == data


def test_a_sound_file_opens(whole: bytes, tmp_path: Path) -> None:
    """Control: the file that the broken ones are made from opens and holds everything."""
    path = tmp_path / "memories.db"
    path.write_bytes(whole)
    keeper = Keeper(path, create=False)
    assert len(keeper.titles()) == 100
    keeper.close()


def test_a_wrong_passphrase_says_so(whole: bytes, tmp_path: Path) -> None:
    """The error has the words that people search for, names the file, and the file is untouched."""
    path = tmp_path / "memories.db"
    path.write_bytes(whole)
    with pytest.raises(WrongPassphrase) as found:
        Store.open(path, "something else")
    assert "PRAGMA key failed (wrong passphrase or unencrypted DB?)" in str(found.value)
    assert str(path) in str(found.value)
    assert "something else" not in str(found.value)
    assert path.read_bytes() == whole


def test_an_empty_passphrase_opens_nothing(tmp_path: Path) -> None:
    """An empty passphrase is refused before any file is made."""
    with pytest.raises(ValueError, match="empty"):
        Store.open(tmp_path / "memories.db", "", create=True)
    assert not (tmp_path / "memories.db").exists()


def test_a_flipped_bit_in_a_later_page_is_never_read_as_data(whole: bytes, tmp_path: Path) -> None:
    """Whichever page is damaged: reading all memories gives them as they were written, or raises; a check finds it."""
    path = tmp_path / "memories.db"
    path.write_bytes(whole)
    written, stopped = documents(path), 0
    assert found_by_checks(path) == []
    for page in range(1, len(whole) // PAGE):
        path.write_bytes(flipped(whole, page * PAGE + 700))
        try:
            assert documents(path) == written
        except (StoreError, DatabaseError):
            stopped += 1
        assert found_by_checks(path)
    assert stopped > len(whole) // PAGE // 2


def found_by_checks(path: Path) -> list[str]:
    try:
        return faults(path)
    except (StoreError, DatabaseError) as error:
        return [str(error)]


def documents(path: Path) -> list[bytes]:
    with raw(path) as connection:
        return [document for (document,) in connection.execute("SELECT doc FROM memory ORDER BY number")]


def test_reading_a_damaged_page_names_the_file(whole: bytes, tmp_path: Path) -> None:
    """A reader that meets a damaged page raises Damaged, not the database's own error."""
    path = tmp_path / "memories.db"
    path.write_bytes(whole)
    with raw(path) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'conflict'").fetchone()[0]
    path.write_bytes(flipped(whole, (root - 1) * PAGE + 700))
    store = Store.open(path, PASSPHRASE)
    try:
        with pytest.raises(Damaged, match=path.name):
            store.reader.call(lambda reader: reader.versions(("a", "x")))
        with pytest.raises(Damaged, match=path.name):
            store.writer.call(lambda ledger: ledger.kept_after("2020"))
    finally:
        store.close()


def test_a_store_that_is_not_there_is_not_made_by_mistake(tmp_path: Path) -> None:
    """Without `create`, a path without a file raises StoreMissing and makes no file."""
    path = tmp_path / "memories.db"
    with pytest.raises(StoreMissing, match=path.name):
        Store.open(path, PASSPHRASE)
    assert files_of(path) == []


@pytest.mark.parametrize("how", ["no folder", "folder in its place"])
def test_a_path_that_cannot_be_a_file_is_a_store_error(how: str, tmp_path: Path) -> None:
    """A folder that does not exist, or stands where the store should, is an error with a next step, not a traceback."""
    path = tmp_path / "no" / "memories.db" if how == "no folder" else tmp_path
    with pytest.raises(StoreReadOnly) as found:
        Store.open(path, PASSPHRASE, create=True)
    assert str(path) in str(found.value)


def test_a_store_that_is_open_is_locked(keeper: Keeper) -> None:
    """A second handle in the same process is refused, and the first goes on."""
    with pytest.raises(StoreLocked, match="in use"):
        Store.open(keeper.path, PASSPHRASE)
    keeper.write("still here")
    assert keeper.titles() == ["still here"]


def test_without_the_lock_two_handles_would_share_a_store(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: it is the lock that refuses the second handle."""
    monkeypatch.setattr(lock.fcntl, "flock", lambda *_: None)
    Store.open(keeper.path, PASSPHRASE).close()


HOLDER = """
import sys
from pathlib import Path
from node.store import Store
store = Store.open(Path(sys.argv[1]), sys.argv[2])
print("open", flush=True)
sys.stdin.read()
"""


def test_another_process_locks_the_store_until_it_ends(keeper: Keeper) -> None:
    """The lock of another process is seen, and a kill lets go of it."""
    keeper.write("before")
    keeper.close()
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(keeper.path), PASSPHRASE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(StoreLocked):
            Store.open(keeper.path, PASSPHRASE)
    finally:
        other.kill()
        other.communicate()
    again = Keeper(keeper.path, create=False)
    assert again.titles() == ["before"]
    again.close()


def test_a_later_schema_is_left_alone(keeper: Keeper) -> None:
    """A store that a later version migrated raises StoreTooNew, unchanged, and is closed again at once."""
    keeper.close()
    known = len(schema.MIGRATIONS)
    with raw(keeper.path) as connection:
        connection.execute("INSERT INTO migration VALUES(?, 'later')", (known + 1,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    before = keeper.path.read_bytes()
    with pytest.raises(StoreTooNew, match=f"schema {known + 1}, this program knows {known}"):
        Store.open(keeper.path, PASSPHRASE)
    assert keeper.path.read_bytes() == before
    assert [path.name for path in files_of(keeper.path) if not path.name.endswith(".lock")] == ["memories.db"]


def without_dots(keeper: Keeper) -> None:
    """As stores were before versions had them, at the schema that all of those had."""
    keeper.write("kept")
    keeper.close()
    with raw(keeper.path) as connection:
        connection.execute("ALTER TABLE memory RENAME COLUMN stamp TO clock")
        connection.execute("DELETE FROM migration WHERE version > 3")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def test_a_store_from_before_the_first_release_is_left_alone(keeper: Keeper) -> None:
    """Its records are none that a node takes: it is said so, and nothing of it changes."""
    without_dots(keeper)
    before = keeper.path.read_bytes()
    with pytest.raises(StoreTooOld, match=r"before the first release.*Make a new store, and bring the memories in"):
        Store.open(keeper.path, PASSPHRASE)
    assert keeper.path.read_bytes() == before


def test_without_the_look_nobody_would_know_why(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: some step does not fit it, in words that help nobody."""
    without_dots(keeper)
    monkeypatch.setattr(schema, "_require_dots", lambda *_: None)
    with pytest.raises(StoreError) as failed:
        Store.open(keeper.path, PASSPHRASE).close()
    assert "release" not in str(failed.value)


@pytest.mark.parametrize("broken", ["wrong passphrase", "too new", "damaged"])
def test_a_failed_opening_leaves_nothing_open(broken: str, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error neither a lock nor a file of the store stays open in this process."""
    keeper.close()
    passphrase = PASSPHRASE
    if broken == "wrong passphrase":
        passphrase = "another"
    elif broken == "too new":
        monkeypatch.setattr(store_module, "migrate", _too_new)
    else:
        keeper.path.write_bytes(keeper.path.read_bytes()[: -3 * PAGE])
    with pytest.raises(StoreError) as kept:
        Store.open(keeper.path, passphrase)
    assert kept.value is not None  # its traceback keeps the frames alive, as a logged error does
    assert open_files(keeper.path) == []


def _too_new(*_: object) -> None:
    raise StoreTooNew("a test.", "Nothing to do here.")


def open_files(path: Path) -> list[str]:
    """Files of the store that this process holds open."""
    links = Path("/proc/self/fd")
    if not links.exists():
        pytest.skip("this system has no /proc: open files cannot be listed")
    names = []
    for link in links.iterdir():
        try:
            names.append(str(link.readlink()))
        except FileNotFoundError:
            continue  # the folder's own handle
    return [name for name in names if name.startswith(str(path))]


def test_an_open_store_shows_among_the_open_files(keeper: Keeper) -> None:
    """Control: the list of open files does see an open store."""
    assert {Path(name).suffix for name in open_files(keeper.path)} >= {".db", ".db-wal", ".lock"}


def test_the_files_of_a_store_are_private(keeper: Keeper) -> None:
    """Nobody but the owner can read any of its files, whatever the umask."""
    keeper.write("one")
    assert {path.stat().st_mode & 0o777 for path in files_of(keeper.path)} == {0o600}


def test_the_key_is_never_shown() -> None:
    """A key's own text, as it would stand in a log, has nothing of the key."""
    made = key.derive(PASSPHRASE, bytes(16))
    assert made.literal.decode()[2:20] not in repr(made)
    assert repr(made) == "Key()"


def test_the_lock_is_no_posix_lock(keeper: Keeper) -> None:
    """The lock belongs to the open file: another handle of this process that closes does not let go of it."""
    other = os.open(keeper.path.with_name(keeper.path.name + ".lock"), os.O_RDWR)
    os.close(other)
    again = os.open(keeper.path.with_name(keeper.path.name + ".lock"), os.O_RDWR)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(again)
