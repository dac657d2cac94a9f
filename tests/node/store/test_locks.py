"""SQLite's locks stay, whatever else looks at the files: else another program that looks in takes the log away."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stores
from locks import holders, visit
from stores import PASSPHRASE, Keeper, raw, until

from node.store import Store, connection, evidence, file, key, schema
from node.store.backup import back_up
from node.store.connection import DatabaseError, connect
from node.store.errors import StoreError, StoreLocked, WrongPassphrase
from node.store.file import StoreFile
from node.store.keys import beside
from node.store.soundness import looking, require_whole

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks for locks in Linux's own layout")


def refused(kind: type[Exception], task: Callable[[], Any]) -> None:
    with pytest.raises(kind):
        task()


def spoil(keeper: Keeper) -> None:
    """The writer's connection meets an error that closes it, and is opened anew."""
    keeper.store.writer._connection.undo(DatabaseError("disk I/O error"))
    keeper.write("after")


def fill(keeper: Keeper) -> None:
    for number in range(40):
        keeper.write(f"title {number}", "word " * 2_000)
    until(lambda: not keeper.store.writer._log.is_due)


def lone_look(keeper: Keeper) -> None:
    with raw(keeper.path) as one:
        one.execute("SELECT count(*) FROM memory").fetchone()


def by_another_name(keeper: Keeper) -> None:
    link = keeper.path.with_name("link.db")
    link.hardlink_to(keeper.path)
    key.salt_of(link)


def of_keys(keeper: Keeper) -> None:
    with beside(keeper.path, PASSPHRASE) as (execute, _):
        execute("SELECT 1")


def failing(ledger: object) -> None:
    raise StoreError("a test.", "Nothing to do here.")


def look_whether_whole(keeper: Keeper) -> None:
    """By the connection that takes no locks: it must not even be made."""
    made = stores.key_of(PASSPHRASE, key.salt_of(keeper.path))
    require_whole(keeper.path, made)
    refused(StoreLocked, lambda: looking(keeper.path, made))


# what happens while the store is open
EVENTS: dict[str, Callable[[Keeper], Any]] = {
    "start": lambda keeper: None,
    "writes, and a log that is copied and made longer": fill,
    "a backup": lambda keeper: back_up(keeper.path, PASSPHRASE, keeper.path.with_name("copy.db")),
    "a look at its first bytes": lambda keeper: key.salt_of(keeper.path),
    "a look by another name": by_another_name,
    "a look whether it is whole": look_whether_whole,
    "a connection beside it": lone_look,
    "a connection with a wrong key": lambda keeper: refused(
        WrongPassphrase, lambda: connect(keeper.path, stores.key_of("wrong", bytes(16)), writer=False)
    ),
    "a second start": lambda keeper: refused(StoreLocked, lambda: Store.open(keeper.path, PASSPHRASE)),
    "edits of keys": of_keys,
    "a look at the rows as they lie": lambda keeper: keeper.read(lambda one: evidence.page(one.execute, 0, 10)),
    "an error of the disk": spoil,
    "a task that fails": lambda keeper: refused(StoreError, lambda: keeper.do(failing)),
}


@pytest.mark.parametrize("event", EVENTS)
def test_the_locks_are_held(event: str, keeper: Keeper) -> None:
    """A child process meets this process's locks on the database and on the log's index, whatever happened."""
    keeper.write("before")
    EVENTS[event](keeper)
    assert set(holders(keeper.path).values()) == {os.getpid()}


def careless(self: StoreFile, count: int) -> bytes:
    """As a program reads a file that thinks no harm."""
    with self.path.open("rb") as opened:
        return opened.read(count)


@pytest.mark.parametrize("event", ["a look at its first bytes", "a connection beside it", "an error of the disk"])
def test_a_look_that_opens_and_closes_the_file_loses_them(
    event: str, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: the same events with a file that is opened and closed, and nothing holds the database any more."""
    keeper.write("before")
    monkeypatch.setattr(StoreFile, "head", careless)
    EVENTS[event](keeper)
    assert holders(keeper.path)[""] is None


def test_migrating_keeps_them(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a start that changes the tables, too."""
    keeper.close()
    monkeypatch.setattr(schema.migrate, "__defaults__", ([*schema.MIGRATIONS, ("CREATE TABLE later(x)",)],))
    again = Keeper(keeper.path, create=False)
    assert set(holders(keeper.path).values()) == {os.getpid()}
    again.close()


def test_a_first_start_holds_them(tmp_path: Path) -> None:
    """The store that was made a moment ago is held as any other."""
    made = Keeper(tmp_path / "new.db")
    assert set(holders(made.path).values()) == {os.getpid()}
    made.close()


def test_the_last_use_closes_the_file(keeper: Keeper) -> None:
    """Nothing of it stays open in the process once nobody uses it; until then there is one descriptor for all."""
    own = file.identity(keeper.path.stat())
    with StoreFile(keeper.path) as one, StoreFile(keeper.path) as other:
        assert one.head(16) == other.head(16) == keeper.path.read_bytes()[:16]
        assert len(file._open[own].descriptors) == 1
    one.close()  # once more: nothing happens
    assert own in file._open
    keeper.close()
    assert own not in file._open


def test_a_file_that_cannot_be_one_is_not_held(tmp_path: Path) -> None:
    """A folder, or a pipe that nobody writes to, is an error at once."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(OSError, match="no file"):
            StoreFile(tmp_path / name)
        assert file.identity((tmp_path / name).stat()) not in file._open


WRITING = """
import sys
from pathlib import Path
import locks
from node.store.file import StoreFile
from stores import Keeper
if sys.argv[2] == "careless":
    def head(self, count):
        with self.path.open("rb") as opened:
            return opened.read(count)
    StoreFile.head = head
keeper = Keeper(Path(sys.argv[1]), create=False)
keeper.store.writer._log.settle = lambda: None  # as on a busy node: what is written stays in the log for now
for number in range(300):
    keeper.write(f"title {number}")
    print(f"title {number}", flush=True)
    if number == 20:
        sys.stdin.readline()
sys.stdin.readline()
"""


def after_a_visit(path: Path, how: str) -> tuple[list[str], list[str]]:
    """What a node acknowledged that was killed after another program had looked into its store; and what is left."""
    path.write_bytes(stores.empty())
    node = subprocess.Popen(
        [sys.executable, "-c", WRITING, str(path), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(stores.__file__).parent)},
        text=True,
        bufsize=1,
    )
    assert node.stdin is not None
    assert node.stdout is not None
    acknowledged = [node.stdout.readline().rstrip("\n") for _ in range(21)]
    assert visit(path, PASSPHRASE) == 21
    node.stdin.write("\n")
    node.stdin.flush()
    acknowledged += [node.stdout.readline().rstrip("\n") for _ in range(279)]
    node.kill()
    node.communicate()
    again = Keeper(path, create=False)
    try:
        return acknowledged, again.titles()
    finally:
        again.close()


def test_another_program_that_looks_into_a_running_store_costs_nothing(tmp_path: Path) -> None:
    """Every write that was acknowledged after its visit is there after a kill."""
    acknowledged, found = after_a_visit(tmp_path / "memories.db", "careful")
    assert len(acknowledged) == 300
    assert found == sorted(acknowledged)


def test_with_a_careless_look_every_write_after_the_visit_is_lost(tmp_path: Path) -> None:
    """Control: the lock is gone, so the visitor takes the log away, and all that follows goes into a file without a
    name."""
    acknowledged, found = after_a_visit(tmp_path / "memories.db", "careless")
    assert len(acknowledged) == 300
    assert len(found) == 21


def test_the_header_is_looked_at_when_a_connection_opens(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that begins as a plain database is never written to, by the first connection or by one opened anew."""
    beside_it = connect(keeper.path, stores.key_of(PASSPHRASE, key.salt_of(keeper.path)), writer=False)
    beside_it.undo(DatabaseError("disk I/O error"))
    monkeypatch.setattr(StoreFile, "head", lambda self, count: connection.PLAIN_HEADER[:count])
    with pytest.raises(DatabaseError, match="about to be written unencrypted"):
        beside_it.execute("SELECT 1")
    beside_it.close()
    with pytest.raises(StoreError, match="about to be written unencrypted"):
        connect(keeper.path, stores.key_of(PASSPHRASE, keeper.path.read_bytes()[:16]), writer=False)
