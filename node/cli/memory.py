"""Commands about memories."""

import sys
from typing import Any

import click

from node.cli.backend import backend
from node.cli.context import Invocation, command
from node.cli.output import NO, REFUSED, CommandError
from sync.link import DEFAULT_RELATION, RELATIONS


@click.command()
@click.argument("title")
@click.argument("content")
@click.option("--namespace", "-n", help="Where it belongs [global].")
@click.option("--tier", type=click.Choice(("short", "mid", "long")), help="It lives 6 hours, 7 days, for ever.")
@click.option("--tag", "tags", multiple=True, help="May be given several times.")
@click.option("--priority", type=int, help="1 to 10 [5].")
@click.option("--agent-id", envvar="AI_MEMORY_AGENT_ID", help="Who writes it [the node].")
@command
def store(invocation: Invocation, title: str, content: str, **given: Any) -> None:
    """Store a memory, or update the one that has this title.

    CONTENT may be - to read it from standard input.

        ai-memory store "Deploy key" "rotated on Monday" -n ops --tag keys
    """
    fields = _fields(given) | {"title": title, "content": _text(content), "source": "cli"}
    with backend(invocation) as node:
        answer = node.create(fields)
    invocation.show(answer, f"{answer['id']}  {answer['namespace']}  {answer['title']}")


@click.command()
@click.argument("id")
@command
def get(invocation: Invocation, id: str) -> None:
    """Show one memory. ID may be shortened as long as only one memory's begins so."""
    with backend(invocation) as node:
        answer = node.get(id)
    links = "".join(f"\n{_link(one)}" for one in answer["links"])
    invocation.show(answer, _shown(answer["memory"]) + (f"\n{links}" if links else ""))


@click.command(name="list")
@click.option("--namespace", "-n", help="Only this one.")
@click.option("--tier", type=click.Choice(("short", "mid", "long")), help="Only this tier.")
@click.option("--tag", help="Only with this tag.")
@click.option("--limit", default=20, show_default=True, help="At most 1000.")
@click.option("--offset", default=0, help="Leave out so many.")
@command
def listed(invocation: Invocation, **given: Any) -> None:
    """List memories, the newest change first."""
    with backend(invocation) as node:
        answer = node.listed(_filters(given))
    invocation.show(answer, _table(answer["memories"]))


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--namespace", "-n", help="Only in this one.")
@click.option("--tier", type=click.Choice(("short", "mid", "long")), help="Only this tier.")
@click.option("--tag", help="Only with this tag.")
@click.option("--limit", default=20, show_default=True, help="At most 1000.")
@command
def search(invocation: Invocation, words: tuple[str, ...], **given: Any) -> None:
    """Find memories that contain all the words; words in double quotes must follow each other."""
    with backend(invocation) as node:
        answer = node.search(_filters(given) | {"q": " ".join(words)})
    invocation.show(answer, _table(answer["results"]))


@click.command()
@click.argument("id")
@click.option("--title", help="A new title.")
@click.option("--content", help="A new content; - reads standard input.")
@click.option("--namespace", "-n", help="Move it there.")
@click.option("--tier", type=click.Choice(("short", "mid", "long")), help="A new tier.")
@click.option("--tag", "tags", multiple=True, help="New tags, in place of all it has.")
@click.option("--priority", type=int, help="1 to 10.")
@click.option("--agent-id", envvar="AI_MEMORY_AGENT_ID", help="Who changes it [the node].")
@command
def update(invocation: Invocation, id: str, content: str | None, **given: Any) -> None:
    """Change some fields of a memory; what is not named stays."""
    fields = _fields(given) | ({"content": _text(content)} if content is not None else {})
    if not fields.keys() - {"agent_id"}:
        raise CommandError(REFUSED, "invalid", "nothing to change: name at least one of the fields (see --help)")
    with backend(invocation) as node:
        answer = node.update(id, fields)
    invocation.show(answer, _shown(answer))


@click.command()
@click.argument("id")
@command
def delete(invocation: Invocation, id: str) -> None:
    """Delete a memory, here and on every peer."""
    with backend(invocation) as node:
        answer = node.delete(id)
    invocation.show(answer, "deleted")


@click.command()
@click.argument("id")
@command
def promote(invocation: Invocation, id: str) -> None:
    """Make a memory long-lived: it does not expire any more."""
    with backend(invocation) as node:
        answer = node.promote(id)
    invocation.show(answer, f"{answer['id']} is long-lived now")


RELATION = click.option(
    "--relation", "-r", type=click.Choice(RELATIONS), default=DEFAULT_RELATION, show_default=True, help="What it means."
)


@click.command()
@click.argument("source")
@click.argument("target")
@RELATION
@click.option("--valid-from", help="RFC 3339 time from which it holds.")
@click.option("--valid-until", help="RFC 3339 time until which it holds.")
@click.option("--agent-id", envvar="AI_MEMORY_AGENT_ID", help="Who says so [the node].")
@command
def link(invocation: Invocation, source: str, target: str, **given: Any) -> None:
    """Link two memories: SOURCE is related to TARGET, or supersedes it, contradicts it, is derived from it.

    SOURCE and TARGET are ids, which may be shortened.

        ai-memory link 3f2a9c04 b81d77e0 --relation supersedes
    """
    with backend(invocation) as node:
        answer = node.link(_fields(given) | {"source_id": source, "target_id": target})
    invocation.show(answer, _link(answer))


@click.command()
@click.argument("source")
@click.argument("target")
@RELATION
@click.option("--agent-id", envvar="AI_MEMORY_AGENT_ID", help="Who takes it back [the node].")
@command
def unlink(invocation: Invocation, source: str, target: str, **given: Any) -> None:
    """Take a link back, here and on every peer. The ids of memories that are not here must be whole."""
    with backend(invocation) as node:
        answer = node.unlink(_fields(given) | {"source_id": source, "target_id": target})
    if not answer["deleted"]:
        raise CommandError(NO, "not_found", "there is no such link")
    invocation.show(answer, "unlinked")


@click.command()
@click.argument("id")
@command
def links(invocation: Invocation, id: str) -> None:
    """Show what a memory links to, and what links to it, the newest change first. ID may be shortened."""
    with backend(invocation) as node:
        answer = node.links(id)
    invocation.show(answer, "\n".join(map(_link, answer["links"])) or "no links")


@click.command()
@click.option("--future", is_flag=True, required=True, help="What lies more than 300 s in the future of this clock.")
@command
def settle(invocation: Invocation, future: bool) -> None:
    """Write again, under this node's key and for now, what an author with a wrong clock left in the future.

    Such a memory wins over whatever is written in ignorance of it until its time comes. Its author settles it by a
    restart with the clock set right; this is for one that does not come back.
    """
    with backend(invocation) as node:
        answer = node.settle_future()
    invocation.show(answer, f"{answer['settled']} settled")


@click.command()
@command
def stats(invocation: Invocation) -> None:
    """Count what the store holds."""
    with backend(invocation) as node:
        answer = node.stats()
    rows = [
        f"{name:16}{answer[name]}"
        for name in ("total", "links_count", "conflicts", "tombstones", "waiting", "expired", "digest")
    ]
    rows += [f"  {one['namespace']:30}{one['count']}" for one in answer["by_namespace"]]
    invocation.show(answer, "\n".join(rows))


COMMANDS = (store, get, listed, search, update, delete, promote, link, unlink, links, settle, stats)


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in given.items() if value is not None and value != ()}
    if "tags" in fields:
        fields["tags"] = list(fields["tags"])
    return fields


def _filters(given: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in given.items() if value is not None}


def _text(content: str) -> str:
    if content != "-":
        return content
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        raise CommandError(REFUSED, "invalid", "standard input is not UTF-8 text") from None


def _shown(memory: dict[str, Any]) -> str:
    lines = [f"{name:12}{memory[name]}" for name in ("id", "namespace", "title", "tier", "priority", "updated_at")]
    if memory["tags"]:
        lines.append(f"{'tags':12}{', '.join(memory['tags'])}")
    if memory.get("expires_at"):
        lines.append(f"{'expires_at':12}{memory['expires_at']}")
    return "\n".join((*lines, "", memory["content"]))


def _link(one: dict[str, Any]) -> str:
    missing = {"source_id": "  (the first is not here)", "target_id": "  (the second is not here)"}
    return f"{one['source_id']}  {one['relation']:12}  {one['target_id']}{missing.get(one.get('missing', ''), '')}"


def _table(memories: list[dict[str, Any]]) -> str:
    rows = [f"{one['id']}  {one['namespace']:20.20}  {one['title']:.60}" for one in memories]
    return "\n".join(rows) or "nothing found"
