"""Conflicts over the client API: found, explained, settled by who names what was seen, refused to everybody else."""

import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from keys import pair
from lines import Reply
from nodes import Served, memory, push
from stamps import stamp

from node import conflicts
from node.memories import Memories
from sync import moment, settle
from sync.ids import memory_id
from sync.record import tombstone_version

pytestmark = pytest.mark.asyncio(loop_scope="module")

AGENT = {"X-Agent-Id": "ai:judge"}
_numbers = itertools.count(1)


class Case:
    """A memory that was written here and, in ignorance of that, by a peer."""

    def __init__(self, node: Served) -> None:
        self.node, self.title = node, f"case {next(_numbers)}"
        self.id = memory_id("team", self.title, 0)
        self._at = time.time_ns() // 1_000

    async def begin(self) -> None:
        body = {"title": self.title, "content": "mine", "namespace": "team", "priority": 8}
        assert (await self.node.local("POST", "/memories", body)).status == 201
        await self.comes(memory(self.title, "theirs", at=self._at + 10_000_000, clock=next(_numbers)))

    async def comes(self, *memories: Any, **members: Any) -> None:
        """A peer's push that is taken whole."""
        reply = await self.node.friend("POST", "/sync/push", push(*memories, **members))
        assert (reply.status, reply.json["refused"]) == (200, []), reply.body

    async def third(self) -> None:
        """A delete by a third node, later than both and in ignorance of them."""
        at = moment.text(self._at + 20_000_000)
        stone = tombstone_version("team", self.id, at, pair("ai:third"), stamp({"cd" * 8: next(_numbers) << 20}))
        await self.comes(tombstones=[json.loads(stone.doc)])

    async def kept(self) -> list[dict[str, Any]]:
        reply = await self.node.local("GET", f"/conflicts/{self.id}")
        return list(reply.json["versions"]) if reply.status == 200 else []

    async def tags(self) -> list[str]:
        return [one["tag"] for one in await self.kept()]

    async def resolve(self, **body: Any) -> Reply:
        return await self.node.local("POST", f"/conflicts/{self.id}/resolve", body, AGENT)


@pytest_asyncio.fixture(loop_scope="module")
async def case(node: Served) -> AsyncIterator[Case]:
    """A conflict, settled at the end if the test has not done so."""
    made = Case(node)
    await made.begin()
    yield made
    await made.resolve(expected=await made.tags(), delete=True)


async def test_a_conflict_says_why_one_wins_and_what_is_different(node: Served, case: Case) -> None:
    """Kind, agent, time, tag and record of each; the list has the same of it."""
    first, second = await case.kept()
    assert (first["wins"], first["lost_by"], first["differs"], first["agent"]) == (True, None, [], "ai:peer")
    assert (second["wins"], second["lost_by"]) == (False, "time")
    assert set(second["differs"]) >= {"content", "priority"}
    assert (first["record"]["content"], second["record"]["content"]) == ("theirs", "mine")
    listed = (await node.read("/conflicts"))["conflicts"]
    assert next(one for one in listed if one["id"] == case.id)["versions"] == [first, second]


async def test_who_settles_is_its_author(node: Served, case: Case) -> None:
    """The answer names what goes on and what was let go; the memory is the one that was chosen, whole."""
    first, second = await case.kept()
    reply = await case.resolve(expected=[first["tag"], second["tag"]], keep=second["tag"][:4])
    assert reply.status == 200
    answer = reply.json
    assert (answer["resolved"], answer["id"], answer["namespace"]) == (True, case.id, "team")
    assert (answer["agent"], answer["let_go"]) == ("ai:judge", [first["tag"], second["tag"]])
    found = (await node.read(f"/memories/{case.id}"))["memory"]
    assert found == answer["record"]
    assert (found["content"], found["priority"]) == ("mine", 8)
    assert await case.kept() == []
    assert (await case.resolve(expected=[first["tag"]], keep="winner")).code == "not_found"


@pytest.mark.parametrize(
    ("said", "content"),
    [({"keep": "winner"}, "theirs"), ({"content": "both"}, "both"), ({"delete": True}, None)],
)
async def test_each_way_to_settle(node: Served, case: Case, said: dict[str, Any], content: str | None) -> None:
    """After it the memory has that content, or is gone."""
    assert (await case.resolve(expected=await case.tags(), **said)).status == 200
    assert await case.kept() == []
    reply = await node.local("GET", f"/memories/{case.id}")
    assert reply.status == (404 if content is None else 200)
    if content is not None:
        assert reply.json["memory"]["content"] == content


async def test_a_lost_edit_under_a_delete_is_found_and_brought_back(node: Served, case: Case) -> None:
    """Although no reader sees the memory any more."""
    await case.third()
    assert (await node.local("GET", f"/memories/{case.id}")).status == 404
    reply = await node.local("GET", f"/conflicts/{case.id[:8]}")
    versions = reply.json["versions"]
    assert [one["kind"] for one in versions] == ["tombstone", "memory", "memory"]
    assert [one["differs"] for one in versions[1:]] == [["kind"], ["kind"]]
    assert (await case.resolve(expected=await case.tags(), keep=versions[2]["tag"])).status == 200
    assert (await node.read(f"/memories/{case.id}"))["memory"]["content"] == "mine"


async def test_what_comes_after_the_look_refuses_the_settling(node: Served, case: Case) -> None:
    """Named with the tags that are kept now; the same words with these go through."""
    tags = await case.tags()
    await case.third()
    now = await case.tags()
    before = node.position
    for expected in (tags, [], [*tags, "f" * 32], now[:2]):
        reply = await case.resolve(expected=expected, keep="winner")
        assert (reply.status, reply.code) == (409, "conflict_changed")
        assert all(tag in reply.json["error"] for tag in now)
    assert node.position == before
    assert (await case.resolve(expected=now, keep="winner")).status == 200


async def raced(case: Case, monkeypatch: pytest.MonkeyPatch) -> Reply:
    """A settling during which a delete arrives: after the service has looked, and before it writes."""
    write = Memories.write

    async def late(self: Memories, work: Callable[..., Any]) -> Any:
        monkeypatch.setattr(Memories, "write", write)
        await case.third()
        return await write(self, work)

    tags = await case.tags()
    monkeypatch.setattr(Memories, "write", late)
    return await case.resolve(expected=tags, keep="winner")


async def test_a_version_that_comes_between_look_and_write_is_not_lost(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction compares what was seen with what is kept, and refuses."""
    reply = await raced(case, monkeypatch)
    assert (reply.status, reply.code) == (409, "conflict_changed")
    assert [one["kind"] for one in await case.kept()] == ["tombstone", "memory", "memory"]


async def test_without_the_transactions_comparison_it_would_be_lost(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: take it away, and the settling goes through over what nobody saw."""
    honest = settle.settle

    def trusting(batch: Any, key: Any, choice: Any, seen: Any, agent: str, now: int) -> Any:
        return honest(batch, key, choice, {one.version.tag for one in batch.kept(key)}, agent, now)

    monkeypatch.setattr(settle, "settle", trusting)
    assert (await raced(case, monkeypatch)).status == 200
    assert await case.kept() == []


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no word": ({}, "none of them given: exactly one of keep, delete and content expected"),
    "two words": ({"keep": "winner", "delete": True}, "keep and delete given: exactly one"),
    "a delete that is none": ({"delete": False}, "none of them given"),
    "a tag of nobody": ({"keep": "f0f0f0f0"}, "keep: 'f0f0f0f0' begins no tag of a kept version"),
    "too little of a tag": ({"keep": "f"}, "or 4 or more digits of one expected"),
    "an expected word": ({"expected": ["newest"], "keep": "winner"}, "expected: 'newest', a tag of 32 hex digits"),
    "an expected text": ({"expected": "all", "keep": "winner"}, "Expected `array`, got `str`"),
    "nothing expected": ({"expected": None, "keep": "winner"}, "Expected `array`, got `null`"),
    "an empty text": ({"content": ""}, "content: "),
    "a long text": ({"content": "x" * 70_000}, "content: "),
    "an agent": ({"keep": "winner", "agent_id": "a b"}, "agent_id: 'a b'"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_with_a_settling_is_named(node: Served, case: Case, name: str) -> None:
    """What was found and what is expected; nothing is written, and all versions stay."""
    changes, words = WRONG[name]
    tags, before = await case.tags(), node.position
    reply = await case.resolve(**{"expected": tags, **changes})
    assert (reply.status, reply.code) == (400, "invalid")
    assert words in reply.json["error"]
    node.check_says_nothing(reply)
    assert (await case.tags(), node.position) == (tags, before)


async def test_without_what_was_seen_nothing_is_settled(case: Case) -> None:
    """`expected` is no option: who does not know what is kept cannot let go of it."""
    reply = await case.resolve(keep="winner")
    assert (reply.status, reply.code) == (400, "invalid")
    assert "expected" in reply.json["error"]
    assert len(await case.kept()) == 2


NOWHERE = ("00000000-0000-4000-8000-000000000000", "zz", "%00", "a%20related_to%20b", "%ff")


@pytest.mark.parametrize("record_id", NOWHERE)
async def test_no_conflict_is_not_found(node: Served, record_id: str) -> None:
    """Whatever is asked for, and where a memory has one version only."""
    assert (await node.local("GET", f"/conflicts/{record_id}")).code == "not_found"
    reply = await node.local("POST", f"/conflicts/{record_id}/resolve", {"expected": [], "keep": "winner"})
    assert reply.code == "not_found"
    made = (await node.local("POST", "/memories", {"title": "alone", "content": "text"})).json["id"]
    reply = await node.local("GET", f"/conflicts/{made}")
    assert (reply.status, reply.code) == (404, "not_found")
    assert "at most one version of it is kept" in reply.json["error"]


async def test_an_id_is_looked_for_in_the_namespace_that_is_named(node: Served, case: Case) -> None:
    """In no other one."""
    assert (await node.local("GET", f"/conflicts/{case.id}?namespace=team")).status == 200
    assert (await node.local("GET", f"/conflicts/{case.id}?namespace=other")).code == "not_found"


async def test_an_id_that_begins_several_conflicts_is_ambiguous(node: Served, case: Case) -> None:
    """A whole id is not, even where links begin with it."""
    made = Case(node)
    while made.id[:4] != case.id[:4]:
        made = Case(node)
    await made.begin()
    assert (await node.local("GET", f"/conflicts/{case.id[:4]}")).code == "ambiguous_id"
    assert (await node.local("GET", f"/conflicts/{case.id}")).status == 200
    await made.resolve(expected=await made.tags(), delete=True)
    assert (await node.local("GET", f"/conflicts/{case.id[:4]}")).json["id"] == case.id


async def test_of_large_ones_fewer_come_at_once(node: Served, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at least, so that whoever goes on from there has them all."""
    other = Case(node)
    await other.begin()
    whole = (await node.local("GET", "/conflicts?limit=2")).json["conflicts"]
    monkeypatch.setattr(conflicts, "MOST_BYTES", 1)
    pages = [(await node.local("GET", f"/conflicts?limit=2&offset={offset}")).json["conflicts"] for offset in (0, 1)]
    assert [len(page) for page in pages] == [1, 1]
    assert [*pages[0], *pages[1]] == whole
    await other.resolve(expected=await other.tags(), delete=True)


async def test_conflicts_come_in_pages(node: Served, case: Case) -> None:
    """The newest change first; the count is of all."""
    others = [Case(node) for _ in range(2)]
    for one in others:
        await one.begin()
    pages = [await node.read(f"/conflicts?limit=2&offset={offset}") for offset in (0, 2, 4)]
    assert [[one["id"] for one in page["conflicts"]] for page in pages] == [
        [others[1].id, others[0].id],
        [case.id],
        [],
    ]
    assert {page["count"] for page in pages} == {3}
    for one in others:
        await one.resolve(expected=await one.tags(), delete=True)
