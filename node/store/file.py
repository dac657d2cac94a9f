"""The one owner of a store's files: whoever looks at them beside SQLite does it through a descriptor that stays open.

A process that closes any descriptor of a file gives up all locks that it has on that file, also those that SQLite took
through a descriptor of its own (POSIX; https://sqlite.org/howtocorrupt.html, section 2.2). Another program that opens
the store then believes to be alone, and when it closes it removes the log under the node: every write after that is
lost. So each file has one descriptor in this process, however many ask for it, and it is closed by the last of them:
a connection gives it up only after SQLite has closed its own (docs/decisions/0048).
"""

import errno
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from node.disk import flush

Identity = tuple[int, int]
"""Device and inode."""
SUFFIXES = ("-wal", "-shm", "-journal")
"""Of the files that SQLite may make beside a database."""


@dataclass(slots=True)
class _Shared:
    """The descriptors of one file; the first is the one that is used."""

    descriptors: list[int]
    users: int = field(default=0)


_open: dict[Identity, _Shared] = {}
_turn = threading.Lock()


class StoreFile:
    """One use of a store's database file. The file itself is closed when nobody in this process uses it any more."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, FileNotFoundError among them."""
        self.path = path
        with _turn:
            self.identity, shared = _shared(path)
            shared.users += 1
        self._descriptor = shared.descriptors[0]
        self._is_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def head(self, count: int) -> bytes:
        """Its first bytes."""
        return os.pread(self._descriptor, count, 0)

    @property
    def size(self) -> int:
        """Bytes, now."""
        return os.fstat(self._descriptor).st_size

    def flush(self) -> None:
        """Return once everything that was written to it is on the disk. Raises OSError."""
        flush(self._descriptor)

    def close(self) -> None:
        """This use ends. What SQLite has open of the file must be closed before, or still be used by somebody else."""
        with _turn:
            if not self._is_open:
                return
            self._is_open = False
            shared = _open[self.identity]
            shared.users -= 1
            if not shared.users:
                del _open[self.identity]
                for descriptor in shared.descriptors:
                    os.close(descriptor)


def _shared(path: Path) -> tuple[Identity, _Shared]:
    """The file's entry, made where there is none: looked for before anything is opened that would have to be closed."""
    found = identity(path.stat())
    if found in _open:
        return found, _open[found]
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    found = identity(status)
    if found in _open:  # exchanged between the two looks, for one that is in use: it may not be closed before that one
        _open[found].descriptors.append(descriptor)
        return found, _open[found]
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    _open[found] = _Shared([descriptor])
    return found, _open[found]


def identity(status: os.stat_result) -> Identity:
    """Which file it is, whatever its name."""
    return status.st_dev, status.st_ino


def file_at(path: Path) -> Identity | None:
    """Which file lies at this path; None where none can be found."""
    try:
        return identity(path.stat())
    except OSError:  # as it is, a peer's replicator would take it for the network's
        return None


def is_in_use(path: Path) -> bool:
    """True where this process has a store open that lies at this path, by whatever name."""
    with _turn:
        return file_at(path) in _open


def beside(path: Path, suffix: str) -> Path:
    """The path of the file that SQLite makes beside a database."""
    return path.with_name(path.name + suffix)


def size_of(path: Path) -> int:
    """Bytes; 0 where there is no such file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def free_bytes(path: Path) -> int | None:
    """What this process may still write where the file lies; None where that cannot be told. Root has a reserve."""
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return None
    return (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail) * disk.f_frsize


def is_read_only(path: Path) -> bool:
    """True where the disk is mounted so, or cannot be asked."""
    try:
        return bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
    except OSError:
        return True


def opened_log(path: Path) -> int | None:
    """A descriptor for writing to the log of the store at `path`, for as long as the store is open.

    Later, another store's log may lie at its path. SQLite takes no lock on a log, so closing it lets go of none. None
    where it cannot be written to.
    """
    try:
        return os.open(beside(path, "-wal"), os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return None


def read_log(path: Path, places: Iterable[int], count: int) -> Iterator[bytes]:
    """So many bytes at each of these places of the log of the store at `path`. Raises OSError."""
    descriptor = os.open(beside(path, "-wal"), os.O_RDONLY | os.O_CLOEXEC)
    try:
        for place in places:
            yield os.pread(descriptor, count, place)
    finally:
        os.close(descriptor)
