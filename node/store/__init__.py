"""The encrypted store: one SQLCipher file, one writer, readers beside it."""

import fcntl
import os
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, Self

from node.store.connection import Connection, DatabaseError, connect, explained
from node.store.errors import StoreLocked, StoreMissing, StoreReadOnly
from node.store.key import derive, salt_of
from node.store.keys import Keys
from node.store.keys import load as load_keys
from node.store.reader import Reader, Readers
from node.store.schema import migrate
from node.store.tail import Tail
from node.store.writer import Writer
from sync.ports import Life, Position

__all__ = ["Reader", "Store"]


class Store:
    """An open store. One process at a time; see `open`."""

    def __init__(self, path: Path, writer: Writer, readers: Readers, keys: Keys, lock: IO[str]) -> None:
        self.path = path
        self.keys = keys
        self.writer = writer
        self.reader = readers
        self._lock = lock

    @classmethod
    def open(cls, path: Path, passphrase: str, *, create: bool = False, readers: int = 2) -> Self:
        """Open the store at `path`; with `create`, make it where there is none. Takes about 0.1 s for the key.

        Raises StoreError: WrongPassphrase, NotEncrypted, Damaged, NotADatabase, StoreMissing, StoreLocked, StoreTooNew,
        StoreFull, StoreReadOnly.
        """
        try:
            if not path.exists() and not create:
                raise StoreMissing(f"there is no store at {path}.", "Run `ai-memory init`, or name the right file.")
            with ExitStack() as stack:
                store = cls._opened(path, passphrase, readers, stack)
                stack.pop_all()
                return store
        except OSError as error:
            raise StoreReadOnly(
                f"{path} cannot be opened: {error.strerror}.", "Check that its folder exists and can be written."
            ) from None
        except DatabaseError as error:
            raise explained(error, path) from None

    @classmethod
    def _opened(cls, path: Path, passphrase: str, readers: int, stack: ExitStack) -> Self:
        """Open everything; `stack` takes it down again where something fails, and removes what was begun."""
        lock = stack.enter_context(_lock(path))
        is_new = not path.exists()
        key = derive(passphrase, salt_of(path))
        if is_new:
            stack.callback(_remove, path)
            path.touch(exist_ok=False)
        path.chmod(0o600)  # before SQLite opens it, which gives the same mode to the files that it makes beside it

        def connected(*, writer: bool) -> Connection:
            return stack.enter_context(closing(connect(path, key, writer=writer)))

        writing = connected(writer=True)
        migrate(writing, path)
        keys = load_keys(writing)
        copying = connected(writer=False)
        reading = [connected(writer=False) for _ in range(readers)]
        writer = Writer(writing, copying, path)
        return cls(path, writer, Readers(reading, writer.locator, path), keys, lock)

    @property
    def position(self) -> Position:
        """Where the feed stood after the last commit; from memory."""
        return self.tail.state.position

    @property
    def lives(self) -> tuple[Life, ...]:
        return self.tail.state.lives

    @property
    def tail(self) -> Tail:
        """The newest changes, in memory."""
        return self.writer.tail

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


def _remove(path: Path) -> None:
    """Take away a store whose making failed: an empty file would be reported as a damaged store the next time."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
