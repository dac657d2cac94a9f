"""Nodes of ours with one daemon of the older protocol among them: what it carried is one write, not two."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from certs import Mesh
from lines import Caller
from nodes import Place, eventually, local, peer
from older import NAMESPACE, QUICK
from rust_daemon import V063, RustDaemon

from node.daemon import Daemon
from node.legacy import replicator
from sync import moment
from tests.vectors import verify


@dataclass
class Trio:
    """Two nodes and a daemon."""

    a: Daemon
    c: Daemon
    at_a: Caller
    at_c: Caller
    old: RustDaemon

    async def agree(self) -> None:
        """Return once both nodes keep exactly the same, and the daemon has what they show."""

        async def look() -> bool:
            shown = {
                one["title"]: one["content"]
                for one in (await self.at_a("GET", "/memories?limit=1000")).json["memories"]
            }
            has = {row["title"]: row["content"] for row in self.old.store.all()}
            return self.a.store.position.digest == self.c.store.position.digest and shown == has

        await eventually(look)

    async def conflicts(self) -> int:
        found = [(await caller("GET", "/sync/status")).json["conflicts"] for caller in (self.at_a, self.at_c)]
        return sum(found)


@asynccontextmanager
async def trio(mesh: Mesh, *, linked: bool) -> AsyncIterator[Trio]:
    """`linked`: the two nodes also call each other."""
    old = RustDaemon(V063, name="old")
    a, c = Place(mesh, "a", QUICK), Place(mesh, "c", QUICK)
    async with old.serving(mesh.node, [a.fingerprint, c.fingerprint]), AsyncExitStack() as stack:
        bridge = peer("old", mesh.node.fingerprint, url=old.url, legacy=True)
        a.configure(bridge, *([c.as_peer()] if linked else []))
        c.configure(bridge, *([a.as_peer()] if linked else []))
        a.list(c.fingerprint, mesh.node.fingerprint)
        c.list(a.fingerprint, mesh.node.fingerprint)
        running = [await stack.enter_async_context(place.serving()) for place in (a, c)]
        callers = [await stack.enter_async_context(local(daemon)) for daemon in running]
        yield Trio(running[0], running[1], callers[0], callers[1], old)


def body(title: str, content: str) -> dict[str, Any]:
    return {"title": title, "content": content, "namespace": NAMESPACE}


async def is_genuine(caller: Caller, record_id: str) -> bool:
    """Whether what a node has under this id is signed by the key that it names; judged by the book."""
    found = (await caller("GET", f"/memories/{record_id}")).json["memory"]
    return verify.verdict({"kind": "memory", "record": found})


async def test_a_signature_that_the_daemon_did_not_keep_is_missed(mesh: Mesh) -> None:
    """Control: what a daemon's client writes is nobody's of ours, and neither is what was altered on the way."""
    async with trio(mesh, linked=False) as three:
        made = (await three.at_a("POST", "/memories", body("one", "of a"))).json["id"]
        await three.agree()
        assert await is_genuine(three.at_c, made)
        row = dict(three.old.store.all()[0])
        row["content"] = "altered at the daemon"
        row["updated_at"] = moment.text(moment.microseconds(row["updated_at"]) + 1)
        three.old.store.merge(row)
        await three.agree()
        found = (await three.at_c("GET", f"/memories/{made}")).json["memory"]
        assert found["content"] == "altered at the daemon"
        assert "sig" not in found["metadata"]["attestation"]


async def test_two_nodes_that_meet_only_at_a_daemon_agree(mesh: Mesh) -> None:
    """Versions keep their clocks on the way: an edit on the far side has seen what it edits, and nothing conflicts."""
    async with trio(mesh, linked=False) as three:
        made = (await three.at_a("POST", "/memories", body("one", "of a"))).json["id"]
        await three.agree()
        assert await is_genuine(three.at_c, made)
        assert (await three.at_c("PUT", f"/memories/{made}", {"content": "of c"})).status == 200
        await three.agree()
        assert (await three.at_a("PUT", f"/memories/{made}", {"content": "of a again", "priority": 9})).status == 200
        await three.agree()
        assert three.old.store.all()[0]["content"] == "of a again"
        assert await is_genuine(three.at_c, made)
        assert await three.conflicts() == 0
        assert three.old.complaints == []


async def test_two_linked_nodes_and_a_daemon_agree(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything arrives twice, by both ways; what a client of the daemon writes is one version on both nodes.

    Its rows are old ones that appear while newer ones are read: the slow reading of everything finds them.
    """
    monkeypatch.setattr(replicator, "SCAN_EVERY", 0.1)
    async with trio(mesh, linked=True) as three:
        for n in range(5):
            await three.at_a("POST", "/memories", body(f"a {n}", "of a"))
            await three.at_c("POST", "/memories", body(f"c {n}", "of c"))
            at = f"2026-01-01T00:00:0{n}.123456789+00:00"
            row = {"id": f"row-{n}", "tier": "mid", "namespace": NAMESPACE, "title": f"old {n}", "content": "of old"}
            row |= {"tags": [], "priority": 5, "confidence": 1.0, "source": "api", "access_count": 0, "created_at": at}
            row |= {"updated_at": at, "metadata": {}, "last_accessed_at": None, "expires_at": None}
            three.old.store.merge(row)
        await three.agree()
        assert len(three.old.store.all()) == 15
        found = (await three.at_c("GET", f"/memories?namespace={NAMESPACE}&limit=100")).json["memories"]
        ids = {one["title"]: one["id"] for one in found}
        await asyncio.gather(
            three.at_a("DELETE", f"/memories/{ids['old 0']}"),
            three.at_c("PUT", f"/memories/{ids['old 1']}", {"content": "changed at c"}),
        )
        await three.agree()
        assert len(three.old.store.all()) == 14
        assert await three.conflicts() == 0
