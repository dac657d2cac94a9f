"""The command line, `ai-memory`. One module for each group of commands."""

from importlib.metadata import version

import click

from node.cli import memory, serve, trust
from node.cli.output import EPILOG


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
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


for _command in (*serve.COMMANDS, *trust.COMMANDS, *memory.COMMANDS):
    main.add_command(_command)
