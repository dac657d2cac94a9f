"""Commands about the keys of agents: make, show, carry, change, enrol and revoke them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from node import identities, passphrase, privatekey
from node.cli.backend import backend, running_node
from node.cli.context import Invocation, command
from node.passphrase import from_file
from node.privatekey import checked_agent
from node.store import Store
from node.store.keys import Execute, Keys, beside
from node.store.ledger import SqlLedger
from node.timekeeper import Timekeeper
from sync import ed25519
from sync.attest import from_base64url
from sync.keyline import Entry, Succession, key_text, parse_key, written
from sync.ports import Ledger

T = TypeVar("T")
LABEL = click.option("--label", help="The comment behind the line [the node's name].")
PASSPHRASE = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file (mode 0600) with the passphrase of the key's own encryption.",
)


@click.group()
def identity() -> None:
    """The keys that agents sign with, here and in the keyring."""


@identity.command(name="list")
@command
def listed(invocation: Invocation) -> None:
    """Show the agents that write here, their keys, current and former, and what the keyring says of each."""
    with backend(invocation) as node:
        answer = node.identities()
    lines = []
    for agent in answer["identities"]:
        lines.append(agent["agent"])
        for one in agent["keys"]:
            use = "current" if one["current"] else "former"
            since = f" since {one['since']}" if one["since"] else ""
            lines.append(f"    {one['key']}  {use}, {one['origin']}{since}; signed {one['signed']} of what is kept")
    invocation.show(answer, "\n".join(lines))


@identity.command()
@click.argument("agent")
@LABEL
@command
def generate(invocation: Invocation, agent: str, label: str | None) -> None:
    """Make the key of an agent, or show the one that it has, as a line for other operators' keyrings."""
    with backend(invocation) as node:
        answer = node.generate(checked_agent(agent))
    _show_line(invocation, answer, label)


@identity.command()
@click.argument("agent")
@LABEL
@command
def rotate(invocation: Invocation, agent: str, label: str | None) -> None:
    """Give an agent a new key, signed by the old one. Where the keyring has the old one, the new line is added.

    What the agent writes from now on is signed by the new key, by the running node too. The old key stays valid until
    it is revoked. Send the line to the other operators.
    """
    checked_agent(agent)
    with backend(invocation) as node:
        answer = node.rotate(agent)
    _show_line(invocation, answer, label)


@identity.command()
@click.argument("agent")
@click.option("--to", "path", type=click.Path(path_type=Path), required=True, help="A new file.")
@PASSPHRASE
@command
def export(invocation: Invocation, agent: str, path: Path, passphrase_file: Path | None) -> None:
    """Write an agent's private key into a new file (PKCS#8, PEM, mode 0600), for `identity import` elsewhere.

    The node may run meanwhile. Who has the file, and the passphrase if it is encrypted, signs as the agent.
    """
    checked_agent(agent)
    secret = from_file(passphrase_file) if passphrase_file else None

    pair = _with_keys(
        invocation, lambda execute, known: known.pair(identities.generate(execute, known, agent)), tell=False
    )
    privatekey.write(path, pair, secret)
    told = {"agent": agent, "file": str(path), "encrypted": secret is not None}
    invocation.show(told, f"the private key of {agent} is in {path}: move it to the other machine, and leave no copy")


@identity.command(name="import")
@click.argument("agent")
@click.argument("file", type=click.Path(path_type=Path))
@PASSPHRASE
@command
def import_key(invocation: Invocation, agent: str, file: Path, passphrase_file: Path | None) -> None:
    """Have an agent sign with the private key in a file, here as where it comes from.

    FILE holds one Ed25519 key (PKCS#8, PEM), belongs to you and has the mode 0600. The node may run meanwhile.
    """
    checked_agent(agent)
    pair = privatekey.read(file, agent, from_file(passphrase_file) if passphrase_file else None)
    now = Timekeeper().now()
    one, is_new = _with_keys(invocation, lambda execute, known: identities.take_in(execute, known, pair, now))
    told = {"agent": agent, **identities.described(one), "changed": is_new}
    text = f"{agent} signs here with {key_text(one.key)}" + ("" if is_new else ", as before")
    invocation.show(told, text)


def _with_keys(invocation: Invocation, task: Callable[[Execute, Keys], T], *, tell: bool = True) -> T:
    """Run a task over the private keys: beside a running node, which is told then, or in the store itself."""
    running = running_node(invocation)
    config, home = invocation.config(), invocation.home
    path, secret = home.store(config), passphrase.find(config, home)
    if running is not None:
        with beside(path, secret) as (execute, known):
            result = task(execute, known)
        if tell:
            running.call("POST", "/identities/reload", {})
        return result
    store = Store.open(path, secret, create=True, readers=1)
    try:

        def run(ledger: Ledger) -> T:
            assert isinstance(ledger, SqlLedger), "only the store itself has tables"
            return task(ledger.execute, store.keys)

        return store.writer.call(run)
    finally:
        store.close()


def _show_line(invocation: Invocation, answer: dict[str, Any], label: str | None) -> None:
    """The keyring line of a key that the node told of."""
    past = None
    if answer["by"] is not None:
        by = from_base64url(answer["by"], ed25519.SIGNATURE_BYTES)
        assert by is not None, "the node's own words"
        past = Succession(parse_key(answer["after"]), answer["since"], by)
    name = invocation.config().name if label is None else label
    answer["line"] = written(Entry(parse_key(answer["key"]), answer["agent"], succession=past, label=name))
    invocation.show(answer, answer["line"])


COMMANDS = (identity,)
