"""The write-ahead log, kept short: to sync pages that a file has already costs less than to make it grow.

A second connection on a thread of its own copies most of the log into the database; the writer then copies the little
rest, which lets the next commit begin the log anew. Nothing of this is between a task and its answer.
"""

import os
import threading
from pathlib import Path

from node.store.connection import Connection, DatabaseError

WORTH_COPYING = 4_000
"""Pages (4 KiB each) in the log that are worth a copy. An index's page is in it many times, and is copied once."""
LITTLE = 250
"""Pages that the writer copies itself without anybody noticing (some 5 ms)."""
TOO_LONG = 16_384
"""64 MiB: beyond this the writer empties and truncates the log, whatever else there is to do."""
COMMITS_BETWEEN_LOOKS = 16


class WriteAheadLog:
    """The writer's side. `copier` is a connection that nobody else uses."""

    def __init__(self, connection: Connection, copier: Connection, path: Path) -> None:
        # Closed last: closing any descriptor of a file gives up all locks that the process has on it (POSIX).
        self._database = os.open(path, os.O_RDONLY)
        self._connection = connection
        self._copier = copier
        self._commits = 0
        self._is_copying = False
        self._copied = threading.Event()
        self._go = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._copy, name="store-log", daemon=True)
        self._thread.start()

    @property
    def is_due(self) -> bool:
        """True where something was written since the log was last emptied."""
        return self._commits > 0

    def written(self) -> None:
        """A commit happened and was answered."""
        self._commits += 1
        if self._is_copying:
            if self._copied.is_set():
                self._is_copying = False
                self._checkpoint("PASSIVE")
        elif self._commits % COMMITS_BETWEEN_LOOKS == 0:
            pages = self._pages(self._connection)
            if pages > TOO_LONG:
                self._checkpoint("TRUNCATE")
            elif pages > WORTH_COPYING:
                self._copied.clear()
                self._is_copying = True
                self._go.set()

    def settle(self) -> None:
        """Nobody waits: empty the log."""
        if not self._is_copying or self._copied.is_set():
            self._is_copying = False
            self._checkpoint("PASSIVE")
            self._commits = 0

    def close(self) -> None:
        """Truncate the log, so that the store is one file. The connection's own close would do it under the GIL."""
        self._closing = True
        self._go.set()
        self._thread.join()
        self._copier.close()
        self._checkpoint("TRUNCATE")
        self._connection.close()
        os.close(self._database)

    def _pages(self, connection: Connection) -> int:
        # NOOP (SQLite 3.51) reports without doing: (busy, pages in the log, pages copied).
        try:
            _, in_log, copied = connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
        except DatabaseError:
            return 0  # a failing disk, as in `_checkpoint`: the writer's thread must not end over it
        return int(in_log - copied)

    def _checkpoint(self, mode: str) -> None:
        try:
            self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except DatabaseError:
            # A full or failing disk: every commit stays safe in the log, and the next commit reports the trouble.
            self._commits = max(1, self._commits)

    def _copy(self) -> None:
        while True:
            self._go.wait()
            self._go.clear()
            if self._closing:
                return
            try:
                self._copy_nearly_all()
            except (DatabaseError, OSError):
                continue  # as above: the writer's own checkpoint follows
            finally:
                self._copied.set()

    def _copy_nearly_all(self) -> None:
        """Copy until little is left: a pass leaves what was written during it, so each is shorter than the last."""
        rest = TOO_LONG
        while not self._closing:
            self._copier.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            # SQLite syncs the database only in the pass that reaches the log's end, which is the writer's. There it
            # would wait for all that the passes before it wrote (30 ms, measured); here nobody waits.
            os.fsync(self._database)
            before, rest = rest, self._pages(self._copier)
            if rest <= LITTLE or rest > before * 3 // 4:
                return
