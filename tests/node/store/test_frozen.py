"""A store that cannot be written is read as it is, with what stands in its log alone, and nothing is written for it."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import disks
import pytest
import stores
from disks import Disk
from stores import PASSPHRASE, Keeper

from node.store import Store, schema
from node.store.connection import looking
from node.store.errors import Damaged, StoreError, StoreFull, StoreLocked, StoreReadOnly, StoreTooNew, WrongPassphrase
from node.store.file import beside
from node.store.key import salt_of
from node.store.search import SearchFilter
from node.store.wal import WriteAheadLog

KINDS = ["read-only disk", "no permission", "small disk"]
CAUSE = StoreReadOnly("a test's cause.", "Do something.")
NOW = "2020-01-01T00:00:00.000000+00:00"


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a database and a log that alone has most of what was written; nobody has it open."""
    source = tmp_path / "source" / "memories.db"
    source.parent.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(WriteAheadLog, "settle", lambda log: None)
        keeper = Keeper(source)
        for number in range(20):
            keeper.write(f"title {number}", f"apple {'word ' * 300}")
        keeper.delete("title 3")
        folder = tmp_path / "left"
        folder.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(beside(source, suffix), beside(folder / "memories.db", suffix))
        keeper.close()
    return folder


def seen(path: Path) -> dict[str, Any]:
    """Everything that a command would read, and what a write is told."""
    store = Store.open_to_read(path, PASSPHRASE, CAUSE)
    try:
        titles = store.reader.call(
            lambda one: [title for (title,) in one.execute("SELECT title FROM memory WHERE kind = 'm' ORDER BY number")]
        )
        found = store.reader.call(lambda one: len(one.search(SearchFilter("apple", NOW, 100)).documents))
        told = ""
        try:
            store.writer.call(lambda ledger: None)
        except StoreReadOnly as error:
            told = str(error)
        return {
            "titles": titles,
            "found": found,
            "feed": store.position.number,
            "told": told,
            "stats": store.reader.call(lambda one: one.stats(NOW, NOW)).total,
        }
    finally:
        store.close()


def digests(folder: Path) -> dict[str, str]:
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in sorted(folder.iterdir())}


def reads(disk: Disk) -> dict[str, Any]:
    """What is seen where the disk lets nothing be written, and whether all stayed as it was."""
    kept = disk.folder.with_name("kept")
    if kept.exists():  # a disk that was mounted empty
        for one in kept.iterdir():
            shutil.copy(one, disk.folder)
        disk.fill()
    before = digests(disk.folder)
    ordinary = ""
    try:
        Store.open(disk.folder / "memories.db", PASSPHRASE).close()
    except StoreError as error:
        ordinary = type(error).__name__
    lock = disk.folder / "memories.db.lock"
    after_attempt = {name: digest for name, digest in digests(disk.folder).items() if name != lock.name}
    found = seen(disk.folder / "memories.db")
    after = {name: digest for name, digest in digests(disk.folder).items() if name != lock.name}
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    return found | {"ordinary": ordinary, "changed": changed, "as it was": after_attempt == after}


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_in_the_log_alone_is_read_too(kind: str, left: Path) -> None:
    """An ordinary opening fails there (control); this one sees every memory, and leaves every file as it is."""
    if kind == "small disk":
        shutil.copytree(left, left.with_name("kept"))
    for one in left.iterdir():
        one.chmod(0o400 if kind == "no permission" else 0o600)
    try:
        told = disks.run(reads, left, kind)
    finally:
        left.chmod(0o700)
    assert told.pop("ordinary") in ("StoreReadOnly", "StoreFull")
    assert told.pop("feed") > 20
    # On a full disk the ordinary opening gets as far as the name of the file that there is no room for.
    assert told.pop("changed") in ([], ["memories.db-shm"] if kind == "small disk" else [])
    assert told == {
        "titles": [f"title {number}" for number in range(20) if number != 3],
        "found": 19,
        "stats": 19,
        "told": str(CAUSE),
        "as it was": True,
    }


def test_without_the_log_it_would_be_another_store(left: Path) -> None:
    """Control: the log is what these memories are in."""
    beside(left / "memories.db", "-wal").unlink()
    assert seen(left / "memories.db")["titles"] == []


def test_it_keeps_writers_out_and_stays_out_itself(keeper: Keeper, tmp_path: Path) -> None:
    """While somebody has the store open for writing it is not read in this way, and the other way round."""
    with pytest.raises(StoreLocked):
        Store.open_to_read(keeper.path, PASSPHRASE, CAUSE)
    keeper.close()
    reading = Store.open_to_read(keeper.path, PASSPHRASE, CAUSE)
    with pytest.raises(StoreLocked):
        Store.open(keeper.path, PASSPHRASE)
    another = Store.open_to_read(keeper.path, PASSPHRASE, CAUSE)
    another.close()
    reading.close()
    Store.open(keeper.path, PASSPHRASE).close()


def test_a_connection_that_takes_no_lock_is_refused_beside_one_that_does(keeper: Keeper) -> None:
    """When it closes, the locks of the whole process on this file would be gone."""
    with pytest.raises(StoreLocked, match="in use by this process"):
        looking(keeper.path, stores.key_of(PASSPHRASE, salt_of(keeper.path)))


@pytest.mark.parametrize("what", ["passphrase", "missing", "cut", "later"])
def test_what_is_wrong_is_told_apart_here_too(what: str, keeper: Keeper, tmp_path: Path) -> None:
    """A wrong passphrase, a damaged file and a later schema have their own errors; else the cause is told."""
    keeper.write("one", "word " * 5_000)
    path, passphrase, kind = keeper.path, PASSPHRASE, StoreError
    if what == "later":
        with stores.raw(path) as connection:
            connection.execute("INSERT INTO migration VALUES(?, 'later')", (len(schema.MIGRATIONS) + 1,))
        kind = StoreTooNew
    keeper.close()
    if what == "passphrase":
        passphrase, kind = "another", WrongPassphrase
    elif what == "missing":
        path, kind = tmp_path / "none.db", StoreReadOnly
    elif what == "cut":
        os.truncate(path, path.stat().st_size - 2_048)
        kind = Damaged
    with pytest.raises(StoreError) as found:
        Store.open_to_read(path, passphrase, CAUSE)
    assert type(found.value) is kind


def test_an_older_schema_is_told_with_what_is_missing(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would have to be written first."""
    keeper.close()
    with stores.raw(keeper.path) as connection:
        connection.execute("DELETE FROM migration WHERE version = ?", (len(schema.MIGRATIONS),))
    with pytest.raises(StoreFull, match=r"for that it must be written\. Free some"):
        Store.open_to_read(keeper.path, PASSPHRASE, StoreFull("full.", "Free some."))
