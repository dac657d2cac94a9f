"""What the fake's clients send is what the real daemon's clients sent, byte for byte where nothing is made up.

`client_calls_on_A_with_fanout.json` holds what a user asked of daemon A, and what A answered;
`fanout_and_catchup_A_to_B.json` what A then sent to its peer B, and what B answered; `sync_daemon.json` the requests of
the program of that name. Here A and B are fakes, with real TLS between them.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from certs import Mesh
from recordings import Comparison, Recorded, load, raw
from rust_daemon import (
    V063,
    V070,
    Answer,
    Caller,
    Exchange,
    Pulled,
    Quorum,
    Release,
    Request,
    RustDaemon,
    SyncDaemon,
    catch_up,
    client_context,
)

RELEASES = {"v063": V063, "v070": V070}
CALLS, SENT = "client_calls_on_A_with_fanout", "fanout_and_catchup_A_to_B"
PUSH = "/api/v1/sync/push"


@asynccontextmanager
async def pair(mesh: Mesh, release: Release) -> AsyncIterator[tuple[RustDaemon, RustDaemon, Caller]]:
    """A with its peer B, and A's way to call it."""
    a, b = RustDaemon(release, name="node-a"), RustDaemon(release, name="node-b")
    async with b.serving(mesh.node, [mesh.friend.fingerprint]):
        peer = Caller(b.url, client_context(mesh.friend, verify=True))
        a.fanout.peers, a.fanout.quorum = [peer], Quorum(timeout=60, retry_gap=0)
        yield a, b, peer


async def ask(daemon: RustDaemon, comparison: Comparison, one: Recorded) -> list[str]:
    """One recorded call; the differences of its answer."""
    target, body = comparison.asks(one.target), comparison.asks(one.body.decode()).encode()
    path, _, query = target.partition("?")
    answer = await daemon.handle(Request(one.method, path, query, one.headers, body))
    return answer_differences(comparison, one, answer)


def answer_differences(comparison: Comparison, recorded: Recorded, answer: Answer) -> list[str]:
    """Status, headers and body of an answer of the fake."""
    headers = {"vary": recorded.answer_headers.get("vary"), **answer.headers, "content-type": answer.kind}
    return list(comparison.answer_differences(recorded, answer.status, headers, answer.data.decode()))


def request_differences(comparison: Comparison, recorded: Recorded, came: Request) -> list[str]:
    """Method, path and query, names and order of headers and their values, body."""
    target = came.path + (f"?{came.query}" if came.query else "")
    found = [] if recorded.method == came.method else [f"method {came.method}"]
    found += comparison.differences(unescaped(recorded.target), unescaped(target), "target")
    if (recorded.target.count("%"), recorded.target.count(":")) != (target.count("%"), target.count(":")):
        found.append(f"the query {target!r} is encoded otherwise than {recorded.target!r}")
    names, recorded_names = [name for name, _ in came.headers], [name for name, _ in recorded.headers]
    if names != recorded_names:
        return [*found, f"headers {names}, recorded {recorded_names}"]
    for (name, told), (_, value) in zip(came.headers, recorded.headers, strict=True):
        if name not in ("host", "content-length"):  # a port, and a length that times of fewer digits make shorter
            found += comparison.differences(value, told, name)
    # As texts: so the order of keys, spaces and escapes count too.
    return [*found, *comparison.differences(recorded.body.decode(), came.body.decode(), "body")]


def unescaped(target: str) -> str:
    return target.replace("%3A", ":").replace("%2B", "+")


def bulk_by_title(requests: Sequence[Any]) -> list[Any]:
    """Pushes in their order, but those of a bulk by their title: they go out side by side."""

    def title(one: Any) -> str | None:
        body = one.request.body if isinstance(one, Exchange) else one.body
        rows = json.loads(body)["memories"]
        return rows[0]["title"] if len(rows) == 1 and rows[0]["namespace"] == "rec/bulk" else None

    ordered = iter(sorted((one for one in requests if title(one) is not None), key=lambda one: str(title(one))))
    return [one if title(one) is None else next(ordered) for one in requests]


async def played(mesh: Mesh, version: str, release: Release) -> list[str]:
    """Everything that the user asked of A, once more: differences of its answers and of what it sent."""
    comparison, found = Comparison(), []
    async with pair(mesh, release) as (a, b, _):
        for one in load(version, CALLS):
            if one.label == "notify":
                continue  # its answer and row hold the number of a process: below
            found += [f"{one.label}: {difference}" for difference in await ask(a, comparison, one)]
        came = bulk_by_title(b.log)
    recorded = [one for one in load(version, SENT) if one.method == "POST" and b"_messages/" not in one.body]
    if len(came) != len(recorded):
        return [*found, f"{len(came)} pushes, {len(recorded)} recorded"]
    for theirs, ours in zip(bulk_by_title(recorded), came, strict=True):
        found += request_differences(comparison, theirs, ours.request)
        found += answer_differences(comparison, theirs, ours.answer)
    return found


def as_sent(one: Recorded, **changes: Any) -> Request:
    path, _, query = one.target.partition("?")
    return replace(Request(one.method, path, query, one.headers, one.body), **changes)


def test_the_comparison_of_requests_notices_every_change() -> None:
    """Control: order and names of headers, encoding of the query, order and spaces of the body, a value."""
    one = next(one for one in load("v070", SENT) if b"namespace_meta_clears" in one.body)
    asked = [one for one in load("v070", SENT) if one.method == "GET"][1]
    assert request_differences(Comparison(), one, as_sent(one)) == []
    assert request_differences(Comparison(), asked, as_sent(asked)) == []
    upper = tuple((name.title(), value) for name, value in one.headers)
    body = json.loads(one.body)
    for changed in (
        as_sent(one, headers=one.headers[::-1]),
        as_sent(one, headers=upper),
        as_sent(one, headers=one.headers[1:]),
        as_sent(one, body=json.dumps(body).encode()),
        as_sent(one, body=json.dumps(dict(reversed(body.items())), separators=(",", ":")).encode()),
        as_sent(one, body=one.body.replace(b"rec/fan", b"rec/fun")),
        as_sent(one, method="PUT"),
    ):
        assert request_differences(Comparison(), one, changed) != []
    for changed in (
        as_sent(asked, query=asked.target.partition("?")[2].replace("peer=host:", "peer=host%3A")),
        as_sent(asked, query=asked.target.partition("?")[2] + "&limit=500"),
    ):
        assert request_differences(Comparison(), asked, changed) != []


@pytest.mark.parametrize("version", RELEASES)
async def test_what_fans_out_is_what_was_recorded(mesh: Mesh, version: str) -> None:
    """Creates, updates, links, archives, bulk, standards, consolidation, agents: each answer and each push."""
    assert await played(mesh, version, RELEASES[version]) == []


@pytest.mark.parametrize(("version", "release"), [("v063", V070), ("v070", V063)])
async def test_the_other_release_sends_otherwise(mesh: Mesh, version: str, release: Release) -> None:
    """Control: the comparison tells the releases apart."""
    assert await played(mesh, version, release) != []


@pytest.mark.parametrize("version", RELEASES)
async def test_a_message_goes_out_as_a_memory_of_an_inbox(mesh: Mesh, version: str) -> None:
    """The one push that holds the number of a process, apart from that number."""
    recorded = next(one for one in load(version, SENT) if b"_messages/" in one.body)
    call = next(one for one in load(version, CALLS) if one.label == "notify")
    async with pair(mesh, RELEASES[version]) as (a, b, _):
        answer = await a.handle(Request(call.method, call.target, "", call.headers, call.body))
        came = b.log[-1].request
    assert answer.status == call.status
    assert set(json.loads(answer.data)) == set(json.loads(call.answer))
    number = json.loads(recorded.body)["memories"][0]["metadata"]["agent_id"].rpartition("-")[2]
    told = Request("POST", PUSH, "", came.headers, came.body.replace(b":pid-1", f":pid-{number}".encode()))
    assert request_differences(Comparison(), recorded, told) == []


@pytest.mark.parametrize("version", RELEASES)
async def test_the_key_of_a_link_holds_raw_utf8(mesh: Mesh, version: str) -> None:
    """An arrow in a header: a peer that insists on ASCII never gets a link."""
    assert any("→" in value for one in load(version, SENT) for name, value in one.headers if name == "idempotency-key")
    async with pair(mesh, RELEASES[version]) as (a, b, _):
        ids = [await store(a, title) for title in ("one", "two")]
        body = json.dumps({"source_id": ids[0], "target_id": ids[1]}).encode()
        await a.handle(Request("POST", "/api/v1/links", "", JSON, body))
        assert b.log[-1].request.header("idempotency-key") == f"{ids[0]}→{ids[1]}"
        assert b.store.links(ids[0])[0]["target_id"] == ids[1]


JSON = (("content-type", "application/json"), ("x-agent-id", "ai:alice"))


async def store(daemon: RustDaemon, title: str) -> str:
    body = json.dumps({"title": title, "content": f"content of {title}", "namespace": "rec/fan"}).encode()
    answer = await daemon.handle(Request("POST", "/api/v1/memories", "", JSON, body))
    assert answer.status == 201, answer
    return str(json.loads(answer.data)["id"])


@pytest.mark.parametrize("version", RELEASES)
async def test_the_catch_up_loop_asks_as_recorded(mesh: Mesh, version: str) -> None:
    """The first time for everything, then from the last row on: `since` is encoded, `peer` is not, no limit, no key."""
    recorded = [one for one in load(version, SENT) if one.method == "GET"]
    async with pair(mesh, RELEASES[version]) as (a, b, peer):
        comparison = Comparison()
        await store(b, "of b")
        b.log.clear()
        assert await catch_up(a, peer) == Pulled(1, 1)
        assert await catch_up(a, peer) == Pulled(0, 0)
        first, second = (one.request for one in b.log)
    assert request_differences(comparison, recorded[0], first) == []
    assert request_differences(comparison, recorded[1], second) == []
    assert request_differences(comparison, recorded[0], second) != []


@pytest.mark.parametrize("version", RELEASES)
async def test_the_sync_daemon_asks_and_pushes_as_recorded(mesh: Mesh, version: str) -> None:
    """Two runs, without an API key and with one: what it asks, and how it pushes back what it was given."""
    recorded = load(version, "sync_daemon")
    own = [one for one in recorded if "node-a" in one.target or b"host:node-a:sync" in one.body]
    keyed = [one for one in recorded if one not in own]
    for requests, agent, key, batch in ((own, "host:node-a:sync", None, 500), (keyed, _agent(keyed), "K1", 2)):
        async with pair(mesh, RELEASES[version]) as (a, b, peer):
            rows = json.loads(requests[1].body)["memories"]
            push = json.dumps({"sender_agent_id": "host:x", "memories": rows}).encode()
            headers = (("content-type", "application/json"), ("x-peer-id", "host:x"))
            await b.handle(Request("POST", PUSH, "", headers, push))
            b.log.clear()
            cycle = await SyncDaemon(a, agent, batch, key).cycle(peer)
            assert (cycle.pulled, cycle.pushed) == (Pulled(len(rows), len(rows)), len(rows))
            assert cycle.answer is not None
            assert cycle.answer.json["applied"] == len(rows)  # it all goes straight back, and counts as applied
            asked, pushed = (one.request for one in b.log)
            comparison = Comparison()
            assert request_differences(comparison, requests[0], asked) == []
            assert request_differences(comparison, requests[1], pushed) == []
            if len(requests) > 2:
                await SyncDaemon(a, agent, batch, key).cycle(peer)
                assert request_differences(comparison, requests[2], b.log[2].request) == []


def _agent(requests: Sequence[Recorded]) -> str:
    return str(json.loads(requests[1].body)["sender_agent_id"])


GOOD = Answer(200, {"applied": 1, "skipped": 0})
SCRIPTS: dict[str, list[Answer]] = {
    "200": [GOOD],
    "200 skipped:1": [Answer(200, {"applied": 0, "skipped": 1})],
    "204-like 200 empty json": [Answer(200, {})],
    "500 then ok": [Answer(500), GOOD],
    "500 always": [Answer(500)] * 2,
    "422": [Answer(422, "no")] * 2,
    "429": [Answer(429, {})] * 2,
    "403": [Answer(403, {})] * 2,
    "slow 3s": [],
    "ids drift": [Answer(200, {"ids": ["another"]})] * 2,
    "ids ok-empty": [Answer(200, {"ids": []})],
    "peer down": [],
}


@pytest.mark.parametrize("one", raw("v070", "fanout_peer_answers"), ids=lambda one: one["label"])
async def test_a_write_fares_with_each_answer_of_the_peer_as_recorded(mesh: Mesh, one: dict[str, Any]) -> None:
    """What counts as an acknowledgement, how often it is tried, and what the client is told."""
    label = one["label"]
    a, peer = RustDaemon(V070, name="node-a"), RustDaemon(V070, row_delay=3600 if label == "slow 3s" else 0)
    peer.instead = list(SCRIPTS[label])
    a.fanout.quorum = Quorum(timeout=0.3 if label == "slow 3s" else 60, retry_gap=0)
    async with peer.serving(mesh.node, [mesh.friend.fingerprint]):
        url = "https://localhost:9" if label == "peer down" else peer.url
        a.fanout.peers = [Caller(url, client_context(mesh.friend, verify=True), timeout=60)]
        body = json.dumps({"title": f"ff {label}", "content": "c"}).encode()
        headers = (("content-type", "application/json"), ("x-agent-id", "ai:ff"))
        answer = await a.handle(Request("POST", "/api/v1/memories", "", headers, body))
        for straggler in list(a.fanout.stragglers):
            straggler.cancel()
    recorded = {name: value for name, value in one["body"].items() if name != "potential_contradictions"}
    assert answer.status == one["create_status"]
    assert dict(answer.headers).get("retry-after") == dict(one["headers"]).get("retry-after")
    assert list(Comparison().differences(recorded, json.loads(answer.data))) == []
    assert len(peer.log) == one["peer_saw"]
    assert peer.instead == []
    assert len(a.store.all()) == 1, "the write is kept, whatever the peer said"
