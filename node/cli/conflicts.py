"""Commands about conflicts: what was written apart is kept until somebody settles it."""

import difflib
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from node.cli.backend import Backend, backend
from node.cli.context import Invocation, command
from node.cli.given import Place, of_file, standard_input
from node.cli.output import NO, CommandError, remark, width
from node.cli.sought import sought
from node.conflicts import WINNER
from node.plain import MOST_LINE, block, field
from sync.errors import RemoteError
from sync.version import LINK_SEPARATOR

SAID = {"tombstone": "(deleted)", "link": "(linked)", "unlink": "(unlinked)"}
WHY = {
    "time": "an earlier time",
    "signature": "the same time, a lesser signature",
    "content": "the same time and signature, a lesser content digest",
    "tag": "all the same but the clock, a lesser tag",
}
TAG_DIGITS = 12
"""As many as people are shown of a tag."""
PAGE = 100
SHARED = "Memories that share a title are no versions of each other: rename one (update ID --title …) or delete it."

WHERE = click.option("--namespace", "-n", help="Where it is, if its id has conflicts in several.")


@click.group()
def conflicts() -> None:
    """What was written apart, in ignorance of each other. All of it is kept until somebody settles it.

    Readers see the winner: the version with the latest time; of equal times the greater signature, then content.
    """


@conflicts.command(name="list")
@click.option("--limit", default=20, show_default=True, help="At most 1000.")
@click.option("--offset", default=0, help="Leave out so many.")
@command
def listed(invocation: Invocation, limit: int, offset: int) -> None:
    """List memories, links and deletes of which several versions are kept, and titles that memories share."""
    with backend(invocation) as node:
        answer = node.conflicts({"limit": str(limit), "offset": str(offset)})
    found, shared = answer["conflicts"], answer["shared_titles"]
    lines = [line for one in found for line in _summary(one)]
    for one in shared:
        lines.append(f"shared title: {field(one['title'])}  {field(one['namespace'])}  {field(' '.join(one['ids']))}")
    if shared:
        lines.append(SHARED)
    if answer["count"] > offset + len(found):
        lines.append(f"{len(found)} of {answer['count']} conflicts; go on with --offset {offset + len(found)}")
    invocation.show(answer, *(lines or ["no conflicts"]))


@conflicts.command()
@click.argument("id")
@WHERE
@command
def show(invocation: Invocation, id: str, namespace: str | None) -> None:
    """Show all kept versions of one key: which wins and why, and what is different in the others.

    ID may be shortened as long as only one conflict's begins so; a link is "SOURCE RELATION TARGET" or its beginning.
    """
    with sought("conflict", id), backend(invocation) as node:
        answer = node.conflict(id, namespace)
    invocation.show(answer, *_whole(answer))


@conflicts.command()
@click.argument("id", required=False)
@WHERE
@click.option("--keep", metavar="TAG", help="Go on with the version of this tag, which may be shortened, or `winner`.")
@click.option("--delete", is_flag=True, help="Go on with none of them: delete the memory, take back the link.")
@click.option(
    "--content",
    type=Place(dir_okay=False, allow_dash=True),
    help="Go on with the winner's fields and the content of this file; - reads standard input.",
)
@click.option("--expected", multiple=True, metavar="TAG", help="A version that you have seen: name all, or be asked.")
@click.option("--all", "each", is_flag=True, help="Settle every conflict, with --keep winner.")
@click.option("--yes", is_flag=True, help="Do not ask: let go of whatever else is kept.")
@click.option("--agent-id", envvar="AI_MEMORY_AGENT_ID", help="Who settles it [the node].")
@command
def resolve(invocation: Invocation, id: str | None, each: bool, **given: Any) -> None:
    """Settle a conflict, here and on every peer: one version goes on, the others are let go.

    A kept delete that goes on is confirmed. Where another version has come meanwhile, nothing is done.

        ai-memory conflicts resolve 3f2a9c04 --keep 9c1d --expected 9c1d --expected 77aa

        ai-memory conflicts resolve --all --keep winner
    """
    ways = [name for name in ("keep", "delete", "content") if given[name]]
    if len(ways) != 1:
        raise click.UsageError("exactly one of --keep, --delete and --content is needed")
    if each is (id is not None):
        raise click.UsageError("one ID is needed, or --all")
    is_sure = given["yes"] or bool(given["expected"])
    if invocation.as_json and not is_sure:
        raise click.UsageError("--json does not ask: --yes is needed, or --expected for each version")
    author = {"agent_id": given["agent_id"]} if given["agent_id"] else {}
    if each:
        if given["keep"] != WINNER or given["expected"] or given["namespace"]:
            raise click.UsageError("--all goes with --keep winner, and without --expected and --namespace")
        with backend(invocation) as node:
            _resolve_all(invocation, node, author, is_sure=is_sure)
        return
    assert id is not None, "checked above"
    choice: dict[str, Any] = {ways[0]: given[ways[0]]} if ways[0] != "content" else {"content": _read(given["content"])}
    with sought("conflict", id), backend(invocation) as node:
        expected = list(given["expected"])
        if not expected:
            found = node.conflict(id, given["namespace"])
            expected = [one["tag"] for one in found["versions"]]
            if not is_sure:
                remark(*_whole(found), "")
                _ask("Settle this?")
        answer = node.resolve(id, given["namespace"], {"expected": expected, **choice, **author})
    goes_on = f"{answer['kind']} {_tag(answer)}"
    invocation.show(answer, f"{_shown(answer['id'])}  settled: {goes_on} in place of {len(answer['let_go'])} versions")


def _resolve_all(invocation: Invocation, node: Backend, author: dict[str, Any], *, is_sure: bool) -> None:
    seen = {(one["namespace"], one["id"]): [v["tag"] for v in one["versions"]] for one in _each(node)}
    if seen and not is_sure:
        others = sum(len(tags) - 1 for tags in seen.values())
        _ask(f"{len(seen)} conflicts: keep the winner of each, and let go of {others} versions?")
    settled, changed = 0, []
    for (namespace, record_id), tags in seen.items():
        try:
            node.resolve(record_id, namespace, {"expected": tags, "keep": WINNER, **author})
            settled += 1
        except (CommandError, RemoteError) as error:  # of a running node, of the store
            if error.code not in ("conflict_changed", "not_found"):
                raise
            changed.append({"namespace": namespace, "id": record_id})
    answer = {"settled": settled, "changed": changed}
    if changed:
        raise CommandError(
            NO, "conflict_changed", f"{settled} settled; {len(changed)} have changed meanwhile and are as they were"
        )
    invocation.show(answer, f"{settled} settled" if seen else "no conflicts")


def _each(node: Backend) -> Iterator[dict[str, Any]]:
    """Every conflict, page by page, before the first is settled."""
    offset = 0
    while page := node.conflicts({"limit": str(PAGE), "offset": str(offset)})["conflicts"]:
        yield from page
        offset += len(page)


def _ask(question: str) -> None:
    try:
        is_agreed = click.confirm(question, err=True)
    except click.Abort:
        is_agreed = False
    if not is_agreed:
        raise CommandError(NO, "not_confirmed", "nothing was settled")


def _read(path: Path) -> str:
    return standard_input() if str(path) == "-" else of_file(path)


def _summary(one: dict[str, Any]) -> Iterator[str]:
    title = next((v["record"]["title"] for v in one["versions"] if v["kind"] == "memory"), "")
    yield f"{field(_shown(one['id']))}  {field(one['namespace'], 20):20}  {field(title, 60)}".rstrip()
    for version in one["versions"]:
        said = SAID.get(version["kind"]) or version["record"]["content"].replace("\n", " ")[:1_000]
        stands = "wins" if version["wins"] else "kept"
        yield f"    {stands}  {_tag(version)}  {version['at']}  {version['agent']:24}  {field(said, 60)}".rstrip()


def _whole(one: dict[str, Any]) -> Iterator[str]:
    """A conflict for people: the winner as it is, the others by what is different in them."""
    winner, *others = one["versions"]
    yield f"{field(_shown(one['id']))}  {field(one['namespace'])}"
    yield from ("", f"{_headline(winner)}  wins", *_fields(winner))
    for other in others:
        yield from ("", f"{_headline(other)}  loses: {WHY[other['lost_by']]}")
        yield from _differences(winner, other)
    tags = [_tag(version) for version in one["versions"]]
    expected = " ".join(f"--expected {tag}" for tag in tags)
    name, namespace = shlex.quote(_shown(one["id"])), shlex.quote(one["namespace"])
    yield from ("", "Settle it, with the tag of the version that goes on:")
    yield f"  ai-memory conflicts resolve {name} -n {namespace} --keep {tags[0]} {expected}"


def _headline(version: dict[str, Any]) -> str:
    return f"{_tag(version)}  {version['kind']}  {version['at']}  {version['agent']}"


def _fields(version: dict[str, Any]) -> Iterator[str]:
    if version["kind"] != "memory":
        return
    record = version["record"]
    for name in ("title", "tier", "priority", "tags"):
        yield f"    {name}: {_value(record.get(name))}"
    for line in block(record["content"].removesuffix("\n"), width() - 4):
        yield f"    {line}"


def _differences(winner: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    if other["differs"] == ["kind"]:
        yield f"    kind: {winner['kind']} → {other['kind']}"
        yield from _fields(other)
        return
    if not other["differs"]:
        yield "    says the same"
    ours, theirs = winner["record"], other["record"]
    for name in other["differs"]:
        if name != "content":
            yield f"    {name}: {_value(_without_proof(ours.get(name)))} → {_value(_without_proof(theirs.get(name)))}"
    if "content" in other["differs"]:
        for line in _diff(ours["content"], theirs["content"], winner, other):
            yield from (f"    {piece}" for piece in block(line, width() - 4))


def _diff(ours: str, theirs: str, winner: dict[str, Any], other: dict[str, Any]) -> Sequence[str]:
    before, after = f"content of {_tag(winner)}", f"content of {_tag(other)}"
    lines = list(difflib.unified_diff(ours.split("\n"), theirs.split("\n"), before, after, lineterm=""))
    return lines or ["content: differs in the ends of its lines"]


def _without_proof(value: Any) -> Any:
    return {k: v for k, v in value.items() if k != "attestation"} if isinstance(value, dict) else value


def _value(value: Any) -> str:
    return field(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), MOST_LINE)


def _tag(version: dict[str, Any]) -> str:
    return str(version["tag"])[:TAG_DIGITS]


def _shown(record_id: str) -> str:
    """The id for people: a link's is `source relation target`."""
    parts = record_id.split(LINK_SEPARATOR)
    return f"{parts[0]} {parts[2]} {parts[1]}" if len(parts) == 3 else record_id


COMMANDS = (conflicts,)
