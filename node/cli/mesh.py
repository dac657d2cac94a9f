"""Commands about a whole mesh whose folders are made in one place."""

from collections.abc import Sequence
from pathlib import Path

import click

from node import mesh as meshes
from node.cli.context import Invocation, command
from node.cli.given import Place
from node.cli.output import NO, CommandError
from node.mesh import Member, Standing


@click.group()
def mesh() -> None:
    """Make the folders of a whole mesh in one place, for containers or to be carried to the machines."""


@mesh.command(name="init")
@click.argument("folder", type=Place(file_okay=False))
@click.option("--node", "nodes", multiple=True, required=True, metavar="NAME=HOST:PORT", help="One node of it.")
@click.option("--stranger", "strangers", multiple=True, metavar="NAME=HOST:PORT", help="Certified, and on no list.")
@command
def init_mesh(invocation: Invocation, folder: Path, nodes: tuple[str, ...], strangers: tuple[str, ...]) -> None:
    """Mint a CA in FOLDER/ca, and in FOLDER/NAME for each node its key, certificate, passphrase and allowlist.

    What was paired before is left alone, so it may run at every start of a cluster; a node that was shut out stays
    out. Keep FOLDER/ca apart: no node needs it. A stranger shows what the gate is for.

        ai-memory mesh init mesh --node desk=desk.local:9443 --node laptop=laptop.local:9443
    """
    named = [_member(text, is_stranger=False) for text in nodes]
    named += [_member(text, is_stranger=True) for text in strangers]
    _show(invocation, meshes.make(folder, named))


@mesh.command(name="renew")
@click.argument("folder", type=Place(file_okay=False))
@click.argument("name")
@command
def renew_member(invocation: Invocation, folder: Path, name: str) -> None:
    """Issue NAME a new certificate and key, and pair it anew with every node whose folder is below FOLDER.

    Running nodes notice by themselves. A node whose folder was lost is made anew, with a new passphrase.
    """
    known = meshes.paired(folder)
    if name not in known:
        raise CommandError(NO, "not_found", f"there is no node {name!r}; known are: {', '.join(known) or 'none'}")
    _show(invocation, meshes.make(folder, list(known.values()), [name]))


def _show(invocation: Invocation, mesh: Sequence[Standing]) -> None:
    told = [
        {
            "name": one.member.name,
            "home": str(one.home),
            "url": one.member.url,
            "fingerprint": one.fingerprint.text,
            "new": one.is_new,
        }
        for one in mesh
    ]
    lines = [
        f"{one.member.name:16}{'made and paired' if one.is_new else 'as it was':18}{one.fingerprint.text}"
        for one in mesh
    ]
    invocation.show(told, *lines)


def _member(text: str, *, is_stranger: bool) -> Member:
    name, found, address = text.partition("=")
    if not found or not name or not address:
        raise click.UsageError(f"{text!r}, expected NAME=HOST:PORT")
    return Member(name, f"https://{address}", is_stranger)


COMMANDS = (mesh,)
