"""What was acknowledged is there after the process was killed, and the files stay as small as they should."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import stores
from stores import PASSPHRASE, Keeper, faults, raw

from node.store import Store, connection, wal
from node.store.errors import StoreError
from node.store.wal import WriteAheadLog

ACKNOWLEDGING = """
import itertools, sys, threading
from pathlib import Path
from stores import Keeper, foreign
from sync.draft import Fields
keeper, how = Keeper(Path(sys.argv[1]), create=False), sys.argv[2]
def singles(name):
    for number in itertools.count():
        title = f"{name} {number}"
        keeper.write(title, f"content of {title}")
        sys.stdout.write(title + "\\n")
        sys.stdout.flush()
def pages(name):
    for number in itertools.count():
        titles = [f"{name} {number} {index}" for index in range(40)]
        keeper.take(*(foreign(title, f"content of {title}") for title in titles))
        sys.stdout.write("\\n".join(titles) + "\\n")
        sys.stdout.flush()
def uncommitted(name):
    def task(ledger):
        keeper.writing("never committed")(ledger)
        print("never committed", flush=True)
        threading.Event().wait()
    keeper.do(task)
for name in how.split(","):
    threading.Thread(target=vars()[name.strip("123")], args=(name,), daemon=True).start()
threading.Event().wait()
"""


def killed(path: Path, how: str, after: int) -> list[str]:
    """Run writers in a process of their own, kill it after so many acknowledgements; returns all that were given."""
    process = subprocess.Popen(
        [sys.executable, "-c", ACKNOWLEDGING, str(path), how],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(stores.__file__).parent)},
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(after)]
    process.kill()
    lines += process.stdout.readlines()
    process.wait()
    return [line.rstrip("\n") for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("how", ["singles", "singles1,singles2,singles3", "pages,singles"])
def test_what_was_acknowledged_survives_a_kill(how: str, tmp_path: Path) -> None:
    """Killed again and again in the middle of writes: each acknowledged memory is there, whole, and is found."""
    path = tmp_path / "memories.db"
    path.write_bytes(stores.empty())
    acknowledged: set[str] = set()
    for after in (3, 60, 130):
        acknowledged |= set(killed(path, how, after))
        again = Keeper(path, create=False)
        contents = dict(again.rows("SELECT title, CAST(doc AS TEXT) ->> 'content' FROM memory"))
        assert acknowledged <= contents.keys()
        assert all(content == f"content of {title}" for title, content in contents.items())
        title = max(acknowledged)
        assert title in again.search(f'"{title}"', limit=1_000)
        again.close()
        assert faults(path) == []
    assert len(acknowledged) >= 193 - 3 * 40


def test_what_was_not_committed_is_gone_after_a_kill(tmp_path: Path) -> None:
    """Control: a task that says it is done before its commit loses its write, and the check sees that."""
    path = tmp_path / "memories.db"
    path.write_bytes(stores.empty())
    assert killed(path, "uncommitted", 1) == ["never committed"]
    again = Keeper(path, create=False)
    assert again.titles() == []
    again.close()


def test_commits_are_synced_to_the_disk(keeper: Keeper) -> None:
    """On every connection: a log that is synced at each commit, no temporary files, no checkpoint behind our back."""
    writer = keeper.store.writer
    every = [writer._connection, writer._log._copier, *keeper.store.reader._connections]
    for name, value in {"journal_mode": "wal", "synchronous": 2, "temp_store": 2, "wal_autocheckpoint": 0}.items():
        assert [one.execute(f"PRAGMA {name}").fetchone()[0] for one in every] == [value] * len(every)


@pytest.mark.parametrize(
    ("setting", "other"),
    [("synchronous", "NORMAL"), ("journal_mode", "DELETE"), ("temp_store", "FILE"), ("wal_autocheckpoint", "1000")],
)
def test_a_setting_that_does_not_take_is_an_error(
    setting: str, other: str, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: were one of them not in force, the store would not open, and would name it."""
    keeper.close()
    true = connection._configure

    def configure(opened: connection.Connection, *rest: object) -> None:
        true(opened, *rest)  # type: ignore[arg-type]
        opened.execute(f"PRAGMA {setting}={other}").fetchall()

    monkeypatch.setattr(connection, "_configure", configure)
    with pytest.raises(StoreError, match=f"{setting} is .* expected"):
        Store.open(keeper.path, PASSPHRASE)


PAGE = 4_096


def log_size(keeper: Keeper, commits: int) -> int:
    """The largest size that the log had over so many commits of some pages each."""
    log = keeper.path.with_name("memories.db-wal")
    largest = 0
    for number in range(commits):
        keeper.write(f"title {number % 7}", "word " * 1_500 + str(number))
        largest = max(largest, log.stat().st_size)
    return largest


@contextmanager
def limits(monkeypatch: pytest.MonkeyPatch, worth_copying: int, too_long: int) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setattr(wal, "WORTH_COPYING", worth_copying)
        patched.setattr(wal, "TOO_LONG", too_long)
        yield


def test_the_log_stays_short(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long run of commits uses the log over and over; without its two limits it would grow with every commit."""
    commits = 160
    monkeypatch.setattr(WriteAheadLog, "settle", lambda opened: None)  # so that only the limits are at work
    with limits(monkeypatch, 10**9, 100):
        emptied = log_size(keeper, commits)
    with limits(monkeypatch, 10**9, 10**9):
        unlimited = log_size(keeper, commits)
    assert unlimited > commits * 2 * PAGE
    assert emptied * 2 < unlimited


def test_the_log_is_copied_beside_the_writer(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second connection copies it while commits go on, and the log is begun anew: nothing of it is lost."""
    log = keeper.path.with_name("memories.db-wal")
    monkeypatch.setattr(WriteAheadLog, "settle", lambda opened: None)
    with limits(monkeypatch, 20, 10**9):
        log_size(keeper, 32)
        stores.until(lambda: not keeper.store.writer._log._is_copying or keeper.store.writer._log._copied.is_set())
        before = log.stat().st_size
        commits = 60
        log_size(keeper, commits)
        assert log.stat().st_size < before + commits * 3 * PAGE  # each of them writes more than 4 pages
    assert faults(keeper.path) == []
    assert keeper.titles() == [f"title {number}" for number in range(7)]


def test_an_idle_store_has_copied_its_log(keeper: Keeper) -> None:
    """Shortly after the last write the database file alone holds everything, so that a crash has nothing to recover."""
    keeper.write("one", "word " * 5_000)

    def copied() -> bool:
        with raw(keeper.path) as beside:
            _, in_log, done = beside.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
        return bool(in_log == done)

    stores.until(copied)


def test_a_closed_store_is_one_file(keeper: Keeper) -> None:
    """After closing there is no log and no shared memory beside the database."""
    keeper.write("one")
    keeper.close()
    assert sorted(path.name for path in keeper.path.parent.iterdir()) == ["memories.db", "memories.db.lock"]


def test_a_log_whose_copier_has_ended_stays_short_all_the_same(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer does not wait for a thread that is gone: it empties the log itself once that is too long."""
    log = keeper.store.writer._log
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(WriteAheadLog, "settle", lambda opened: None)

    def broken(opened: WriteAheadLog) -> None:
        raise RuntimeError("a bug of a test")

    monkeypatch.setattr(WriteAheadLog, "_copy_nearly_all", broken)
    with limits(monkeypatch, 20, 100):
        log_size(keeper, 32)
        stores.until(lambda: not log._thread.is_alive())
        ended = log_size(keeper, 160)
    alive = type("Alive", (), {"is_alive": lambda self: True, "join": lambda self: None})()
    monkeypatch.setattr(log, "_thread", alive)
    with limits(monkeypatch, 20, 100):
        waited_for = log_size(keeper, 320)
    assert ended < 160 * 2 * PAGE < waited_for
