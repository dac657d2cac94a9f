"""Memory commands reach the store through the running node, or open it themselves where none runs."""

import asyncio
import hmac
import http.client
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from node import health, keyfile, passphrase
from node.cli.context import Invocation
from node.cli.output import NO, REFUSED, STORE, UNREACHABLE, USAGE, CommandError
from node.config import Config, ConfigError
from node.conflicts import Conflicts
from node.exchange import new_engine
from node.home import Home, Running
from node.identities import Identities
from node.linking import Linking
from node.memories import Memories
from node.opening import Patience, patiently
from node.passphrase import from_file
from node.proofs import Proofs, verify_in_thread
from node.store import Store, making, restore
from node.store.errors import StoreFull, StoreLocked, StoreReadOnly
from node.timekeeper import Timekeeper
from sync import lives
from sync.engine import Engine

PREFIX = "/api/v1"
TIMEOUT = 60
MAX_PROOF = 1_024
"""Bytes that are read of an answer before it is known whose it is."""
KEY_REFUSED = (
    "the running node does not take the API key that commands here send: they send what is in the file that [local]"
    " api_key_file names now, and the node goes by the one that it named at its start. Put that line or that file back,"
    " or start the node again"
)
_EXITS = {404: NO, 409: NO, 400: REFUSED, 413: REFUSED, 415: REFUSED, 401: USAGE, 403: UNREACHABLE}


class Backend(Protocol):
    """What the commands need. Values are the API's JSON values."""

    def create(self, fields: dict[str, Any]) -> dict[str, Any]: ...
    def get(self, record_id: str, namespace: str | None) -> dict[str, Any]: ...
    def update(self, record_id: str, namespace: str | None, fields: dict[str, Any]) -> dict[str, Any]: ...
    def delete(self, record_id: str, namespace: str | None) -> dict[str, Any]: ...
    def promote(self, record_id: str, namespace: str | None) -> dict[str, Any]: ...
    def link(self, namespace: str | None, fields: dict[str, Any]) -> dict[str, Any]: ...
    def unlink(self, namespace: str | None, fields: dict[str, Any]) -> dict[str, Any]: ...
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
    """Over the local listener of a running node. It proves itself on every connection before anything is sent to it.

    A port says nothing of who listens on it: any user of the machine may, once the node is gone (docs/decisions/0020).
    """

    def __init__(self, running: Running, api_key: str | None) -> None:
        self._running = running
        self._address = urlsplit(running.local_url)
        self._headers = {"Content-Type": "application/json"} | ({"X-Api-Key": api_key} if api_key else {})

    def create(self, fields: dict[str, Any]) -> dict[str, Any]:
        return self.call("POST", "/memories", fields)

    def get(self, record_id: str, namespace: str | None) -> dict[str, Any]:
        return self.call("GET", f"/memories/{quote(record_id, safe='')}{_within(namespace)}")

    def update(self, record_id: str, namespace: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        return self.call("PUT", f"/memories/{quote(record_id, safe='')}{_within(namespace)}", fields)

    def delete(self, record_id: str, namespace: str | None) -> dict[str, Any]:
        return self.call("DELETE", f"/memories/{quote(record_id, safe='')}{_within(namespace)}")

    def promote(self, record_id: str, namespace: str | None) -> dict[str, Any]:
        return self.call("POST", f"/memories/{quote(record_id, safe='')}/promote{_within(namespace)}", {})

    def link(self, namespace: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        return self.call("POST", f"/links{_within(namespace)}", fields)

    def unlink(self, namespace: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        return self.call("DELETE", f"/links{_within(namespace)}", fields)

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
            self._proven(connection)
            sent = json.dumps(body).encode() if isinstance(body, dict) else body
            connection.request(method, PREFIX + path, sent, self._headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _silent(error) from None
        finally:
            connection.close()
        if response.status >= 400:
            exit_code = _EXITS.get(response.status, STORE)
            said = KEY_REFUSED if response.status == 401 else str(answer.get("error", answer))
            raise CommandError(exit_code, str(answer.get("code", "error")), said)
        return dict(answer)

    def _proven(self, connection: http.client.HTTPConnection) -> None:
        """Open a connection, and have the other end show that it is the node of this folder. Raises CommandError."""
        connection.connect()
        connection.auto_open = 0  # one that was closed meanwhile is not opened again
        nonce = secrets.token_hex(32)
        connection.request("GET", f"{PREFIX}/health?nonce={nonce}")
        try:
            response = connection.getresponse()
            proof = str(json.loads(response.read(MAX_PROOF))["proof"])
        except (http.client.HTTPException, ValueError, KeyError, TypeError):
            proof = ""
        if not hmac.compare_digest(proof.encode(errors="replace"), self._running.proof(nonce).encode()):
            raise CommandError(
                UNREACHABLE,
                "not_proven",
                f"what listens at {self._running.local_url} is not the node of this folder, whose process"
                f" {self._running.pid} should: nothing was sent to it. See what listens on that port, and start the"
                " node again (`[local] listen` names its address)",
            )

    def is_there(self) -> bool:
        """Whether anything listens at the node's address. Raises CommandError where that is not the node."""
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=TIMEOUT)
        try:
            self._proven(connection)
        except ConnectionRefusedError:
            return False
        except (OSError, http.client.HTTPException) as error:
            raise _silent(error) from None
        finally:
            connection.close()
        return True


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

    def get(self, record_id: str, namespace: str | None) -> dict[str, Any]:
        return _decoded(asyncio.run(self._memories.get(record_id, namespace)))

    def update(self, record_id: str, namespace: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        return asyncio.run(self._memories.update(record_id, json.dumps(fields).encode(), None, namespace))

    def delete(self, record_id: str, namespace: str | None) -> dict[str, Any]:
        return asyncio.run(self._memories.delete(record_id, None, namespace))

    def promote(self, record_id: str, namespace: str | None) -> dict[str, Any]:
        return asyncio.run(self._memories.promote(record_id, None, namespace))

    def link(self, namespace: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        return asyncio.run(self._linking.create(json.dumps(fields).encode(), None, namespace))

    def unlink(self, namespace: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        return asyncio.run(self._linking.delete(json.dumps(fields).encode(), _named(namespace), None))

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


def _silent(error: Exception) -> CommandError:
    text = f"the node does not answer ({type(error).__name__}); is it still running?"
    return CommandError(UNREACHABLE, "unreachable", text)


def _named(namespace: str | None) -> dict[str, str]:
    return {} if namespace is None else {"namespace": namespace}


def _within(namespace: str | None) -> str:
    return "" if namespace is None else f"?{urlencode({'namespace': namespace})}"


def _decoded(body: bytes) -> dict[str, Any]:
    return dict(json.loads(body))


@contextmanager
def backend(invocation: Invocation) -> Iterator[Backend]:
    """The running node, or the store. Raises ConfigError, StoreError."""
    found = node_or_store(invocation)
    if isinstance(found, HttpBackend):
        yield found
        return
    store, config, home = found, invocation.config(), invocation.home
    try:
        clock = Timekeeper()
        engine = new_engine(config.agent_id, store)
        identities = Identities(store, engine.agent, clock.now)
        names = {one.fingerprint.text: one.name for one in config.peers}
        proofs = Proofs(store, verify_in_thread, names.get, lambda: keyfile.load(home.keyring(config)))
        first = FirstWrite(store, engine, clock.now)
        yield StoreBackend(Memories(store, engine, clock.now, first), identities, proofs)
    finally:
        store.close()


class FirstWrite:
    """A process that owns the store begins a life before its first write (protocol section 4), and none to read."""

    def __init__(self, store: Store, engine: Engine, now: Callable[[], int]) -> None:
        self._store, self._engine, self._now = store, engine, now
        self._has_begun = False

    async def __call__(self) -> None:
        if self._has_begun:
            return
        await self._store.writer.run(lambda ledger: self._engine.begin_life(ledger, self._now(), lives.START))
        self._has_begun = True


def node_or_store(invocation: Invocation, secret: str | None = None) -> HttpBackend | Store:
    """The node that runs in this folder, or its store, which is to be closed again. Raises ConfigError, StoreError.

    `secret`: the passphrase, where it is known already: some sources tell it only once. A store that another process
    has is waited for; meanwhile a node that has it may come up, and is asked then. One whose disk is full or cannot be
    written is opened for reading alone.
    """
    running = noted_node(invocation)
    if running is not None:
        return running
    config, home = invocation.config(), invocation.home
    path, known = home.store(config), secret or secret_of(home, config)

    def attempt() -> HttpBackend | Store:
        try:
            return Store.open(path, known, readers=1)
        except StoreLocked:
            started = noted_node(invocation)
            if started is None:
                raise
            return started
        except (StoreFull, StoreReadOnly) as cause:
            store = Store.open_to_read(path, known, cause)
            invocation.tell(f"the store is only read: {cause}")
            return store

    try:
        return patiently(attempt, Patience(invocation.tell))
    except StoreLocked as error:
        why = health.unseen(home, error)
        raise CommandError(UNREACHABLE, "store_locked", why) if why else error from None


def secret_of(home: Home, config: Config) -> str:
    """The passphrase of the store that is there. Raises StoreMissing before anybody looks for a passphrase."""
    if not restore.is_ready(home.store(config)):
        making.require(home.store(config))
    return passphrase.find(config, home)


def running_node(invocation: Invocation) -> HttpBackend | None:
    """The node that runs in this folder, proven to be it; None where none does. Raises CommandError, ConfigError."""
    found = noted_node(invocation)
    if found is None:
        with suppress(ConfigError):  # without a configuration nobody knows which store to look at
            if why := health.unseen(invocation.home, health.holder(invocation.home.store(invocation.config()))):
                raise CommandError(UNREACHABLE, "store_locked", why)
    return found


def noted_node(invocation: Invocation) -> HttpBackend | None:
    """The node that `run.json` names, where it runs and answers. Raises as `running_node`."""
    running = invocation.home.running()
    if running is None:
        return None
    found = HttpBackend(running, _api_key(invocation.home, invocation.config()))
    return found if found.is_there() else None  # one that begins or ends: its store says that it is in use


def _api_key(home: Home, config: Config) -> str | None:
    """What the node asks for, where it does. Raises ConfigError, or CommandError where there is no key at all."""
    name = config["local", "api_key_file"]
    if not name:
        return None
    path = home.under(name)
    if path.exists():
        return from_file(path)
    text = (
        f"{path} is not there: expected is a file with the API key that the running node asks for ([local]"
        f" api_key_file). Put it back, or make a new key with `ai-memory api-key rotate`; tokens stay as they are"
    )
    # The configuration may have been edited since: then the node knows the key in the usual place.
    raise ConfigError([text]) if home.api_key.exists() else CommandError(USAGE, "config", text)
