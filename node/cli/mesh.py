"""Commands about a whole mesh whose folders are made in one place."""

from pathlib import Path

import click

from node import mesh as meshes
from node.cli.context import Invocation, command
from node.mesh import Member


@click.group()
def mesh() -> None:
    """Make the folders of a whole mesh in one place, for containers or to be carried to the machines."""


@mesh.command(name="init")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--node", "nodes", multiple=True, required=True, metavar="NAME=HOST:PORT", help="One node of it.")
@click.option("--stranger", "strangers", multiple=True, metavar="NAME=HOST:PORT", help="Certified, and on no list.")
@click.option("--renew", multiple=True, metavar="NAME", help="Issue this one a new certificate, and pair it anew.")
@command
def init_mesh(
    invocation: Invocation, folder: Path, nodes: tuple[str, ...], strangers: tuple[str, ...], renew: tuple[str, ...]
) -> None:
    """Mint a CA in FOLDER/ca, and in FOLDER/NAME for each node its key, certificate, passphrase and allowlist.

    What was paired before is left alone, so it may run at every start of a cluster; a node that was shut out stays
    out. Keep FOLDER/ca apart: no node needs it. A stranger shows what the gate is for.

        ai-memory mesh init mesh --node desk=desk.local:9443 --node laptop=laptop.local:9443
    """
    members = [_member(text, is_stranger=False) for text in nodes] + [
        _member(text, is_stranger=True) for text in strangers
    ]
    stand = meshes.make(folder, members, renew)
    told = [
        {"name": one.member.name, "home": str(one.home), "url": one.member.url, "fingerprint": one.fingerprint.text,
         "new": one.is_new}
        for one in stand
    ]  # fmt: skip
    lines = [
        f"{one.member.name:16}{'made and paired' if one.is_new else 'as it was':18}{one.fingerprint.text}"
        for one in stand
    ]
    invocation.show(told, "\n".join(lines))


def _member(text: str, *, is_stranger: bool) -> Member:
    name, found, address = text.partition("=")
    if not found or not name or not address:
        raise click.UsageError(f"{text!r}, expected NAME=HOST:PORT")
    return Member(name, f"https://{address}", is_stranger)


COMMANDS = (mesh,)
