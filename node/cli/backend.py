"""Memory commands reach the store through the running node, or open it themselves where none runs."""

import asyncio
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from node import keyfile, passphrase
from node.cli.context import Invocation
from node.cli.output import NO, REFUSED, STORE, UNREACHABLE, CommandError
from node.conflicts import Conflicts
from node.exchange import new_engine
from node.home import Home
from node.identities import Identities
from node.linking import Linking
from node.memories import Memories
from node.passphrase import from_file
from node.proofs import Proofs, verify_in_thread
from node.store import Store
from node.timekeeper import Timekeeper
from sync import lives

PREFIX = "/api/v1"
TIMEOUT = 60
_EXITS = {404: NO, 409: NO, 400: REFUSED, 413: REFUSED, 415: REFUSED, 401: UNREACHABLE, 403: UNREACHABLE}


class Backend(Protocol):
    """What the commands need. Values are the API's JSON values."""

    def create(self, fields: dict[str, Any]) -> dict[str, Any]: ...

    def get(self, record_id: str) -> dict[str, Any]: ...

    def update(self, record_id: str, fields: dict[str, Any]) -> dict[str, Any]: ...

    def delete(self, record_id: str) -> dict[str, Any]: ...

    def promote(self, record_id: str) -> dict[str, Any]: ...

    def link(self, fields: dict[str, Any]) -> dict[str, Any]: ...

    def unlink(self, fields: dict[str, Any]) -> dict[str, Any]: ...

    def links(self, record_id: str) -> dict[str, Any]: ...

    def listed(self, filters: dict[str, str]) -> dict[str, Any]: ...

    def search(self, filters: dict[str, str]) -> dict[str, Any]: ...

    def conflicts(self, filters: dict[str, str]) -> dict[str, Any]: ...

    def conflict(self, record_id: str, namespace: str | None) -> dict[str, Any]: ...

    def resolve(self, record_id: str, namespace: str | None, fields: dict[str, Any]) -> dict[str, Any]: ...

    def identities(self) -> dict[str, Any]: ...

    def generate(self, agent: str) -> dict[str, Any]: ...

    def rotate(self, agent: str) -> dict[str, Any]: ...

    def verify(self, record_id: str, namespace: str | None) -> dict[str, Any]: ...

    def verified(self, query: dict[str, str]) -> dict[str, Any]: ...

    def stats(self) -> dict[str, Any]: ...

    def settle_future(self) -> dict[str, Any]: ...

    def adopt(self, body: bytes) -> dict[str, Any]: ...


class HttpBackend:
    """Over the local listener of a running node."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._address = urlsplit(url)
        self._headers = {"Content-Type": "application/json"} | ({"X-Api-Key": api_key} if api_key else {})

    def create(self, fields: dict[str, Any]) -> dict[str, Any]:
        return self.call("POST", "/memories", fields)

    def get(self, record_id: str) -> dict[str, Any]:
        return self.call("GET", f"/memories/{quote(record_id, safe='')}")

    def update(self, record_id: str, fields: dict[str, Any]) -> dict[str, Any]:
        return self.call("PUT", f"/memories/{quote(record_id, safe='')}", fields)

    def delete(self, record_id: str) -> dict[str, Any]:
        return self.call("DELETE", f"/memories/{quote(record_id, safe='')}")

    def promote(self, record_id: str) -> dict[str, Any]:
        return self.call("POST", f"/memories/{quote(record_id, safe='')}/promote", {})

    def link(self, fields: dict[str, Any]) -> dict[str, Any]:
        return self.call("POST", "/links", fields)

    def unlink(self, fields: dict[str, Any]) -> dict[str, Any]:
        return self.call("DELETE", "/links", fields)

    def links(self, record_id: str) -> dict[str, Any]:
        return self.call("GET", f"/links/{quote(record_id, safe='')}")

    def listed(self, filters: dict[str, str]) -> dict[str, Any]:
        return self.call("GET", f"/memories?{urlencode(filters)}")

    def search(self, filters: dict[str, str]) -> dict[str, Any]:
        return self.call("GET", f"/search?{urlencode(filters)}")

    def conflicts(self, filters: dict[str, str]) -> dict[str, Any]:
        return self.call("GET", f"/conflicts?{urlencode(filters)}")

    def conflict(self, record_id: str, namespace: str | None) -> dict[str, Any]:
        return self.call("GET", f"/conflicts/{quote(record_id, safe='')}{_within(namespace)}")

    def resolve(self, record_id: str, namespace: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        return self.call("POST", f"/conflicts/{quote(record_id, safe='')}/resolve{_within(namespace)}", fields)

    def identities(self) -> dict[str, Any]:
        return self.call("GET", "/identities")

    def generate(self, agent: str) -> dict[str, Any]:
        return self.call("POST", "/identities", {"agent_id": agent})

    def rotate(self, agent: str) -> dict[str, Any]:
        return self.call("POST", "/identities/rotate", {"agent_id": agent})

    def verify(self, record_id: str, namespace: str | None) -> dict[str, Any]:
        return self.call("GET", f"/verify/{quote(record_id, safe='')}{_within(namespace)}")

    def verified(self, query: dict[str, str]) -> dict[str, Any]:
        return self.call("GET", f"/verify?{urlencode(query)}")

    def stats(self) -> dict[str, Any]:
        return self.call("GET", "/stats")

    def settle_future(self) -> dict[str, Any]:
        return self.call("POST", "/sync/settle", {})

    def adopt(self, body: bytes) -> dict[str, Any]:
        return self.call("POST", "/sync/versions", body)

    def call(self, method: str, path: str, body: dict[str, Any] | bytes | None = None) -> dict[str, Any]:
        """One request. Raises CommandError with the node's own words."""
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=TIMEOUT)
        try:
            sent = json.dumps(body).encode() if isinstance(body, dict) else body
            connection.request(method, PREFIX + path, sent, self._headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CommandError(
                UNREACHABLE, "unreachable", f"the node does not answer ({type(error).__name__}); is it still running?"
            ) from None
        finally:
            connection.close()
        if response.status >= 400:
            exit_code = _EXITS.get(response.status, STORE)
            raise CommandError(exit_code, str(answer.get("code", "error")), str(answer.get("error", answer)))
        return dict(answer)


class StoreBackend:
    """Opens the store itself. Peers get what was written once the node runs."""

    def __init__(self, memories: Memories, identities: Identities, proofs: Proofs) -> None:
        self._memories = memories
        self._identities = identities
        self._proofs = proofs
        self._linking = Linking(memories)
        self._conflicts = Conflicts(memories)

    def create(self, fields: dict[str, Any]) -> dict[str, Any]:
        return asyncio.run(self._memories.create(json.dumps(fields).encode(), None))

    def get(self, record_id: str) -> dict[str, Any]:
        return _decoded(asyncio.run(self._memories.get(record_id, None)))

    def update(self, record_id: str, fields: dict[str, Any]) -> dict[str, Any]:
        return asyncio.run(self._memories.update(record_id, json.dumps(fields).encode(), None, None))

    def delete(self, record_id: str) -> dict[str, Any]:
        return asyncio.run(self._memories.delete(record_id, None, None))

    def promote(self, record_id: str) -> dict[str, Any]:
        return asyncio.run(self._memories.promote(record_id, None, None))

    def link(self, fields: dict[str, Any]) -> dict[str, Any]:
        return asyncio.run(self._linking.create(json.dumps(fields).encode(), None, None))

    def unlink(self, fields: dict[str, Any]) -> dict[str, Any]:
        return asyncio.run(self._linking.delete(json.dumps(fields).encode(), {}, None))

    def links(self, record_id: str) -> dict[str, Any]:
        return _decoded(asyncio.run(self._linking.listed(record_id, {})))

    def listed(self, filters: dict[str, str]) -> dict[str, Any]:
        return _decoded(asyncio.run(self._memories.listed(filters)))

    def search(self, filters: dict[str, str]) -> dict[str, Any]:
        return _decoded(asyncio.run(self._memories.search(filters)))

    def conflicts(self, filters: dict[str, str]) -> dict[str, Any]:
        return asyncio.run(self._conflicts.listed(filters))

    def conflict(self, record_id: str, namespace: str | None) -> dict[str, Any]:
        return asyncio.run(self._conflicts.get(record_id, namespace))

    def resolve(self, record_id: str, namespace: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        return asyncio.run(self._conflicts.resolve(record_id, json.dumps(fields).encode(), None, namespace))

    def identities(self) -> dict[str, Any]:
        return asyncio.run(self._identities.listed())

    def generate(self, agent: str) -> dict[str, Any]:
        return asyncio.run(self._identities.generate(json.dumps({"agent_id": agent}).encode()))

    def rotate(self, agent: str) -> dict[str, Any]:
        return asyncio.run(self._identities.rotate(json.dumps({"agent_id": agent}).encode()))

    def verify(self, record_id: str, namespace: str | None) -> dict[str, Any]:
        return asyncio.run(self._proofs.one(record_id, namespace))

    def verified(self, query: dict[str, str]) -> dict[str, Any]:
        return asyncio.run(self._proofs.page(query))

    def stats(self) -> dict[str, Any]:
        return asyncio.run(self._memories.stats())

    def settle_future(self) -> dict[str, Any]:
        return asyncio.run(self._memories.settle_future())

    def adopt(self, body: bytes) -> dict[str, Any]:
        return asyncio.run(self._memories.adopt(body))


def _within(namespace: str | None) -> str:
    return "" if namespace is None else f"?{urlencode({'namespace': namespace})}"


def _decoded(body: bytes) -> dict[str, Any]:
    return dict(json.loads(body))


@contextmanager
def backend(invocation: Invocation) -> Iterator[Backend]:
    """The running node, or the store. Raises ConfigError, StoreError."""
    running = running_node(invocation)
    if running is not None:
        yield running
        return
    config, home = invocation.config(), invocation.home
    store = Store.open(home.store(config), passphrase.find(config, home), create=True, readers=1)
    try:
        clock = Timekeeper()
        engine = new_engine(config.agent_id, store)
        # A process that owns the store begins a life before its first write (protocol section 4, Actor).
        store.writer.call(lambda ledger: engine.begin_life(ledger, clock.now(), lives.START))
        identities = Identities(store, engine.agent, clock.now)
        names = {one.fingerprint.text: one.name for one in config.peers}
        proofs = Proofs(store, verify_in_thread, names.get, lambda: keyfile.load(home.keyring(config)))
        yield StoreBackend(Memories(store, engine, clock.now), identities, proofs)
    finally:
        store.close()


def running_node(invocation: Invocation) -> HttpBackend | None:
    """The node that runs in this folder, if one does."""
    running = invocation.home.running()
    return None if running is None else HttpBackend(running.local_url, _api_key(invocation.home, invocation))


def _api_key(home: Home, invocation: Invocation) -> str | None:
    name = invocation.config()["local", "api_key_file"]
    return from_file(home.under(name)) if name else None
