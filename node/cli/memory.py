"""Commands about memories."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from node.cli.backend import Backend, backend
from node.cli.context import Invocation, command
from node.cli.given import standard_input
from node.cli.output import NO, REFUSED, CommandError, remark, require_encodable, say, width
from node.cli.sought import named, sought
from node.plain import MOST_LINE, block, field
from sync.link import DEFAULT_RELATION, RELATIONS
from sync.memory import MAX_TITLE

NEVER = "never"
WHERE = click.option("--namespace", "-n", help="Where it is, if its id is in several.")


@click.command()
@click.argument("title")
@click.argument("content")
@click.option("--namespace", "-n", help="Where it belongs [global].")
@click.option("--tier", type=click.Choice(("short", "mid", "long")), help="It lives 6 hours, 7 days, for ever [long].")
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
    name = f"{field(answer['id'])}  {field(answer['namespace'])}  {field(answer['title'])}"
    invocation.show(answer, name, f"{answer['tier']}: {_lasting(answer)}")


@click.command()
@click.argument("id")
@WHERE
@command
def get(invocation: Invocation, id: str, namespace: str | None) -> None:
    """Show one memory. ID may be shortened as long as only one memory's begins so."""
    with _memory(invocation, id) as node:
        answer = node.get(id, namespace)
    _show(invocation, answer, answer["memory"], answer["links"])
    if others := answer.get("also_in"):
        named = ", ".join(field(one) for one in others)
        remark(f"ai-memory: this id is in {field(answer['memory']['namespace'])} and also in {named}: see --namespace")


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
    invocation.show(answer, *_table(answer["memories"]))


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
    invocation.show(answer, *_table(answer["results"]))


@click.command()
@click.argument("id")
@click.option("--title", help="A new title.")
@click.option("--content", help="A new content; - reads standard input.")
@click.option("--in", "place", metavar="NAMESPACE", help="Where it is, if its id is in several.")
@click.option("--namespace", "-n", help="Move it there.")
@click.option("--tier", type=click.Choice(("short", "mid", "long")), help="A new tier.")
@click.option("--tag", "tags", multiple=True, help="New tags, in place of all it has.")
@click.option("--priority", type=int, help="1 to 10.")
@click.option("--agent-id", envvar="AI_MEMORY_AGENT_ID", help="Who changes it [the node].")
@command
def update(invocation: Invocation, id: str, place: str | None, content: str | None, **given: Any) -> None:
    """Change some fields of a memory; what is not named stays."""
    fields = _fields(given) | ({"content": _text(content)} if content is not None else {})
    if not fields.keys() - {"agent_id"}:
        raise CommandError(REFUSED, "invalid", "nothing to change: name at least one of the fields (see --help)")
    with _memory(invocation, id) as node:
        answer = node.update(id, place, fields)
    _show(invocation, answer, answer, [])


@click.command()
@click.argument("id")
@WHERE
@command
def delete(invocation: Invocation, id: str, namespace: str | None) -> None:
    """Delete a memory, here and on every peer."""
    with _memory(invocation, id) as node:
        answer = node.delete(id, namespace)
    invocation.show(answer, "deleted")


@click.command()
@click.argument("id")
@WHERE
@command
def promote(invocation: Invocation, id: str, namespace: str | None) -> None:
    """Make a memory long-lived: it does not expire any more."""
    with _memory(invocation, id) as node:
        answer = node.promote(id, namespace)
    invocation.show(answer, f"{answer['id']} is long-lived now")


RELATION = click.option(
    "--relation", "-r", type=click.Choice(RELATIONS), default=DEFAULT_RELATION, show_default=True, help="What it means."
)


@click.command()
@click.argument("source")
@click.argument("target")
@RELATION
@click.option("--namespace", "-n", help="Where SOURCE is, if its id is in several.")
@click.option("--valid-from", help="RFC 3339 time from which it holds.")
@click.option("--valid-until", help="RFC 3339 time until which it holds.")
@click.option("--agent-id", envvar="AI_MEMORY_AGENT_ID", help="Who says so [the node].")
@command
def link(invocation: Invocation, source: str, target: str, namespace: str | None, **given: Any) -> None:
    """Link two memories: SOURCE is related to TARGET, or supersedes it, contradicts it, is derived from it.

    SOURCE and TARGET are ids, which may be shortened.

        ai-memory link 3f2a9c04 b81d77e0 --relation supersedes
    """
    with named("`ai-memory list` shows ids"), backend(invocation) as node:
        answer = node.link(namespace, _fields(given) | {"source_id": source, "target_id": target})
    invocation.show(answer, _link(answer))


@click.command()
@click.argument("source")
@click.argument("target")
@RELATION
@click.option("--namespace", "-n", help="Only in this one, if it is kept in several.")
@click.option("--agent-id", envvar="AI_MEMORY_AGENT_ID", help="Who takes it back [the node].")
@command
def unlink(invocation: Invocation, source: str, target: str, namespace: str | None, **given: Any) -> None:
    """Take a link back, here and on every peer. The ids of memories that are not here must be whole."""
    with backend(invocation) as node:
        answer = node.unlink(namespace, _fields(given) | {"source_id": source, "target_id": target})
    if not answer["deleted"]:
        shown = "`ai-memory links ID` shows those of a memory, `ai-memory list` ids"
        raise CommandError(NO, "not_found", f"there is no such link; {shown}")
    invocation.show(answer, "unlinked")


@click.command()
@click.argument("id")
@command
def links(invocation: Invocation, id: str) -> None:
    """Show what a memory links to, and what links to it, the newest change first. ID may be shortened."""
    with _memory(invocation, id) as node:
        answer = node.links(id)
    invocation.show(answer, *(list(map(_link, answer["links"])) or ["no links"]))


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
    rows += [f"  {field(one['namespace']):30}{one['count']}" for one in answer["by_namespace"]]
    invocation.show(answer, *rows)


COMMANDS = (store, get, listed, search, update, delete, promote, link, unlink, links, settle, stats)


@contextmanager
def _memory(invocation: Invocation, record_id: str) -> Iterator[Backend]:
    """The node, asked about one memory."""
    with sought("memory", record_id), backend(invocation) as node:
        yield node


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in given.items() if value is not None and value != ()}
    if "tags" in fields:
        fields["tags"] = list(fields["tags"])
    return fields


def _filters(given: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in given.items() if value is not None}


def _text(content: str) -> str:
    return standard_input() if content == "-" else content


def _show(invocation: Invocation, answer: dict[str, Any], memory: dict[str, Any], links: list[dict[str, Any]]) -> None:
    """A memory. Its text goes to a pipe as it is, and to a terminal so that nothing in it passes for a line of ours."""
    if invocation.as_json or sys.stdout.isatty():
        invocation.show(answer, *_head(memory), "", *block(memory["content"], width()), *_below(links))
        return
    require_encodable(memory["content"])
    invocation.show(answer, *_head(memory), "")
    say(memory["content"])
    if links:
        invocation.show(answer, *_below(links))


def _head(memory: dict[str, Any]) -> list[str]:
    names = ("id", "namespace", "title", "tier", "priority", "updated_at")
    lines = [f"{name:12}{field(memory[name], MAX_TITLE)}" for name in names]
    if memory["tags"]:
        lines.append(f"{'tags':12}{field(', '.join(memory['tags']), MOST_LINE)}")
    return [*lines, f"{'expires_at':12}{field(memory.get('expires_at') or NEVER)}"]


def _below(links: list[dict[str, Any]]) -> list[str]:
    return ["", *map(_link, links)] if links else []


def _link(one: dict[str, Any]) -> str:
    missing = {"source_id": "  (the first is not here)", "target_id": "  (the second is not here)"}
    source, relation, target = field(one["source_id"]), field(one["relation"], 12), field(one["target_id"])
    return f"{source}  {relation:12}  {target}{missing.get(one.get('missing', ''), '')}"


def _table(memories: list[dict[str, Any]]) -> list[str]:
    return list(map(_row, memories)) or ["nothing found"]


def _row(one: dict[str, Any]) -> str:
    place, title = field(one["namespace"], 20), field(one["title"], 60)
    return f"{field(one['id'])}  {place:20}  {one['tier']:5}  {_until(one):17}  {title}"


def _until(memory: dict[str, Any]) -> str:
    """When it expires, to the minute: `2026-01-31 12:00Z`."""
    at = memory.get("expires_at")
    return f"{at[:10]} {at[11:16]}Z" if at else NEVER


def _lasting(memory: dict[str, Any]) -> str:
    """What a memory's tier, or its own time to live, comes to."""
    if not memory.get("expires_at"):
        return "it does not expire"
    return f"it expires at {_until(memory)}, unless it is stored again before; --tier long keeps it"
