"""Writing files so that a crash leaves the old or the new, never half of one.

What is written is first a scratch beside its place, `.NAME.<16 hex digits>.new`: made for its owner alone, under a name
that nobody can guess or has taken, and locked for as long as its writer lives. So whoever writes the same file next can
tell what a killed writer left behind, and takes it away.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from node.disk import flush, flush_folder

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_NAMED = 40
"""Characters of the file's name in a scratch's: a name may have 255 bytes."""


def write_private(path: Path, data: bytes) -> None:
    """Replace a file, readable for its owner alone, in one step that survives a power cut."""
    _replace(path, data, 0o600)


def write_kept(path: Path, data: bytes) -> None:
    """Replace a file, keeping the mode that it has (0644 for a new one)."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    _replace(path, data, mode)


def write_new(path: Path, data: bytes) -> None:
    """Make a file, readable for its owner alone, whole or not at all.

    Raises FileExistsError where anything is there: nothing is overwritten, and no symbolic link is followed.
    """
    refuse_existing(path)  # before there is anything to take away again
    with _scratch(path) as (scratch, descriptor):
        _fill(descriptor, data, 0o600)
        publish(scratch, path)


def refuse_existing(path: Path) -> None:
    """Raises FileExistsError where anything is at a path, be it a symbolic link that leads nowhere."""
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def publish(finished: Path, target: Path) -> None:
    """Give a whole file of the same file system its name, for good. Raises FileExistsError where that is taken."""
    try:
        os.link(finished, target, follow_symlinks=False)  # unlike a rename it never overwrites
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        refuse_existing(target)  # a stick with FAT has no links; who else takes the name at this very moment loses it
        finished.rename(target)
    else:
        finished.unlink()
    flush_folder(target.parent)


@contextmanager
def workshop(target: Path) -> Iterator[Path]:
    """A private folder beside a file that is to be, for what takes several files to make. Gone at the end.

    What another one left behind, whose process was killed, is taken away first.
    """
    sweep(target)
    while True:
        folder = _name(target)
        folder.mkdir(mode=0o700)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if _claimed(folder, descriptor):
            break
        os.close(descriptor)
    try:
        owned_as(descriptor, target.parent)
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(descriptor)


def sweep(target: Path) -> None:
    """Take away the scratches of writers of this file who were killed. Who still writes holds a lock on its own."""
    pattern = re.compile(rf"\.{re.escape(target.name[:_NAMED])}\.[0-9a-f]{{16}}\.new")
    for one in target.parent.iterdir():
        if pattern.fullmatch(one.name):
            _take_away(one)


def sync_file(path: Path) -> None:
    """Have what was written into a file, by whomever, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, data: bytes, mode: int) -> None:
    target = Path(os.path.realpath(path))  # an operator's symbolic link stays one
    with _scratch(target) as (scratch, descriptor):
        owned_as(descriptor, target if target.exists() else target.parent)
        _fill(descriptor, data, mode)
        scratch.replace(target)
    flush_folder(target.parent)


@contextmanager
def _scratch(target: Path) -> Iterator[tuple[Path, int]]:
    """A new private file beside the target, and its descriptor. Whoever wants to keep it gives it another name."""
    sweep(target)
    while True:
        scratch = _name(target)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(scratch, flags, 0o600)
        if _claimed(scratch, descriptor):
            break
        os.close(descriptor)
    try:
        yield scratch, descriptor
    finally:
        scratch.unlink(missing_ok=True)
        os.close(descriptor)


def _name(target: Path) -> Path:
    return target.with_name(f".{target.name[:_NAMED]}.{secrets.token_hex(8)}.new")


def _claimed(scratch: Path, descriptor: int) -> bool:
    """Lock a scratch for as long as this process lives. False where somebody swept it away before it was locked."""
    with suppress(OSError):  # a file system without locks, for a backup say: there nothing is ever swept either
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return os.path.lexists(scratch)


def _take_away(scratch: Path) -> None:
    try:
        descriptor = os.open(scratch, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # gone by now, or another user's
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(scratch)
        else:
            scratch.unlink()
    except OSError:
        return  # its writer lives; or somebody else sweeps, too; or the disk cannot be written, and it harms nobody
    finally:
        os.close(descriptor)


def _fill(descriptor: int, data: bytes, mode: int) -> None:
    os.fchmod(descriptor, mode)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    flush(descriptor)


def owned_as(descriptor: int, like: Path) -> None:
    """What root writes into a user's folder stays that user's: the node, which is not root, has to read it."""
    found = like.stat()
    if os.geteuid() == 0 and found.st_uid != 0:
        os.fchown(descriptor, found.st_uid, found.st_gid)
