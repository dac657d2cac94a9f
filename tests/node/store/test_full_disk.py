"""A full disk: a clear error, nothing half-written, reads that go on, and a store that resumes when there is room."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import disks
import pytest
from disks import Disk
from stores import PASSPHRASE, Keeper, faults, foreign

from node.store import Store
from node.store.backup import back_up
from node.store.errors import StoreError

ATTEMPTS = 2_000


def attempt(task: Callable[[], Any]) -> StoreError | None:
    try:
        task()
    except StoreError as error:
        return error
    return None


def fills_up(disk: Disk) -> dict[str, Any]:
    """Write, fill the disk, write until it fails, read, try more, free the disk, write again, check everything."""
    keeper = Keeper(disk.folder / "memories.db")
    acknowledged = []

    def write(number: int) -> None:
        keeper.write(f"title {number}", f"apple {'word ' * 300}{number}")
        acknowledged.append(f"title {number}")

    for number in range(30):
        write(number)
    disk.fill()
    first = next((error for number in range(30, ATTEMPTS) if (error := attempt(lambda n=number: write(n)))), None)
    position = keeper.store.position
    page = [foreign(f"theirs {number}", "x" * 3_000) for number in range(60)]
    more = [attempt(lambda: keeper.take(*page)) for _ in range(3)] + [attempt(lambda: write(-1)) for _ in range(3)]
    told = {
        "error": type(first).__name__,
        "text": str(first),
        "more": [type(error).__name__ for error in more],
        "unmoved": keeper.store.position == position == keeper.read(lambda reader: reader.position()),
        "read": keeper.titles() == sorted(acknowledged),
        "found": sorted(keeper.search("apple", 5_000)) == sorted(acknowledged),
    }
    disk.free()
    keeper.write("after", "apple")
    keeper.take(*page)
    keeper.index()
    acknowledged += ["after", *(version.title for version in page)]
    told["found after"] = sorted(keeper.search("apple", 5_000)) == [
        t for t in sorted(acknowledged) if "theirs" not in t
    ]
    keeper.close()
    told["faults"] = faults(keeper.path)
    again = Keeper(keeper.path, create=False)
    told["kept"] = again.titles() == sorted(acknowledged)
    again.close()
    return told


KINDS = ["limited files", "small disk"]


def mountable(kind: str) -> None:
    if kind != "limited files" and (reason := disks.obstacle()):
        pytest.skip(reason)


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_survives_a_full_disk_and_goes_on_by_itself(kind: str, tmp_path: Path) -> None:
    """Every write that was answered is there, none that failed is, and no restart is needed."""
    mountable(kind)
    told = disks.run(fills_up, tmp_path, kind)
    expected = {"StoreFull"} if kind == "small disk" else {"StoreFull", "StoreReadOnly"}
    assert told.pop("error") in expected
    assert set(told.pop("more")) <= expected
    assert "disk" in told["text"] or "space" in told["text"]
    assert len(told.pop("text")) > 30
    assert told.pop("faults") == []
    assert all(told.values()), told


def never_fills_up(disk: Disk) -> dict[str, Any]:
    """The same writes with room for all of them."""
    keeper = Keeper(disk.folder / "memories.db")
    errors = [attempt(lambda n=number: keeper.write(f"title {n}", "word " * 300)) for number in range(60)]
    keeper.close()
    return {"errors": [str(error) for error in errors if error]}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_writes_succeed_with_room(kind: str, tmp_path: Path) -> None:
    """Control: it is the full disk that makes them fail."""
    mountable(kind)
    assert disks.run(never_fills_up, tmp_path, kind) == {"errors": []}


def opens_on_a_full_disk(disk: Disk) -> dict[str, Any]:
    """Make a store where there is no room, open one where there is none, and once more with room."""
    old = Keeper(disk.folder / "old.db")
    old.write("one", "word " * 2_000)
    old.close()
    disk.fill()
    made = attempt(lambda: Store.open(disk.folder / "new.db", "secret", create=True).close())
    opened = attempt(lambda: Store.open(disk.folder / "old.db", "another passphrase"))
    left = sorted(path.name for path in disk.folder.iterdir() if path.name not in ("ballast", "new.db.lock"))
    disk.free()
    Store.open(disk.folder / "new.db", "secret", create=True).close()
    again = Keeper(disk.folder / "old.db", create=False)
    titles = again.titles()
    again.close()
    return {
        "made": type(made).__name__, "text": str(made), "opened": type(opened).__name__, "left": left, "titles": titles,
    }  # fmt: skip


def test_a_store_that_cannot_be_made_for_want_of_room_leaves_nothing(tmp_path: Path) -> None:
    """The error is clear, and once there is room the store is made as if nothing had been tried."""
    mountable("small disk")
    told = disks.run(opens_on_a_full_disk, tmp_path, "small disk")
    assert told["made"] in ("StoreFull", "StoreReadOnly")
    assert told["opened"] in ("StoreFull", "StoreReadOnly", "WrongPassphrase")
    assert told["left"] == ["old.db", "old.db.lock"]
    assert told["titles"] == ["one"]


def closes_on_a_full_disk(disk: Disk) -> dict[str, Any]:
    """Fill the disk with changes still in the log and out of the index, and close."""
    keeper = Keeper(disk.folder / "memories.db")
    for number in range(30):
        keeper.write(f"title {number}", "word " * 300)
    disk.fill()
    keeper.close()
    disk.free()
    again = Keeper(keeper.path, create=False)
    kept = len(again.titles())
    again.index()
    found = len(again.search("word", 100))
    again.close()
    return {"kept": kept, "found": found, "faults": faults(keeper.path)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_closes_on_a_full_disk_and_loses_nothing(kind: str, tmp_path: Path) -> None:
    """What the database file has no room for stays in the log, for the next opening."""
    mountable(kind)
    assert disks.run(closes_on_a_full_disk, tmp_path, kind) == {"kept": 30, "found": 30, "faults": []}


def backs_up_on_a_full_disk(disk: Disk) -> dict[str, Any]:
    keeper = Keeper(disk.folder / "memories.db")
    for number in range(30):
        keeper.write(f"title {number}", "word " * 300)
    disk.fill()
    error = attempt(lambda: back_up(keeper.path, PASSPHRASE, disk.folder / "backup.db"))
    left = (disk.folder / "backup.db").exists()
    disk.free()
    keeper.write("after")
    back_up(keeper.path, PASSPHRASE, disk.folder / "backup.db")
    keeper.close()
    again = Keeper(disk.folder / "backup.db", create=False)
    kept = len(again.titles())
    again.close()
    return {"error": type(error).__name__, "left": left, "kept": kept}


def test_a_backup_that_finds_no_room_leaves_no_half_of_one(tmp_path: Path) -> None:
    """The error says so, nothing stands at the target, and the store and the next backup are whole."""
    mountable("small disk")
    told = disks.run(backs_up_on_a_full_disk, tmp_path, "small disk")
    assert told == {"error": "WrongFile", "left": False, "kept": 31}
