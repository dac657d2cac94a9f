"""Files with a secret: for their owner alone, and judged once they are open: what is looked at is what is read."""

import os
import stat
from pathlib import Path

from tls.ownership import advice

MAX_BYTES = 1_048_576
"""More than any file of ours with a secret in it has."""
CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""systemd's folder of a unit's credentials: private to the unit, though the group's bits of its files may be set."""


class SecretFileError(ValueError):
    """A file with a secret that cannot be used. One sentence: path, what was found, what is expected, what to run.

    `is_exposed`: others may have read it.
    """

    def __init__(self, told: str, *, is_exposed: bool = False) -> None:
        super().__init__(told)
        self.is_exposed = is_exposed


def read_secret(path: Path, *, pipe: bool = False) -> bytes:
    """What a private file holds; of a symbolic link, what it leads to is judged. Raises SecretFileError.

    `pipe`: one may be named instead, as a shell does for `<(command)`; one that nobody writes to holds nothing.
    """
    try:
        # O_NONBLOCK: to open a pipe waits for nobody.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        do = advice(error, path) if isinstance(error, OSError) else None
        raise SecretFileError(f"{path}: {_why(error)}; {do or 'expected a file with mode 0600'}") from None
    try:
        found = os.fstat(descriptor)
        if fault := secret_fault(path, found, pipe=pipe):
            raise SecretFileError(fault, is_exposed=stat.S_ISREG(found.st_mode))
        os.set_blocking(descriptor, True)
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SecretFileError(f"{path}: {_why(error)}, expected a secret in it") from None
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise SecretFileError(f"{path}: more than {MAX_BYTES} bytes, expected one secret")
    return data


def secret_fault(path: Path, found: os.stat_result, *, pipe: bool = False) -> str | None:
    """What is wrong with a secret's file, by what the open file says of itself; None where nothing is.

    Root's file is taken too: root reads everything anyway.
    """
    if not stat.S_ISREG(found.st_mode) and not (pipe and stat.S_ISFIFO(found.st_mode)):
        what = "is a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        return f"{path}: {what}, expected a secret in it"
    user = os.geteuid()
    if found.st_uid not in (user, 0):
        # Root in somebody's folder would leave files there that its owner cannot use, and run what they configured.
        do = (
            f"run: chown {user} {path}" if user else f"run this as user {found.st_uid}, or take the files over by chown"
        )
        return f"{path}: belongs to user {found.st_uid}, who can read it, expected user {user}; {do}"
    mode = stat.S_IMODE(found.st_mode)
    allowed = 0o740 if _is_credential(path) else 0o700
    if mode & ~allowed:
        return f"{path}: mode is {mode:04o}, expected 0600; run: chmod 600 {path}"
    return None


def _is_credential(path: Path) -> bool:
    folder = os.environ.get(CREDENTIALS)
    return bool(folder) and path.parent == Path(folder or "")


def _why(error: Exception) -> str:
    return str(error.strerror or "cannot be opened") if isinstance(error, OSError) else str(error)
