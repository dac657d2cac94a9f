"""What every command shares: the folder, the form of the output, and the errors' way out."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from node import config as configuration
from node import editing, logs
from node.cli.given import Place
from node.cli.output import INTERRUPTED, REFUSED, CommandError, OutputLost, fail, remark, remark_json, show, translated
from node.config import Config
from node.home import Home


@dataclass(frozen=True, slots=True)
class Invocation:
    """One run of the program."""

    home: Home
    as_json: bool

    def config(self) -> Config:
        """Raises ConfigError."""
        return configuration.load(self.home.config)

    def show(self, value: Any, *lines: str) -> None:
        """The result: one JSON value, or these lines. Whatever is in a line, it stays that line."""
        show(value, self.as_json, *lines)

    def tell(self, text: str) -> None:
        """Something that is no result and no error: what a command waits for."""
        if self.as_json:
            remark_json({"waiting": text})
        else:
            remark(f"ai-memory: {text}")


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Adds --home and --json, hands over an `Invocation` first, and turns errors into exit codes."""

    @click.option("--home", type=Place(file_okay=False), help="The node's folder.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
    @functools.wraps(function)
    def wrapped(home: Path | None, as_json: bool, **arguments: Any) -> None:
        logs.configure("json" if as_json else "console", "warning")
        try:
            invocation = Invocation(Home(home) if home is not None else Home.default(), as_json)
            _require_text(arguments.values())
            editing.finish(invocation.home.path)
            function(invocation, **arguments)
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None
        except OutputLost:
            raise  # for `streams.guarded`, which knows what to do about it
        except Exception as error:
            known = translated(error)
            if known is None:
                raise
            fail(known, as_json)

    return wrapped


def _require_text(values: Iterable[Any]) -> None:
    """Raises CommandError where an argument is made of bytes that are no text, before anybody tries to encode it."""
    for value in values:
        if isinstance(value, tuple):
            _require_text(value)
        elif isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise CommandError(REFUSED, "invalid", f"the argument {ascii(value)[:80]} is not UTF-8 text") from None
