"""Somebody else's SQLite file, opened so that nothing beside it, and nothing in it, is written (decision 0032).

`mode=ro` alone is not enough: to read a database in WAL mode SQLite makes a `-shm` file beside it, or writes into the
one that is there; and `immutable=1` leaves out everything that stands in the `-wal` only. So:

| beside the file | means | opened |
|---|---|---|
| no `-wal`, or an empty one without `-shm` | it was closed | `immutable=1`, and looked at again at the end |
| `-wal` and `-shm` | the daemon runs, or was killed | `readonly_shm=1`: its locks are respected, nothing is written |
| `-wal` with content, no `-shm` | a copy of files, nobody has it open | a private copy, removed afterwards |
"""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2 as sqlcipher

from node.legacy.importing.source import SourceError

PLAIN_HEADER = b"SQLite format 3\0"
PAGE_BYTES = 4_096
"""Of SQLCipher 4, and the least that an encrypted file has."""
BUSY_MS = 10_000
DatabaseError = sqlcipher.DatabaseError
Connection = Any
Signature = tuple[tuple[int, int] | None, ...]


class SqliteFile:
    """The open file. One read transaction spans its whole life."""

    def __init__(self, path: Path, passphrase: Callable[[], str]) -> None:
        """`passphrase` is asked for only where the file is encrypted. Raises SourceError, OSError."""
        self._path = path.resolve(strict=True)
        self.is_encrypted = _is_encrypted(self._path)
        with ExitStack() as stack:
            keys = _keys(passphrase()) if self.is_encrypted else (None,)
            self._before = _signature(self._path)
            self._must_stay, uri = self._place(stack)
            self.connection = stack.enter_context(closing(_connected(uri, keys, self._path)))
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Raises SourceError where somebody wrote the file meanwhile, and nothing kept them from it."""
        self._stack.close()
        if self._must_stay and _signature(self._path) != self._before:
            raise SourceError(
                "source_changed",
                f"{self._path.name} was written while it was read: import it again; what is here already stays",
            )

    def _place(self, stack: ExitStack) -> tuple[bool, str]:
        """Whether the file has to stay as it is, and the URI that reads it without writing anything."""
        path = self._path
        _, log, memory, journal = self._before
        if journal and journal[0]:
            raise SourceError(
                "source_unfinished",
                f"{path.name} has an unfinished transaction beside it (-journal): open and close it once with the "
                "program that wrote it, then import it again",
            )
        if log is not None and memory is not None:
            return False, f"{path.as_uri()}?mode=ro&readonly_shm=1"
        if log is None or not log[0]:
            return True, f"{path.as_uri()}?mode=ro&immutable=1"
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ai-memory-import-")))  # mode 0700
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{path}{suffix}", folder / f"copy.db{suffix}")
        return True, f"{(folder / 'copy.db').as_uri()}?mode=ro"


def _is_encrypted(path: Path) -> bool:
    """By the first bytes. Raises SourceError for what is no database under any passphrase."""
    with path.open("rb") as file:
        head = file.read(64)
    size = path.stat().st_size
    if head.startswith(PLAIN_HEADER):
        return False
    if size < PAGE_BYTES or size % PAGE_BYTES or max(head.count(byte) for byte in set(head)) >= 10 or head.isascii():
        # Ciphertext looks random, and is made of whole pages.
        raise SourceError(
            "source_not_a_database",
            f"{path.name} ({size} bytes) is neither a database of the existing daemon nor its JSON export; where it "
            "was one, it is cut short",
        )
    return True


def _keys(passphrase: str) -> tuple[bytes, ...]:
    """What SQLCipher is to be told: the daemon quotes a passphrase that its driver quotes again, so the quotes are part
    of it. As it is, for a file that was given another passphrase by other means."""
    return ("'" + passphrase.replace("'", "''") + "'").encode(), passphrase.encode()


def _connected(uri: str, keys: tuple[bytes | None, ...], path: Path) -> Connection:
    for key in keys:
        try:
            connection = sqlcipher.connect(uri, uri=True, isolation_level=None, cached_statements=16)
        except DatabaseError as error:
            raise explained(error, path) from None
        try:
            if key is not None:
                connection.set_key(key)
            connection.execute("PRAGMA cipher_log_level=NONE")  # it would log to standard error
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            connection.execute("PRAGMA temp_store=MEMORY")  # FILE would write plain text to disk
            connection.execute("PRAGMA trusted_schema=OFF")
            connection.execute("PRAGMA query_only=ON")
            connection.text_factory = bytes  # so that text that is no UTF-8 refuses only its own row
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the first read, and the snapshot
            return connection
        except DatabaseError as error:
            connection.close()
            if key is None or getattr(error, "sqlite_errorname", None) != "SQLITE_NOTADB":
                raise explained(error, path) from None
        except BaseException:
            connection.close()
            raise
    raise SourceError(
        "source_passphrase",
        f"{path.name} is encrypted and not opened by this passphrase: check where it comes from; if it is certainly "
        "right, the first page of the file is damaged",
    )


def explained(error: Exception, path: Path) -> SourceError:
    """The import's own error for one of the database's."""
    name = getattr(error, "sqlite_errorname", None) or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return SourceError("source_busy", f"{path.name} is in use by another program: stop that, and import it again")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR")):
        return SourceError(
            "source_damaged",
            f"a page of {path.name} is damaged: import a backup of it; what was taken before the damage is here",
        )
    return SourceError("source_unreadable", f"{path.name} cannot be read: {error}")


def _signature(path: Path) -> Signature:
    """Size and time of the file and of what may lie beside it."""
    found: list[tuple[int, int] | None] = []
    for suffix in ("", "-wal", "-shm", "-journal"):
        try:
            status = path.with_name(path.name + suffix).stat()
            found.append((status.st_size, status.st_mtime_ns))
        except FileNotFoundError:
            found.append(None)
    return tuple(found)
