"""The encrypted store: one SQLCipher file, one writer, readers beside it."""

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol, Self

from node.files import sweep
from node.store import frozen, library, lock, making, restore
from node.store.condition import troubles
from node.store.connection import FAULTS, Connection, connect, explained
from node.store.errors import StoreError, StoreReadOnly
from node.store.file import StoreFile
from node.store.frozen import NoWriter
from node.store.key import derive, salt_of
from node.store.keys import Keys
from node.store.keys import load as load_keys
from node.store.reader import Reader, Readers
from node.store.schema import migrate
from node.store.soundness import require_whole
from node.store.tail import Tail
from node.store.writer import Writer
from sync.ports import Life, Position

__all__ = ["Reader", "Store"]


class Closable(Protocol):
    """What a store holds while it is open."""

    def close(self) -> None: ...


class Store:
    """An open store. One process at a time; see `open`."""

    def __init__(self, path: Path, writer: Writer | NoWriter, readers: Readers, keys: Keys, *held: "Closable") -> None:
        self.path = path
        self.keys = keys
        self.writer = writer
        self.reader = readers
        self._held = held

    @classmethod
    def open(
        cls, path: Path, passphrase: str, *, create: bool = False, readers: int = 2, holder: str = lock.COMMAND
    ) -> Self:
        """Open the store at `path`; with `create`, make it where there is none. Takes about 0.1 s for the key.

        `holder`: what this process is, for whoever finds the lock taken. Raises StoreError: WrongPassphrase,
        NotEncrypted, Damaged, NotADatabase, StoreMissing, StoreLocked, StoreTooNew, StoreFull, StoreReadOnly.
        """
        try:
            if not create and not restore.is_ready(path):
                making.require(path)
            with ExitStack() as stack:
                store = cls._opened(path, passphrase, readers, holder, stack, create=create)
                stack.pop_all()
                return store
        except OSError as error:
            raise StoreReadOnly(
                f"{path} cannot be opened: {error.strerror}.", "Check that its folder exists and can be written."
            ) from None
        except FAULTS as error:
            raise explained(error, path) from None

    @classmethod
    def open_to_read(cls, path: Path, passphrase: str, cause: StoreError, *, readers: int = 1) -> Self:
        """Open a store that cannot be opened for writing because of `cause`, which every write will be told.

        For commands, and never while another process has it open. Raises StoreError.
        """
        try:
            key = derive(passphrase, salt_of(path)) if path.exists() else None
            if key is None:
                raise cause
            with ExitStack() as stack:
                writer, reading, keys = frozen.opened(path, key, readers, cause, stack)
                return cls(path, writer, reading, keys, stack.pop_all())
        except FAULTS as error:
            raise explained(error, path) from None
        except OSError:
            raise cause from None

    @classmethod
    def _opened(cls, path: Path, passphrase: str, readers: int, holder: str, stack: ExitStack, *, create: bool) -> Self:
        """Open everything; `stack` takes it down again where something fails."""
        library.check()
        held = stack.enter_context(lock.take(path, holder))
        restore.finish(path)
        if path.parent.is_dir():
            sweep(path)  # what a killed restore had copied is as large as the store
        is_new = create and not path.exists()
        if not is_new:
            making.require(path)
        key = derive(passphrase, salt_of(path))
        if is_new:
            making.make(path, key)
        path.chmod(0o600)  # before SQLite opens it, which gives the same mode to the files that it makes beside it
        require_whole(path, key)
        file = stack.enter_context(StoreFile(path))  # from here on every lock that SQLite takes is kept

        def connected(*, writer: bool) -> Connection:
            return stack.enter_context(closing(connect(path, key, writer=writer)))

        writing = connected(writer=True)
        migrate(writing, path)
        keys = load_keys(writing)
        copying = connected(writer=False)
        reading = [connected(writer=False) for _ in range(readers)]
        writer = Writer(writing, copying, path)
        return cls(path, writer, Readers(reading, writer.locator, path), keys, file, held)

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

    def troubles(self) -> list[str]:
        """Why it cannot be written now; empty where it can. Names no path."""
        return troubles(self.writer, self.path)

    def close(self) -> None:
        """Finish what was asked for and close; afterwards the store is one file."""
        self.reader.close()
        self.writer.close()
        for one in self._held:
            one.close()
