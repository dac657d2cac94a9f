"""The command line, `ai-memory`. One module for each group of commands."""

from importlib.metadata import version
from typing import Any

import click

from node import bridge
from node.cli import conflicts, identity, keyring, memory, mesh, release, serve, trust, verify
from node.cli.output import EPILOG, USAGE, CommandError, fail


class Program(click.Group):
    """A group whose usage errors, too, are one JSON object where --json was given."""

    def invoke(self, ctx: click.Context) -> Any:
        as_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            if as_json:
                fail(CommandError(USAGE, "usage", error.format_message()), True)
            raise


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
    *identity.COMMANDS,
    *keyring.COMMANDS,
    *memory.COMMANDS,
    *conflicts.COMMANDS,
    *verify.COMMANDS,
    *release.COMMANDS,
    *bridge.commands(),
):
    main.add_command(_command)
