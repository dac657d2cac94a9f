"""How commands speak: results on standard output, errors on standard error, and one table of exit codes."""

import json
import os
import sys
from typing import Any, NoReturn

import click

from node.config import ConfigError
from node.store.errors import StoreError, StoreLocked
from sync.errors import RemoteError
from sync.keyring import KeyringError
from tls.errors import TlsError

EXIT_CODES = {
    0: "done",
    1: "the answer is no: not found, not in step, a broken allowlist, not all imported or verified",
    2: "wrong usage or configuration",
    3: "the node cannot be reached, or its store is in use",
    4: "the store cannot be opened",
    5: "refused: the input is not valid",
    130: "interrupted",
}
NO, USAGE, UNREACHABLE, STORE, REFUSED, INTERRUPTED = 1, 2, 3, 4, 5, 130

_ANSWERS = ("not_found", "ambiguous_id", "title_taken", "conflict_changed")

EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."


class CommandError(Exception):
    """A command that failed: an exit code, a stable code and a sentence."""

    def __init__(self, exit_code: int, code: str, text: str) -> None:
        super().__init__(text)
        self.exit_code, self.code = exit_code, code


def show(value: Any, as_json: bool, text: str) -> None:
    """The result: as one JSON value, or as text for a person."""
    click.echo(json.dumps(value, ensure_ascii=False) if as_json else text)


def fail(error: CommandError, as_json: bool) -> NoReturn:
    """Say what went wrong and leave with its exit code."""
    if as_json:
        click.echo(json.dumps({"error": str(error), "code": error.code}, ensure_ascii=False), err=True)
    else:
        click.echo(f"ai-memory: {error}", err=True)
    sys.exit(error.exit_code)


def translated(error: Exception) -> CommandError | None:
    """The command's error for one of the rooms' errors; None for a bug."""
    match error:
        case CommandError():
            return error
        case ConfigError():
            return CommandError(USAGE, "config", str(error))
        case StoreLocked():
            return CommandError(UNREACHABLE, "store_locked", str(error))
        case StoreError():
            return CommandError(STORE, "store", str(error))
        case TlsError():
            return CommandError(USAGE, "tls", str(error))
        case KeyringError():
            return CommandError(USAGE, "keyring", str(error))
        case RemoteError():
            exit_code = NO if error.code in _ANSWERS else REFUSED
            return CommandError(exit_code, error.code, str(error))
        case OSError(filename=str() | bytes() as name, strerror=str(reason)):
            return CommandError(USAGE, "file", f"{os.fsdecode(name)}: {reason.lower()}")
        case _:
            return None
