"""An id that several namespaces have: who may write in one of them does not choose what is changed in another."""

import itertools
import json
import time
from typing import Any

import pytest
import pytest_asyncio
from keys import pair
from nodes import LIFE, Served, push
from stamps import stamp

from node import memories
from node.store.queries import Queries
from sync.draft import Fields, new_memory
from sync.ids import memory_id
from sync.record import memory_version

pytestmark = pytest.mark.asyncio(loop_scope="module")

_numbers = itertools.count(1)
CHANGES = {
    "update": ("PUT", "/memories/{id}", {"content": "changed"}),
    "delete": ("DELETE", "/memories/{id}", None),
    "promote": ("POST", "/memories/{id}/promote", {}),
    "link": ("POST", "/links", {"source_id": "{id}", "target_id": "{other}"}),
}


@pytest_asyncio.fixture(loop_scope="module")
async def record_id(node: Served) -> str:
    """Of a memory in `mine`; a peer has given its id to one in `team`, which wins."""
    title = f"place {next(_numbers)}"
    made = (await node.local("POST", "/memories", {"title": title, "content": "mine", "namespace": "mine"})).json["id"]
    at = time.time_ns() // 1_000 + 10_000_000
    draft = new_memory(Fields(title=title, content="theirs", namespace="team"), made, at)
    theirs = memory_version(draft, pair("ai:peer"), stamp({LIFE: next(_numbers) << 20}))
    reply = await node.friend("POST", "/sync/push", push(json.loads(theirs.doc)))
    assert reply.json["applied"] == 1
    return str(made)


async def change(node: Served, name: str, record_id: str, namespace: str = "") -> Any:
    method, path, body = CHANGES[name]
    other = (await node.local("POST", "/memories", {"title": "other", "content": "x", "namespace": "mine"})).json["id"]
    text = json.dumps(body).replace("{id}", record_id).replace("{other}", other)
    query = f"?namespace={namespace}" if namespace else ""
    return await node.local(method, path.replace("{id}", record_id) + query, json.loads(text))


@pytest.mark.parametrize("name", CHANGES)
async def test_what_is_to_be_changed_has_to_be_said(node: Served, record_id: str, name: str) -> None:
    """Without a namespace nothing is changed, and the answer names those that there are."""
    reply = await change(node, name, record_id)
    assert (reply.status, reply.code) == (409, "ambiguous_id")
    assert "is in 2 namespaces: 'team', 'mine'; say which" in reply.json["error"]
    reply = await change(node, name, record_id, "mine")
    assert reply.status in (200, 201)
    theirs = await node.read(f"/memories/{record_id}?namespace=team")
    assert (theirs["memory"]["content"], theirs["links"] == []) == ("theirs", name != "link")


@pytest.mark.parametrize("name", CHANGES)
async def test_without_that_rule_a_peer_diverts_it(
    node: Served, record_id: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: the winner is changed, which is the peer's."""
    monkeypatch.setattr(memories, "_one_place", lambda found, _: found[0].version)
    assert (await change(node, name, record_id)).status in (200, 201)
    mine = await node.read(f"/memories/{record_id}?namespace=mine")
    assert mine["memory"]["content"] == "mine"


async def test_a_look_says_that_there_are_others(node: Served, record_id: str) -> None:
    """The winner, and where else the id is; nothing of that where a namespace is named, or where there is one alone."""
    found = await node.read(f"/memories/{record_id}")
    assert (found["memory"]["namespace"], found["also_in"]) == ("team", ["mine"])
    assert "also_in" not in await node.read(f"/memories/{record_id}?namespace=mine")
    assert "also_in" not in await node.read(f"/memories/{memory_id('mine', 'other', 0)}?namespace=mine")


async def test_a_whole_id_is_found_by_itself(node: Served, record_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ids of peers begin as it does: those are not read."""

    def beginning(*_: Any) -> Any:
        raise AssertionError("the ids that begin so were read")

    monkeypatch.setattr(Queries, "ids_beginning", beginning)
    assert (await node.read(f"/memories/{record_id}"))["memory"]["id"] == record_id


async def crowd(node: Served, record_id: str, count: int = 70) -> None:
    """A peer gives an id to so many memories of its own, in namespaces that come first in any order."""
    at = time.time_ns() // 1_000 + 20_000_000
    made = [
        memory_version(
            new_memory(Fields(title=f"crowd {n}", content="theirs", namespace=f"crowd/{n:03}"), record_id, at),
            pair("ai:peer"),
            stamp({LIFE: next(_numbers) << 20}),
        )
        for n in range(count)
    ]
    reply = await node.friend("POST", "/sync/push", push(*(json.loads(one.doc) for one in made)))
    assert reply.json["applied"] == count


async def test_in_however_many_places_an_id_is_each_is_found(node: Served, record_id: str) -> None:
    """By its namespace always; and of those that are named without one, where it was written here is among them."""
    await crowd(node, record_id)
    for path in (f"/memories/{record_id}", f"/verify/{record_id}"):
        found = await node.read(f"{path}?namespace=mine")
        assert "mine" in json.dumps(found)
    looked = await node.read(f"/memories/{record_id}")
    assert "mine" in [looked["memory"]["namespace"], *looked["also_in"]]
    reply = await node.local("PUT", f"/memories/{record_id}", {"content": "changed"})
    assert "is in 64 or more namespaces" in reply.json["error"]


async def test_a_shortened_id_is_not_diverted(node: Served, record_id: str) -> None:
    """By another that begins so and that many namespaces have."""
    await crowd(node, record_id[:12] + "!")
    for method, path, body in (
        ("GET", f"/memories/{record_id[:12]}", None),
        ("GET", f"/verify/{record_id[:12]}", None),
        ("POST", "/links", {"source_id": memory_id("mine", "other", 0), "target_id": record_id[:12]}),
    ):
        assert (await node.local(method, path, body)).code == "ambiguous_id", path
