"""A store of ours and the fake of an older daemon, without a network: every step of the bridge is taken by the test."""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import stores
from keys import Nobody
from rust_daemon import Clock, Release, Request, RustDaemon

from node.dialer import Answer, Dialer
from node.exchange import Exchange
from node.legacy.desk import Desk
from node.legacy.endpoint import Endpoint
from node.legacy.replicator import LegacyReplicator
from node.memories import Memories
from node.peers import Peer, PeerBook, Strangers
from node.store import Reader, Store
from node.timekeeper import Timekeeper
from sync import moment
from sync.engine import Engine
from sync.errors import RemoteError
from sync.peer import Pace
from sync.scope import Globs

API = "/api/v1"
AGENT = "host:ours"
OLD = "sha256:" + "0" * 64
EVERYTHING = Globs.everything()


class Direct(Dialer):
    """Asks the fake as a dialer would ask a daemon. While `is_down` nobody answers."""

    def __init__(self, old: RustDaemon) -> None:
        self.old = old
        self.is_down = False

    async def get(self, path: str, query: dict[str, str]) -> Answer:
        return await self._ask(Request("GET", path, urlencode(query), _headers(), b""))

    async def post(self, path: str, body: bytes) -> Answer:
        return await self._ask(Request("POST", path, "", (*_headers(), ("content-type", "application/json")), body))

    async def _ask(self, request: Request) -> Answer:
        if self.is_down:
            raise ConnectionRefusedError("nobody listens")
        answer = await self.old.handle(request)
        return Answer(answer.status, answer.data, 0.0, dict(answer.headers))

    async def close(self) -> None:
        return


def _headers() -> tuple[tuple[str, str], ...]:
    return (("x-agent-id", AGENT), ("x-peer-id", AGENT))


class Bridged:
    """Both. Time goes on by a second with every operation, on both sides' clocks."""

    def __init__(self, path: Path, release: Release, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = stores.START
        path.write_bytes(stores.empty())
        self.store = Store.open(path, stores.PASSPHRASE)
        clock = Timekeeper(lambda: self.now, lambda: self.now)
        engine = Engine(AGENT, self.random.randbytes, Nobody())
        self.peer = Peer("old", OLD, "https://old", EVERYTHING, EVERYTHING, legacy=True)
        self.exchange = Exchange(self.store, engine, PeerBook([self.peer], Strangers(EVERYTHING, EVERYTHING)), clock)
        self.memories = Memories(self.store, engine, clock.now, self.exchange.check_clock)
        self.desk = Desk(self.store, engine, self.exchange, clock)
        self.endpoint = Endpoint(self.store, self.desk, AGENT)
        self.old = RustDaemon(release, name="old", clock=Clock(), memories_per_day=10**6)
        self.dialer = Direct(self.old)
        self.calls = LegacyReplicator(self.peer, self.desk, self.dialer, AGENT, Pace(), lambda error: ("x", str(error)))
        self.tick(0)

    async def start(self) -> None:
        await self.desk.make_tables()
        await self.exchange.start()

    def close(self) -> None:
        self.store.close()

    def tick(self, seconds: float = 1.0) -> None:
        self.now += round(seconds * moment.SECOND)
        self.old.clock.freeze(moment.text(self.now))

    # --- our side

    async def write(self, title: str, namespace: str, content: str) -> None:
        self.tick()
        body = {"title": title, "namespace": namespace, "content": content, "tier": "long"}
        await self.memories.create(msgspec.json.encode(body), None)

    async def change(self, record_id: str, **fields: Any) -> None:
        """Of an id that is in several namespaces, the winner."""
        self.tick()
        try:
            place = (await self.memories.found(record_id, None)).namespace
            await self.memories.update(record_id, msgspec.json.encode(fields), None, place)
        except RemoteError as error:
            assert error.code in ("title_taken", "not_found"), error

    async def delete(self, record_id: str) -> None:
        self.tick()
        place = (await self.memories.found(record_id, None)).namespace
        await self.memories.delete(record_id, None, place)

    async def ours(self) -> list[dict[str, Any]]:
        """Our memories; of two with one title the one that a look-up answers comes last."""
        found = json.loads(await self.memories.listed({"limit": "1000"}))["memories"]
        return sorted(found, key=lambda one: str(one["updated_at"]))

    async def reported(self) -> dict[tuple[str, str], str]:
        """(namespace, title) to state, of all that status says cannot agree."""

        def read(reader: Reader) -> dict[tuple[str, str], str]:
            found = reader.execute("SELECT namespace, title, state FROM legacy_record WHERE state <> ''")
            return {(namespace, title): state for namespace, title, state in found}

        return await self.store.reader.run(read)

    # --- the daemon's

    def theirs(self) -> list[dict[str, Any]]:
        return self.old.store.all()

    async def there(self, method: str, path: str, body: Any = None, *, told: bool = True) -> int:
        """What a client of the daemon does; its status. `told`: the fan-out of it reaches us."""
        self.tick()
        before = {row["id"]: row for row in self.theirs()}
        data = b"" if body is None else json.dumps(body).encode()
        headers = (("content-type", "application/json"), ("x-agent-id", "ai:old"))
        answer = await self.old.handle(Request(method, API + path, "", headers, data))
        if told and answer.status < 300:
            after = {row["id"]: row for row in self.theirs()}
            rows = [row for record_id, row in after.items() if before.get(record_id) != row]
            gone = sorted(before.keys() - after.keys())
            await self.push(rows, deletions=gone)
        return answer.status

    async def push(self, rows: Sequence[Mapping[str, Any]], **sections: Any) -> Any:
        """What its fan-out sends."""
        wire = [self.old.store.wire(dict(row)) for row in rows]
        body = {"sender_agent_id": "host:old", "memories": wire, "dry_run": False, **sections}
        return json.loads(await self.endpoint.push(self.peer, {}, json.dumps(body, sort_keys=True).encode()))

    # --- the bridge

    async def read(self) -> None:
        self.tick()
        await self.calls._read_new()

    async def scan(self) -> None:
        """Read everything once."""
        for _ in range(100):
            await self.calls._scan()
            if (await self.desk.standing(self.peer)).scan is None:
                return
        raise AssertionError("the reading of everything does not end")

    async def send(self) -> None:
        self.tick()
        async with asyncio.timeout(30):
            await self.calls._send()
