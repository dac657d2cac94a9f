"""What the older daemon's own clients do with us: fan-out, catch-up loop, sync-daemon; and what they never get."""

import json
from typing import Any

import msgspec
import pytest
from certs import Mesh
from lines import Line, chunked, request
from nodes import eventually, memory, push
from older import API, NAMESPACE, Couple, couple
from rust_daemon import V063, V070, Caller, Release, SyncDaemon, catch_up, client_context

from node.peers import Peer, PeerBook, Strangers
from sync import wire
from sync.scope import Globs

RELEASES = pytest.mark.parametrize("release", [V063, V070], ids=["0.6.3", "0.7.0"])
CALLS_HERE: dict[str, Any] = {"url": None}
"""A daemon that we do not call: it pushes to us and pulls from us."""


async def pull(both: Couple) -> int:
    """One step of its catch-up loop: how many rows it got."""
    pulled = await catch_up(both.old, both.old.fanout.peers[0], index=0)
    assert pulled.failed is None, pulled
    return pulled.rows


@RELEASES
async def test_its_catch_up_loop_gets_everything(mesh: Mesh, release: Release) -> None:
    """100 memories of one bulk share their time: it goes on from the last one that it saw, and misses none."""
    async with couple(mesh, release, **CALLS_HERE) as both:
        bodies = [{"title": f"m {n:03}", "content": "c", "namespace": NAMESPACE} for n in range(620)]
        assert (await both.local("POST", "/memories/bulk", bodies)).json["created"] == 620
        first = await pull(both)
        assert first >= 500
        assert first + await pull(both) == 620
        assert len(both.theirs()) == 620
        assert await pull(both) == 0


@RELEASES
async def test_its_sync_daemon_pulls_and_pushes_everything_back(mesh: Mesh, release: Release) -> None:
    """The echo of what it has just pulled changes nothing here."""
    async with couple(mesh, release, **CALLS_HERE) as both:
        await both.write("ours")
        both.old.fanout.peers = []
        caller = both.daemon
        await both.write_there("theirs")
        daemon = SyncDaemon(both.old, agent="host:old:sync")
        peer = Caller(f"https://127.0.0.1:{both.place.port}", client_context(mesh.node, verify=False))
        cycle = await daemon.cycle(peer)
        assert cycle.failed is None
        await both.same("ours", "theirs")
        before = caller.store.position
        for _ in range(3):
            assert (await daemon.cycle(peer)).failed is None
        assert caller.store.position == before


@RELEASES
async def test_an_archived_memory_leaves_and_comes_back_with_its_restore(mesh: Mesh, release: Release) -> None:
    """Its text is kept aside; a restore brings it back unless somebody has written or deleted it here since."""
    async with couple(mesh, release, **CALLS_HERE) as both:
        first, second = await both.write_there("first"), await both.write_there("second", tags=["t"])
        assert (await both.ours()).keys() == {"first", "second"}
        for one in (first, second):
            await both.there("POST", "/archive", {"ids": [one]})
        assert await both.ours() == {}
        await both.write("first", "written since")
        for one in (first, second):
            await both.there("POST", f"/archive/{one}/restore", {})
        here = await both.ours()
        assert (here["first"]["content"], here["second"]["content"]) == ("written since", "theirs")
        assert here["second"]["tags"] == ["t"]


@RELEASES
async def test_nothing_that_it_asks_for_is_executed_here(mesh: Mesh, release: Release) -> None:
    """Pending actions, decisions and policies are counted as skipped, and the operator is told."""
    async with couple(mesh, release, **CALLS_HERE) as both:
        kept = await both.write_there("kept")
        action = {
            "id": "p1", "action_type": "delete", "memory_id": kept, "namespace": NAMESPACE, "payload": {},
            "requested_by": "ai:x", "requested_at": "2026-01-01T00:00:00+00:00", "status": "pending", "approvals": [],
        }  # fmt: skip
        body = {
            "sender_agent_id": "host:old", "memories": [], "pendings": [action],
            "pending_decisions": [{"id": "p1", "approved": True, "decider": "anyone"}],
            "namespace_meta": [{"namespace": NAMESPACE, "standard_id": kept}], "namespace_meta_clears": ["x"],
        }  # fmt: skip
        heard = await both.old.fanout.peers[0].post(
            f"{API}/sync/push", [("content-type", "application/json")], json.dumps(body).encode()
        )
        told = heard.json
        assert (heard.status, told["skipped"]) == (200, 4)
        assert [name for name, value in told.items() if name.endswith(("_applied", "_cleared")) and value] == []
        assert "kept" in await both.ours()
        notes = await both.notes()
        for what in ("pendings", "pending decisions", "namespace meta"):
            assert what in notes


async def test_a_dry_run_counts_and_changes_nothing(mesh: Mesh) -> None:
    """As there: what is valid is `noop`, what is not is `skipped`; links, too."""
    async with couple(mesh, V063, **CALLS_HERE) as both:
        rows = [both.row("good", "2026-01-01T00:00:00Z"), both.row("bad", "2026-01-01T00:00:00Z", content="a\rb")]
        link = {"source_id": "a", "target_id": "b", "relation": "related_to", "created_at": "2026-01-01T00:00:00Z"}
        links = [link, link | {"target_id": "a"}]
        body = {"sender_agent_id": "host:old", "memories": rows, "links": links, "dry_run": True}
        headers = [("content-type", "application/json")]
        heard = await both.old.fanout.peers[0].post(f"{API}/sync/push", headers, json.dumps(body).encode())
        assert (heard.json["noop"], heard.json["skipped"], heard.json["dry_run"]) == (2, 2, True)
        assert await both.ours() == {}


async def test_what_it_may_not_write_or_read_stays_apart(mesh: Mesh) -> None:
    """Scopes hold for it as for any peer: rows, deletes and pages."""
    async with couple(mesh, V063, read=("shown/**",), write=("taken/**",)) as both:
        hidden, shown = await both.write("hidden", namespace="secret"), await both.write("shown", namespace="shown")
        await both.write_there("taken", namespace="taken")
        await both.write_there("not taken", namespace="secret")
        await eventually(lambda: _is(both, "shown" in both.theirs()))
        await both.settled()
        assert both.theirs().keys() == {"shown", "taken", "not taken"}
        assert (await both.ours()).keys() == {"hidden", "shown", "taken"}
        body = f'{{"sender_agent_id":"host:old","memories":[],"deletions":["{hidden}","{shown}"]}}'.encode()
        heard = await both.old.fanout.peers[0].post(f"{API}/sync/push", [("content-type", "application/json")], body)
        assert (heard.json["deleted"], heard.json["noop"]) == (0, 2)
        assert {"hidden", "shown"} <= (await both.ours()).keys()
        await pull(both)
        assert "hidden" not in both.theirs()


async def _is(both: Couple, value: bool) -> bool:
    return value


async def test_a_memory_that_came_here_behind_its_time_is_reported(mesh: Mesh) -> None:
    """It reads by time alone and we do not call it: what a relay brings us late it never sees, and status says so."""
    async with couple(mesh, V063, **CALLS_HERE) as both:
        await both.write("seen")
        await pull(both)
        late = memory("late", at=1_700_000_000_000_000, namespace=NAMESPACE)
        peer = "sha256:" + "7" * 64
        incoming = wire.decode_push(msgspec.json.encode(push(late)), peer)
        book = both.daemon.book
        friend = Peer("friend", peer, None, Globs.everything(), Globs.everything())
        both.daemon.exchange.replace_book(PeerBook((*book.peers, friend), Strangers(Globs(()), Globs(()))))
        both.daemon.exchange.admits = lambda _peer: True
        assert (await both.daemon.exchange.receive(incoming)).applied == 1
        assert await pull(both) == 0
        assert "1 changes came here behind the time" in await both.notes()
        assert "deletes and links never reach it" in await both.notes()


async def test_a_link_push_with_an_arrow_in_a_header_is_accepted(mesh: Mesh) -> None:
    """Its fan-out sends raw UTF-8 there; and a body in chunks is a body."""
    async with couple(mesh, V070, **CALLS_HERE) as both:
        line = await Line.open(both.place.port, client_context(mesh.node, verify=False))
        head = request(
            "POST", f"{API}/sync/push", None,
            {"Content-Type": "application/json", "Transfer-Encoding": "chunked", "idempotency-key": "one→two"},
        )  # fmt: skip
        await line.send(head + chunked(b'{"sender_agent_id":"host:old","memories":[]}', 7))
        assert (await line.reply()).status == 200
        await line.close()
