"""Tokens on every route: what a client with one sees and changes, and in whose name. Each guard has its control."""

import itertools
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from lines import API, Reply
from nodes import Served, memory, push

from node import tokens
from node.api.local import Local, Right
from node.rights import Rights
from node.store import evidence, linked, queries, search
from sync import writes
from sync.ids import memory_id

pytestmark = pytest.mark.asyncio(loop_scope="module")

AGENT, OTHER = "ai:helper", "ai:mallory"
OWN, SEEN, DROP, HIDDEN = "own/notes", "seen/notes", "drop/notes", "hidden/notes"
SECRET_WORD = "zanzibar"  # in every memory that the token may not see
numbers = itertools.count()


@dataclass(frozen=True)
class Use:
    """How a route is used on one memory, and what its answers are for who may change it, see it, or neither."""

    path: str
    body: Any = None
    changed: int = 200
    seen: int = 200
    unseen: int | None = 404
    """None: 200 as for nothing that is there."""


CHANGE = {"seen": 403}
ON_ONE: Mapping[str, Use] = {
    "GET /memories/{id}": Use("/memories/{id}"),
    "PUT /memories/{id}": Use("/memories/{id}", {"content": "new"}, **CHANGE),
    "DELETE /memories/{id}": Use("/memories/{id}", **CHANGE),
    "POST /memories/{id}/promote": Use("/memories/{id}/promote", {}, **CHANGE),
    "POST /links": Use("/links", {"source_id": "{id}", "target_id": "{friend}"}, changed=201, **CHANGE),
    "DELETE /links": Use("/links", {"source_id": "{id}", "target_id": "{beside}"}, unseen=None, **CHANGE),
    "GET /links/{id}": Use("/links/{id}"),
    "GET /conflicts/{id}": Use("/conflicts/{id}"),
    "POST /conflicts/{id}/resolve": Use("/conflicts/{id}/resolve", {"expected": "{tags}", "keep": "winner"}, **CHANGE),
    "GET /verify/{id}": Use("/verify/{id}"),
}
"""Routes that name a memory."""
MANY = ("GET /memories", "GET /search", "GET /conflicts", "GET /identities", "GET /namespaces", "GET /stats")
"""Routes that answer about many: nothing of what is hidden is among them."""
NEW = ("POST /memories", "POST /memories/bulk")
OWNERS = (
    "POST /identities", "POST /identities/rotate", "POST /identities/reload", "GET /verify", "GET /sync/status",
    "POST /sync/settle", "POST /sync/versions",
)  # fmt: skip
TO_ALL = ("GET /health",)


def names(right: Right | None = None) -> set[str]:
    local = Local(None, None, None, dict, None, max_body=1)  # type: ignore[arg-type]  # it is only asked for its routes
    return {f"{method} {path}" for method, path, needs, _ in local.routes if right in (None, needs)}


async def test_every_route_has_its_place_in_these_tables() -> None:
    """A route that is added is added here, too; and the application has no other than those with a declared right."""
    clients = {*ON_ONE, *MANY, *NEW}
    assert names(Right.CLIENT) == clients
    assert names(Right.OWNER) == {*OWNERS}
    assert names(Right.NONE) == {*TO_ALL}
    application = Local(None, None, None, dict, None, max_body=1).application()  # type: ignore[arg-type]  # as above
    served = {(one.method, one.resource.canonical) for one in application.router.routes() if one.resource}
    assert served == {(method, API + path) for method, _, path in (name.partition(" ") for name in names())}


# --- what they are tried on


@dataclass(frozen=True)
class Thing:
    """A memory of two kept versions, which a link leads from to one beside it, and another from one in `OWN`."""

    id: str
    title: str
    beside: str
    tags: list[str]


@dataclass(frozen=True)
class Client:
    """Who has the token, and the owner beside it."""

    node: Served
    token: str
    friend: str
    """A memory in `OWN`."""

    async def __call__(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str | None] | None = None
    ) -> Reply:
        return await self.node.local(method, path, body, {"X-Api-Key": self.token, **(headers or {})})

    async def thing(self, namespace: str) -> Thing:
        """Made by the owner, and by a peer in ignorance of it."""
        word = SECRET_WORD if namespace in (DROP, HIDDEN) else "plain"
        number = next(numbers)
        found = []
        for which in ("first", "beside"):
            fields = {"title": f"{which} {word} {number}", "content": f"{word} text", "namespace": namespace}
            made = await self.node.local("POST", "/memories", fields, {"X-Agent-Id": f"ai:{word}"})
            assert made.status == 201, made.body
            found.append(made.json)
        here, beside = found
        links = [{"source_id": here["id"], "target_id": beside["id"]}]
        links.append({"source_id": self.friend, "target_id": here["id"]})
        for link in links:
            assert (await self.node.local("POST", "/links", link)).status == 201
        theirs = memory(here["title"], f"{word} of a peer", namespace=namespace, at=time.time_ns() // 1_000)
        assert (await self.node.friend("POST", "/sync/push", push(theirs))).json["applied"] == 1
        kept = (await self.node.local("GET", f"/conflicts/{here['id']}")).json["versions"]
        assert len(kept) == 2
        return Thing(here["id"], here["title"], beside["id"], [one["tag"] for one in kept])

    def asked(self, use: Use, thing: Thing, **headers: str) -> Any:
        """The request of a use on a thing."""
        path = use.path.replace("{id}", thing.id)
        said = json.dumps(use.body).replace('"{tags}"', json.dumps(thing.tags))
        for name, value in (("id", thing.id), ("friend", self.friend), ("beside", thing.beside)):
            said = said.replace(f"{{{name}}}", value)
        return path, json.loads(said)

    async def use(self, name: str, thing: Thing) -> Reply:
        return await self(name.partition(" ")[0], *self.asked(ON_ONE[name], thing))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(node: Served) -> AsyncIterator[Client]:
    path = node.place.home.tokens
    token, _ = tokens.add(path, AGENT, ["own/**", "seen/**"], ["own/**", "drop/**"], 0)
    made = await node.local("POST", "/memories", {"title": "a friend", "content": "plain", "namespace": OWN})
    yield Client(node, token, made.json["id"])


def nowhere(thing: Thing) -> Thing:
    """What is not there at all, called by as many letters."""
    return Thing(memory_id(HIDDEN, f"no such {thing.title}", 0), "", memory_id(HIDDEN, "nor this", 0), thing.tags)


# --- seeing and changing


@pytest.mark.parametrize("name", ON_ONE)
async def test_what_may_be_changed_is(client: Client, name: str) -> None:
    """With both rights every route does what it does for the owner."""
    assert (await client.use(name, await client.thing(OWN))).status == ON_ONE[name].changed


@pytest.mark.parametrize("name", ON_ONE)
async def test_what_is_only_seen_is_not_changed(client: Client, name: str) -> None:
    """Without the right to write, a change is refused by name, and nothing is written."""
    thing = await client.thing(SEEN)
    before = client.node.position
    reply = await client.use(name, thing)
    assert reply.status == ON_ONE[name].seen
    if reply.status == 403:
        assert reply.code == "forbidden"
        assert reply.json["error"] == "this token may not write in the namespace 'seen/notes'"
    assert client.node.position == before


@pytest.mark.parametrize("namespace", [HIDDEN, DROP])
@pytest.mark.parametrize("name", ON_ONE)
async def test_what_is_not_seen_is_not_there(client: Client, name: str, namespace: str) -> None:
    """In the same words, to the byte, as what is not there: an id is computed from a title, and may be guessed."""
    thing = await client.thing(namespace)
    none = nowhere(thing)
    before = client.node.position
    found, absent = await client.use(name, thing), await client.use(name, none)
    assert found.status == (ON_ONE[name].unseen or 200)
    assert (found.status, found.body.replace(thing.id.encode(), none.id.encode())) == (absent.status, absent.body)
    assert {**found.headers, "date": ""} == {**absent.headers, "date": ""}
    short = await client.use(name, Thing(thing.id[:8], "", thing.beside, thing.tags))
    assert short.status == found.status
    assert client.node.position == before


@pytest.mark.parametrize("name", MANY)
async def test_among_many_nothing_hidden_is(client: Client, name: str) -> None:
    """Lists, searches and counts are of what is seen: a memory more that is hidden changes no byte of them."""
    query = f"?limit=1000{'&q=' + SECRET_WORD if name == 'GET /search' else ''}"
    path = name.partition(" ")[2] + query
    before = await client("GET", path)
    assert before.status == 200
    for namespace in (HIDDEN, DROP):
        thing = await client.thing(namespace)
        await client.node.local("DELETE", f"/memories/{thing.beside}")
        for also in ("", f"&namespace={namespace}", f"&namespace={namespace}&agent_id=ai:{SECRET_WORD}"):
            assert SECRET_WORD.encode() not in (await client("GET", path + also)).body.replace(
                b'"query":"zanzibar"', b""
            )
    after = await client("GET", path)
    assert after.body == before.body


@pytest.mark.parametrize("name", MANY)
async def test_among_many_what_is_seen_is(client: Client, name: str) -> None:
    """The same answers do change with what is seen: the test above does not look at something that stands still."""
    path = name.partition(" ")[2] + f"?limit=1000{'&q=plain' if name == 'GET /search' else ''}"
    before = (await client("GET", path)).body
    await client.node.local("POST", "/memories", {"title": "t", "content": "c", "namespace": OWN, "agent_id": AGENT})
    await client.thing(OWN)
    written = await client("POST", "/memories", {"title": f"{name}", "content": "c", "namespace": OWN})
    assert written.status == 201
    assert (await client("GET", path)).body != before


async def test_a_link_to_what_is_hidden_is_not_shown(client: Client) -> None:
    """Neither from its other end nor with that memory, nor may one be made: its target's id comes from a title."""
    hidden, seen = await client.thing(HIDDEN), await client.thing(SEEN)
    for path in (f"/links/{client.friend}", f"/memories/{client.friend}"):
        reply = await client("GET", path)
        assert hidden.id.encode() not in reply.body
        assert seen.id.encode() in reply.body
    for ends in ((client.friend, hidden.id), (hidden.id, client.friend)):
        made = await client("POST", "/links", dict(zip(("source_id", "target_id"), ends, strict=True)))
        assert (made.status, made.code) == (404, "not_found")
    gone = await client("DELETE", "/links", {"source_id": client.friend, "target_id": hidden.id})
    assert gone.json == {"deleted": False}
    assert hidden.id.encode() in (await client.node.local("GET", f"/links/{client.friend}")).body


@pytest.mark.parametrize(("namespace", "status"), [(OWN, 201), (DROP, 201), (SEEN, 403), (HIDDEN, 403), (None, 403)])
async def test_new_memories_go_where_the_token_may_write(client: Client, namespace: str | None, status: int) -> None:
    """Alone and in bulk; without a namespace they would go to `global`. What is there already makes no difference."""
    there = (await client.thing(namespace)).title if namespace else "x"
    answers = []
    for title in (there, f"new {next(numbers)}"):
        fields = {"title": title, "content": "of the helper", "namespace": namespace}
        reply = await client("POST", "/memories", fields)
        assert reply.status == status
        many = (await client("POST", "/memories/bulk", [fields])).json
        assert (many["created"], len(many["errors"])) == ((1, 0) if status == 201 else (0, 1))
        told = reply.json
        if status == 201:
            assert told["agent_id"] == AGENT if namespace == DROP or title != there else told["agent_id"]
            assert told["id"] == memory_id(namespace or "", title, 0) == many["ids"][0]
        answers.append({name: value for name, value in told.items() if name not in ("id", "title")})
    if namespace != OWN:
        assert answers[0] == answers[1]


@pytest.mark.parametrize("route", ["/memories", "/memories/bulk"])
async def test_what_is_stored_unseen_changes_nothing_of_others(client: Client, route: str) -> None:
    """Nor does a limit that the hidden memory comes under tell whether the title is taken; its own it changes."""
    there = await client.thing(DROP)
    before = (await client.node.local("GET", f"/memories/{there.id}?namespace={DROP}")).body
    for content, scope in (("first", "x" * 65_000), ("second", "y" * 65_000)):
        fields = {"title": there.title, "content": content, "namespace": DROP, "scope": scope}
        reply = await client("POST", route, [fields] if route.endswith("bulk") else fields)
        assert reply.status in (200, 201)
        assert not reply.json.get("errors")
    assert (await client.node.local("GET", f"/memories/{there.id}?namespace={DROP}")).body == before
    listed = (await client.node.local("GET", f"/memories?namespace={DROP}&limit=1000")).json["memories"]
    assert [one["content"] for one in listed if one["title"] == there.title and one["id"] != there.id] == ["second"]


async def test_what_is_stored_by_its_title_alone_would_overwrite_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: whoever wrote it."""
    true = writes.titled
    monkeypatch.setattr(writes, "titled", lambda batch, namespace, title, by=None: true(batch, namespace, title))
    with pytest.raises(AssertionError):
        await test_what_is_stored_unseen_changes_nothing_of_others(client, "/memories")


@pytest.mark.parametrize("namespace", [SEEN, HIDDEN, DROP, "global"])
async def test_nothing_is_moved_where_the_token_may_not_see_and_write(client: Client, namespace: str) -> None:
    """Were the namespace only written, a title that is taken there would tell on itself."""
    thing, there = await client.thing(OWN), "any title"
    if namespace != "global":
        there = (await client.thing(namespace)).title
    for title in (there, f"free {next(numbers)}"):
        reply = await client("PUT", f"/memories/{thing.id}", {"namespace": namespace, "title": title})
        assert (reply.status, reply.code) == (403, "forbidden")
    moved = await client("PUT", f"/memories/{thing.id}", {"namespace": "own/elsewhere"})
    assert moved.json["namespace"] == "own/elsewhere"


# --- in whose name


@pytest.mark.parametrize("name", sorted({*ON_ONE, *MANY, *NEW}))
async def test_nobody_else_is_spoken_for(client: Client, name: str) -> None:
    """`X-Agent-Id` of another agent is refused on every route, `agent_id` of a body on those that have one."""
    method, _, path = name.partition(" ")
    thing = await client.thing(OWN)
    body: Any = {"title": f"by another {next(numbers)}", "content": "c", "namespace": OWN}
    if name in ON_ONE:
        path, body = client.asked(ON_ONE[name], thing)
    sent = [body] if name.endswith("/bulk") else body
    before = client.node.position
    reply = await client(method, path, sent if method != "GET" else None, {"X-Agent-Id": OTHER})
    assert (reply.status, reply.code) == (403, "forbidden")
    assert reply.json["error"] == f"this token writes as {AGENT} alone; the request names {OTHER!r}"
    if method in ("POST", "PUT") and not name.endswith("/promote"):
        named = {**body, "agent_id": OTHER}
        reply = await client(method, path, [named] if name.endswith("/bulk") else named)
        assert OTHER in reply.json["error"] if reply.status == 403 else OTHER in reply.json["errors"][0]
    assert client.node.position == before
    path += "?q=plain" if name == "GET /search" else ""
    assert (await client(method, path, sent if method != "GET" else None, {"X-Agent-Id": AGENT})).status in (200, 201)


async def test_a_link_is_taken_back_in_ones_own_name(client: Client) -> None:
    """The query may name the agent, too."""
    thing = await client.thing(OWN)
    query = f"/links?source_id={thing.id}&target_id={thing.beside}&agent_id="
    assert (await client("DELETE", query + OTHER)).code == "forbidden"
    assert (await client("DELETE", query + AGENT)).json == {"deleted": True}


async def test_what_a_token_writes_is_its_agents(client: Client) -> None:
    """Without a word about it: signed by its key, and first written by it, whatever metadata say."""
    fields = {"title": f"mine {next(numbers)}", "content": "c", "namespace": OWN, "metadata": {"agent_id": OTHER}}
    made = (await client("POST", "/memories", fields)).json
    record = (await client("GET", f"/memories/{made['id']}")).json["memory"]
    assert (record["metadata"]["agent_id"], record["metadata"]["attestation"]["agent"]) == (AGENT, AGENT)


@pytest.mark.parametrize("name", OWNERS)
async def test_what_is_about_the_whole_takes_the_key(client: Client, name: str) -> None:
    """Even a token for everything does not rotate keys, bring versions, or see the digest."""
    everything, _ = tokens.add(client.node.place.home.tokens, AGENT, [], [], 0)
    method, _, path = name.partition(" ")
    body = None if method == "GET" else {"agent_id": AGENT, "memories": []}
    for token in (client.token, everything):
        reply = await client.node.local(method, path, body, {"X-Api-Key": token})
        assert (reply.status, reply.code) == (403, "forbidden")
    assert (await client.node.local(method, path, body)).status == 200


# --- the guards taken away


@pytest.mark.parametrize("name", ON_ONE)
async def test_without_its_scope_every_route_would_tell(
    client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: were no look-up limited, what is hidden would be found, and changed where it may be written."""
    thing = await client.thing(DROP)
    for module in (queries, search, linked, evidence):
        monkeypatch.setattr(module, "within", lambda scope, column="": ("", []))
    monkeypatch.setattr(Rights, "scope", None)
    monkeypatch.setattr(Rights, "may_read", lambda self, namespace: True)
    reply = await client.use(name, thing)
    assert reply.status == ON_ONE[name].changed
    assert reply.body != b'{"deleted":false}'


@pytest.mark.parametrize("name", [name for name, use in ON_ONE.items() if use.seen == 403])
async def test_without_its_right_every_change_would_be_made(
    client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: were nobody asked for the right to write."""
    thing = await client.thing(SEEN)
    before = client.node.position
    monkeypatch.setattr(Rights, "require_write", lambda self, namespace: None)
    if name == "DELETE /links":
        write = tokens.Globs.everything()
        monkeypatch.setattr(Rights, "write", property(lambda self: write))
    assert (await client.use(name, thing)).status == ON_ONE[name].changed
    assert client.node.position != before


@pytest.mark.parametrize("name", MANY)
async def test_without_its_scope_every_list_would_tell(
    client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control for the lists: what is hidden would be among them."""
    if name == "GET /identities":
        monkeypatch.setattr(Rights, "agent", None)
    for module in (queries, search, linked, evidence):
        monkeypatch.setattr(module, "within", lambda scope, column="": ("", []))
    path = name.partition(" ")[2] + f"?limit=1000{'&q=' + SECRET_WORD if name == 'GET /search' else ''}"
    before = (await client("GET", path)).body
    await client.thing(HIDDEN)
    assert (await client("GET", path)).body != before


async def test_without_its_agent_a_token_would_speak_for_all(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: were nobody asked in whose name."""
    monkeypatch.setattr(Rights, "require_agent", lambda self, named: None)
    body = {"title": f"as another {next(numbers)}", "content": "c", "namespace": OWN}
    assert (await client("POST", "/memories", body, {"X-Agent-Id": OTHER})).json["agent_id"] == OTHER
