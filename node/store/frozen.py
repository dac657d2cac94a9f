"""A store that is only read, because its disk is full or cannot be written: commands still find what is in it.

Nothing is written anywhere, not even the files that SQLite needs beside a database to read it with its log
(`connection.looking`). So whoever writes it must be kept out: a node that runs is asked instead, and here its lock is
taken for reading, where there is one.
"""

import fcntl
import os
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from node.store.connection import Connection, LookingConnection
from node.store.errors import StoreError, StoreLocked
from node.store.key import Key
from node.store.keys import Keys, known
from node.store.ledger import SqlLedger
from node.store.reader import Readers
from node.store.schema import MIGRATIONS, version_of
from node.store.soundness import require_whole
from node.store.tail import Tail
from sync.ports import Ledger, Position

T = TypeVar("T")


class NoWriter:
    """Stands where the writer does: each task gets the reason why nothing is written."""

    is_running = True
    is_shared = False
    is_displaced = False

    def __init__(self, connection: Connection, cause: StoreError) -> None:
        ledger = SqlLedger(connection)
        self.locator = ledger.locator
        self.tail = Tail(ledger.state)
        self.trouble: StoreError | None = cause
        self._cause = cause
        self._connection = connection

    async def run(self, task: Callable[[Ledger], T], *, bulk: bool = False) -> T:
        """Raises StoreError."""
        self._refuse()

    def call(self, task: Callable[[Ledger], T], *, bulk: bool = False) -> T:
        """Raises StoreError."""
        self._refuse()

    def on_commit(self, listener: Callable[[Position], None]) -> None:
        """There will be none."""

    def on_end(self, listener: Callable[[], None]) -> None:
        """There is no thread that could end."""

    def close(self) -> None:
        self._connection.close()

    def _refuse(self) -> NoReturn:
        raise type(self._cause)(str(self._cause).removesuffix(self._cause.next_step).rstrip(), self._cause.next_step)


def opened(path: Path, key: Key, readers: int, cause: StoreError, stack: ExitStack) -> tuple[NoWriter, Readers, Keys]:
    """What an open store is made of; `stack` takes it down again where something fails. Raises StoreError."""
    _shared_lock(path, stack)
    require_whole(path, key)

    def connected() -> Connection:
        return stack.enter_context(closing(LookingConnection(path, key)))

    first = connected()
    version = version_of(first, path)
    if version < len(MIGRATIONS):
        raise type(cause)(
            f"{path} has schema {version}, and has to be brought to {len(MIGRATIONS)}: for that it must be written.",
            cause.next_step,
        )
    writer = NoWriter(first, cause)
    keys = known(first.execute)
    return writer, Readers([connected() for _ in range(readers)], writer.locator, path), keys


def _shared_lock(path: Path, stack: ExitStack) -> Any:
    """Nobody may open the store for writing meanwhile. Where there is no lock file, nobody here ever opened it."""
    with suppress(FileNotFoundError, PermissionError):
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreLocked(
                f"{path} is in use by another process.", "Ask the running node, or stop it first."
            ) from None
