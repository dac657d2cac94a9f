"""Putting a backup in the place of a store: nothing of the old one gets into it, and nothing of either is lost."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from stores import PASSPHRASE, Keeper, faults, raw

from node.opening import Patience
from node.restoring import put_back
from node.store import Store, lock, restore
from node.store.backup import back_up
from node.store.errors import (
    Damaged,
    NotABackup,
    NotEncrypted,
    StoreError,
    StoreLocked,
    StoreMissing,
    WrongFile,
    WrongPassphrase,
)
from sync import lives

NOW = "2026-01-01T00:00:00.000000+00:00"
WRITER = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from stores import Keeper
keeper = Keeper(Path(sys.argv[1]), create=False)
for number in range(20):
    keeper.write(f"late {number}", "word " * 100)
os.kill(os.getpid(), signal.SIGKILL)
"""


def hurry(text: str) -> None:
    raise AssertionError(f"nobody should have to wait: {text}")


def put(source: Path, path: Path, passphrase: str = PASSPHRASE, seconds: float = 5.0) -> Path | None:
    return put_back(source, path, passphrase, "host:test", NOW, Patience(hurry, seconds)).kept


def titles(path: Path) -> set[str]:
    with raw(path) as connection:
        return {title for (title,) in connection.execute("SELECT title FROM memory WHERE kind = 'm'")}


def crashed(path: Path) -> None:
    """A process that was killed with the store open: what it wrote last is in the log."""
    found = subprocess.run([sys.executable, "-c", WRITER, str(path), PASSPHRASE, *sys.path], check=False)
    assert found.returncode == -signal.SIGKILL
    assert (path.with_name(path.name + "-wal")).stat().st_size > 0


EARLY, LATE = {f"early {number}" for number in range(5)}, {f"late {number}" for number in range(20)}


@pytest.fixture(scope="module")
def crash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of a store whose node was killed, and of an older backup of it."""
    folder = tmp_path_factory.mktemp("crash")
    keeper = Keeper(folder / "memories.db")
    for number in range(5):
        keeper.write(f"early {number}")
    keeper.close()
    back_up(keeper.path, PASSPHRASE, folder / "backup.db")
    crashed(keeper.path)
    return folder


@pytest.fixture
def path(crash: Path, tmp_path: Path) -> Path:
    """A store with 5 memories, of which `backup.db` is a backup; 20 more were written, and its node was killed."""
    shutil.copytree(crash, tmp_path, dirs_exist_ok=True)
    return tmp_path / "memories.db"


def test_after_a_kill_a_backup_is_put_back_whole(path: Path, tmp_path: Path) -> None:
    """The store is the backup and nothing else; the old one lies aside, whole; the backup is as it was."""
    before = (tmp_path / "backup.db").read_bytes()
    kept = put(tmp_path / "backup.db", path)
    assert titles(path) == EARLY
    assert faults(path) == []
    assert kept is not None
    assert titles(kept / path.name) == EARLY | LATE
    assert (tmp_path / "backup.db").read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o600
    assert kept.stat().st_mode & 0o777 == 0o700
    assert not [one.name for one in path.parent.iterdir() if one.name.startswith(".")]


def test_a_copy_over_the_file_mixes_the_two(path: Path, tmp_path: Path) -> None:
    """Control: what an operator would do by hand replays the old log into the backup."""
    shutil.copy(tmp_path / "backup.db", path)
    try:
        found = titles(path)
    except StoreError:
        return
    assert found != EARLY


def test_a_restored_store_knows_that_it_is_older(path: Path, tmp_path: Path) -> None:
    """It begins a life as after a proven rollback, and trusts no cursor on a peer any more (protocol section 4)."""
    put(tmp_path / "backup.db", path)
    with raw(path) as connection:
        reasons = [reason for (reason,) in connection.execute("SELECT reason FROM life ORDER BY rowid")]
    assert reasons[-1] == lives.ROLLED_BACK


def test_the_log_of_a_copied_store_is_part_of_it(path: Path, tmp_path: Path) -> None:
    """What a tool copied of a dead machine's folder: the file, and the log that belongs to it."""
    put(path, tmp_path / "new.db")
    assert titles(tmp_path / "new.db") == EARLY | LATE


def test_where_there_was_no_store_nothing_is_kept(path: Path, tmp_path: Path) -> None:
    """A new disk."""
    new = tmp_path / "new.db"
    assert put(tmp_path / "backup.db", new) is None
    assert titles(new) == EARLY
    assert not list(tmp_path.glob("new.db.before*"))


@pytest.mark.parametrize("how", ["damaged", "another passphrase", "empty"])
def test_an_old_store_that_does_not_open_is_kept_as_it_is(how: str, path: Path, tmp_path: Path) -> None:
    """All its files, byte for byte; the log that cannot be read is no part of the new store."""
    if how == "damaged":
        path.write_bytes(path.read_bytes()[:4096] + b"x" * 4096)
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        Store.open(path.with_name("other.db"), "another", create=True).close()
        path.with_name("other.db").rename(path)
    files = {name: path.with_name(name).read_bytes() for name in (path.name, f"{path.name}-wal")}
    kept = put(tmp_path / "backup.db", path)
    assert kept is not None
    assert {name: (kept / name).read_bytes() for name in files} == files
    assert titles(path) == EARLY


def test_a_store_behind_a_link_is_restored_where_it_lies(path: Path, tmp_path: Path) -> None:
    """The link stays one, and so does that of a store which is made anew."""
    (tmp_path / "disk").mkdir()
    link = tmp_path / "linked.db"
    link.symlink_to(tmp_path / "disk" / "store.db")
    Store.open(link, PASSPHRASE, create=True).close()
    kept = put(path, link)
    assert link.is_symlink()
    assert titles(link) == EARLY | LATE
    assert kept is not None
    assert kept.parent == (tmp_path / "disk").resolve()
    assert {one.name for one in (tmp_path / "disk").iterdir()} == {"store.db", kept.name}


BAD: dict[str, tuple[Callable[[Path], object], type[StoreError], str]] = {
    "not there": (lambda file: file.unlink(), WrongFile, "there is no such file"),
    "empty": (lambda file: file.write_bytes(b""), Damaged, "0 bytes"),
    "cut short": (lambda file: file.write_bytes(file.read_bytes()[:-4096]), Damaged, "damaged"),
    "a flipped bit": (lambda file: flip(file, 5 * 4096 + 99), Damaged, "damaged"),
    "a flipped bit in the first page": (lambda file: flip(file, 99), WrongPassphrase, "not opened by this passphrase"),
    "plain": (lambda file: file.write_bytes(b"SQLite format 3\0" + bytes(4080)), NotEncrypted, "plain"),
    "a folder": (lambda file: (file.unlink(), file.mkdir()), WrongFile, "is not a file"),
    "a pipe": (lambda file: (file.unlink(), os.mkfifo(file)), WrongFile, "is not a file"),
    "an unfinished one": (lambda file: Path(f"{file}-journal").touch(), StoreError, "was never finished"),
    "of another program": (lambda file: strange(file), StoreError, "no store of this program"),
}


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def strange(file: Path) -> None:
    with raw(file) as connection:
        connection.execute("DROP TABLE peer")


@pytest.mark.parametrize("case", BAD)
def test_a_backup_that_is_not_whole_changes_nothing(case: str, path: Path, tmp_path: Path) -> None:
    """It is refused by name, before anything of the old store is touched."""
    spoil, kind, text = BAD[case]
    file = tmp_path / "backup.db"
    spoil(file)
    before = {one.name for one in path.parent.iterdir()}
    with pytest.raises((WrongFile, NotABackup), match=text) as refused:
        put(file, path)
    found = refused.value.cause if isinstance(refused.value, NotABackup) else refused.value
    assert type(found) is kind
    assert str(file) in str(refused.value)
    assert ".new" not in str(refused.value)
    assert {one.name for one in path.parent.iterdir()} <= before | {f"{path.name}.lock", f"{path.name}-shm"}
    assert titles(path) == EARLY | LATE


def test_the_store_itself_is_no_backup(path: Path) -> None:
    """Under whatever name."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    for source in (path, link):
        with pytest.raises(StoreError, match="is the store itself"):
            put(source, path)


def test_a_passphrase_that_does_not_open_it_changes_nothing(path: Path, tmp_path: Path) -> None:
    """Nothing else tells whose backup it is."""
    with pytest.raises(NotABackup, match=r"Nothing was changed") as refused:
        put(tmp_path / "backup.db", path, "another passphrase")
    assert type(refused.value.cause) is WrongPassphrase
    assert titles(path) == EARLY | LATE


def test_a_running_node_is_refused_whatever_its_folder_says(path: Path, tmp_path: Path) -> None:
    """The lock is the truth, and nobody waits for a node."""
    store = Store.open(path, PASSPHRASE, holder=lock.NODE)
    try:
        with pytest.raises(StoreLocked, match=rf"a node, process {os.getpid()}\)\. Stop the node first"):
            put(tmp_path / "backup.db", path)
    finally:
        store.close()
    assert titles(path) == EARLY | LATE


class Cut(BaseException):
    """As a kill: nothing cleans up after it."""


STEPS = ("link", "rename", "replace", "mkdir", "unlink")


@pytest.mark.parametrize(("has_links", "opens"), [(True, True), (False, True), (True, False)])
@pytest.mark.parametrize("step", range(8))
def test_cut_off_at_any_step_the_next_start_finishes_it(
    step: int, has_links: bool, opens: bool, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the new store is ready it will be in its place; until then the old one is, with its log."""
    if not opens:
        flip(path, 99)
    count = 0

    def cutting(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal count
            if any(path.name in str(one) for one in arguments) and "-shm" not in str(arguments[0]):
                count += 1
                if count == step + 1:
                    raise Cut
            return real(*arguments, **options)

        return call

    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", cutting(os.link if has_links else no_links))
        for name in ("rename", "replace", "mkdir"):
            patch.setattr(Path, name, cutting(getattr(Path, name)))
        with contextlib.suppress(Cut):
            put(tmp_path / "backup.db", path)
    ready = restore.is_ready(path)
    try:
        Store.open(path, PASSPHRASE).close()
    except (StoreError, StoreMissing):
        assert not opens
        assert not ready
        return
    found = titles(path)
    assert found in (EARLY, EARLY | LATE)
    assert found == EARLY or not ready
    if found == EARLY:
        (aside,) = path.parent.glob("*.before-*")
        assert not opens or titles(aside / path.name) == EARLY | LATE
    assert not restore.is_ready(path)


def test_a_backup_finishes_a_restore_first(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads the store without its lock finds no mixture either."""
    with monkeypatch.context() as patch:
        patch.setattr(restore, "finish", lambda path: None)
        put(tmp_path / "backup.db", path)
    assert restore.is_ready(path)
    back_up(path, PASSPHRASE, tmp_path / "second.db")
    assert not restore.is_ready(path)
    assert titles(tmp_path / "second.db") == EARLY
