"""Backups: whole, consistent, and as encrypted as the store, under the same passphrase."""

import errno
import os
from pathlib import Path

from node.files import publish, refuse_existing, sync_file, workshop
from node.store import lock, restore
from node.store.connection import FAULTS, Connection, connect, explained, fault_of
from node.store.errors import StoreReplaced, WrongFile
from node.store.file import SUFFIXES as SIDES
from node.store.file import beside
from node.store.key import derive, salt_of
from node.store.making import require
from tls.ownership import advice

_FULL = (errno.ENOSPC, errno.EDQUOT)


def back_up(path: Path, passphrase: str, target: Path) -> int:
    """Write a compact encrypted copy of the store at `path` to `target`, which must not exist. Returns its bytes.

    `VACUUM INTO` reads one state of the store and keeps key and salt, so the copy opens with the same passphrase. A
    node that runs on the store goes on meanwhile, writes included. The copy gets its name once all of it is on disk.
    Raises StoreError.
    """
    _require_text(target)
    restore.settle(path)
    require(path)
    try:
        _refuse(path, target)
        with workshop(target) as folder:
            scratch = folder / "backup.db"
            scratch.touch(0o600)
            _copy(path, passphrase, scratch)
            sync_file(scratch)
            size = scratch.stat().st_size
            publish(scratch, target)
            return size
    except FileExistsError:
        raise WrongFile(f"{target} exists already.", "Name a new file: a backup never overwrites.") from None
    except OSError as error:
        raise _unwritten(target, error) from None


def _unwritten(target: Path, error: OSError) -> WrongFile:
    """What to do about the place of a backup. Which error the disk has by now says more than the one of the moment."""
    if error.errno in _FULL:
        return WrongFile(
            f"no space is left for {target}; nothing is there.",
            f"Free as much as the store has on the disk of {target.parent}, or name a file on another disk.",
        )
    if error.errno == errno.EROFS:
        return WrongFile(
            f"{target} cannot be written: the disk of {target.parent} is mounted read-only.",
            "Name a file on a disk that can be written, or mount that one so.",
        )
    do = advice(error, target) or "name a file in a folder that exists and can be written"
    why = (error.strerror or "an error").lower()
    return WrongFile(f"{target} cannot be written: {why}.", f"{do[0].upper()}{do[1:]}.")


def _require_text(target: Path) -> None:
    """Raises WrongFile for a path that SQLite cannot be told: it takes UTF-8 alone, a file system takes any bytes."""
    try:
        str(target).encode()
    except UnicodeEncodeError:
        raise WrongFile(
            f"{str(target)!a} is not UTF-8 text.", "Name a file whose whole path is UTF-8, and move it afterwards."
        ) from None


def _copy(path: Path, passphrase: str, scratch: Path) -> None:
    """Raises StoreError of the store, OSError of the place of the backup."""
    try:
        reading = _opened(path, passphrase)
        try:
            reading.execute("VACUUM INTO ?", (str(scratch),))
        finally:
            reading.close()
    except FAULTS as error:
        place = scratch.parent.parent
        if (number := fault_of(error, scratch)) is not None:
            raise OSError(number, os.strerror(number), str(place)) from None
        raise explained(error, path) from None


def _opened(path: Path, passphrase: str) -> Connection:
    """A connection to the store, and to no mixture: a restore may put another one there at this very moment."""
    before = path.stat()
    reading = connect(path, derive(passphrase, salt_of(path)), writer=False)
    after = path.stat()
    if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino):
        reading.close()
        raise StoreReplaced(f"{path} was exchanged for another at this moment.", "Run the command again.")
    return reading


def _refuse(path: Path, target: Path) -> None:
    """Raises WrongFile, or FileExistsError, for a target that something is at, or that belongs to a store."""
    refuse_existing(target)
    real, place = Path(os.path.realpath(path)), Path(os.path.realpath(target.parent)) / target.name
    own = {beside(real, side) for side in SIDES} | {restore.ready(real), lock.path_of(real), lock.path_of(path)}
    if place in own:
        raise WrongFile(f"{target} is a file of the running store.", "Name a file of another name.")
    for side in SIDES:
        if os.path.lexists(beside(target, side)):
            raise WrongFile(
                f"{beside(target, side)} lies there already: it would be taken for a part of the backup.",
                "Name another file, or move it away.",
            )
