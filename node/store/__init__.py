"""The encrypted store: one SQLCipher file, one writer, readers beside it."""

import fcntl
import os
from pathlib import Path
from typing import IO, Self

from node.store.connection import connect
from node.store.errors import StoreLocked, StoreMissing
from node.store.key import derive, salt_of
from node.store.reader import Reader, Readers
from node.store.schema import migrate
from node.store.writer import Writer
from sync.ports import Life, Position

__all__ = ["Reader", "Store"]


class Store:
    """An open store. One process at a time; see `open`."""

    def __init__(self, path: Path, writer: Writer, readers: Readers, lock: IO[str]) -> None:
        self.path = path
        self.writer = writer
        self.reader = readers
        self._lock = lock

    @classmethod
    def open(cls, path: Path, passphrase: str, *, create: bool = False, readers: int = 2) -> Self:
        """Open the store at `path`; with `create`, make it where there is none. Takes about 0.1 s for the key.

        Raises StoreError: WrongPassphrase, NotEncrypted, Damaged, NotADatabase, StoreMissing, StoreLocked, StoreTooNew.
        """
        if not path.exists() and not create:
            raise StoreMissing(f"there is no store at {path}.", "Run `ai-memory init`, or name the right file.")
        lock = _lock(path)
        try:
            key = derive(passphrase, salt_of(path))
            writing = connect(path, key, writer=True, create=create)
            path.chmod(0o600)
            migrate(writing, path)
            copying = connect(path, key, writer=False)
            reading = [connect(path, key, writer=False) for _ in range(readers)]
            return cls(path, Writer(writing, copying, path), Readers(reading), lock)
        except BaseException:
            lock.close()
            raise

    @property
    def position(self) -> Position:
        """Where the feed stood after the last commit; from memory."""
        return self.writer.position

    @property
    def lives(self) -> tuple[Life, ...]:
        return tuple(self.writer.lives)

    def close(self) -> None:
        """Finish what was asked for and close; afterwards the store is one file."""
        self.reader.close()
        self.writer.close()
        self._lock.close()


def _lock(path: Path) -> IO[str]:
    """An advisory lock that ends with the process, however it ends."""
    name = path.with_name(path.name + ".lock")
    lock = os.fdopen(os.open(name, os.O_RDWR | os.O_CREAT, 0o600), "r+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StoreLocked(f"{path} is in use by another process.", "Ask the running node, or stop it first.") from None
    return lock
