"""Writing files so that a crash leaves the old or the new, never half of one."""

import os
from pathlib import Path


def write_private(path: Path, data: bytes) -> None:
    """Replace a file, readable for its owner alone, in one step that survives a power cut."""
    _replace(path, data, 0o600)


def write_kept(path: Path, data: bytes) -> None:
    """Replace a file, keeping the mode that it has (0644 for a new one)."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    _replace(path, data, mode)


def _replace(path: Path, data: bytes, mode: int) -> None:
    target = path.resolve()  # an operator's symbolic link stays one
    scratch = target.with_name(f".{target.name}.{os.getpid()}.new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
