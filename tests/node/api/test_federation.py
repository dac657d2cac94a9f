"""The federation listener over real mutual TLS: what exists there, who may read and write what, and how pages go on."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from certs import Mesh, Visitor
from lines import Caller, counting_proxy, port_of
from nodes import LIFE, Place, federation, local, memory, peer, push, tombstone

from node.daemon import Daemon
from node.dialer import Dialer
from sync import moment, record
from sync.asked import Asked
from sync.engine import Engine
from sync.feed import Cursor
from sync.scope import Globs
from sync.version import Version
from sync.wire import encode_hello
from tls.allowlist import parse
from tls.gate import Gate

pytestmark = pytest.mark.asyncio(loop_scope="module")
SINCE = "/sync/since"
PUSH = "/sync/push"
NAMESPACES = ("team", "team/a", "team/a/b", "private")

# What each certificate is to the node. The last is allowlisted and configured nowhere.
PEERS: dict[str, dict[str, Any] | None] = {
    "everything": {},
    "team": {"read": ["team/**"], "write": ["team/**"]},
    "segment": {"read": ["team/*"], "write": ["team/*"]},
    "nothing": {"read": [], "write": []},
    "pushed-to": {"direction": "push"},
    "pulled-from": {"direction": "pull"},
    "unconfigured": None,
}


@dataclass
class Hub:
    """A node, and one certificate for each of `PEERS`."""

    mesh: Mesh
    place: Place
    daemon: Daemon
    visitors: Mapping[str, Visitor]
    local: Caller

    @asynccontextmanager
    async def calling(self, name: str) -> AsyncIterator[Caller]:
        async with federation(self.daemon, self.mesh, self.visitors[name]) as caller:
            yield caller

    @property
    def now(self) -> int:
        return self.daemon.clock.now()

    async def titles(self, namespace: str) -> set[str]:
        found = (await self.local("GET", f"/memories?limit=1000&namespace={namespace}")).json
        return {one["title"] for one in found["memories"]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    mesh = Mesh(tmp_path_factory.mktemp("mesh"))
    place = Place(mesh, "hub", {})
    visitors = {name: mesh.issue(f"peer-{name}") for name in PEERS}
    place.configure(
        *(peer(name, visitors[name].fingerprint, **said) for name, said in PEERS.items() if said is not None)
    )
    place.list(*(visitor.fingerprint for visitor in visitors.values()))
    async with place.serving() as daemon, local(daemon) as client:
        for namespace in NAMESPACES:
            for number in range(2):
                body = {"title": f"{namespace} {number}", "content": "c", "namespace": namespace}
                assert (await client("POST", "/memories", body)).status == 201
        yield Hub(mesh, place, daemon, visitors, client)


async def read_all(caller: Caller, limit: int = 500, cursor: str | None = None) -> tuple[list[dict[str, Any]], str]:
    """Pages until there is no more; the records and the last cursor."""
    pages: list[dict[str, Any]] = []
    while True:
        page = (await caller("GET", f"{SINCE}?limit={limit}" + (f"&cursor={cursor}" if cursor else ""))).json
        pages.append(page)
        cursor = page["cursor"]
        if not page["more"]:
            return pages, str(cursor)


def records(pages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for page in pages for one in page["memories"]]


# --- what exists


@pytest.mark.parametrize("name", PEERS)
async def test_health_is_told_to_every_certificate_that_got_in(hub: Hub, name: str) -> None:
    """`health` needs no more than a place on the allowlist, and tells no more than that the node lives."""
    async with hub.calling(name) as caller:
        reply = await caller("GET", "/health")
    assert reply.status == 200
    assert reply.json == {
        "status": "ok",
        "service": "ai-memory",
        "version": reply.json["version"],
        "federation_enabled": True,
        "embedder_ready": False,
    }


@pytest.mark.parametrize("path", ["/memories", "/search?q=c", "/stats", "/namespaces", "/conflicts", "/sync/status"])
async def test_nothing_else_exists_there(hub: Hub, path: str) -> None:
    """What local clients use is not there for a peer, however trusted."""
    assert (await hub.local("GET", path)).status == 200
    async with hub.calling("everything") as caller:
        for method in ("GET", "POST", "PUT", "DELETE"):
            reply = await caller(method, path)
            assert (reply.status, reply.code) == (404, "not_found")


# --- scope and direction

READS = {
    "everything": set(NAMESPACES),
    "team": {"team", "team/a", "team/a/b"},
    "segment": {"team/a"},
    "nothing": set(),
    "pushed-to": set(NAMESPACES),
    "pulled-from": set(),
    "unconfigured": set(),
}
WRITES = {
    "everything": set(NAMESPACES),
    "team": {"team", "team/a", "team/a/b"},
    "segment": {"team/a"},
    "nothing": set(),
    "pulled-from": set(NAMESPACES),
    "unconfigured": set(),
}


@pytest.mark.parametrize("name", READS)
async def test_a_peer_reads_what_it_may(hub: Hub, name: str) -> None:
    """`since` shows the namespaces of the peer's read scope; to a certificate that is configured nowhere, none."""
    async with hub.calling(name) as caller:
        pages, cursor = await read_all(caller)
        found = {one["namespace"] for one in records(pages)}
        assert found & set(NAMESPACES) == READS[name]
        assert (await caller("GET", f"{SINCE}?cursor={cursor}")).json["count"] == 0


@pytest.mark.parametrize("name", WRITES)
async def test_a_peer_writes_what_it_may(hub: Hub, name: str) -> None:
    """A push is applied where the peer's write scope allows it; the rest is refused by name, in the same answer.

    A certificate that may write nothing is told so before its body is looked at.
    """
    sent = {
        space: memory(f"from {name} into {space}", namespace=space, at=hub.now, clock=ord(name[0]))
        for space in NAMESPACES
    }
    async with hub.calling(name) as caller:
        reply = await caller("POST", PUSH, push(*sent.values()))
    if WRITES[name]:
        refused = {one["id"]: one["reason"] for one in reply.json["refused"]}
        assert refused == {one["id"]: "scope" for space, one in sent.items() if space not in WRITES[name]}
        assert reply.json["applied"] == len(WRITES[name])
    else:
        assert (reply.status, reply.code) == (403, "scope")
    for space in NAMESPACES:
        assert (f"from {name} into {space}" in await hub.titles(space)) is (space in WRITES[name])


async def test_a_peer_that_is_only_pushed_to_may_not_push(hub: Hub) -> None:
    """Direction `push` means that data goes there: what it sends is refused as a whole."""
    async with hub.calling("pushed-to") as caller:
        reply = await caller("POST", PUSH, push(memory("unwanted", at=hub.now)))
    assert (reply.status, reply.code) == (403, "direction")
    assert "unwanted" not in await hub.titles("team")


async def test_the_default_scope_is_the_operators(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Negative control of the default: where the configuration opens it, the same unconfigured certificate gets in."""
    mesh = Mesh(tmp_path_factory.mktemp("mesh"))
    place = Place(mesh, "open", {("federation", "default_read"): ["**"], ("federation", "default_write"): ["team"]})
    place.list(mesh.friend.fingerprint)
    async with place.serving() as daemon, federation(daemon, mesh, mesh.friend) as caller:
        told = (await caller("POST", PUSH, push(memory("a", at=daemon.clock.now())))).json
        pages, _ = await read_all(caller)
    assert (told["applied"], [one["title"] for one in records(pages)]) == (1, ["a"])


async def test_claims_decide_nothing(hub: Hub) -> None:
    """Whoever says that it is another peer, in headers or body, is still its certificate and nothing else."""
    other = hub.visitors["everything"].fingerprint.text
    claims = {"X-Peer-Id": other, "X-Agent-Id": "everything", "X-Api-Key": other, "X-Forwarded-For": "127.0.0.1"}
    body = push(memory("by a liar", at=hub.now), sender_agent_id="everything")
    async with hub.calling("unconfigured") as caller:
        told = await caller("POST", f"{PUSH}?peer=everything", body, claims)
        page = (await caller("GET", f"{SINCE}?peer=everything", None, claims)).json
    assert (told.status, told.code, page["count"]) == (403, "scope", 0)
    async with hub.calling("everything") as caller:  # the certificate itself, claiming to be nobody
        told = (await caller("POST", PUSH, push(memory("by itself", at=hub.now), sender_agent_id=""))).json
    assert told["applied"] == 1


# --- push


async def hello(caller: Caller) -> dict[str, Any]:
    reply = await caller("POST", PUSH, encode_hello("ai:peer", LIFE))
    assert reply.status == 200, reply.body
    return dict(reply.json)


def place_of(life: str, number: int) -> str:
    """A cursor on the feed of a peer that a test plays."""
    return Cursor(life, number, number, number.to_bytes(8, "big"), Globs.everything().tag).text


async def test_push_is_answered_with_what_we_have(hub: Hub) -> None:
    """A hello tells our life and cursor; a page that goes on from there moves it, and every answer says so."""
    to = place_of(LIFE, 1)
    async with hub.calling("everything") as caller:
        first = await hello(caller)
        assert (first["life"], first["applied"], first["noop"]) == (hub.daemon.exchange.life, 0, 0)
        page = push(memory("one", at=hub.now, clock=21), after=first["have"], to=to, **{"for": first["life"]})
        told = (await caller("POST", PUSH, page)).json
        assert (told["applied"], told["noop"], told["have"]) == (1, 0, to)
        assert (await hello(caller))["have"] == to
    async with hub.calling("team") as caller:  # another certificate has a cursor of its own
        assert (await hello(caller))["have"] is None


async def test_the_same_push_twice_changes_nothing(hub: Hub) -> None:
    """A repeated body is answered alike, counts as `noop`, and leaves feed and digest as they were."""
    async with hub.calling("everything") as caller:
        stone = tombstone("gone", at=moment.text(hub.now), clock=23)
        body = push(memory("kept", at=hub.now, clock=22), tombstones=[stone], to=place_of(LIFE, 2))
        first = (await caller("POST", PUSH, body)).json
        position = hub.daemon.store.position
        second = (await caller("POST", PUSH, body)).json
    assert (first["applied"], first["deleted"], first["noop"]) == (1, 1, 0)
    assert (second["applied"], second["deleted"], second["noop"]) == (0, 0, 2)
    assert (second["have"], hub.daemon.store.position) == (first["have"], position)


@pytest.mark.parametrize("wrong", ["for", "after"])
async def test_a_page_made_for_another_state_is_applied_and_moves_nothing(hub: Hub, wrong: str) -> None:
    """Data are taken in any case; the cursor moves only from where it stands, and only for the life that we live."""
    async with hub.calling("everything") as caller:
        before = await hello(caller)
        members = {"after": before["have"], "to": place_of(LIFE, 900), "for": before["life"]}
        members |= {"for": "f" * 16} if wrong == "for" else {"after": place_of(LIFE, 800)}
        told = (await caller("POST", PUSH, push(memory(f"{wrong} wrong", at=hub.now, clock=24), **members))).json
    assert (told["applied"], told["have"]) == (1, before["have"])
    assert f"{wrong} wrong" in await hub.titles("team")


async def test_what_is_offered_and_lacking_is_wanted(hub: Hub) -> None:
    """An offer names versions; those that we lack are asked for and hold the cursor, those that we keep are not."""
    kept = memory("offered later", at=hub.now, clock=25)
    found = record.read(json.dumps(kept).encode(), "m")
    assert isinstance(found, Version)
    lacking, known = ["team", "some-id", "ab" * 16], [kept["namespace"], kept["id"], found.tag.hex()]
    async with hub.calling("everything") as caller:
        before = await hello(caller)
        assert (await caller("POST", PUSH, push(kept))).json["applied"] == 1
        to = place_of(LIFE, 3)
        members = {"after": before["have"], "to": to, "for": before["life"]}
        told = (await caller("POST", PUSH, push(offers=[known, lacking], **members))).json
        assert (told["wanted"], told["have"]) == ([lacking[2]], before["have"])
        told = (await caller("POST", PUSH, push(offers=[known], **members))).json
        assert (told["wanted"], told["have"]) == ([], to)


async def test_what_one_peer_was_asked_for_another_is_told_to_offer_later(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cursor stays, as the version is lacking; once the first cannot be reached, the second is asked."""
    monkeypatch.setattr(hub.daemon.engine, "_asked", Asked(patience=3600 * moment.SECOND))
    await offered_twice(hub, "cd" * 16, asked_at_once=False)
    hub.daemon.exchange.unreachable(hub.visitors["everything"].fingerprint.text)
    async with hub.calling("team") as second:
        told = (await second("POST", PUSH, push(offers=[["team", "one-body", "cd" * 16]]))).json
    assert told["wanted"] == ["cd" * 16]


async def test_without_that_both_peers_are_asked(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: where the engine does not choose, each of them would send the same body."""
    monkeypatch.setattr(Engine, "asking", lambda _self, _page, _versions, taken, _now: taken)
    await offered_twice(hub, "ef" * 16, asked_at_once=True)


async def offered_twice(hub: Hub, tag: str, *, asked_at_once: bool) -> None:
    """Two peers offer one version, one right after the other; is the second asked, too?"""
    offers = [["team", "one-body", tag]]
    async with hub.calling("everything") as first, hub.calling("team") as second:
        before = await hello(second)
        members = {"after": before["have"], "to": place_of(LIFE, 3), "for": before["life"]}
        assert (await first("POST", PUSH, push(offers=offers))).json["wanted"] == [tag]
        told = (await second("POST", PUSH, push(offers=offers, **members))).json
        assert told["wanted"] == ([tag] if asked_at_once else [])
        assert (told["again_ms"] > 0) is not asked_at_once
        assert told["have"] == before["have"]


# --- since


async def test_since_goes_on_page_by_page(hub: Hub) -> None:
    """Each change once, oldest first, whatever the size of the pages; after the last one nothing but the cursor."""
    async with hub.calling("everything") as caller:
        whole, end = await read_all(caller)
        pages, cursor = await read_all(caller, limit=3)
        assert [one["count"] for one in pages[:-1]] == [3] * (len(pages) - 1)
        assert [one["id"] for one in records(pages)] == [one["id"] for one in records(whole)]
        assert [page["reset"] for page in pages] == [True] + [False] * (len(pages) - 1)
        assert all(page["limit"] == 3 for page in pages)
        idle = (await caller("GET", f"{SINCE}?cursor={cursor}")).json
        assert (idle["count"], idle["more"], idle["reset"], idle["cursor"]) == (0, False, False, cursor)
        assert cursor == end
        await hub.local("POST", "/memories", {"title": "the newest", "content": "c"})
        news = (await caller("GET", f"{SINCE}?cursor={cursor}")).json
        assert [one["title"] for one in news["memories"]] == ["the newest"]


@pytest.mark.parametrize("what", ["life", "head", "filter", "top"])
async def test_a_cursor_that_proves_nothing_starts_over(hub: Hub, what: str) -> None:
    """A cursor of a foreign life, another history, another scope or the future is answered from the start."""
    async with hub.calling("everything") as caller:
        pages, text = await read_all(caller)
        good = Cursor.parse(text)
        changed = {"life": "f" * 16, "head": bytes(8), "filter": "0" * 8, "top": good.top + 1_000}[what]
        bad = Cursor(
            **{name: getattr(good, name) for name in ("life", "number", "top", "head", "filter")} | {what: changed}
        )
        again, _ = await read_all(caller, cursor=bad.text)
    assert (again[0]["reset"], len(records(again))) == (True, len(records(pages)))


async def test_a_poll_with_nothing_new_is_less_than_a_kibibyte(hub: Hub) -> None:
    """Request and answer with headers and TLS records, as the node's own client sends them, on a live connection."""
    assert hub.daemon.federation_url is not None
    friend = hub.visitors["everything"]
    gate = Gate(friend.files, parse(hub.place.fingerprint.text, "test"))
    context = gate.client_context(frozenset((hub.place.fingerprint,)))
    async with counting_proxy(port_of(hub.daemon.federation_url)) as wire:

        async def poll(dialer: Dialer, cursor: str) -> tuple[int, int]:
            before = wire.total
            answer = await dialer.get("/api/v1" + SINCE, {"limit": "500", "for": LIFE, "cursor": cursor})
            assert answer.status == 200
            return wire.total - before, len(answer.body)

        async with hub.calling("everything") as caller:
            _, cursor = await read_all(caller)
        async with Dialer(f"https://127.0.0.1:{wire.port}", lambda: context, 10.0) as dialer:
            await poll(dialer, cursor)  # the handshake
            spent, body = await poll(dialer, cursor)
            assert body < spent < 1_024, f"{spent} bytes, {body} of them the answer's body"
            # Negative control: the proxy does count, and an answer with something in it is larger.
            await hub.local("POST", "/memories", {"title": "long", "content": "x" * 1_024})
            assert (await poll(dialer, cursor))[0] > 2_048


async def test_an_answer_to_nothing_new_does_not_grow_with_the_store(hub: Hub) -> None:
    """The same few hundred bytes before and after a thousand more memories."""

    async def idle() -> int:
        _, cursor = await read_all(caller, limit=10_000)
        return len((await caller("GET", f"{SINCE}?cursor={cursor}")).body)

    async with hub.calling("everything") as caller:
        before = await idle()
        bodies = [{"title": f"more {number}", "content": "c", "namespace": "more"} for number in range(1_000)]
        assert (await hub.local("POST", "/memories/bulk", bodies)).json["created"] == 1_000
        assert abs(await idle() - before) <= 8  # two numbers of the cursor, a digit or two longer
