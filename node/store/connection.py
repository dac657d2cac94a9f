"""The one place that opens a connection to a store. Every setting is checked after it was made."""

import errno
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlcipher3 import dbapi2 as sqlcipher

from node.store import library
from node.store.errors import (
    Damaged,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreReplaced,
    WrongPassphrase,
)
from node.store.file import StoreFile, beside, file_at, free_bytes, is_in_use, is_read_only, size_of
from node.store.key import PLAIN_HEADER, Key

DatabaseError = sqlcipher.DatabaseError
FAULTS = (sqlcipher.DatabaseError, MemoryError)
"""What a statement raises where the database is in trouble: SQLCipher makes a failed read "out of memory"."""
WRITER_CACHE_KIB = 32 * 1024
READER_CACHE_KIB = 8 * 1024
BUSY_MS = 5_000
WRITER_BUSY_MS = 100
"""Nobody else writes; only a truncation of the log can find readers in its way, and then it waits for its next turn."""
_PASSING = ("SQLITE_FULL", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_READONLY", "SQLITE_CONSTRAINT", "SQLITE_INTERRUPT",
            "SQLITE_TOOBIG", "SQLITE_MISMATCH", "SQLITE_RANGE")  # fmt: skip
"""Errors after which a connection is as good as before. After any other, SQLCipher may refuse all that follows."""


class Connection:
    """A connection of SQLCipher's, which is closed after an error that may have spoilt it and opened anew when asked.

    SQLCipher keeps the error of a page that could not be read or decrypted, and refuses every write and many a read on
    that connection from then on, whatever the disk says by then. A new connection has no such memory.
    """

    def __init__(self, path: Path, key: Key, *, writer: bool) -> None:
        """Raises StoreError, OSError."""
        self._path, self._key, self._writer = path, key, writer
        self._file = StoreFile(path)
        self._within: Any = None
        self.openings = 0
        """How often it was opened."""
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def execute(self, text: str, values: Any = ()) -> Any:
        """A statement; its cursor. Where an error closed the connection, it is opened anew first."""
        if self._within is None:
            self._renew()
        return self._within.execute(text, values)

    @property
    def is_open(self) -> bool:
        """False between an error that closed it and the next statement."""
        return self._within is not None

    @property
    def in_transaction(self) -> bool:
        """False after an error that closed it: the transaction ended with it, undone."""
        return self._within is not None and bool(self._within.in_transaction)

    @property
    def total_changes(self) -> int:
        """Rows changed since it was opened."""
        return 0 if self._within is None else int(self._within.total_changes)

    def undo(self, error: BaseException) -> bool:
        """End the open transaction over an error that a statement raised, or the reading of its rows.

        True where the connection was closed over it: it is opened anew at the next statement, without the functions and
        temporary tables that it had.
        """
        if self._within is None:
            return True
        if not is_spoiling(error):
            try:
                if self._within.in_transaction:  # a full disk has ended it already
                    self._within.execute("ROLLBACK")
                return False
            except FAULTS:
                pass  # then closing it is what ends the transaction
        spoilt, self._within = self._within, None
        spoilt.close()
        return True

    def close(self) -> None:
        """For good. SQLite lets go of the file before the file's owner does."""
        try:
            if self._within is not None:
                self._within.close()
                self._within = None
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit; after an error, roll back."""
        if self.in_transaction:
            self._within.execute("COMMIT" if error is None else "ROLLBACK")

    def __getattr__(self, name: str) -> Any:
        """All else that a connection has."""
        return getattr(self._within, name)

    def _renew(self) -> None:
        try:
            self._open()
        except StoreError as error:
            raise sqlcipher.OperationalError(str(error)) from error

    def _open(self) -> None:
        """Raises StoreError."""
        try:
            opened = sqlcipher.connect(
                f"{self._path.absolute().as_uri()}?mode=rw",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
        except DatabaseError as error:
            raise explained(error, self._path) from None
        try:
            cache, patience = (WRITER_CACHE_KIB, WRITER_BUSY_MS) if self._writer else (READER_CACHE_KIB, BUSY_MS)
            _configure(opened, self._key, cache, patience)
            _verify(opened, self._file)
        except FAULTS as error:
            opened.close()
            raise opening(error, self._path) from None
        except BaseException:
            opened.close()
            raise
        self._within = opened
        self.openings += 1


class LookingConnection(Connection):
    """The same over a bare connection that writes nothing: see `looking`."""

    def __init__(self, path: Path, key: Key) -> None:
        """Raises StoreError."""
        self._path, self._key = path, key
        self._within = None
        self.openings = 0
        self._open()

    def close(self) -> None:
        if self._within is not None:
            self._within.close()
            self._within = None

    def _open(self) -> None:
        try:
            self._within = looking(self._path, self._key)
        except FAULTS as error:
            raise opening(error, self._path) from None
        self.openings += 1


def connect(path: Path, key: Key, *, writer: bool) -> Connection:
    """Open a connection that is proven to be encrypted, to a file that exists. Raises StoreError, OSError."""
    library.check()
    return Connection(path, key, writer=writer)


def looking(path: Path, key: Key) -> Any:
    """A bare connection that reads the database with its log, and writes nothing anywhere. Raises DatabaseError.

    It takes no lock, and keeps the index of the log in its own memory: so nobody may have the store open for writing.
    That is what makes it work on a disk that is full or cannot be written, where SQLite cannot make its `-shm`.
    Closing it closes the file, so nobody in this process may have it open otherwise: raises StoreLocked.
    """
    if is_in_use(path):
        raise StoreLocked(f"{path} is in use by this process.", "Use what is open.")
    # Without a log SQLite would make one, unless it is told that nobody else changes the file.
    how = "vfs=unix-none" if size_of(beside(path, "-wal")) else "immutable=1"
    uri = f"{path.absolute().as_uri()}?mode=ro&{how}"
    connection = sqlcipher.connect(uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        connection.set_key(key.literal)
        connection.execute("PRAGMA cipher_log_level=NONE")
        connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()  # before the first read: no shared memory then
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute("PRAGMA trusted_schema=OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: Any, key: Key, cache_kib: int, busy_ms: int) -> None:
    connection.set_key(key.literal)  # not PRAGMA key: a trace callback would see that one
    execute = connection.execute
    execute("PRAGMA cipher_log_level=NONE")  # it would log to standard error
    execute("SELECT count(*) FROM sqlite_master").fetchone()  # the first read: fails under a wrong key
    execute(f"PRAGMA busy_timeout={busy_ms}")
    execute("PRAGMA journal_mode=WAL")
    execute("PRAGMA synchronous=FULL")  # what was acknowledged survives a power cut
    execute("PRAGMA fullfsync=ON")  # on macOS, too; elsewhere it means nothing
    execute("PRAGMA checkpoint_fullfsync=ON")
    execute("PRAGMA temp_store=MEMORY")  # FILE would write plain text to disk
    execute("PRAGMA wal_autocheckpoint=0")  # the writer does it, after it has answered
    execute(f"PRAGMA cache_size=-{cache_kib}")
    execute("PRAGMA foreign_keys=OFF")
    execute("PRAGMA trusted_schema=OFF")


def _verify(connection: Any, file: StoreFile) -> None:
    """Settings fail silently; an unencrypted store must not."""
    expected = {"journal_mode": "wal", "synchronous": 2, "temp_store": 2, "wal_autocheckpoint": 0}
    for name, value in expected.items():
        found = connection.execute(f"PRAGMA {name}").fetchone()[0]
        if found != value:
            raise StoreError(
                f"the store could not be set up: {name} is {found!r}, {value!r} expected.",
                "Check that the disk supports shared memory files, and report this.",
            )
    if not connection.execute("PRAGMA cipher_version").fetchone():
        raise StoreError("this SQLite has no encryption.", "Install the locked requirements again.")
    if file_at(file.path) != file.identity:  # SQLite opens by name, perhaps another one than was open before
        raise replaced(file.path)
    if file.head(len(PLAIN_HEADER)) == PLAIN_HEADER:
        raise StoreError(f"{file.path} was about to be written unencrypted.", "Report this; nothing was stored.")


def replaced(path: Path) -> StoreReplaced:
    """The error where another file, or none, lies where the store was opened."""
    return StoreReplaced(
        f"{path} was removed or exchanged while this node runs; nothing is written meanwhile.", f"{StoreReplaced.DO}."
    )


def name_of(error: BaseException) -> str:
    """SQLite's name of an error, such as SQLITE_FULL; empty where it has none."""
    return getattr(error, "sqlite_errorname", None) or ""


def is_spoiling(error: BaseException) -> bool:
    """True for an error after which SQLCipher may go on refusing, for a reason that is gone."""
    found = (error, error.__context__)  # the second, where undoing what had begun did not go well either
    return any(isinstance(one, FAULTS) and not name_of(one).startswith(_PASSING) for one in found)


def is_not_opened(error: BaseException) -> bool:
    """True where the key does not open the first page."""
    return name_of(error) == "SQLITE_NOTADB" or "not a database" in str(error)


def opening(error: BaseException, path: Path) -> StoreError:
    """The store's own error for what went wrong at the first read of a file."""
    if is_not_opened(error):
        return WrongPassphrase(
            f"PRAGMA key failed (wrong passphrase or unencrypted DB?): {path} is not opened by this passphrase.",
            "Check where the passphrase comes from; if it is certainly right, the first page of the file is damaged.",
        )
    return explained(error, path)


def fault_of(error: BaseException, written: Path) -> int | None:
    """What is wrong with the place of a file that a statement writes beside the store, as `errno` has it.

    None where it is the store that is in trouble.
    """
    name, text = name_of(error), str(error)
    is_failing = name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN"))
    if name.startswith("SQLITE_FULL") or "disk is full" in text or (is_failing and free_bytes(written) == 0):
        return errno.ENOSPC
    is_refused = name.startswith("SQLITE_READONLY") or "readonly" in text
    if (is_failing or is_refused) and is_read_only(written):
        return errno.EROFS
    return errno.EACCES if is_refused else None


def explained(error: BaseException, path: Path) -> StoreError:
    """The store's own error for one of the database's."""
    name = name_of(error)
    text = str(error)
    if isinstance(error.__cause__, StoreError):  # of a connection that could not be opened anew
        return error.__cause__
    is_failing = name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN"))
    if name.startswith("SQLITE_FULL") or "disk is full" in text or (is_failing and free_bytes(path) == 0):
        return StoreFull(
            "no space is left for the store; nothing was written.", f"Free some space on the disk of {path.parent}."
        )
    if name.startswith("SQLITE_READONLY") or "readonly" in text:
        return StoreReadOnly("the store cannot be written.", f"Check the mount and the permissions of {path.parent}.")
    if name.startswith("SQLITE_CORRUPT") or "malformed" in text:
        return Damaged(
            f"a page of {path} is damaged, or was not read as it is.",
            "Try again; if it stays so, restore the store from a backup; its peers have what that lacks.",
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreLocked(f"{path} is in use by another program.", "Stop that program.")
    if name.startswith("SQLITE_CANTOPEN"):
        return StoreReadOnly(f"{path} cannot be opened.", "Check that its folder exists and can be written.")
    if name.startswith("SQLITE_IOERR") or isinstance(error, MemoryError):
        return StoreReadOnly(
            "the disk of the store reports an error, or memory is short; nothing was written.",
            f"Check the disk of {path.parent}, and its free space.",
        )
    # What SQLite says may quote what it was given, and this sentence reaches the log.
    return StoreError(
        f"the store failed: {name or type(error).__name__}.", "Look at the disk; report this if it happens again."
    )
