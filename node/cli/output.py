"""How commands speak: results on standard output, errors on standard error, and one table of exit codes."""

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NoReturn, TextIO

from node import plain
from node.config import ConfigError, InvalidInput, NotThere
from node.store.errors import NotABackup, StoreError, StoreFull, StoreLocked, StoreReadOnly, WrongFile
from sync.errors import RemoteError
from sync.keyring import KeyringError
from tls.allowlist import AllowlistError
from tls.errors import TlsError
from tls.ownership import advice

EXIT_CODES = {
    0: "done",
    1: "the answer is no: not found, an alarm, a broken allowlist or keyring, not all imported or verified",
    2: "wrong usage or configuration, or a file that cannot be read or written",
    3: "the node cannot be reached, or its store is in use",
    4: "the store cannot be opened, or cannot be used any more",
    5: "refused: the input is not valid",
    6: "the answer could not be written",
    70: "a mistake in this program",
    130: "interrupted",
    141: "whoever read the answer went away",
}
NO, USAGE, UNREACHABLE, STORE, REFUSED, OUTPUT, BUG, INTERRUPTED, CLOSED = 1, 2, 3, 4, 5, 6, 70, 130, 141
"""70 is EX_SOFTWARE of sysexits.h; from 128 on, what a shell reports of a signal: 128 + SIGINT, 128 + SIGPIPE."""

AGAIN = "Then run the command again."
NO_END = 1 << 30
_ANSWERS = ("not_found", "ambiguous_id", "title_taken", "conflict_changed")

EPILOG = (
    "Exit codes: "
    + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
    + ". Those of `sync status` from 10 on stand in its own help."
)


class CommandError(Exception):
    """A command that failed: an exit code, a stable code and a sentence, or several, each a line of its own."""

    def __init__(self, exit_code: int, code: str, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.exit_code, self.code, self.lines = exit_code, code, lines


class OutputLost(CommandError):
    """Standard output could not be written. `is_closed`: whoever read it has gone, which is nothing to speak of."""

    def __init__(self, error: Exception | None) -> None:
        self.is_closed = isinstance(error, BrokenPipeError)
        super().__init__(
            CLOSED if self.is_closed else OUTPUT,
            "output",
            f"the answer could not be written to standard output: {_lost(error)}; the command itself was carried out",
        )


def _lost(error: Exception | None) -> str:
    match error:
        case OSError(strerror=str(reason)):
            return reason.lower()
        case UnicodeError():
            return "its encoding does not take the text, set PYTHONIOENCODING=utf-8"
    return "it is closed"


def show(value: Any, as_json: bool, *lines: str) -> None:
    """The result: one JSON value, or lines for a person. What is in a line cannot begin another (`node.plain`)."""
    if as_json:
        say(plain.json_encodable(plain.as_json(value), _encoding(sys.stdout)))
    else:
        say(*map(plain.line, lines))


def width() -> int:
    """Columns of the terminal that standard output is; elsewhere as many as are needed."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else NO_END


def require_encodable(text: str) -> None:
    """Raises CommandError `output` where standard output cannot hold a text that is to be there as it was written."""
    encoding = _encoding(sys.stdout)
    try:
        text.encode(encoding)
    except UnicodeError as error:  # a codec may have an error of its own
        found = f"U+{ord(text[error.start]):04X}" if isinstance(error, UnicodeEncodeError) else "this text"
        raise CommandError(
            OUTPUT, "output", f"{encoding} cannot hold {found}: use --json, or set PYTHONIOENCODING=utf-8"
        ) from None


def say(*lines: str) -> None:
    """Lines on standard output, as they are. Raises OutputLost."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def remark(*lines: str) -> None:
    """Lines for a person, on standard error."""
    sys.stderr.write("".join(f"{plain.line(line)}\n" for line in lines))
    sys.stderr.flush()


def remark_json(value: Any) -> None:
    """One JSON value, on standard error."""
    sys.stderr.write(plain.json_encodable(plain.as_json(value), _encoding(sys.stderr)) + "\n")
    sys.stderr.flush()


def fail(error: CommandError, as_json: bool) -> NoReturn:
    """Say what went wrong and leave with its exit code."""
    if as_json:
        remark_json({"error": str(error), "code": error.code})
    else:
        first, more = error.lines[:1], error.lines[1:]
        remark(f"ai-memory: {''.join(first)}", *more)
    sys.exit(error.exit_code)


def _encoding(stream: TextIO) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def translated(error: Exception) -> CommandError | None:
    """The command's error for one of the rooms' errors; None for a bug."""
    match error:
        case CommandError():
            return error
        case InvalidInput():
            return CommandError(REFUSED, "invalid", *error.problems)
        case NotThere():
            return CommandError(NO, "not_found", *error.problems)
        case ConfigError():
            return CommandError(USAGE, "config", *error.problems)
        case StoreLocked():
            return CommandError(UNREACHABLE, "store_locked", str(error))
        case WrongFile():
            return CommandError(USAGE, "file", str(error))
        case NotABackup():
            return CommandError(REFUSED, "not_a_backup", str(error))
        case StoreFull() | StoreReadOnly():  # this process ends with it; a node that runs goes on by itself
            return CommandError(STORE, "store", f"{error} {AGAIN}")
        case StoreError():
            return CommandError(STORE, "store", str(error))
        case AllowlistError():
            return CommandError(NO, "allowlist", *error.lines)
        case TlsError():
            return CommandError(USAGE, "tls", str(error))
        case KeyringError():
            return CommandError(NO, "keyring", *error.lines)
        case RemoteError():
            exit_code = NO if error.code in _ANSWERS else REFUSED
            return CommandError(exit_code, error.code, str(error))
        case OSError(filename=str() | bytes() as name, strerror=str(reason)):
            do = f"; {told}" if (told := advice(error, Path(os.fsdecode(name)))) else ""
            return CommandError(USAGE, "file", f"{os.fsdecode(name)}: {reason.lower()}{do}")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):  # of what is written by a descriptor, which has no name
            full = "the disk is full; each file is as it was, or as it was to be: free some space, and run this again"
            return CommandError(USAGE, "file", full)
        case _:
            return None
