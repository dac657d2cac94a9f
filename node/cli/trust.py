"""Commands about who may connect: fingerprint, allowlist, peers."""

import shlex
from pathlib import Path

import click

from node import setup
from node.cli.context import Invocation, command
from node.cli.given import Place
from node.cli.output import NO, REFUSED, CommandError
from node.config import Config, InvalidInput, PeerConfig, typed_url_fault
from node.plain import field
from node.settings import name_fault, typed_globs_fault
from tls import allowlist as lists
from tls.allowlist import Allowlist
from tls.fingerprint import Fingerprint


@click.command()
@command
def fingerprint(invocation: Invocation) -> None:
    """Print this node's line for another operator's allowlist."""
    config = invocation.config()
    found = invocation.home.identity(config).load().fingerprint
    invocation.show({"fingerprint": found.text, "name": config.name}, f"{found.text}  # {config.name}")


@click.group()
def allowlist() -> None:
    """Who may connect: check, show and edit the file."""


@allowlist.command()
@click.argument("file", required=False, type=Place(dir_okay=False))
@command
def check(invocation: Invocation, file: Path | None) -> None:
    """Check an allowlist file (the node's own, unless one is named), and compare it with the configured peers.

    Exit code 1 where it is broken, or where a configured peer is not on it.
    """
    config = invocation.config() if file is None or invocation.home.config.exists() else None
    path = file or invocation.home.allowlist(invocation.config())
    found = lists.load(path)
    missing, extra = _against_peers(found, config) if config is not None else ([], [])
    told = {
        "file": str(path), "entries": len(found), "warnings": list(found.warnings), "unlisted_peers": missing,
        "no_peers": extra,
    }  # fmt: skip
    count = f"configured peers that are not on it: {len(missing)}" if missing else "no error"
    invocation.show(told, *found.warnings, *extra, *missing, f"{path}: {len(found)} entries, {count}")
    if missing:
        raise SystemExit(NO)


@allowlist.command(name="list")
@command
def listed(invocation: Invocation) -> None:
    """Show the entries."""
    found = lists.load(invocation.home.allowlist(invocation.config()))
    told = [{"fingerprint": e.fingerprint.text, "label": e.label, "line": e.line} for e in found.entries]
    lines = [f"{e.fingerprint.text}  # {field(e.label)}" for e in found.entries]
    invocation.show(told, *(lines or ["nobody"]))


@allowlist.command()
@click.argument("fingerprint")
@click.option("--label", default="", help="What you call it.")
@command
def add(invocation: Invocation, fingerprint: str, label: str) -> None:
    """Let a certificate in. A running node notices by itself."""
    (one, found), path = _parsed(fingerprint), invocation.home.allowlist(invocation.config())
    asked = label or found
    before = setup.list_certificate(invocation.home, path, one, asked)
    told = {"added": one.text, "label": asked if before is None else before, "was_listed": before is not None}
    invocation.show(told, f"{one.text} may connect{_kept(before, asked)}")


@allowlist.command()
@click.argument("fingerprint")
@command
def remove(invocation: Invocation, fingerprint: str) -> None:
    """Shut a certificate out; its connections are closed within a second."""
    (one, _), path = _parsed(fingerprint), invocation.home.allowlist(invocation.config())
    if not setup.unlist_certificate(invocation.home, path, one):
        raise CommandError(NO, "not_found", f"{one.text} is not on the allowlist")
    invocation.show({"removed": one.text}, f"{one.text} may connect no longer")


@click.group()
def peer() -> None:
    """The nodes that this one keeps in step with."""


@peer.command(name="add")
@click.argument("name")
@click.argument("url", required=False)
@click.option(
    "--fingerprint", required=True, help="sha256:… of its certificate, or the line of its `ai-memory fingerprint`."
)
@click.option("--ca", type=Place(dir_okay=False), help="Its CA's certificate, if it is not ours.")
@click.option(
    "--direction",
    type=click.Choice(("push", "pull", "both")),
    default="both",
    show_default=True,
    help="push: data goes there; pull: it comes from there.",
)
@click.option("--read", multiple=True, help="Namespaces that it may read (globs) [**].")
@click.option("--write", multiple=True, help="Namespaces that are taken from it (globs) [**].")
@click.option("--legacy", is_flag=True, help="It is a daemon of the older protocol (v0.6, v0.7).")
@click.option("--api-key-file", help="A file with the key that such a daemon asks for.")
@click.option(
    "--allow-unsigned/--refuse-unsigned",
    default=None,
    help="Take what nobody signed. Without either: from a daemon of the older protocol only.",
)
@command
def add_peer(
    invocation: Invocation,
    name: str,
    url: str | None,
    fingerprint: str,
    ca: Path | None,
    direction: str,
    read: tuple[str, ...],
    write: tuple[str, ...],
    legacy: bool,
    api_key_file: str | None,
    allow_unsigned: bool | None,
) -> None:
    """Add a peer, and its line in the allowlist with it. A running node begins by itself.

    Without URL the peer is only let in: it calls here. On the other machine do the same the other way round.

    \b
        ai-memory peer add desk https://desk.local:9443 --ca desk-ca.pem --fingerprint sha256:…
    """
    checked = (name_fault(name), typed_url_fault(url) if url else None, typed_globs_fault([*read, *write]))
    faults = [fault for fault in checked if fault]
    if faults:
        raise InvalidInput(faults)
    scopes = (read or ("**",), write or ("**",))
    one = PeerConfig(name, url, _parsed(fingerprint)[0], direction, *scopes, legacy, api_key_file, allow_unsigned)
    is_running = invocation.home.running() is not None  # asked first: where that is refused, nothing is changed
    before = setup.add_peer(invocation.home, one, ca)
    told = {
        "name": name, "url": url, "fingerprint": one.fingerprint.text, "direction": direction, "legacy": legacy,
        "label": name if before is None else before,
    }  # fmt: skip
    begins = "; the running node begins with it now" if is_running else ""
    invocation.show(told, f"{name} is a peer{begins}{_kept(before, name)}")


@peer.command(name="list")
@command
def list_peers(invocation: Invocation) -> None:
    """Show the configured peers."""
    peers = invocation.config().peers
    told = [
        {"name": p.name, "url": p.url, "fingerprint": p.fingerprint.text, "direction": p.direction,
         "read": list(p.read), "write": list(p.write), "legacy": p.legacy}
        for p in peers
    ]  # fmt: skip
    rows = [f"{p.name:16}{p.url or '(calls here)':40}{p.direction:6}{p.fingerprint.text}" for p in peers]
    invocation.show(told, *(rows or ["no peers"]))


@peer.command(name="remove")
@click.argument("name")
@command
def remove_peer(invocation: Invocation, name: str) -> None:
    """Remove a peer and its line in the allowlist."""
    gone = setup.remove_peer(invocation.home, name)
    invocation.show({"removed": name, "fingerprint": gone.fingerprint.text}, f"{name} is no peer any more")


def _against_peers(found: Allowlist, config: Config) -> tuple[list[str], list[str]]:
    """What does not fit between the list and `[[peer]]`: what cannot work, and what an operator should know."""
    configured = {one.fingerprint: one.name for one in config.peers}
    missing = [
        f"peer {name} ({fingerprint.text}) is configured and not on the list: neither side gets through; run `ai-memory"
        f" allowlist add {fingerprint.text} --label {shlex.quote(name)}`, or `peer remove {shlex.quote(name)}`"
        for fingerprint, name in configured.items()
        if fingerprint not in found
    ]
    read, write = (", ".join(config["federation", key]) or "nothing" for key in ("default_read", "default_write"))
    extra = [
        f"line {one.line}: {one.fingerprint.text} ({one.label or 'no label'}): listed, and no [[peer]]: it may connect,"
        f" read {read} and write {write} ([federation] default_read, default_write)"
        for one in found.entries
        if one.fingerprint not in configured
    ]
    return missing, extra


def _kept(before: str | None, asked: str) -> str:
    """What to say where a certificate was on the allowlist before, under another label: its line stays as it is."""
    if before is None or asked in (before, ""):
        return ""
    had = f"with the label {field(before)}" if before else "without a label"
    return f"; it was on the allowlist already, {had}, which was left as it is (edit that line to change it)"


def _parsed(text: str) -> tuple[Fingerprint, str]:
    """A fingerprint and its label, as `ai-memory fingerprint` prints them."""
    try:
        return Fingerprint.of_line(text)
    except ValueError as error:
        raise CommandError(REFUSED, "fingerprint", str(error)) from None


COMMANDS = (fingerprint, allowlist, peer)
