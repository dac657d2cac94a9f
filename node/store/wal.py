"""The write-ahead log, kept short: to sync pages that a file has already costs less than to make it grow.

A second connection on a thread of its own copies most of the log into the database; the writer then copies the little
rest, which lets the next commit begin the log anew. While nobody waits the writer also fills the file up with zeros to
the length that it will have, so that no commit has to make it grow (docs/decisions/0043). Nothing of this is between a
task and its answer.
"""

import os
import threading
from pathlib import Path

from node.disk import flush_data
from node.store.connection import FAULTS, Connection
from node.store.file import StoreFile, opened_log

WORTH_COPYING = 4_000
"""Pages (4 KiB each) in the log that are worth a copy. An index's page is in it many times, and is copied once."""
LITTLE = 250
"""Pages that the writer copies itself without anybody noticing (some 5 ms)."""
TOO_LONG = 16_384
"""64 MiB: beyond this the writer empties and truncates the log, whatever else there is to do."""
COMMITS_BETWEEN_LOOKS = 16
FRAME = 4_096 + 24
"""Bytes of a page in the log."""
READY = (WORTH_COPYING + LITTLE) * FRAME
"""Bytes that the log is given beforehand: what it takes until it is copied."""
GROWTH = 262_144
"""Bytes of one step, written and synced in some 0.3 ms."""
PLENTY = 16 * READY
"""Bytes that must be free for it: on a disk that is nearly full, the log takes what it needs and no more."""


class WriteAheadLog:
    """The writer's side. `copier` is a connection that nobody else uses."""

    def __init__(self, connection: Connection, copier: Connection, path: Path) -> None:
        self._database = StoreFile(path)
        self._file = opened_log(path)
        self._is_short = self._file is not None
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
        """True where something was written since the log was last emptied, or the file should be longer."""
        return self._commits > 0 or self._is_short

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
                self._is_short = self._file is not None
            elif pages > WORTH_COPYING and self._thread.is_alive():
                self._copied.clear()
                self._is_copying = True
                self._go.set()

    def settle(self) -> None:
        """Nobody waits: empty the log; where it is empty, make its file longer by a step."""
        if self._commits == 0:
            self._is_short = self._is_short and self._lengthen()
        elif not self._is_copying or self._copied.is_set():
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
        self._database.close()
        if self._file is not None:
            os.close(self._file)

    def _lengthen(self) -> bool:
        """Append zeros, which SQLite takes for the end of the log. Returns whether the file is still too short."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")  # nobody, of another process either, may write after its end
            try:
                return self._file is not None and _lengthened(self._file)
            finally:
                self._connection.execute("ROLLBACK")
        except (*FAULTS, OSError) as error:
            self._connection.undo(error)
            return False  # as in `_checkpoint`; it was a favour, and commits go on without it

    def _pages(self, connection: Connection) -> int:
        # NOOP (SQLite 3.51) reports without doing: (busy, pages in the log, pages copied).
        try:
            _, in_log, copied = connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
        except FAULTS as error:
            connection.undo(error)
            return 0  # a failing disk, as in `_checkpoint`: the writer's thread must not end over it
        return int(in_log - copied)

    def _checkpoint(self, mode: str) -> None:
        try:
            self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except FAULTS as error:
            self._connection.undo(error)
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
            except (*FAULTS, OSError) as error:
                self._copier.undo(error)  # as above: the writer's own checkpoint follows
            finally:
                self._copied.set()

    def _copy_nearly_all(self) -> None:
        """Copy until little is left: a pass leaves what was written during it, so each is shorter than the last."""
        rest = TOO_LONG
        while not self._closing:
            self._copier.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            # SQLite syncs the database only in the pass that reaches the log's end, which is the writer's. There it
            # would wait for all that the passes before it wrote (30 ms, measured); here nobody waits.
            self._database.flush()
            before, rest = rest, self._pages(self._copier)
            if rest <= LITTLE or rest > before * 3 // 4:
                return


def _lengthened(file: int) -> bool:
    """As `WriteAheadLog._lengthen`, for whoever holds the right to write."""
    size, disk = os.fstat(file).st_size, os.fstatvfs(file)
    if size >= READY or disk.f_bavail * disk.f_frsize < PLENTY:
        return False
    written = os.pwrite(file, bytes(min(GROWTH, READY - size)), size)
    flush_data(file)
    return size + written < READY
