"""Commands about the keyring: check the file, and show whose key is whose."""

from pathlib import Path

import click

from node import keyfile
from node.cli.context import Invocation, command
from node.cli.given import Place
from node.plain import field
from sync.attest import base64url
from sync.keyring import Entry, Keyring, key_text


@click.group()
def keyring() -> None:
    """Whose key is whose: check and show the file."""


@keyring.command()
@click.argument("file", required=False, type=Place(dir_okay=False))
@command
def check(invocation: Invocation, file: Path | None) -> None:
    """Check a keyring file (the node's own, unless one is named)."""
    path, found = _loaded(invocation, file)
    is_there = file is not None or path.exists()
    told = {
        "file": str(path), "exists": is_there, "keys": len(found), "agents": len(found.agents),
        "warnings": list(found.warnings), "tag": found.tag,
    }  # fmt: skip
    summary = f"{path}: {len(found)} keys of {len(found.agents)} agents, no error"
    if not is_there:
        summary = f"{path}: there is no such file, which is an empty keyring; `ai-memory identity enroll` makes it"
    invocation.show(told, *found.warnings, summary)


@keyring.command(name="list")
@click.option("--agent", help="Only the keys of this agent.")
@command
def listed(invocation: Invocation, agent: str | None) -> None:
    """Show whose key is whose, since when one is revoked, and which key it took over from."""
    _, found = _loaded(invocation, None)
    entries = found.entries if agent is None else found.of(agent)
    invocation.show([_told(one) for one in entries], *(list(map(_shown, entries)) or ["nobody is enrolled"]))


def _loaded(invocation: Invocation, file: Path | None) -> tuple[Path, Keyring]:
    path = file or invocation.home.keyring(invocation.config())
    return path, keyfile.load(path, must_exist=file is not None)


def _told(one: Entry) -> dict[str, object]:
    past = one.succession
    return {
        "key": key_text(one.key),
        "agent": one.agent,
        "revoked": one.revoked,
        "after": key_text(past.after) if past is not None else None,
        "at": past.at if past is not None else None,
        "by": base64url(past.by) if past is not None else None,
        "label": one.label,
        "line": one.line,
    }


def _shown(one: Entry) -> str:
    said = [f"{key_text(one.key)}  {one.agent}"]
    if one.revoked is not None:
        said.append(f"revoked {one.revoked}")
    if one.succession is not None:
        said.append(f"after {key_text(one.succession.after)}")
    return "  ".join(said) + (f"  # {field(one.label)}" if one.label else "")


COMMANDS = (keyring,)
