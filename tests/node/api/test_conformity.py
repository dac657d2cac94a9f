"""The client API beside what the existing daemon (v0.6.3) was recorded to answer: paths, status, members and types.

Where this node differs on purpose, the table says so; everything else is what a client of that daemon finds here too.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from nodes import Served

from sync import moment

pytestmark = pytest.mark.asyncio(loop_scope="module")
Shape = Mapping[str, Any]

TIME = object()
"""RFC 3339 with six digits of a second and `+00:00`: text order is the order of time."""
MEMORY: Shape = {
    "access_count": int,
    "confidence": float,
    "content": str,
    "created_at": TIME,
    "id": str,
    "metadata": {"agent_id": str},
    "namespace": str,
    "priority": int,
    "source": str,
    "tags": list,
    "tier": str,
    "title": str,
    "updated_at": TIME,
}
EXPIRING: Shape = {**MEMORY, "expires_at": TIME}
CREATED: Shape = {"agent_id": str, "id": str, "namespace": str, "tier": str, "title": str}
COUNTS = [{"count": int, "namespace": str}]
LINK: Shape = {"source_id": "{other}", "target_id": "{linked}", "relation": "supersedes", "created_at": TIME}

# method, path, body, status, the members that were recorded. `{id}`: a memory of tier mid, `{prefix}`: 13 digits of it;
# `{other}`, `{linked}`: two that are linked.
ANSWERS: dict[str, tuple[str, str, Any, int, Shape]] = {
    "health": (
        "GET",
        "/health",
        None,
        200,
        {"embedder_ready": bool, "federation_enabled": bool, "service": "ai-memory", "status": "ok", "version": str},
    ),
    "create": ("POST", "/memories", {"title": "new", "content": "c", "namespace": "conform/new"}, 201, CREATED),
    "create, the title being there": (
        "POST",
        "/memories",
        {"title": "one", "content": "again", "namespace": "conform"},
        201,
        {**CREATED, "id": "{id}"},
    ),
    "create, merging": (
        "POST",
        "/memories",
        {"title": "one", "content": "and again", "namespace": "conform", "on_conflict": "merge"},
        201,
        {**CREATED, "id": "{id}"},
    ),
    "get": ("GET", "/memories/{id}", None, 200, {"links": [], "memory": EXPIRING}),
    "get by a prefix": ("GET", "/memories/{prefix}", None, 200, {"links": [], "memory": EXPIRING}),
    "list": ("GET", "/memories?limit=2", None, 200, {"count": 2, "memories": [MEMORY]}),
    "list a namespace": ("GET", "/memories?namespace=conform", None, 200, {"count": 2, "memories": [MEMORY]}),
    "search": ("GET", "/search?q=fox", None, 200, {"count": 2, "query": "fox", "results": [MEMORY]}),
    "search for both words": ("GET", "/search?q=fox%20dog", None, 200, {"count": 1, "results": [MEMORY]}),
    "search in vain": ("GET", "/search?q=zebra", None, 200, {"count": 0, "query": "zebra", "results": []}),
    "update": (
        "PUT",
        "/memories/{id}",
        {"content": "slow fox", "priority": 7},
        200,
        {**EXPIRING, "priority": 7, "id": "{id}"},
    ),
    "promote": ("POST", "/memories/{id}/promote", {}, 200, {"id": "{id}", "promoted": True, "tier": "long"}),
    "delete": ("DELETE", "/memories/{id}", None, 200, {"deleted": True}),
    "link": (
        "POST",
        "/links",
        {"source_id": "{id}", "target_id": "{other}", "relation": "supersedes"},
        201,
        {"attest_level": str, "linked": True},
    ),
    "links": ("GET", "/links/{linked}", None, 200, {"links": [LINK]}),
    "get, with links": ("GET", "/memories/{linked}", None, 200, {"links": [LINK], "memory": {"id": "{linked}"}}),
    "link deleted": (
        "DELETE",
        "/links",
        {"source_id": "{other}", "target_id": "{linked}", "relation": "supersedes"},
        200,
        {"deleted": True},
    ),
    "bulk": (
        "POST",
        "/memories/bulk",
        [{"title": "Bk1", "content": "c", "namespace": "conform/bulk"}, {"title": "", "content": "c"}],
        200,
        {"created": 1, "errors": [str]},
    ),
    "stats": (
        "GET",
        "/stats",
        None,
        200,
        {
            "by_namespace": COUNTS,
            "by_tier": [{"count": int, "tier": str}],
            "db_size_bytes": int,
            "expiring_soon": int,
            "links_count": int,
            "total": int,
        },
    ),
    "namespaces": ("GET", "/namespaces", None, 200, {"namespaces": COUNTS}),
}

GONE = "/memories/00000000-0000-4000-8000-000000000000"
# method, path, body, recorded status, our status where it differs on purpose. That daemon's framework answers what it
# cannot read with 422 and a line of text; here the whole of an error is one form, and 400 is what it is.
ERRORS: dict[str, tuple[str, str, Any, int, int | None]] = {
    "no title": ("POST", "/memories", {"content": "x"}, 422, 400),
    "an empty title": ("POST", "/memories", {"title": "", "content": "x"}, 400, None),
    "an unknown tier": ("POST", "/memories", {"title": "t", "content": "x", "tier": "z"}, 422, 400),
    "no JSON": ("POST", "/memories", b"{", 400, None),
    "get of nothing": ("GET", GONE, None, 404, None),
    "update of nothing": ("PUT", GONE, {"content": "z"}, 404, None),
    "promote of nothing": ("POST", f"{GONE}/promote", {}, 404, None),
    "delete of nothing": ("DELETE", GONE, None, 404, None),
    "a title that is taken": ("PUT", "/memories/{id}", {"title": "two"}, 409, None),
    "a link to itself": ("POST", "/links", {"source_id": "{id}", "target_id": "{id}"}, 400, None),
    "a link of an unknown relation": (
        "POST",
        "/links",
        {"source_id": "{id}", "target_id": "{other}", "relation": "likes"},
        400,
        None,
    ),
    "search for nothing": ("GET", "/search?q=", None, 400, None),
    "search without q": ("GET", "/search", None, 400, None),
    "an object for a bulk": ("POST", "/memories/bulk", {"memories": []}, 422, 400),
    "an unknown path": ("GET", "/nope", None, 404, None),
}


@pytest_asyncio.fixture(loop_scope="module")
async def ids(node: Served) -> dict[str, str]:
    """Two memories in an otherwise empty part of the store: `one` of tier mid, `two` of tier long."""
    for memory in (await node.read("/memories?limit=1000"))["memories"]:
        if memory["namespace"].startswith("conform"):
            await node.local("DELETE", f"/memories/{memory['id']}")
    one = {"title": "one", "content": "quick brown fox", "namespace": "conform", "tier": "mid"}
    two = {"title": "two", "content": "lazy dog fox", "namespace": "conform", "tier": "long"}
    made = [(await node.local("POST", "/memories", fields, {"X-Agent-Id": "ai:alice"})).json for fields in (one, two)]
    three = {"title": "three", "content": "third", "namespace": "conform/linked", "tier": "long"}
    linked = (await node.local("POST", "/memories", three)).json["id"]
    said = {"source_id": made[1]["id"], "target_id": linked, "relation": "supersedes"}
    assert (await node.local("POST", "/links", said)).status == 201
    return {"{id}": made[0]["id"], "{prefix}": made[0]["id"][:13], "{other}": made[1]["id"], "{linked}": linked}


def filled(text: str, ids: Mapping[str, str]) -> str:
    for name, value in ids.items():
        text = text.replace(name, value)
    return text


def told(body: Any, ids: Mapping[str, str]) -> Any:
    """A body with its ids in it."""
    if not isinstance(body, dict):
        return body
    return {name: filled(value, ids) if isinstance(value, str) else value for name, value in body.items()}


def faults(found: Any, shape: Any, ids: Mapping[str, str], place: str = "$") -> list[str]:
    """Where an answer lacks what was recorded. Members beyond it are no fault: clients skip them."""
    if shape is TIME:
        return [] if isinstance(found, str) and moment.is_canonical(found) else [f"{place}: {found!r} is no time"]
    if isinstance(shape, type):
        return [] if type(found) is shape else [f"{place}: {found!r}, {shape.__name__} expected"]
    if isinstance(shape, Mapping):
        if not isinstance(found, dict):
            return [f"{place}: {found!r}, an object expected"]
        missing = [f"{place}.{name} is missing" for name in shape if name not in found]
        return missing + [
            fault
            for name in shape
            if name in found
            for fault in faults(found[name], shape[name], ids, f"{place}.{name}")
        ]
    if isinstance(shape, list) and shape:
        if not isinstance(found, list) or not found:
            return [f"{place}: {found!r}, a list with something in it expected"]
        return [fault for i, one in enumerate(found) for fault in faults(one, shape[0], ids, f"{place}[{i}]")]
    expected = filled(shape, ids) if isinstance(shape, str) else shape
    return [] if (type(found), found) == (type(expected), expected) else [f"{place}: {found!r}, {expected!r} expected"]


@pytest.mark.parametrize("case", ANSWERS)
async def test_a_client_of_the_existing_daemon_finds_what_it_knows(
    node: Served, ids: dict[str, str], case: str
) -> None:
    """Path, status, and every recorded member with its type."""
    method, path, body, status, shape = ANSWERS[case]
    reply = await node.local(method, filled(path, ids), told(body, ids), {"X-Agent-Id": "ai:alice"})
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/json"
    assert faults(reply.json, shape, ids) == []


@pytest.mark.parametrize("case", ERRORS)
async def test_error_shape_where_the_existing_daemon_answers_an_error(
    node: Served, ids: dict[str, str], case: str
) -> None:
    """The recorded status, or the one that the table gives in its place; `error` is there as it is with that daemon."""
    method, path, body, recorded, ours = ERRORS[case]
    reply = await node.local(method, filled(path, ids), told(body, ids))
    assert reply.status == (ours or recorded)
    assert reply.code
    if recorded == 404 and path.startswith(GONE):
        assert reply.json["error"] == "not found"


async def test_a_comparison_that_finds_nothing_would_be_noticed(ids: dict[str, str]) -> None:
    """Negative control: a missing member, another type, another value and an empty list are each told."""
    shape = {"a": int, "b": TIME, "c": "{id}", "d": [str], "e": True}
    good = {"a": 1, "b": moment.text(0), "c": ids["{id}"], "d": ["x"], "e": True, "beyond": None}
    assert faults(good, shape, ids) == []
    for name, wrong in {"a": True, "b": "2026-01-01T00:00:00Z", "c": "other", "d": [], "e": 1}.items():
        assert len(faults({**good, name: wrong}, shape, ids)) == 1
        assert len(faults({key: value for key, value in good.items() if key != name}, shape, ids)) == 1


async def test_defaults_are_those_of_the_existing_daemon_but_for_the_tier(node: Served) -> None:
    """A memory of title and content alone: global, priority 5, confidence 1.0, source api; and it is kept.

    The existing daemon has `mid` there, and lets it go after seven days without a word.
    """
    made = (await node.local("POST", "/memories", {"title": "bare", "content": "c"})).json
    found = (await node.read(f"/memories/{made['id']}"))["memory"]
    expected = {
        "namespace": "global",
        "tier": "long",
        "priority": 5,
        "confidence": 1.0,
        "source": "api",
        "tags": [],
        "access_count": 0,
    }
    assert {name: found[name] for name in expected} == expected
    assert found.get("expires_at") is None
    assert (made["tier"], made["expires_at"]) == ("long", None)


async def test_a_tier_that_ends_says_when(node: Served) -> None:
    """The answer to a store names the tier and the time, the first time and when it is stored again."""
    for tier, lasting in (("short", timedelta(hours=6)), ("mid", timedelta(days=7))):
        for _ in range(2):
            body = {"title": f"of {tier}", "content": "c", "tier": tier}
            made = (await node.local("POST", "/memories", body)).json
            assert made["tier"] == tier
            found = (await node.read(f"/memories/{made['id']}"))["memory"]
            assert made["expires_at"] == found["expires_at"]
            left = moment.microseconds(made["expires_at"]) - moment.microseconds(made["updated_at"])
            assert left == lasting.total_seconds() * moment.SECOND


async def test_what_expires_within_the_hour_is_counted(node: Served) -> None:
    """`expiring_soon` counts what has an hour or less to live, and `total` does not count what expired."""
    before = await node.read("/stats")
    for title, seconds in (("soon", 3_000), ("later", 4_000)):
        await node.local("POST", "/memories", {"title": title, "content": "c", "ttl_secs": seconds})
    after = await node.read("/stats")
    assert after["expiring_soon"] == before["expiring_soon"] + 1
    assert after["total"] == before["total"] + 2


async def test_a_prefix_of_two_ids_is_not_guessed_at(node: Served) -> None:
    """An id may be shortened only as far as one memory has it; else 409, and what to do."""
    bodies = [{"title": f"prefix {number}", "content": "c", "namespace": "prefix"} for number in range(1_000)]
    told = (await node.local("POST", "/memories/bulk", bodies)).json
    prefixes = [one[:4] for one in told["ids"]]
    shared = next(one for one in prefixes if prefixes.count(one) > 1)
    reply = await node.local("GET", f"/memories/{shared}")
    assert (reply.status, reply.code) == (409, "ambiguous_id")


async def test_search_finds_what_was_just_written(node: Served) -> None:
    """An acknowledged create, update or delete is what the next search answers."""
    made = (await node.local("POST", "/memories", {"title": "kestrel", "content": "hovers"})).json
    path = f"/memories/{made['id']}"

    async def hits(word: str) -> int:
        return int((await node.read(f"/search?q={word}"))["count"])

    assert (await hits("hovers"), await hits("dives")) == (1, 0)
    await node.local("PUT", path, {"content": "dives"})
    assert (await hits("hovers"), await hits("dives")) == (0, 1)
    await node.local("DELETE", path)
    assert (await hits("dives"), (await node.local("GET", path)).status) == (0, 404)
