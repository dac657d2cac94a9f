"""The command that proves anew who wrote what is stored."""

import sys
from collections.abc import Iterator
from typing import Any

import click

from node.cli.backend import Backend, backend
from node.cli.context import Invocation, command
from node.cli.output import NO, CommandError
from node.cli.sought import sought
from node.plain import field
from sync.version import LINK_SEPARATOR

LEVELS = ("broken", "refused", "unsigned", "self_signed", "attested")
"""From the worst to the best."""
PAGE = 500
CAME = {
    "own": "written on this node",
    "elsewhere": "from elsewhere: an import, an older daemon, or a peer that is not recorded",
}


@click.command()
@click.argument("id", required=False)
@click.option("--namespace", "-n", help="Where it is, if its id is in several.")
@click.option("--all", "each", is_flag=True, help="Everything that is stored; only what falls short is shown.")
@click.option("--require", type=click.Choice(LEVELS[2:]), help="The least level that will do [unsigned].")
@command
def verify(invocation: Invocation, id: str | None, namespace: str | None, each: bool, require: str | None) -> None:
    """Prove anew who wrote what is stored: level, agent, key, time and way of every kept version.

    Documents, digests and signatures are made and compared again. ID is a memory's, which may be shortened, a deleted
    one's, or a link's, "SOURCE RELATION TARGET". A version is `broken` where it is not what was written, `refused`
    where the keyring would not let it in today.

    Exit code 1 where anything falls short: broken, refused, or below --require. With --all, --json prints a line for
    each key, then one with the counts.
    """
    if each is (id is not None):
        raise click.UsageError("one ID is needed, or --all")
    if each and namespace is not None:
        raise click.UsageError("--all is of all namespaces")
    least = require or "unsigned"
    with backend(invocation) as node:
        if each:
            _verify_all(invocation, node, least)
            return
        assert id is not None, "checked above"
        with sought("proof", id):
            answer = node.verify(id, namespace)
    invocation.show(answer, *(line for one in answer["records"] for line in _shown(one)))
    short = sum(map(len, (_short(one, least) for one in answer["records"])))
    if short or answer["faults"]:
        raise _fallen_short(short, answer["faults"], least)


def _verify_all(invocation: Invocation, node: Backend, least: str) -> None:
    levels = dict.fromkeys(reversed(LEVELS), 0)
    short, faults, seen = 0, 0, 0
    for page in _pages(node):
        for name, count in page["levels"].items():
            levels[name] += count
        faults += page["faults"]
        seen += len(page["records"])
        for one in page["records"]:
            fallen = _short(one, least)
            short += len(fallen)
            if invocation.as_json or fallen or one["fault"]:
                invocation.show(one, *_shown(one))
        _progress(invocation, f"{seen} verified, number {page['reached']} of {page['feed']}")
    _progress(invocation, "")
    counts = ", ".join(f"{count} {name}" for name, count in levels.items() if count) or "nothing"
    told = {"keys": seen, "levels": levels, "faults": faults, "short": short, "require": least}
    invocation.show(told, f"{seen} keys: {counts}")
    if short or faults:
        raise _fallen_short(short, faults, least)


def _pages(node: Backend) -> Iterator[dict[str, Any]]:
    """Everything that was stored when this began. What was written since was verified then."""
    after: int | None = 0
    end = None
    while after is not None and (end is None or after < end):
        page = node.verified({"after": str(after), "limit": str(PAGE)})
        end = page["feed"] if end is None else end
        after = page["next"]
        yield page | {"reached": after if after is not None else page["feed"]}


def _progress(invocation: Invocation, text: str) -> None:
    """Where it stands, for a person at a terminal, in one line that is written over."""
    if not invocation.as_json and _is_terminal():
        click.echo(f"\r\x1b[K{text}", err=True, nl=False)


def _is_terminal() -> bool:
    return sys.stderr.isatty()


def _fallen_short(short: int, faults: int, least: str) -> CommandError:
    missing = f"; of {faults} keys not all kept versions are here" if faults else ""
    return CommandError(NO, "not_verified", f"{short} versions are below {least}{missing}")


def _short(record: dict[str, Any], least: str) -> list[dict[str, Any]]:
    return [one for one in record["versions"] if LEVELS.index(one["level"]) < LEVELS.index(least)]


def _shown(record: dict[str, Any]) -> Iterator[str]:
    parts = record["id"].split(LINK_SEPARATOR)
    name = f"{parts[0]} {parts[2]} {parts[1]}" if len(parts) == 3 else record["id"]
    yield f"{field(name)}  {field(record['namespace'])}" + (f"  {record['fault']}" if record["fault"] else "")
    for one in record["versions"]:
        stands = "" if one["wins"] else "  (kept beside it)"
        yield f"    {one['level']:12}{one['kind']}  {one['at']}  {one['agent'] or 'unknown'}{stands}"
        if one["reason"]:
            yield f"        {one['reason']}: {field(one['detail'])}"
        if one["key"]:
            yield f"        key   {one['key']}"
        yield f"        came  {_way(one['came'])}"


def _way(came: dict[str, Any]) -> str:
    if came["by"] != "peer":
        return CAME[came["by"]]
    return f"from peer {field(came['peer'] or 'that is known no more')} ({came['fingerprint']})"


COMMANDS = (verify,)
