"""The keyring's file: read as it is written, with the place of a byte that is not UTF-8."""

from pathlib import Path

from sync.keyring import EMPTY, Keyring, KeyringError, Problem, parse
from tls.ownership import SharedFileError, advice, read_own

_BOM = "\ufeff"


def load(path: Path, *, must_exist: bool = False) -> Keyring:
    """The keyring in a file; no file is an empty one, unless it `must_exist`. Raises KeyringError."""
    if not must_exist and not path.exists():
        return EMPTY
    return parse(read(path), str(path))


def read(path: Path) -> str:
    """The file's text, its line ends as they are. Raises KeyringError where it cannot be read or is not UTF-8."""
    try:
        return read_own(path).decode("utf-8")
    except SharedFileError as error:
        raise _unusable(path, f"mode {error.fault}", f"{error.expected}; {error.advice}") from None
    except OSError as error:
        do = advice(error, path) or "look what lies there"
        if isinstance(error, FileNotFoundError):
            do = "put it back from a backup, or name another"
        raise _unusable(path, (error.strerror or "an error").lower(), f"a readable file; {do}") from None
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8").removeprefix(_BOM)) + 1
        found = f"the byte 0x{error.object[error.start]:02x}"
        raise KeyringError([Problem(str(path), line, column, found, "text in UTF-8")]) from None


def _unusable(path: Path, found: str, expected: str) -> KeyringError:
    return KeyringError([Problem(str(path), 1, 1, found, expected)], is_whole=True)
