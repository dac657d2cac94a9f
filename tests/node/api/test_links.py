"""Links over the client API, and between nodes: made, shown from both ends, taken back, never lost on the way."""

import json
import time
from typing import Any

import pytest
import pytest_asyncio
from certs import Mesh
from keys import pair as pair_of
from lines import Reply
from nodes import LIFE, QUIET, Served, eventually, pair, push, serving
from stamps import stamp

from node import memories as memories_module
from node.daemon import Daemon
from sync import moment
from sync.ids import memory_id
from sync.link import RELATIONS, link_version

pytestmark = pytest.mark.asyncio(loop_scope="module")

AGENT = {"X-Agent-Id": "ai:alice"}
GONE = "00000000-0000-4000-8000-000000000000"
Ids = dict[str, str]


@pytest_asyncio.fixture(loop_scope="module")
async def ids(node: Served) -> Ids:
    """Two memories, `one` and `two`, without any link."""
    made: Ids = {}
    for title in ("one", "two"):
        body = {"title": title, "content": "text", "namespace": "linked"}
        made[title] = (await node.local("POST", "/memories", body)).json["id"]
    for one in (await node.read(f"/links/{made['one']}"))["links"]:
        assert (await unlink(node, one["source_id"], one["target_id"], one["relation"])).json == {"deleted": True}
    return made


async def link(node: Served, source_id: str, target_id: str, relation: str = "related_to", **fields: Any) -> Reply:
    body = {"source_id": source_id, "target_id": target_id, "relation": relation, **fields}
    return await node.local("POST", "/links", body, AGENT)


async def unlink(node: Served, source_id: str, target_id: str, relation: str = "related_to") -> Reply:
    body = {"source_id": source_id, "target_id": target_id, "relation": relation}
    return await node.local("DELETE", "/links", body, AGENT)


async def links(node: Served, record_id: str) -> list[Any]:
    return list((await node.read(f"/links/{record_id}"))["links"])


async def test_a_link_is_made_shown_from_both_ends_and_taken_back(node: Served, ids: Ids) -> None:
    """With what the existing daemon says of one, and who said so."""
    one, two = ids["one"], ids["two"]
    before = await node.read("/stats")
    made = await link(node, one, two, "supersedes", valid_until="2030-01-01T00:00:00Z")
    assert (made.status, made.json["linked"], made.json["attest_level"]) == (201, True, "self_signed")
    (found,) = await links(node, one)
    said = {"source_id": one, "target_id": two, "relation": "supersedes", "observed_by": "ai:alice"}
    assert found.items() >= said.items()
    assert found["valid_until"] == "2030-01-01T00:00:00.000000+00:00"
    assert moment.is_canonical(found["created_at"])
    assert "missing" not in found and "valid_from" not in found
    assert await links(node, two) == [found]
    assert (await node.read(f"/memories/{two}"))["links"] == [found]
    assert (await node.read("/stats"))["links_count"] == before["links_count"] + 1
    assert (await unlink(node, one, two)).json == {"deleted": False}, "it has another relation"
    assert (await unlink(node, one, two, "supersedes")).json == {"deleted": True}
    assert (await unlink(node, one, two, "supersedes")).json == {"deleted": False}
    assert await links(node, one) == (await node.read(f"/memories/{one}"))["links"] == []
    assert (await node.read("/stats"))["links_count"] == before["links_count"]


@pytest.mark.parametrize("relation", RELATIONS)
async def test_each_relation_of_the_existing_daemon_is_known(node: Served, ids: Ids, relation: str) -> None:
    """Two memories may have several of them."""
    assert (await link(node, ids["one"], ids["two"], relation)).status == 201
    assert [one["relation"] for one in await links(node, ids["two"])] == [relation]


async def test_ids_may_be_shortened_everywhere(node: Served, ids: Ids) -> None:
    """And the answer has them whole; a query does for a body."""
    one, two = ids["one"], ids["two"]
    made = await link(node, one[:8], two[:8])
    assert (made.json["source_id"], made.json["target_id"]) == (one, two)
    assert len(await links(node, two[:8])) == 1
    query = f"/links?source_id={one[:8]}&target_id={two[:8]}&relation=related_to"
    assert (await node.local("DELETE", query, None, AGENT)).json == {"deleted": True}


WRONG: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "an unknown source": ({"source_id": GONE}, 404, "not_found", f"source_id: '{GONE}': no memory here has this id"),
    "an unknown target": ({"target_id": GONE}, 404, "not_found", f"target_id: '{GONE}': no memory here has this id"),
    "itself": ({"target_id": "{one}"}, 400, "invalid", "cannot link a memory to itself"),
    "itself, shortened": ({"target_id": "{one:.8}"}, 400, "invalid", "target_id: a memory cannot be linked to itself"),
    "a relation": ({"relation": "likes"}, 400, "invalid", "relation: 'likes', one of related_to, supersedes"),
    "no target": ({"target_id": None}, 400, "invalid", "Expected `str`, got `null`"),
    "a time": ({"valid_from": "soon"}, 400, "invalid", "valid_from: 'soon', an RFC 3339 time expected"),
    "an agent": ({"agent_id": "a b"}, 400, "invalid", "agent_id: 'a b', expected 1 to 128"),
    "another namespace": ({"?": "?namespace=no"}, 404, "not_found", "source_id:"),
    "no JSON": ({"body": b"{"}, 400, "malformed", "the body is no JSON object"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_wrong_with_a_link_is_named(node: Served, ids: Ids, case: str) -> None:
    """Which end, what was found, what was expected; nothing is stored, and the same link without the fault is made."""
    changes, status, code, words = WRONG[case]
    changes = {name: value.format(**ids) if isinstance(value, str) else value for name, value in changes.items()}
    query, body = changes.pop("?", ""), changes.pop("body", None)
    good = {"source_id": ids["one"], "target_id": ids["two"]}
    before = node.position
    reply = await node.local("POST", f"/links{query}", body or good | changes, AGENT)
    assert (reply.status, reply.code) == (status, code)
    assert words in reply.json["error"]
    assert node.position == before
    assert (await node.local("POST", "/links", good, AGENT)).status == 201


async def test_links_of_nothing_are_not_found(node: Served, ids: Ids) -> None:
    """Neither a memory nor the other end of a link; what is no number is no limit."""
    reply = await node.local("GET", f"/links/{GONE}")
    assert (reply.status, reply.json["error"]) == (404, "not found")
    assert (await node.local("GET", f"/links/{ids['one']}?limit=x")).code == "bad_query"
    reply = await node.local("DELETE", "/links", {"source_id": GONE, "target_id": ids["one"]})
    assert reply.json == {"deleted": False}


async def test_a_deleted_memory_is_named_as_missing_and_its_link_can_be_taken_back(node: Served, ids: Ids) -> None:
    """From either end, by whole ids. A title that is stored again finds the links that it had."""
    one, two = ids["one"], ids["two"]
    await link(node, one, two)
    await node.local("DELETE", f"/memories/{two}")
    assert [found["missing"] for found in await links(node, one)] == ["target_id"]
    assert len(await links(node, two)) == 1, "asked by its whole id"
    body = {"title": "two", "content": "again", "namespace": "linked"}
    assert (await node.local("POST", "/memories", body)).json["id"] == two
    assert "missing" not in (await links(node, one))[0]
    await node.local("DELETE", f"/memories/{two}")
    assert (await unlink(node, one, two)).json == {"deleted": True}


async def test_a_moved_memory_keeps_its_links(node: Served, ids: Ids) -> None:
    """They are kept in its new namespace, as they were said."""
    await link(node, ids["one"], ids["two"])
    (before,) = await links(node, ids["one"])
    await node.local("PUT", f"/memories/{ids['one']}", {"namespace": "linked/elsewhere"})
    (after,) = await links(node, ids["one"])
    assert (before["namespace"], after["namespace"]) == ("linked", "linked/elsewhere")
    assert after["created_at"] == before["created_at"]
    assert (await unlink(node, ids["one"], ids["two"])).json == {"deleted": True}
    await node.local("DELETE", f"/memories/{ids['one']}")


async def test_links_come_in_pages(node: Served, ids: Ids, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest change first, at most 1,000 at once."""
    for relation in RELATIONS[:3]:
        await link(node, ids["one"], ids["two"], relation)
    found = [(await node.read(f"/links/{ids['one']}?limit=2&offset={offset}"))["links"] for offset in (0, 2)]
    assert [[one["relation"] for one in page] for page in found] == [[RELATIONS[2], RELATIONS[1]], [RELATIONS[0]]]
    monkeypatch.setattr(memories_module, "MAX_LIST", 1)
    assert len((await node.read(f"/memories/{ids['one']}"))["links"]) == 1


async def test_a_conflict_of_links_is_listed_as_one(node: Served, ids: Ids) -> None:
    """What was said apart is shown with its kind."""
    await link(node, ids["one"], ids["two"])
    now = time.time_ns() // 1_000
    foreign = link_version(
        "linked", ids["one"], ids["two"], "related_to", moment.text(now), pair_of("ai:peer"), stamp({LIFE: 9 << 20})
    )
    reply = await node.friend("POST", "/sync/push", push(links=[json.loads(foreign.doc)]))
    assert (reply.json["links_applied"], reply.json["applied"], reply.json["refused"]) == (1, 0, [])
    found = (await node.read("/conflicts"))["conflicts"]
    (kinds,) = [{one["kind"] for one in key["versions"]} for key in found if key["id"] == foreign.id]
    assert kinds == {"link"}
    await link(node, ids["one"], ids["two"], valid_from=moment.text(now))
    assert [key["id"] for key in (await node.read("/conflicts"))["conflicts"]].count(foreign.id) == 0


async def test_a_bad_link_of_a_peer_refuses_itself_alone(node: Served) -> None:
    """It is named by its ends; the good one beside it, whose memories never came, is kept and shown."""
    now = moment.text(time.time_ns() // 1_000)
    good, bad = (
        json.loads(
            link_version("team", source, "target", "related_to", now, pair_of("ai:peer"), stamp({LIFE: 7 << 20})).doc
        )
        for source in ("early source", "bad source")
    )
    bad["relation"] = "likes"
    reply = await node.friend("POST", "/sync/push", push(links=[bad, good, 7]))
    assert (reply.status, reply.json["links_applied"]) == (200, 1)
    refused = [(one["id"], one["kind"], one["reason"]) for one in reply.json["refused"]]
    assert refused == [("bad source likes target", "l", "limits"), ("", "l", "malformed")]
    assert [one["missing"] for one in await links(node, "target")] == ["source_id"]
    answer = await node.friend("GET", "/sync/since")
    assert "links" in answer.json["protocol"]["features"]
    assert "early source" in [one["source_id"] for one in answer.json["links"]]


async def test_links_replicate_before_their_memories_and_back(mesh: Mesh) -> None:
    """A link, its change and its unlink reach a peer and come back from it; both stores are alike in the end."""
    async with serving(*pair(mesh, QUIET)) as [(first, one), (second, other)]:

        async def alike() -> bool:
            return first.store.position.digest == second.store.position.digest

        for title in ("x", "y"):
            await one("POST", "/memories", {"title": title, "content": "text", "namespace": "n"})
        x, y = (memory_id("n", title, 0) for title in "xy")
        await one("POST", "/links", {"source_id": x, "target_id": y})
        await eventually(alike)
        assert len((await other("GET", f"/links/{y}")).json["links"]) == 1
        await other("DELETE", "/links", {"source_id": x, "target_id": y})
        await eventually(alike)
        assert (await one("GET", f"/links/{x}")).json["links"] == []
        assert_counts(first, second)


def assert_counts(*daemons: Daemon) -> None:
    """Two memories and an unlink everywhere."""
    for daemon in daemons:
        kinds = daemon.store.reader.call(
            lambda reader: reader._execute("SELECT kind, count(*) FROM memory GROUP BY kind ORDER BY kind").fetchall()
        )
        assert kinds == [("m", 2), ("u", 1)]
