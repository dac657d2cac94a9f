"""The faults of the older daemon that were seen while it ran (`rules-observed.json`), seen again in the fake.

Those that its clients make of them (a fast clock, watermarks that skip, pages that are sent for ever) follow below;
they were read in its source, and A1 to A19 are their numbers in the list of its known faults.
"""

import asyncio
import json
from typing import Any

import pytest
from certs import Mesh
from lines import Line, chunked
from recordings import raw
from rust_daemon import (
    V063,
    V070,
    Answer,
    Caller,
    Cycle,
    Pulled,
    Release,
    Request,
    RustDaemon,
    Scope,
    SyncDaemon,
    Trust,
    catch_up,
    client_context,
)

RELEASES = {"v063": V063, "v070": V070}
BY_CLAIM = {(v, one["claim"].partition(" ")[0]): one for v in RELEASES for one in raw(v, "rules-observed")}
LEFT_OUT = {"HTTP/1.1 pipelining": "says how many answers one read held, which no caller depends on"}
AT = "2026-11-24T07:00:00+00:00"
PEER = (("content-type", "application/json"), ("x-peer-id", "host:x"), ("x-agent-id", "host:x"))


def row(identifier: str, title: str | None = None, at: str = AT, **fields: Any) -> dict[str, Any]:
    """A memory as a peer sends it."""
    base = {"id": identifier, "tier": "mid", "namespace": "n", "title": title or identifier, "content": "c", "tags": []}
    base |= {"priority": 5, "confidence": 1.0, "source": "api", "access_count": 0, "created_at": at, "updated_at": at}
    return base | {"metadata": {"agent_id": "ai:x"}} | fields


async def push(daemon: RustDaemon, *rows: Any, headers: Any = PEER, **members: Any) -> Any:
    """A push from a peer: the answer."""
    body = json.dumps({"sender_agent_id": "host:x", "memories": list(rows), **members}).encode()
    return json.loads((await daemon.handle(Request("POST", "/api/v1/sync/push", "", headers, body))).data)


async def since(daemon: RustDaemon, query: str = "", headers: Any = PEER) -> Any:
    return json.loads((await daemon.handle(Request("GET", "/api/v1/sync/since", query, headers, b""))).data)


async def write(daemon: RustDaemon, method: str, path: str, body: Any = None) -> Answer:
    data = b"" if body is None else json.dumps(body).encode()
    return await daemon.handle(Request(method, f"/api/v1{path}", "", (*PEER[:1], ("x-agent-id", "ai:u")), data))


def test_every_observed_claim_is_looked_at() -> None:
    """Each line of the recording has a test here, or a reason."""
    looked = {"A20", "A14", "A6", "A18", "A16", "A15", "F4", "A22", "chunked", "Expect:", "content-encoding", "since"}
    for version in RELEASES:
        there = {one["claim"] for one in raw(version, "rules-observed")} - set(LEFT_OUT)
        assert {claim.partition(" ")[0] for claim in there} <= looked


async def test_every_row_is_charged_also_one_that_changes_nothing() -> None:
    daemon = RustDaemon(V070)
    for _ in range(5):
        await push(daemon, row("a"))
    assert daemon.quota.used["ai:x"] == BY_CLAIM["v070", "A20"]["memories_today"]
    await push(daemon, row("a", "renamed"))
    assert daemon.quota.used["ai:x"] == 5, "but not one that SQL refuses"


@pytest.mark.parametrize("version", RELEASES)
async def test_of_two_contents_with_one_time_the_first_stays(version: str) -> None:
    daemon = RustDaemon(RELEASES[version])
    for content in ("one", "two"):
        await push(daemon, row("a", content=content))
    assert daemon.store.all()[0]["content"] == BY_CLAIM[version, "A14"]["kept"]


@pytest.mark.parametrize("version", RELEASES)
async def test_rows_with_one_time_that_do_not_fit_on_a_page_are_never_sent(version: str) -> None:
    daemon, observed = RustDaemon(RELEASES[version]), BY_CLAIM[version, "A6"]
    await push(daemon, *(row(str(n)) for n in range(12)))
    first = await since(daemon, "limit=5")
    assert first["count"] == observed["page1"]
    following = await since(daemon, "limit=5&since=" + first["latest_updated_at"].replace("+", "%2B"))
    assert following["count"] == observed["page2_rows_of_batch"]


@pytest.mark.parametrize("version", RELEASES)
async def test_a_link_that_comes_before_its_memory_is_lost(version: str) -> None:
    daemon, observed = RustDaemon(RELEASES[version]), BY_CLAIM[version, "A18"]
    link = {"source_id": "a", "target_id": "b", "relation": "related_to", "created_at": AT}
    assert (await push(daemon, links=[link]))["skipped"] == observed["push"]
    await push(daemon, row("a"), row("b"))
    assert len(daemon.store.links("a")) == observed["links_after"]


@pytest.mark.parametrize("version", RELEASES)
async def test_times_are_compared_as_texts(version: str) -> None:
    daemon = RustDaemon(RELEASES[version])
    await push(daemon, row("a", at="2026-11-24T07:00:00.5+00:00", content="half"))
    await push(daemon, row("a", at="2026-11-24T07:00:00Z", content="Z-whole"))
    assert daemon.store.all()[0]["content"] == BY_CLAIM[version, "A16"]["kept"]


@pytest.mark.parametrize("version", RELEASES)
async def test_an_older_row_sets_the_expiry(version: str) -> None:
    daemon, observed = RustDaemon(RELEASES[version]), BY_CLAIM[version, "A15"]["expires"]
    await push(daemon, row("a", content="new", expires_at="2027-01-01T00:00:00+00:00"))
    await push(daemon, row("a", at="2020-01-01T00:00:00+00:00", content="old", expires_at=observed, priority=9))
    kept = daemon.store.all()[0]
    assert (kept["content"], kept["expires_at"], kept["priority"]) == ("new", observed, 9)


@pytest.mark.parametrize("version", RELEASES)
async def test_a_recall_shortens_a_life_and_nobody_hears_of_it(version: str) -> None:
    daemon, observed = RustDaemon(RELEASES[version]), BY_CLAIM[version, "F4"]
    daemon.clock.freeze(AT)
    await write(daemon, "POST", "/memories", {"title": "fox", "content": "c"})
    before = daemon.store.all()[0]
    await write(daemon, "POST", "/recall", {"context": "fox"})
    after = daemon.store.all()[0]
    assert (before["expires_at"][:10], after["expires_at"][:10]) == ("2026-12-01", "2026-11-25")
    assert (observed["before"][:10], observed["after"][:10]) == ("2026-12-01", "2026-11-25")
    assert (before["updated_at"] == after["updated_at"]) is observed["updated_at_same"]


@pytest.mark.parametrize("version", RELEASES)
async def test_each_push_without_an_agent_leaves_a_watermark_of_its_own(version: str) -> None:
    daemon = RustDaemon(RELEASES[version])
    for _ in range(5):
        await push(daemon, row("a"), headers=PEER[:2])
    assert len(daemon.store.watermarks()) == BY_CLAIM[version, "A22"]["n"]


@pytest.mark.parametrize("version", RELEASES)
async def test_forms_of_a_request_that_a_client_may_choose(mesh: Mesh, version: str) -> None:
    """Chunks, a question before the body, an encoding that is claimed and not used."""
    daemon = RustDaemon(RELEASES[version])
    body = b'{"sender_agent_id":"host:x","memories":[]}'
    head = b"POST /api/v1/sync/push HTTP/1.1\r\nhost: x\r\nx-peer-id: host:x\r\ncontent-type: application/json\r\n"
    sized = b"content-length: %d\r\n" % len(body)
    async with daemon.serving(mesh.node, [mesh.friend.fingerprint]):
        line = await Line.open(daemon.port, client_context(mesh.friend, verify=False))
        await line.send(head + b"transfer-encoding: chunked\r\n\r\n" + chunked(body, 9))
        assert f"HTTP/1.1 {(await line.reply()).status} OK" == BY_CLAIM[version, "chunked"]["got"]
        await line.send(head + sized + b"content-encoding: gzip\r\n\r\n" + body)
        assert (await line.reply()).status == BY_CLAIM[version, "content-encoding"]["status"]
        await line.send(head + sized + b"expect: 100-continue\r\n\r\n")
        assert (await line.reply()).status == BY_CLAIM[version, "Expect:"]["first_status"]
        await line.send(body)
        assert (await line.reply()).status == 200
        await line.close()
    assert await since(daemon, "since=&limit=0") == json.loads(BY_CLAIM[version, "since"]["body"])


# --- what its clients make of it


async def served(mesh: Mesh, release: Release, play: Any, **options: Any) -> Any:
    """`play(a, b, peer)`, where A calls B over TLS."""
    a, b = RustDaemon(release, name="a", **options), RustDaemon(release, name="b", **options)
    async with b.serving(mesh.node, [mesh.friend.fingerprint]):
        return await play(a, b, Caller(b.url, client_context(mesh.friend, verify=True)))


async def test_one_fast_clock_hides_the_writes_of_all_others(mesh: Mesh) -> None:
    """A4: the watermark jumps to the fastest author's time."""

    async def play(a: RustDaemon, b: RustDaemon, peer: Caller) -> None:
        b.clock.offset = 3600
        await write(b, "POST", "/memories", {"title": "fast", "content": "c"})
        assert await catch_up(a, peer) == Pulled(1, 1)
        b.clock.offset = 0
        await write(b, "POST", "/memories", {"title": "right", "content": "c"})
        assert await catch_up(a, peer) == Pulled(0, 0)
        assert [one["title"] for one in a.store.all()] == ["fast"]

    await served(mesh, V063, play)


async def test_the_first_push_makes_now_the_place_to_pull_from(mesh: Mesh) -> None:
    """A5: the first page was empty, so everything older than the local clock is never pulled."""

    async def play(a: RustDaemon, b: RustDaemon, peer: Caller) -> None:
        await write(a, "POST", "/memories", {"title": "of a", "content": "c"})
        program = SyncDaemon(a, "host:a:sync")
        assert (await program.cycle(peer)).pulled == Pulled(0, 0)
        await push(b, row("late", at="2020-01-01T00:00:00+00:00"))
        assert (await program.cycle(peer)).pulled.rows == 0
        assert a.store.titled("late", "n") is None

    await served(mesh, V063, play)


async def test_a_row_that_arrives_late_is_not_passed_on(mesh: Mesh) -> None:
    """A3: what a third node wrote before the watermark, and what came after it, stays where it is."""

    async def play(a: RustDaemon, b: RustDaemon, peer: Caller) -> None:
        await push(b, row("new", at="2026-11-24T09:00:00+00:00"))
        assert await catch_up(a, peer) == Pulled(1, 1)
        await push(b, row("old", at="2026-11-24T08:00:00+00:00"))
        assert await catch_up(a, peer) == Pulled(0, 0)

    await served(mesh, V063, play)


async def test_the_watermark_passes_a_row_that_was_not_stored(mesh: Mesh) -> None:
    """A7 and A1: a renamed row violates the primary key, and is not asked for again."""

    async def play(a: RustDaemon, b: RustDaemon, peer: Caller) -> None:
        await push(a, row("one", "before"))
        await push(b, row("one", "after", at="2026-11-24T09:00:00+00:00"))
        assert await catch_up(a, peer) == Pulled(1, 0)
        assert await catch_up(a, peer) == Pulled(0, 0)
        assert [one["title"] for one in a.store.all()] == ["before"]

    await served(mesh, V063, play)


async def test_one_row_without_shape_stops_the_sync_daemon_for_ever(mesh: Mesh) -> None:
    """A8: it throws the whole page away, each time; the loop of `serve` leaves out the row alone."""

    async def play(a: RustDaemon, b: RustDaemon, peer: Caller) -> None:
        await push(b, row("good"), row("bad"))
        b.store.change("UPDATE memories SET tier = 'eternal' WHERE id = 'bad'")
        for _ in range(2):
            assert (await SyncDaemon(a, "host:a:sync").cycle(peer)).pulled == Pulled(0, 0, "poisoned")
        assert a.store.all() == []
        assert await catch_up(a, peer) == Pulled(2, 1)

    await served(mesh, V063, play)


async def test_a_batch_over_the_limit_of_a_body_is_sent_again_for_ever(mesh: Mesh) -> None:
    """A9: 413, and the same page the next time."""

    async def play(a: RustDaemon, b: RustDaemon, peer: Caller) -> None:
        for n in range(36):
            await push(a, row(str(n), content="y" * 60_000))
        program = SyncDaemon(a, "host:a:sync")
        for _ in range(2):
            cycle = await program.cycle(peer)
            assert (cycle.pushed, cycle.failed) == (36, "refused")
            assert cycle.answer is not None
            assert cycle.answer.status == 413
        too_big, refused = b.complaints[:2]
        assert "at most 2097152 are taken" in too_big
        assert "answered 413" in refused

    await served(mesh, V063, play)


async def test_a_scope_that_filters_after_the_limit_stalls_the_reader(mesh: Mesh) -> None:
    """A19: a page of rows out of scope is empty, and there is nothing to go on from."""

    async def play(a: RustDaemon, b: RustDaemon, peer: Caller) -> None:
        hidden = [row(str(n), at=f"2026-11-24T07:00:0{n}+00:00") for n in range(3)]
        await push(b, *hidden, row("shown", namespace="pub", at="2026-11-24T08:00:00+00:00"))
        program = SyncDaemon(a, "host:a:sync", batch=3)
        for _ in range(3):
            assert await program.cycle(peer) == Cycle(Pulled(0, 0))

    scopes = {"host:a:sync": Scope(namespaces=("pub",))}
    await served(mesh, V070, play, trust=Trust(scopes, sync_trust_peer=False))


async def test_a_row_is_paid_for_under_the_one_lock() -> None:
    """Every other request, also one about its health, waits until the push before it is through."""
    daemon = RustDaemon(V070, row_delay=0.01)
    await daemon.lock.acquire()
    tasks = [asyncio.create_task(one) for one in (since(daemon), write(daemon, "GET", "/health"))]
    for _ in range(10):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    daemon.lock.release()
    await asyncio.gather(*tasks)
    waited: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        waited.append(seconds)
        assert daemon.lock.locked()
        await sleep(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rust_daemon.daemon.asyncio.sleep", noted)
        await push(daemon, row("a"), row("b"))
    assert waited == [0.01, 0.01]


async def test_complaints_name_what_a_peer_should_not_send() -> None:
    """Each kind once; and nothing about a push that is as it should be."""
    daemon = RustDaemon(V070)
    later = row("a", at="2026-11-24T08:00:00+00:00", metadata={"agent_id": "ai:another"})
    await push(daemon, row("a"), row("b"))
    await push(daemon, later)
    assert daemon.complaints == []
    await push(daemon, row("b"))
    await push(daemon, later)  # here under its first author, and therefore not exactly so
    await push(daemon, row("a", "renamed"))
    await push(daemon, *(row(f"n{n}") for n in range(101)))
    await push(daemon, row("c"), headers=PEER[:1])
    assert [one.partition(":")[0] for one in daemon.complaints] == [
        "b was sent although it changes nothing here",
        "a was sent although it changes nothing here",
        "1 items of a push were skipped",
        "101 rows in one push, at most 100 are wise",
        "a push was answered 403",
    ]


async def test_answers_can_be_put_in_place_of_its_own() -> None:
    """They are given once, nothing is carried out, and nobody is blamed."""
    daemon = RustDaemon(V070)
    daemon.instead = [Answer(500, {"no": 1})]
    assert await push(daemon, row("a")) == {"no": 1}
    assert (daemon.store.all(), daemon.complaints, len(daemon.log)) == ([], [], 1)
    assert (await push(daemon, row("a")))["applied"] == 1


@pytest.mark.parametrize(
    "body", [b'{"sender_agent_id":"\\ud800","memories":[]}', b'{"a":NaN}', b"\xff", b"[" * 100_000]
)
async def test_what_is_no_json_to_the_daemon_is_none_to_the_fake(body: bytes) -> None:
    """Although the standard library would take the first two."""
    answer = await RustDaemon(V070).handle(Request("POST", "/api/v1/sync/push", "", PEER, body))
    assert answer.status == 400
    assert answer.data.startswith(b"Failed to parse the request body as JSON")
