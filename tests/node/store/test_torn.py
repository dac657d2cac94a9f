"""What SQLite recovers, the node opens: a database torn while its log has the rest, and a first start killed."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import stores
from stores import PASSPHRASE, Keeper, faults

from node import store as store_module
from node.store import Store, schema, soundness
from node.store.connection import connect
from node.store.errors import Damaged, StoreError, WrongPassphrase
from node.store.file import beside
from node.store.key import salt_of
from node.store.wal import WriteAheadLog

SECTOR, PAGE = 512, 4_096
TITLES = sorted(f"title {number}" for number in range(30))
BEFORE = sorted(TITLES[:5])


@dataclass(frozen=True)
class Left:
    """The files of a store at a moment, and the database as it is once all of its log is in it."""

    database: bytes
    log: bytes
    whole: bytes

    def lay(self, folder: Path, database: bytes, *, log: bool = True) -> Path:
        path = folder / "memories.db"
        path.write_bytes(database)
        if log:
            beside(path, "-wal").write_bytes(self.log)
        return path


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """A store that was written to since it was opened, with all of that in its log alone."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(WriteAheadLog, "settle", lambda log: None)
        patched.setattr(store_module, "derive", stores.key_of)
        path = tmp_path_factory.mktemp("left") / "memories.db"
        first = Keeper(path)
        for title in BEFORE:
            first.write(title, "word " * 900)
        first.close()
        keeper = Keeper(path, create=False)
        for title in TITLES:
            keeper.write(title, f"other {title} " * 900)
        keeper.index()
        database, log = path.read_bytes(), beside(path, "-wal").read_bytes()
        keeper.close()
        return Left(database, log, path.read_bytes())


def opened(path: Path) -> list[str]:
    """What is in it; it is sound, can be written to, and is one file afterwards."""
    keeper = Keeper(path, create=False)
    titles = keeper.titles()
    keeper.write("one more")
    keeper.close()
    assert faults(path) == []
    return titles


def torn(left: Left) -> Iterator[tuple[str, bytes]]:
    """The database at each sector of its last page: ended there, and half written there; and of some pages before."""
    last = len(left.whole) - PAGE
    for end in range(last, len(left.whole), SECTOR):
        yield f"ends at {end}", left.whole[:end]
    for end in range(len(left.database), last, PAGE * 7 + SECTOR):
        yield f"ends at {end}", left.whole[:end]
    for end in range(SECTOR, PAGE, SECTOR):
        yield f"half new at {last + end}", left.whole[: last + end] + bytes(PAGE - end)
    own = len(left.database)
    for end in range(SECTOR, PAGE, SECTOR):
        yield f"grown by {end}", left.database + left.whole[own : own + end]


def test_a_torn_database_opens_where_the_log_has_the_rest(left: Left, tmp_path: Path) -> None:
    """Wherever a checkpoint ended, nothing is lost, whatever the file's length is."""
    cases = list(torn(left))
    assert len(cases) > 25
    for name, database in cases:
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        assert opened(left.lay(folder, database)) == TITLES, name


def test_without_the_log_it_is_told_as_what_it_is(left: Left, tmp_path: Path) -> None:
    """Control: the same files without the log are refused, as cut short or damaged, and stay as they are."""
    last = len(left.whole) - PAGE
    for end in range(last, len(left.whole), SECTOR):
        path = left.lay(tmp_path, left.whole[:end], log=False)
        with pytest.raises(Damaged) as found:
            Store.open(path, PASSPHRASE)
        assert end % PAGE == 0 or f"cut short: {end} bytes" in str(found.value)
        assert "backup" in found.value.next_step
        assert path.read_bytes() == left.whole[:end]
        assert not beside(path, "-wal").exists()


@pytest.mark.parametrize("end", [-PAGE, -PAGE + SECTOR, -3 * PAGE])
def test_a_log_that_does_not_have_what_is_missing_is_not_enough(left: Left, end: int, tmp_path: Path) -> None:
    """A page that neither file has is told before anything is changed: both are there for whoever can use them."""
    lacking = left.database[: len(left.database) + end]
    pages = range(len(lacking) // PAGE + 1, len(left.database) // PAGE + 1)
    step, log = soundness.FRAME_HEADER + PAGE, left.log
    frames = [int.from_bytes(log[at : at + 4], "big") for at in range(soundness.LOG_HEADER, len(log), step)]
    first = frames.index(next(page for page in pages if page in frames)) if set(pages) & set(frames) else len(frames)
    short = log[: soundness.LOG_HEADER + first * step]
    path = left.lay(tmp_path, lacking)
    beside(path, "-wal").write_bytes(short)
    with pytest.raises(Damaged):
        Store.open(path, PASSPHRASE)
    assert path.read_bytes() == lacking
    assert beside(path, "-wal").read_bytes() == short


def test_what_lies_behind_the_last_page_does_no_harm(left: Left, tmp_path: Path) -> None:
    """A page that was begun at the end of a sound database is of no transaction: SQLite never looks at it."""
    assert opened(left.lay(tmp_path, left.whole + b"x" * 700, log=False)) == TITLES


def test_another_passphrase_is_still_told_as_that(left: Left, tmp_path: Path) -> None:
    """A torn file under a wrong passphrase is not called damaged."""
    path = left.lay(tmp_path, left.whole[:-SECTOR])
    with pytest.raises(WrongPassphrase):
        Store.open(path, "another")
    assert path.read_bytes() == left.whole[:-SECTOR]
    assert beside(path, "-wal").read_bytes() == left.log


def test_an_emptied_store_with_a_log_keeps_it(left: Left, tmp_path: Path) -> None:
    """SQLite would throw the log of an empty database away: it is refused, and the log named."""
    path = left.lay(tmp_path, b"")
    with pytest.raises(Damaged, match=r"empty \(0 bytes\), and there is a log beside it \(memories\.db-wal\)"):
        Store.open(path, PASSPHRASE, create=True)
    assert beside(path, "-wal").read_bytes() == left.log


def test_a_log_without_its_database_is_not_taken_for_a_new_ones(left: Left, tmp_path: Path) -> None:
    """It may hold what was written last: no new store is made beside it, and it stays."""
    path = left.lay(tmp_path, b"")
    path.unlink()
    with pytest.raises(StoreError, match=r"memories\.db-wal lies there without its store"):
        Store.open(path, PASSPHRASE, create=True)
    assert beside(path, "-wal").read_bytes() == left.log
    assert not path.exists()


@pytest.mark.parametrize("end", range(SECTOR, PAGE + 1, SECTOR))
def test_a_database_of_one_page_is_torn_in_its_first(end: int, tmp_path: Path) -> None:
    """The whole store is in the log yet; of the database no more need be left than where the salt stands."""
    source = tmp_path / "source.db"
    source.touch()
    connection = connect(source, stores.key_of(PASSPHRASE, bytes(range(16))), writer=True)
    schema.migrate(connection, source)
    target = tmp_path / "memories.db"
    target.write_bytes(source.read_bytes()[:end])
    shutil.copy(beside(source, "-wal"), beside(target, "-wal"))
    assert source.stat().st_size == PAGE
    connection.close()
    assert salt_of(target) == bytes(range(16))
    assert opened(target) == []


# --- the very first start

STARTING = """
import sys
from pathlib import Path
from node.store import Store
from node import store, disk
import os
# Killed at the n-th of the calls that a first start makes.
left = [int(sys.argv[2])]
def killing(function):
    def wrapped(*args, **names):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), 9)
        return function(*args, **names)
    return wrapped
from node.store import connection, file, making
for module, name in ((os, "open"), (os, "mkdir"), (os, "link"), (os, "unlink"), (os, "rmdir"), (os, "fsync"),
                     (os, "pread")):
    setattr(module, name, killing(getattr(module, name)))
connection.Connection.execute = killing(connection.Connection.execute)
Store.open(Path(sys.argv[1]), "correct horse battery staple", create=True).close()
print("made")
"""


def first_start(path: Path, after: int) -> bool:
    """Make a store in a process of its own that is killed at its `after`-th step; True where it was through before."""
    done = subprocess.run(
        [sys.executable, "-c", STARTING, str(path), str(after)],
        capture_output=True,
        env={"PYTHONPATH": str(Path(stores.__file__).parent)},
        timeout=stores.PATIENCE * 3,
    )
    assert done.returncode in (0, -9), done.stderr.decode()
    return done.returncode == 0


def test_a_first_start_may_be_killed_anywhere(tmp_path: Path) -> None:
    """The next one makes the store, or goes on with the whole one that is there; nothing is left beside it."""
    chosen = random.Random(7)
    points = sorted({0, 1, 2, 3, *(chosen.randrange(4, 160) for _ in range(16))})
    kills = 0
    for point in points:
        path = tmp_path / str(point) / "memories.db"
        path.parent.mkdir()
        kills += not first_start(path, point)
        assert not path.exists() or path.stat().st_size >= PAGE, point
        Keeper(path).close()
        assert opened(path) == [], point
        assert sorted(one.name for one in path.parent.iterdir()) == ["memories.db", "memories.db.lock"], point
    assert kills >= 10


@pytest.mark.parametrize("passphrase", [PASSPHRASE, "another"])
def test_what_a_killed_first_start_left_does_not_matter(passphrase: str, tmp_path: Path) -> None:
    """Half of a store in the scratch folder, of whatever passphrase, is taken away by the next attempt, and no more."""
    path = tmp_path / "memories.db"
    scratch, theirs = path.with_name(f".memories.db.{16 * 'a'}.new"), path.with_name(".memories.db.making")
    for folder in (scratch, theirs):
        folder.mkdir()
        for suffix in ("", "-wal", "-shm", "-journal"):
            beside(folder / path.name, suffix).write_bytes(os.urandom(5_000))
    Store.open(path, passphrase, create=True).close()
    assert sorted(one.name for one in path.parent.iterdir()) == [theirs.name, "memories.db", "memories.db.lock"]


def test_a_store_made_in_place_would_be_found_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: an empty file at the store's own path, as a kill after its making would leave it, is refused."""
    (tmp_path / "memories.db").touch()
    with pytest.raises(Damaged, match="empty"):
        Store.open(tmp_path / "memories.db", PASSPHRASE, create=True)
