"""A node of ours and a daemon of the older protocol, real or fake, that is known by address and certificates alone."""

import asyncio
import json
import os
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
from certs import Mesh
from lines import Caller
from nodes import Place, eventually, local, peer, status_of

from node.daemon import Daemon
from tls.fingerprint import Fingerprint

NEEDED = ("URL", "CA", "CERT", "KEY")
API = "/api/v1"
USER = {"x-agent-id": "ai:interop-user"}
GONE_OR_KEPT = (200, 404, 503)
"""Answers to a delete after which the row is gone: of 503 the daemon has carried it out, and reached too few peers."""


def variable(name: str) -> str:
    return f"AI_MEMORY_INTEROP_{name}"


def missing() -> list[str]:
    """The variables that name a real daemon, and are not set."""
    return [variable(name) for name in NEEDED if not os.environ.get(variable(name))]


@dataclass(frozen=True, slots=True)
class Named:
    """What is told of a daemon. `cert`, `key`: those of our node, whose fingerprint the daemon lists."""

    url: str
    ca: Path
    cert: Path
    key: Path
    api_key: str | None = None
    agent: str = "host:interop"
    listen: str | None = None
    """host:port where our node listens for it; None: anywhere, as it was not told."""

    @classmethod
    def from_environment(cls) -> "Named":
        given = {name: os.environ.get(variable(name), "") for name in (*NEEDED, "API_KEY", "AGENT", "LISTEN")}
        ca, cert, key = (Path(given[name]).resolve() for name in ("CA", "CERT", "KEY"))
        agent = given["AGENT"] or "host:interop"
        return cls(given["URL"].rstrip("/"), ca, cert, key, given["API_KEY"] or None, agent, given["LISTEN"] or None)

    @property
    def context(self) -> ssl.SSLContext:
        """For a client of the daemon, with our certificate."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.cert, self.key)
        return context

    async def fingerprint(self) -> Fingerprint:
        """Of the certificate that the address presents, of a connection made for it."""
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port or 443
        _, writer = await asyncio.open_connection(host, port, ssl=self.context, server_hostname=host)
        try:
            return Fingerprint.of_der(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        finally:
            writer.transport.abort()


@dataclass(frozen=True, slots=True)
class Sent:
    """A push of our node, and what the daemon said."""

    rows: Sequence[Mapping[str, Any]]
    deletions: Sequence[str]
    status: int
    counts: Mapping[str, Any]


def needless(pushes: Sequence[Sent]) -> list[str]:
    """What is wrong with pushes, by the daemon's own counters; a row goes once for each time that it was written."""
    found, went = [], set()
    for one in pushes:
        counted = {name: one.counts.get(name) for name in ("applied", "deleted", "noop", "skipped")}
        expected = {"applied": len(one.rows), "deleted": len(one.deletions), "noop": 0, "skipped": 0}
        if (one.status, counted) != (200, expected):
            found.append(f"answered {one.status} with {counted}, expected {expected}")
        for row in one.rows:
            version = (row["id"], row["title"], row["updated_at"])
            if version in went:
                found.append(f"sent twice: {version}")
            went.add(version)
    return found


@dataclass
class Both:
    """A running node of ours and the daemon, with a namespace of their own; `sent`: all pushes of our node."""

    named: Named
    place: Place
    daemon: Daemon
    local: Caller
    session: aiohttp.ClientSession
    fingerprint: Fingerprint
    namespace: str
    patience: float
    sent: list[Sent] = field(default_factory=list)

    # --- the two

    async def connect(self) -> None:
        """Make the daemon a peer, for this namespace and no other."""
        key = "daemon-key" if self.named.api_key is not None else None
        only = (self.namespace,)
        said: dict[str, Any] = {"url": self.named.url, "read": only, "write": only, "legacy": True, "api_key_file": key}
        self.place.configure(peer("old", self.fingerprint, **said))
        self.daemon.poke()

        async def known() -> bool:
            return bool((await self.local("GET", "/sync/status")).json["peers"])

        await eventually(known)

    async def same(self, *titles: str) -> None:
        """Return once both have exactly these titles, with the same contents."""

        async def look() -> bool:
            here, there = _contents(await self.here()), _contents(await self.there())
            return here == there and here.keys() == set(titles)

        try:
            await eventually(look, self.patience)
        except TimeoutError:
            here, there = _contents(await self.here()), _contents(await self.there())
            raise AssertionError(f"here {here}, there {there}, {await self.status()}") from None

    async def settled(self) -> dict[str, Any]:
        """What our node says of the daemon, once that is that they are in step."""

        async def look() -> dict[str, Any] | None:
            told = await self.status()
            return told if told["state"] == "in_step" and not told["behind"] else None

        try:
            return dict(await eventually(look, self.patience))
        except TimeoutError:
            raise AssertionError(f"never in step: {await self.status()}") from None

    # --- our node

    def draft(self, title: str, content: str, **fields: Any) -> dict[str, Any]:
        """A memory as clients of either side write it."""
        return {"title": title, "content": content, "namespace": self.namespace, **fields}

    async def write(self, title: str, content: str = "ours", **fields: Any) -> str:
        reply = await self.local("POST", "/memories", self.draft(title, content, **fields))
        assert reply.status == 201, reply.body
        return str(reply.json["id"])

    async def change(self, record_id: str, **fields: Any) -> None:
        reply = await self.local("PUT", f"/memories/{record_id}", fields)
        assert reply.status == 200, reply.body

    async def delete(self, record_id: str) -> None:
        reply = await self.local("DELETE", f"/memories/{record_id}")
        assert reply.status == 200, reply.body

    async def here(self) -> dict[str, Any]:
        """Title to memory; of all namespaces, as nothing but ours may be here."""
        found = (await self.local("GET", "/memories?limit=1000")).json["memories"]
        return {one["title"]: one for one in found}

    async def status(self) -> dict[str, Any]:
        return await status_of(self.local, "old")

    # --- the daemon, as its clients use it

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = USER if body is None else {**USER, "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        async with self.session.request(method, self.named.url + API + path, data=data, headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else text

    async def write_there(self, title: str, content: str = "theirs", *, alone: bool = False) -> str:
        """Its id. `alone`: our node does not take yet what the daemon fans out, so it may answer 503."""
        status, told = await self.ask("POST", "/memories", self.draft(title, content))
        self._check_is_done(status, told, may_miss=alone)
        return str(told["id"] if status == 201 else (await self.there())[title]["id"])

    async def change_there(self, record_id: str, **fields: Any) -> None:
        self._check_is_done(*await self.ask("PUT", f"/memories/{record_id}", fields))

    async def delete_there(self, record_id: str) -> None:
        self._check_is_done(*await self.ask("DELETE", f"/memories/{record_id}"))

    def _check_is_done(self, status: int, told: Any, *, may_miss: bool = False) -> None:
        """With a 503 it is done as well: a real daemon says that where our node was too slow for its quorum."""
        assert status in (200, 201) or (status == 503 and (may_miss or self.named.listen)), told

    async def there(self) -> dict[str, Any]:
        """Title to row, in our namespace."""
        status, told = await self.ask("GET", f"/memories?{urlencode({'namespace': self.namespace, 'limit': 1000})}")
        assert status == 200, told
        return {one["title"]: one for one in told["memories"]}

    async def clean(self) -> None:
        """Delete what is left in our namespace there."""
        for one in (await self.there()).values():
            status, told = await self.ask("DELETE", f"/memories/{one['id']}")
            assert status in GONE_OR_KEPT, told
        assert await self.there() == {}


def _contents(memories: Mapping[str, Any]) -> dict[str, str]:
    return {title: one["content"] for title, one in memories.items()}


@asynccontextmanager
async def facing(
    mesh: Mesh, named: Named, settings: Mapping[tuple[str, str], Any], patience: float
) -> AsyncIterator[Both]:
    """A running node with the named identity, which does not know the daemon yet: see `Both.connect`.

    `patience`: seconds that anything may take. At the end the node is stopped, and the namespace emptied at the daemon.
    """
    suffix = uuid.uuid4().hex
    identity: dict[tuple[str, str], Any] = {
        ("node", "agent_id"): named.agent,
        ("tls", "cert"): str(named.cert), ("tls", "key"): "interop.key", ("tls", "ca"): str(named.ca),
    }  # fmt: skip
    if named.listen is not None:
        identity["federation", "listen"] = named.listen
    place = Place(mesh, f"ours-{suffix[:12]}", {**settings, **identity})
    place.write_secret("interop.key", named.key.read_text())
    if named.api_key is not None:
        place.write_secret("daemon-key", named.api_key + "\n")
    fingerprint = await named.fingerprint()
    place.list(fingerprint)
    headers = {"x-api-key": named.api_key} if named.api_key is not None else {}
    connector = aiohttp.TCPConnector(ssl=named.context)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        both = None
        try:
            async with place.serving() as daemon, local(daemon) as client:
                both = Both(named, place, daemon, client, session, fingerprint, f"interop/{suffix}", patience)
                yield both
        finally:
            if both is not None:
                await both.clean()
