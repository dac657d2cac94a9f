"""Encryption: nothing that is kept can be read from any file of the store, at any time, and any SQLCipher opens it."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import stores
from sqlcipher3 import dbapi2 as sqlcipher
from stores import PASSPHRASE, Keeper, files_of, foreign, holding, raw

from node.store import Store, connection, key
from node.store.errors import StoreError
from sync.moment import SECOND
from sync.ports import Ledger

MARKER = "tell-tale-heart"
ODD_PASSPHRASES = [
    "simple",
    "it's",
    'a "quoted" one',
    "x'00ff'",
    "  spaces  ",
    "läßt sich öffnen 🗝",
    "a;b--c",
    "ä" * 200,
]


def fill(keeper: Keeper) -> None:
    """Put the marker everywhere that a text can go: memories, conflicts, what waits, searches."""
    for number in range(60):
        keeper.write(
            f"{MARKER} {number}",
            f"{MARKER} " * 40,
            namespace=f"ns/{MARKER}",
            tags=[MARKER],
            metadata={"about": MARKER},
            expires_at="2099-01-01T00:00:00Z",
        )
    keeper.take(foreign(f"{MARKER} 1", f"{MARKER} theirs", f"ns/{MARKER}"))
    late = foreign(f"{MARKER} late", f"{MARKER} waits", f"ns/{MARKER}", now=keeper.now + 9_000 * SECOND)
    assert [one.reason for one in keeper.take(late).refused] == ["clock_skew"]
    assert keeper.search(MARKER)
    keeper.index()
    assert keeper.search(f'"{MARKER} {MARKER}"')


def copies(keeper: Keeper, folder: Path) -> list[Path]:
    """The store's files as they are on disk now."""
    folder.mkdir()
    return [Path(shutil.copy(path, folder)) for path in files_of(keeper.path)]


def test_no_file_of_the_store_ever_holds_plain_text(keeper: Keeper, tmp_path: Path) -> None:
    """Database, log, shared memory and lock: while open and written to, and after closing."""
    fill(keeper)
    under_writes = copies(keeper, tmp_path / "open")
    assert {path.suffix for path in under_writes} == {".db", ".db-wal", ".db-shm", ".lock"}
    assert holding(MARKER, under_writes) == []
    assert holding(PASSPHRASE, under_writes) == []
    keeper.close()
    assert holding(MARKER, files_of(keeper.path)) == []
    assert not keeper.path.read_bytes().startswith(b"SQLite format 3")


def test_a_plain_database_would_show_the_marker(tmp_path: Path) -> None:
    """Control: the same search finds the same text in an unencrypted database."""
    path = tmp_path / "plain.db"
    plain = sqlite3.connect(path)
    plain.execute("PRAGMA journal_mode=WAL")
    plain.execute("CREATE TABLE memory(doc)")
    plain.execute("INSERT INTO memory VALUES(?)", (MARKER,))
    plain.commit()
    assert holding(MARKER, files_of(path)) == ["plain.db-wal"]
    plain.close()
    assert holding(MARKER, files_of(path)) == ["plain.db"]


KILLED = """
import os, signal, sys
from pathlib import Path
from stores import Keeper
import test_encryption
keeper = Keeper(Path(sys.argv[1]))
test_encryption.fill(keeper)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_no_plain_text(tmp_path: Path) -> None:
    """After SIGKILL the log holds what was not copied yet, as ciphertext; no temporary file is left anywhere."""
    path, temporary = tmp_path / "store" / "memories.db", tmp_path / "tmp"
    path.parent.mkdir()
    temporary.mkdir()
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)],
        env={"PYTHONPATH": f"{Path(stores.__file__).parent}:{Path(__file__).parent}", "TMPDIR": str(temporary),
             "SQLITE_TMPDIR": str(temporary)},
        capture_output=True,
    )  # fmt: skip
    assert run.returncode == -9, run.stderr.decode()
    assert list(temporary.iterdir()) == []
    assert path.with_name("memories.db-wal").stat().st_size > 0
    assert holding(MARKER, files_of(path)) == []
    assert holding(PASSPHRASE, files_of(path)) == []
    again = Keeper(path, create=False)
    assert len(again.titles()) == 60
    again.close()


def test_sorting_in_a_temporary_file_would_show_the_marker(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporary tables stay in memory. Control: on disk they would be plain text, in the temporary folder."""
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    fill(keeper)

    def spilled(store: str) -> bytes:
        with raw(keeper.path) as beside:
            beside.execute(f"PRAGMA temp_store={store}")
            beside.execute("PRAGMA temp.cache_size=1")
            beside.execute("CREATE TEMP TABLE sorted AS SELECT doc FROM memory, (VALUES(1),(2),(3)) ORDER BY doc")
            return b"".join(open_temporary_files())

    assert MARKER.encode() not in spilled("MEMORY")
    assert MARKER.encode() in spilled("FILE")


def open_temporary_files() -> list[bytes]:
    """The content of SQLite's temporary files, which are deleted right after they are opened."""
    handles = Path("/proc/self/fd")
    if not handles.exists():
        pytest.skip("this system has no /proc: deleted files cannot be read")
    found = []
    for handle in list(handles.iterdir()):
        try:
            if "etilqs_" in str(handle.readlink()):
                found.append(handle.read_bytes())
        except FileNotFoundError:
            continue  # the folder's own handle
    return found


def test_every_connection_keeps_temporary_tables_in_memory(keeper: Keeper) -> None:
    """`temp_store` is MEMORY for the writer, for its log's copier, and for each reader."""
    writer, readers = keeper.store.writer, keeper.store.reader
    every = [writer._connection, *readers._connections]
    assert [one.execute("PRAGMA temp_store").fetchone()[0] for one in every] == [2] * 3
    assert writer._log._copier.execute("PRAGMA temp_store").fetchone() == (2,)


def test_a_build_without_encryption_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the library replaced by one that cannot encrypt, the store would not open, rather than write plain text."""

    class Plain(sqlite3.Connection):
        def set_key(self, _: bytes) -> None:
            """What a build without encryption makes of a key: nothing."""

    class Module:
        Error, DatabaseError = sqlite3.Error, sqlite3.DatabaseError

        @staticmethod
        def connect(*args: object, **options: object) -> sqlite3.Connection:
            return sqlite3.connect(*args, factory=Plain, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(connection, "sqlcipher", Module)
    path = tmp_path / "memories.db"
    with pytest.raises(StoreError, match="no encryption"):
        Store.open(path, PASSPHRASE, create=True)
    assert holding(MARKER, files_of(path)) == []


def test_a_file_that_was_made_unencrypted_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no unencrypted mode: where the key is not taken, opening fails and the plain file is taken away."""
    monkeypatch.setattr(connection, "_configure", _configured_without_key)
    with pytest.raises(StoreError, match="unencrypted"):
        Store.open(tmp_path / "memories.db", PASSPHRASE, create=True)
    assert not (tmp_path / "memories.db").exists()


def _configured_without_key(handle: connection.Connection, _: key.Key, *rest: int) -> None:
    keyless = key.Key(b"")

    class Unkeyed:
        """The connection, deaf to keys."""

        execute = staticmethod(handle.execute)

        def set_key(self, _: bytes) -> None: ...

    ORIGINAL_CONFIGURE(Unkeyed(), keyless, *rest)


ORIGINAL_CONFIGURE = connection._configure


@pytest.mark.parametrize("passphrase", ODD_PASSPHRASES)
def test_any_sqlcipher_opens_the_store_with_the_passphrase_alone(passphrase: str, tmp_path: Path) -> None:
    """`PRAGMA key = '…'` of a stock SQLCipher 4, with its own defaults, opens what this program wrote."""
    path = tmp_path / "memories.db"
    Store.open(path, passphrase, create=True).close()
    stock = sqlcipher.connect(str(path))
    stock.execute(f"PRAGMA key = '{passphrase.replace(chr(39), chr(39) * 2)}'")
    assert stock.execute("SELECT number, head FROM head").fetchall() == [(0, bytes(8))]
    assert stock.execute("PRAGMA cipher_integrity_check").fetchall() == []
    stock.close()


def test_a_store_made_by_any_sqlcipher_opens(tmp_path: Path) -> None:
    """The other way round: a database that a stock SQLCipher 4 made under a passphrase is taken as a store."""
    path = tmp_path / "memories.db"
    stock = sqlcipher.connect(str(path))
    stock.execute(f"PRAGMA key = '{PASSPHRASE}'")
    stock.execute("CREATE TABLE other(x)")
    stock.close()
    store = Store.open(path, PASSPHRASE)
    assert store.position.number == 0
    store.close()


def test_stock_sqlcipher_refuses_another_passphrase(keeper: Keeper) -> None:
    """Control: the passphrase is what opens it."""
    keeper.close()
    stock = sqlcipher.connect(str(keeper.path))
    stock.execute("PRAGMA cipher_log_level = NONE")
    stock.execute("PRAGMA key = 'another'")
    with pytest.raises(sqlcipher.DatabaseError, match="not a database"):
        stock.execute("SELECT * FROM migration").fetchall()
    stock.close()


def test_two_stores_of_one_passphrase_have_different_keys(tmp_path: Path) -> None:
    """The salt is random: equal passphrases make files that have nothing in common."""
    first, second = tmp_path / "1.db", tmp_path / "2.db"
    for path in (first, second):
        Store.open(path, PASSPHRASE, create=True).close()
    pages = [{path.read_bytes()[at : at + 16] for at in range(0, 8_192, 16)} for path in (first, second)]
    assert not pages[0] & pages[1]


def test_a_trace_of_all_statements_shows_no_key(keeper: Keeper) -> None:
    """Nothing that could be traced or logged as a statement names the passphrase or the key."""
    seen: list[str] = []

    def trace(ledger: Ledger) -> None:
        ledger._execute.__self__.set_trace_callback(seen.append)  # type: ignore[attr-defined]

    keeper.do(trace)
    keeper.write("one")
    text = " ".join(seen)
    assert "INSERT INTO memory" in text
    assert PASSPHRASE not in text
    assert "PRAGMA key" not in text
