"""The one place that opens a connection to a store. Every setting is checked after it was made."""

from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2 as sqlcipher

from node.store.errors import Damaged, StoreError, StoreFull, StoreLocked, StoreReadOnly, WrongPassphrase
from node.store.key import PLAIN_HEADER, Key

Connection = Any
"""`sqlcipher3.dbapi2.Connection`; the package ships no types."""
DatabaseError = sqlcipher.DatabaseError
WRITER_CACHE_KIB = 64 * 1024
READER_CACHE_KIB = 32 * 1024
BUSY_MS = 5_000
WRITER_BUSY_MS = 100
"""Nobody else writes; only a truncation of the log can find readers in its way, and then it waits for its next turn."""


def connect(path: Path, key: Key, *, writer: bool) -> Connection:
    """Open a connection that is proven to be encrypted, to a file that exists. Raises StoreError."""
    try:
        connection = sqlcipher.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
    except DatabaseError as error:
        raise explained(error, path) from None
    try:
        cache, patience = (WRITER_CACHE_KIB, WRITER_BUSY_MS) if writer else (READER_CACHE_KIB, BUSY_MS)
        _configure(connection, key, cache, patience)
        _verify(connection, path)
    except DatabaseError as error:
        connection.close()
        raise _opening(error, path) from None
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: Connection, key: Key, cache_kib: int, busy_ms: int) -> None:
    connection.set_key(key.literal)  # not PRAGMA key: a trace callback would see that one
    execute = connection.execute
    execute("PRAGMA cipher_log_level=NONE")  # it would log to standard error
    execute("SELECT count(*) FROM sqlite_master").fetchone()  # the first read: fails under a wrong key
    execute(f"PRAGMA busy_timeout={busy_ms}")
    execute("PRAGMA journal_mode=WAL")
    execute("PRAGMA synchronous=FULL")  # what was acknowledged survives a power cut
    execute("PRAGMA temp_store=MEMORY")  # FILE would write plain text to disk
    execute("PRAGMA wal_autocheckpoint=0")  # the writer does it, after it has answered
    execute(f"PRAGMA cache_size=-{cache_kib}")
    execute("PRAGMA foreign_keys=OFF")
    execute("PRAGMA trusted_schema=OFF")


def _verify(connection: Connection, path: Path) -> None:
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
    with path.open("rb") as file:
        if file.read(len(PLAIN_HEADER)) == PLAIN_HEADER:
            raise StoreError(f"{path} was about to be written unencrypted.", "Report this; nothing was stored.")


def _opening(error: Exception, path: Path) -> StoreError:
    if getattr(error, "sqlite_errorname", None) == "SQLITE_NOTADB" or "not a database" in str(error):
        return WrongPassphrase(
            f"PRAGMA key failed (wrong passphrase or unencrypted DB?): {path} is not opened by this passphrase.",
            "Check where the passphrase comes from; if it is certainly right, the first page of the file is damaged.",
        )
    return explained(error, path)


def explained(error: Exception, path: Path) -> StoreError:
    """The store's own error for one of the database's."""
    name = getattr(error, "sqlite_errorname", None) or ""
    text = str(error)
    if name.startswith("SQLITE_FULL") or "disk is full" in text:
        return StoreFull(
            "no space is left for the store; nothing was written.", "Free some space; no restart is needed."
        )
    if name.startswith("SQLITE_READONLY") or "readonly" in text:
        return StoreReadOnly("the store cannot be written.", f"Check the mount and the permissions of {path.parent}.")
    if name.startswith("SQLITE_CORRUPT") or "malformed" in text:
        return Damaged(
            f"a page of {path} is damaged.", "Restore the store from a backup; its peers have what it lacks."
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreLocked(f"{path} is in use by another program.", "Stop that program.")
    if name.startswith("SQLITE_CANTOPEN"):
        return StoreReadOnly(f"{path} cannot be opened.", "Check that its folder exists and can be written.")
    if name.startswith("SQLITE_IOERR"):
        return StoreReadOnly("the disk of the store reports an error.", "Check the disk and its free space.")
    return StoreError(f"the store failed: {text}.", "Look at the disk; report this if it happens again.")
