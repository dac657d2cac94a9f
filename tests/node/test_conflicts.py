"""Conflicts between two real nodes: made apart, seen alike on both, settled on one and gone on both."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from certs import Mesh
from lines import Caller
from nodes import QUIET, Place, eventually, local, pair, serving

from node.daemon import Daemon
from sync.ids import memory_id
from sync.link import link_id

X, Y, Z = (memory_id("n", title, 0) for title in "xyz")
LINK = link_id(Y, Z, "related_to")


def body(title: str, content: str, **fields: Any) -> dict[str, Any]:
    return {"title": title, "content": content, "namespace": "n", **fields}


@asynccontextmanager
async def alone(place: Place) -> AsyncIterator[Caller]:
    """The node while the other one is away."""
    async with place.serving() as daemon, local(daemon) as caller:
        yield caller


async def done(caller: Caller, method: str, path: str, sent: Any = None) -> Any:
    reply = await caller(method, path, sent)
    assert reply.status in (200, 201), reply.body
    return reply.json


async def written_apart(mesh: Mesh) -> tuple[Place, Place]:
    """Two nodes that edited x, deleted and edited y, and linked y and z, each without the other."""
    places = pair(mesh, QUIET)
    async with serving(*places) as [(first, one), (second, _)]:
        for title in "xyz":
            await done(one, "POST", "/memories", body(title, f"{title} before"))
        await alike(first, second)
    for place, name in zip(places, "ab", strict=True):
        async with alone(place) as caller:
            until = f"203{len(name)}-01-0{ord(name) - 96}T00:00:00Z"
            await done(caller, "PUT", f"/memories/{X}", {"content": f"x\nof {name}", "tags": [name]})
            await done(caller, "POST", "/links", {"source_id": Y, "target_id": Z, "valid_until": until})
            if name == "a":
                await done(caller, "PUT", f"/memories/{Y}", {"content": "y of a"})
            else:
                await done(caller, "DELETE", f"/memories/{Y}")
    return places


async def alike(first: Daemon, second: Daemon) -> None:
    async def look() -> bool:
        return first.store.position.digest == second.store.position.digest

    await eventually(look)


async def seen(caller: Caller) -> dict[str, list[dict[str, Any]]]:
    """The kept versions by id, of everything in conflict."""
    answer = await done(caller, "GET", "/conflicts?limit=1000")
    assert answer["count"] == len(answer["conflicts"])
    return {one["id"]: one["versions"] for one in answer["conflicts"]}


def tags(versions: list[dict[str, Any]]) -> list[str]:
    return [one["tag"] for one in versions]


async def test_what_was_written_apart_is_seen_alike_and_settled_for_both(mesh: Mesh) -> None:
    """The list is the same on both nodes, the loser's text is there until somebody says so, and then it is gone."""
    async with serving(*await written_apart(mesh)) as [(first, one), (second, other)]:
        await alike(first, second)
        found = await seen(one)
        assert found == await seen(other)
        assert set(found) == {X, Y, LINK}
        assert [version["record"]["content"] for version in found[X]] == ["x\nof b", "x\nof a"], "the later one wins"
        winner, loser = found[X]
        assert (winner["wins"], winner["lost_by"], winner["differs"]) == (True, None, [])
        assert (loser["wins"], loser["lost_by"], loser["differs"]) == (False, "time", ["content", "tags"])
        assert (winner["agent"], loser["agent"]) == ("host:b", "host:a")
        assert [version["kind"] for version in found[Y]] == ["tombstone", "memory"]
        assert found[Y][1]["differs"] == ["kind"]
        assert [version["kind"] for version in found[LINK]] == ["link", "link"]
        assert set(found[LINK][1]["differs"]) >= {"valid_until"}

        # A deleted memory is nobody's to read, and its lost edit is found under its id all the same.
        assert (await one("GET", f"/memories/{Y}")).status == 404
        shown = await done(one, "GET", f"/conflicts/{Y}")
        assert shown == {"namespace": "n", "id": Y, "versions": found[Y]} == await done(other, "GET", f"/conflicts/{Y}")
        assert shown["versions"][1]["record"]["content"] == "y of a"
        assert (await done(one, "GET", f"/conflicts/{X[:8]}"))["id"] == X, "an id may be shortened"

        kept = {"expected": tags(found[X]), "keep": loser["tag"][:8]}
        answer = await done(one, "POST", f"/conflicts/{X[:8]}/resolve", kept)
        assert (answer["id"], answer["kind"], answer["let_go"]) == (X, "memory", tags(found[X]))
        back = {"expected": [tag[:8] for tag in tags(found[Y])], "content": "y\nby hand"}
        await done(other, "POST", f"/conflicts/{Y}/resolve", back)
        name = f"{Y} related_to {Z}".replace(" ", "%20")
        assert (await done(one, "GET", f"/conflicts/{name}"))["versions"] == found[LINK]
        await done(one, "POST", f"/conflicts/{name}/resolve", {"expected": tags(found[LINK]), "delete": True})
        await alike(first, second)
        for caller in (one, other):
            assert await seen(caller) == {}
            assert (await caller("GET", f"/conflicts/{X}")).code == "not_found"
            memory = (await done(caller, "GET", f"/memories/{X}"))["memory"]
            assert (memory["content"], memory["tags"]) == ("x\nof a", ["a"])
            assert (await done(caller, "GET", f"/memories/{Y}"))["memory"]["content"] == "y\nby hand"
            assert (await done(caller, "GET", f"/links/{Y}"))["links"] == []


async def test_two_nodes_that_settle_at_once_end_alike(mesh: Mesh) -> None:
    """Each keeps its own version; both stay, on both nodes, until one more word ends it."""
    places = await written_apart(mesh)
    async with serving(*places) as [(first, one), (second, _)]:
        await alike(first, second)
        found = (await seen(one))[X]
    for place, version in zip(places, found, strict=True):
        async with alone(place) as caller:
            await done(caller, "POST", f"/conflicts/{X}/resolve", {"expected": tags(found), "keep": version["tag"]})
    async with serving(*places) as [(first, one), (second, other)]:
        await alike(first, second)
        again = (await seen(one))[X]
        assert again == (await seen(other))[X]
        assert {v["record"]["content"] for v in again} == {"x\nof a", "x\nof b"}
        assert not set(tags(again)) & set(tags(found))
        await done(other, "POST", f"/conflicts/{X}/resolve", {"expected": tags(again), "keep": "winner"})
        await alike(first, second)
        assert X not in await seen(one)


async def test_titles_shared_by_a_rename_apart_are_listed_with_both_ids(mesh: Mesh) -> None:
    """No version lost anything: they are two memories, and a rename or a delete ends it."""
    places = pair(mesh, QUIET)
    async with alone(places[0]) as caller:
        await done(caller, "POST", "/memories", body("x", "renamed"))
        await done(caller, "PUT", f"/memories/{X}", {"title": "y"})
    async with alone(places[1]) as caller:
        await done(caller, "POST", "/memories", body("y", "new"))
    async with serving(*places) as [(first, one), (second, other)]:
        await alike(first, second)
        answer = await done(one, "GET", "/conflicts")
        assert answer == await done(other, "GET", "/conflicts")
        assert (answer["count"], answer["conflicts"]) == (0, [])
        assert answer["shared_titles"] == [{"namespace": "n", "title": "y", "ids": [Y, X]}]
        assert (await done(one, "GET", "/conflicts?offset=1"))["shared_titles"] == []
        await done(one, "PUT", f"/memories/{X}", {"title": "x again"})
        await alike(first, second)
        assert (await done(other, "GET", "/conflicts"))["shared_titles"] == []
