"""The command line, `ai-memory`. One module for each group of commands."""

import contextlib
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import click

from node import bridge, logs, plain
from node.cli import access, conflicts, identity, keyring, memory, mesh, release, serve, streams, trust, verify
from node.cli.output import BUG, EPILOG, USAGE, CommandError, OutputLost, fail
from node.hardening import harden


class Program(click.Group):
    """A group whose usage errors, too, are one JSON object where --json was given, and whose streams are guarded."""

    def main(self, args: Sequence[str] | None = None, *others: Any, **options: Any) -> Any:
        """`args`: None where this is a process of its own. Only there does a bug become a trace and an exit code."""
        if args is None:
            harden()
        given = sys.argv[1:] if args is None else args
        hooks = logs.everything() if args is None else contextlib.nullcontext()
        with streams.guarded(as_json="--json" in given), hooks:
            try:
                return super().main(args, *others, **options)
            except click.ClickException:
                raise
            except Exception as error:
                if args is not None or isinstance(error, OutputLost):
                    raise
                lines = ("a mistake in this program; please report this:", *logs.trace_of(error))
                fail(CommandError(BUG, "bug", *lines), "--json" in given)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        try:
            return super().make_context(*args, **options)
        except click.ClickException as error:
            raise _harmless(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        as_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            if as_json:
                fail(CommandError(USAGE, "usage", error.format_message()), True)
            raise _harmless(error) from None


def _harmless(error: click.ClickException) -> click.ClickException:
    """What was typed, or stands in a script, is repeated as a line."""
    vars(error)["message"] = plain.line(error.message)  # final for everybody else
    return error


@click.group(
    cls=Program, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(version("ai-memory"), prog_name="ai-memory")
def main() -> None:
    """A node that keeps what your AI agents remember: encrypted here, identical on every peer that you trust.

    \b
    Begin:      ai-memory init && ai-memory serve
    Pair:       ai-memory fingerprint            (send that line to the other operator)
                ai-memory peer add desk https://desk.local:9443 --ca desk-ca.pem --fingerprint sha256:…
    Look:       ai-memory sync status
    Use:        ai-memory store "title" "content" · ai-memory search words · ai-memory get ID
    """


for _command in (
    *serve.COMMANDS,
    *mesh.COMMANDS,
    *trust.COMMANDS,
    *access.COMMANDS,
    *identity.COMMANDS,
    *keyring.COMMANDS,
    *memory.COMMANDS,
    *conflicts.COMMANDS,
    *verify.COMMANDS,
    *release.COMMANDS,
    *bridge.commands(),
):
    main.add_command(_command)
