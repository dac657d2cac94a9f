"""The command `ai-memory import`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from node.cli.backend import Backend, backend
from node.cli.context import Invocation, command
from node.cli.given import Place
from node.cli.output import NO, REFUSED, USAGE, CommandError
from node.legacy.importing.run import Progress, opened, run
from node.legacy.importing.source import SourceError
from node.passphrase import from_file
from node.timekeeper import Timekeeper
from sync.errors import RemoteError

VARIABLE = "AI_MEMORY_DB_PASSPHRASE"
"""As the existing daemon names it."""


@click.command(name="import")
@click.option(
    "--from-rust", "file", required=True, type=Place(dir_okay=False),
    help="The existing daemon's database, encrypted or not, or its JSON export.",
)  # fmt: skip
@click.option(
    "--passphrase-file", type=Place(dir_okay=False),
    help=f"Of that database, where it is encrypted; else {VARIABLE}, or a prompt.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be taken, and take nothing.")
@command
def import_(invocation: Invocation, file: Path, passphrase_file: Path | None, dry_run: bool) -> None:
    """Take in the memories and links of the existing daemon, with their times.

    The file is only read, and nothing beside it is written; the daemon may run meanwhile. Run again, the command takes
    what is new and leaves alone what is here, however it ended the last time. Exit code 1: something was not taken.

        ai-memory import --from-rust ~/ai-memory.db --passphrase-file old-passphrase
    """
    invocation.config()  # before anybody is asked for a passphrase
    given = os.environ.pop(VARIABLE, None)  # so that no child process inherits it
    try:
        source = opened(file, lambda: _passphrase(passphrase_file, given))
        try:
            with backend(invocation) as node, _progress(invocation) as progress:
                now = Timekeeper().now()
                report = run(source, node.adopt, partial(_namespace, node), progress, now, dry_run=dry_run)
        finally:
            source.close()
    except SourceError as error:
        raise CommandError(REFUSED, error.code, str(error)) from None
    invocation.show(report.value(), *report.lines())
    if not report.is_whole:
        raise SystemExit(NO)


def _namespace(node: Backend, record_id: str) -> str | None:
    """Of the memory of the node that has this id; None where there is none, or several."""
    try:
        return str(node.get(record_id, None)["memory"]["namespace"])
    except (CommandError, RemoteError) as error:  # of a node that runs, or of the store itself
        if error.code in ("not_found", "ambiguous_id"):
            return None
        raise


def _passphrase(file: Path | None, variable: str | None) -> str:
    if file is not None:
        return from_file(file)
    if variable is not None:
        return variable
    if not _is_at_terminal():
        raise CommandError(
            USAGE, "source_passphrase", f"the file is encrypted: name its passphrase by --passphrase-file or {VARIABLE}"
        )
    return str(click.prompt("Passphrase of that file", hide_input=True, err=True))


def _is_at_terminal() -> bool:
    return sys.stdin.isatty()


@contextmanager
def _progress(invocation: Invocation) -> Iterator[Progress]:
    """A bar on a terminal, nothing elsewhere."""
    if invocation.as_json or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("import", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


COMMANDS = (import_,)
