"""Commands about the keys of agents: make, show, carry, change, enrol and revoke them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from node import identities, privatekey
from node.cli.backend import HttpBackend, backend, node_or_store, secret_of
from node.cli.context import Invocation, command
from node.cli.given import Place
from node.config import InvalidInput
from node.enrolment import Enrolment, entry_of
from node.passphrase import from_file
from node.privatekey import checked_agent
from node.store.keys import Execute, Keys, beside
from node.store.ledger import SqlLedger
from node.timekeeper import Timekeeper
from sync import ed25519, moment
from sync.attest import KeyPair, from_base64url
from sync.keyline import PREFIX, Entry, Succession, key_text, parse_key, written
from sync.ports import Ledger

T = TypeVar("T")
LABEL = click.option("--label", help="The comment behind the line [the node's name].")
PASSPHRASE = click.option(
    "--passphrase-file",
    type=Place(dir_okay=False),
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
    ring = _enrolment(invocation)
    known, lines = ring.read(), []
    for agent in answer["identities"]:
        lines.append(agent["agent"])
        for one in agent["keys"]:
            use = "current" if one["current"] else "former"
            since = f" since {one['since']}" if one["since"] else ""
            one["keyring"] = ring.standing(agent["agent"], parse_key(one["key"]), known)
            signed = f"signed {one['signed']} of what is kept"
            lines.append(f"    {one['key']}  {use}, {one['origin']}{since}, {one['keyring']}; {signed}")
    invocation.show(answer, *lines)


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
    ring = _enrolment(invocation)
    ring.read()  # a broken one is told before anything is changed
    with backend(invocation) as node:
        answer = node.rotate(agent)
        missed = [] if _follows(ring, answer) else _missed(ring, node.identities(), agent, answer["key"])
    # Killed between its two halves, an earlier one left a key that signs and that no keyring knows: its line is first.
    lines = [_entry(invocation, one, label) for one in (*missed, answer)]
    if _follows(ring, (*missed, answer)[0]):
        for line in lines:
            answer["enrolled"] = ring.enroll(line)
    else:
        answer["enrolled"] = False
    answer["line"] = written(lines[-1])
    invocation.show(answer, *map(written, lines))


@identity.command()
@click.argument("agent")
@click.option("--to", "path", type=Place(), required=True, help="A new file.")
@PASSPHRASE
@command
def export(invocation: Invocation, agent: str, path: Path, passphrase_file: Path | None) -> None:
    """Write an agent's private key into a new file (PKCS#8, PEM, mode 0600), for `identity import` elsewhere.

    It makes no key: an agent that has none gets one by its first write, or by `identity generate`.

    The node may run meanwhile. Who has the file, and the passphrase if it is encrypted, signs as the agent.
    """
    checked_agent(agent)
    secret = from_file(passphrase_file) if passphrase_file else None
    own = invocation.config().agent_id

    def pair_of(execute: Execute, known: Keys) -> KeyPair:
        identities.require_known(execute, own, agent)
        return known.pair(identities.generate(execute, known, agent))

    pair = _with_keys(invocation, pair_of, tell=False)
    privatekey.write(path, pair, secret)
    told = {"agent": agent, "file": str(path), "encrypted": secret is not None}
    invocation.show(told, f"the private key of {agent} is in {path}: move it to the other machine, and leave no copy")


@identity.command(name="import")
@click.argument("agent")
@click.argument("file", type=Place())
@PASSPHRASE
@command
def import_key(invocation: Invocation, agent: str, file: Path, passphrase_file: Path | None) -> None:
    """Have an agent sign with the private key in a file, here as where it comes from.

    FILE holds one Ed25519 key (PKCS#8, PEM), belongs to you and has the mode 0600. The node may run meanwhile.
    """
    checked_agent(agent)
    invocation.config()  # where there is no node the file is not the first thing to say
    pair = privatekey.read(file, agent, from_file(passphrase_file) if passphrase_file else None)
    now = Timekeeper().now()
    one, is_new = _with_keys(invocation, lambda execute, known: identities.take_in(execute, known, pair, now))
    told = {"agent": agent, **identities.described(one), "changed": is_new}
    text = f"{agent} signs here with {key_text(one.key)}" + ("" if is_new else ", as before")
    invocation.show(told, text)


@identity.command()
@click.argument("line", metavar="LINE|KEY")
@click.argument("agent", required=False)
@click.option("--label", default="", help="The comment behind the line, where a key and an agent are given.")
@command
def enroll(invocation: Invocation, line: str, agent: str | None, label: str) -> None:
    """Say in the keyring that a key belongs to an agent. A running node notices by itself.

    Give the line that the other operator's `identity generate` or `identity rotate` prints, in quotes, or a key and an
    agent. Compare the key by a way that you trust. The file is made where there is none.

        ai-memory identity enroll 'ed25519:…  ai:alice  # laptop'
    """
    if agent is None and label:
        raise click.UsageError("--label goes with KEY and AGENT; a line has its own")
    entry = entry_of(line) if agent is None else Entry(_key(line), checked_agent(agent), label=label)
    if entry.revoked is not None:
        raise InvalidInput(["the line says that the key is revoked: there is nothing to enroll"])
    ring = _enrolment(invocation)
    changed = ring.enroll(entry)
    told = {"key": key_text(entry.key), "agent": entry.agent, "keyring": str(ring.path), "changed": changed}
    invocation.show(told, f"{entry.agent} signs with {key_text(entry.key)}" + ("" if changed else ", as before"))


@identity.command()
@click.argument("who", metavar="AGENT|KEY")
@click.option("--at", help="From when on it may not have signed: RFC 3339, any offset [now].")
@command
def revoke(invocation: Invocation, who: str, at: str | None) -> None:
    """Say in the keyring that a key, or every key of an agent, is no more its own from a time on.

    What it signed with an earlier time stays valid. After a theft name the last time at which it was surely not stolen.
    """
    since = moment.canonical(at) if at is not None else moment.text(Timekeeper().now())
    if since is None:
        raise InvalidInput([f"--at: {at!r}, an RFC 3339 time such as 2026-01-31T12:00:00Z expected"])
    ring = _enrolment(invocation)
    revoked = ring.revoke(_key(who) if who.startswith(PREFIX) else checked_agent(who), since)
    told = {"revoked": [key_text(key) for key in revoked], "at": since, "keyring": str(ring.path)}
    invocation.show(told, *(f"{key_text(key)} is revoked from {since} on" for key in revoked))


def _follows(ring: Enrolment, told: dict[str, Any]) -> bool:
    """Whether the keyring has the key that this one took over from, for the same agent."""
    former = ring.read().find(parse_key(told["after"])) if told["after"] else None
    return former is not None and former.agent == told["agent"]


def _missed(ring: Enrolment, told: dict[str, Any], agent: str, key: str) -> list[dict[str, Any]]:
    """The keys, oldest first, through which an agent came from one that the keyring has to `key`."""
    rows = next(one["keys"] for one in told["identities"] if one["agent"] == agent)
    by_key = {one["key"]: {"agent": agent, **one} for one in rows}
    found: list[dict[str, Any]] = []
    before = by_key.get(by_key[key]["after"])
    while before is not None and before["after"] and before not in found:
        found.insert(0, before)
        if _follows(ring, before):
            return found
        before = by_key.get(before["after"])
    return []  # none of them stands there: it is not for this command to enroll the first


def _enrolment(invocation: Invocation) -> Enrolment:
    return Enrolment.of(invocation.home, invocation.config())


def _key(text: str) -> bytes:
    try:
        return parse_key(text)
    except ValueError as error:
        raise InvalidInput([str(error)]) from None


def _with_keys(invocation: Invocation, task: Callable[[Execute, Keys], T], *, tell: bool = True) -> T:
    """Run a task over the private keys: beside a running node, which is told then, or in the store itself."""
    config, home = invocation.config(), invocation.home
    secret = secret_of(home, config)
    found = node_or_store(invocation, secret)
    if isinstance(found, HttpBackend):
        with beside(home.store(config), secret) as (execute, known):
            result = task(execute, known)
        if tell:
            found.call("POST", "/identities/reload", {})
        return result
    store = found
    try:

        def run(ledger: Ledger) -> T:
            assert isinstance(ledger, SqlLedger), "only the store itself has tables"
            return task(ledger.execute, store.keys)

        return store.writer.call(run)
    finally:
        store.close()


def _show_line(invocation: Invocation, answer: dict[str, Any], label: str | None) -> None:
    answer["line"] = written(_entry(invocation, answer, label))
    invocation.show(answer, answer["line"])


def _entry(invocation: Invocation, answer: dict[str, Any], label: str | None) -> Entry:
    """The keyring's entry for a key that the node told of."""
    past = None
    if answer["by"] is not None:
        by = from_base64url(answer["by"], ed25519.SIGNATURE_BYTES)
        assert by is not None, "the node's own words"
        past = Succession(parse_key(answer["after"]), answer["since"], by)
    name = invocation.config().name if label is None else label
    return Entry(parse_key(answer["key"]), answer["agent"], succession=past, label=name)


COMMANDS = (identity,)
