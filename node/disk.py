"""Waiting for the disk: what each platform has for it."""

import fcntl
import os
from pathlib import Path

_WHOLE = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS: there `fsync` hands over to the disk and does not wait for it (fsync(2)), and there is no `fdatasync`."""


def flush(descriptor: int) -> None:
    """Return once this file is on the disk. Raises OSError."""
    if _WHOLE is not None:
        fcntl.fcntl(descriptor, _WHOLE)
    else:
        os.fsync(descriptor)


def flush_data(descriptor: int) -> None:
    """Return once what was written to this file is on the disk, and its length; times need not be. Raises OSError."""
    if _WHOLE is not None:
        fcntl.fcntl(descriptor, _WHOLE)
    else:
        getattr(os, "fdatasync", os.fsync)(descriptor)


def flush_folder(folder: Path) -> None:
    """Return once the names in this folder are on the disk: what was made, renamed or removed. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)  # macOS refuses F_FULLFSYNC for folders on some file systems
    finally:
        os.close(descriptor)
