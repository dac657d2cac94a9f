"""A node of ours and the fake of an older daemon that know each other, over real mutual TLS in both directions."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from certs import Mesh
from lines import Caller as Client
from nodes import Place, eventually, local, peer, status_of
from rust_daemon import Caller, Quorum, Release, Request, RustDaemon, client_context

from node.daemon import Daemon

API = "/api/v1"
QUICK: Mapping[tuple[str, str], Any] = {
    ("sync", "pull_interval"): 0.1, ("sync", "retry_first"): 0.05, ("sync", "retry_longest"): 0.2,
}  # fmt: skip
"""Settings of a node that looks often at what is new."""
NAMESPACE = "team"


@dataclass
class Couple:
    """Both, and how a test talks to them."""

    mesh: Mesh
    place: Place
    daemon: Daemon
    local: Client
    old: RustDaemon

    # --- our side

    async def write(self, title: str, content: str = "ours", **fields: Any) -> str:
        """Store a memory on our node; its id."""
        body = {"title": title, "content": content, "namespace": NAMESPACE, **fields}
        reply = await self.local("POST", "/memories", body)
        assert reply.status == 201, reply.body
        return str(reply.json["id"])

    async def change(self, record_id: str, **fields: Any) -> None:
        reply = await self.local("PUT", f"/memories/{record_id}", fields)
        assert reply.status == 200, reply.body

    async def delete(self, record_id: str) -> None:
        reply = await self.local("DELETE", f"/memories/{record_id}")
        assert reply.status == 200, reply.body

    async def ours(self) -> dict[str, Any]:
        """Title to memory, on our node."""
        found = (await self.local("GET", "/memories?limit=1000")).json["memories"]
        return {one["title"]: one for one in found}

    async def status(self) -> dict[str, Any]:
        return await status_of(self.local, "old")

    async def notes(self) -> str:
        return "\n".join((await self.status())["notes"])

    # --- the daemon's side

    async def there(self, method: str, path: str, body: Any = None) -> Any:
        """What a client of the daemon asks it."""
        data = b"" if body is None else json.dumps(body).encode()
        headers = (("content-type", "application/json"), ("x-agent-id", "ai:old"))
        answer = await self.old.handle(Request(method, API + path, "", headers, data))
        assert answer.status < 300, answer
        return answer.body

    async def write_there(self, title: str, content: str = "theirs", **fields: Any) -> str:
        body = {"title": title, "content": content, "namespace": NAMESPACE, **fields}
        return str((await self.there("POST", "/memories", body))["id"])

    async def change_there(self, record_id: str, **fields: Any) -> None:
        await self.there("PUT", f"/memories/{record_id}", fields)

    def theirs(self) -> dict[str, Any]:
        """Title to row, at the daemon."""
        return {one["title"]: one for one in self.old.store.all()}

    def row(self, title: str, at: str, **fields: Any) -> dict[str, Any]:
        """A row as somebody else's daemon may have given it to this one."""
        row = {
            "id": f"id-of-{title}",
            "tier": "mid",
            "namespace": NAMESPACE,
            "title": title,
            "content": "c",
            "tags": [],
        }
        row |= {"priority": 5, "confidence": 1.0, "source": "api", "access_count": 0, "created_at": at}
        row |= {"updated_at": at, "metadata": {}, "last_accessed_at": None, "expires_at": None}
        return row | fields

    # --- both

    async def same(self, *titles: str) -> None:
        """Return once both have exactly these titles, with the same contents."""

        async def look() -> bool:
            here, there = await self.ours(), self.theirs()
            wanted = set(titles)
            return (
                here.keys() == there.keys() == wanted
                and all(here[title]["content"] == there[title]["content"] for title in titles)
            )  # fmt: skip

        try:
            await eventually(look)
        except TimeoutError:
            here = {title: one["content"] for title, one in (await self.ours()).items()}
            there = {title: one["content"] for title, one in self.theirs().items()}
            raise AssertionError(f"here {here}, there {there}, {await self.status()}") from None

    async def settled(self) -> None:
        """Return once our node says that it is in step."""

        async def look() -> bool:
            told = await self.status()
            # What it wrote with a wrong clock may wait here: that keeps nothing else back.
            return bool((told["state"] == "in_step" or told["code"] == "clock_skew") and not told["behind"])

        await eventually(look)


@asynccontextmanager
async def couple(
    mesh: Mesh,
    release: Release,
    *,
    settings: Mapping[tuple[str, str], Any] = QUICK,
    before: Callable[[RustDaemon], None] | None = None,
    **said: Any,
) -> AsyncIterator[Couple]:
    """Both running. `before`: what to do with the daemon before it is called; `said`: of the peer's configuration."""
    old = RustDaemon(release, name="old")
    place = Place(mesh, "ours", settings)
    place.list(mesh.node.fingerprint)
    if before is not None:
        before(old)
    async with old.serving(mesh.node, [place.fingerprint]):
        url = said.pop("url", old.url)
        place.configure(peer("old", mesh.node.fingerprint, url=url, legacy=True, **said))
        async with place.serving() as daemon, local(daemon) as client:
            calls = Caller(f"https://127.0.0.1:{place.port}", client_context(mesh.node, verify=True))
            old.fanout.peers, old.fanout.quorum = [calls], Quorum(writes=2)
            yield Couple(mesh, place, daemon, client, old)
