"""Edits of a node's files: one after the other, and each whole, also where it changes several files.

`edit.lock` is held from reading what is there to writing what shall be, or two edits at one time lose each other. What
changes more than one file is first written down, all of it, in `edit.journal`: from then on it happens, whoever is
killed in the middle. The next edit, command or start carries out what is left.
"""

import base64
import binascii
import fcntl
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from node.config import ConfigError
from node.disk import flush_folder
from node.files import owned_as, write_kept, write_private
from tls.ownership import SharedFileError, read_own

LOCK = "edit.lock"
JOURNAL = "edit.journal"
PATIENCE = 30.0
"""Seconds that an edit waits for another one; the longest, a whole mesh's, takes few."""
LOOK_EVERY = 0.02
"""Seconds."""


@contextmanager
def editing(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Nobody else edits the files of this folder meanwhile; what a killed edit left is carried out first.

    Raises ConfigError where another edit does not end, or what was left cannot be read. Not to be nested.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        owned_as(descriptor, folder)
        _wait(descriptor, folder, patience)
        _carry_out(folder)
        yield
    finally:
        os.close(descriptor)


def write(folder: Path, changes: Mapping[Path, bytes]) -> None:
    """Replace these files, all or none. The caller is `editing` the folder. Symbolic links and modes are kept."""
    changed = {path: data for path, data in changes.items() if _found(path) != data}
    if len(changed) > 1:
        told = [(_named(path, folder), base64.b64encode(data).decode()) for path, data in changed.items()]
        write_private(folder / JOURNAL, msgspec.json.encode(told))
        _carry_out(folder)
    else:
        for path, data in changed.items():
            write_kept(path, data)


def is_unfinished(folder: Path) -> bool:
    """Whether an edit is under way, or was killed in the middle."""
    return (folder / JOURNAL).exists()


def finish(folder: Path) -> None:
    """Carry out what a killed edit left; one that is under way is waited for. Raises ConfigError as `editing` does."""
    if is_unfinished(folder):
        with editing(folder):
            pass


def _carry_out(folder: Path) -> None:
    journal = folder / JOURNAL
    if not journal.exists():
        return
    try:
        told = msgspec.json.decode(read_own(journal), type=list[tuple[str, str]])
        changes = [(folder / name, base64.b64decode(data, validate=True)) for name, data in told]
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error):
        expected = "not what an edit wrote, which is carried out before anything else"
        do = "look whether config.toml, allowlist, keyring and ca.pem beside it are as you left them, then run"
        raise ConfigError([f"{journal}: {expected}; {do}: rm {shlex.quote(str(journal))}"]) from None
    except SharedFileError as error:
        raise ConfigError([str(error)]) from None
    for path, data in changes:
        write_kept(path, data)
    journal.unlink()
    flush_folder(folder)


def _named(path: Path, folder: Path) -> str:
    """A path in the journal: the folder may be moved before somebody carries it out."""
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path.absolute())


def _found(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _wait(descriptor: int, folder: Path, patience: float) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                text = f"another command has been editing this node for {patience:.0f} s; look what it waits for"
                raise ConfigError([f"{folder / LOCK}: {text}"]) from None
        time.sleep(LOOK_EVERY)
