"""Real nodes in this process, on free ports with minted certificates: their folders, clients, peers, and records."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from certs import Mesh, Visitor
from keys import pair as pair_of
from knocking import plain_client
from lines import Caller, Reply, port_of
from marker import MARKER
from stamps import stamp
from stores import key_of

from node import config as configuration
from node import setup
from node.config import PeerConfig
from node.daemon import Daemon
from node.demo.mesh import free_ports
from node.home import Home
from node.process import running
from node.store import making
from sync.draft import Fields, new_memory
from sync.ids import memory_id
from sync.ports import Position
from sync.record import memory_version, tombstone_version
from tls.allowlist import add, remove
from tls.fingerprint import Fingerprint

PASSPHRASE = "a passphrase that no answer may contain"
API_KEY = "a key that no answer may contain"
MAX_BODY = 200_000
PEERS_MAX_BODY = 16 * 2**20
NEVER = 86_400.0
QUIET = {("sync", "pull_interval"): NEVER}
"""Nobody pulls because a period is over: what arrives was pushed, or fetched for a reason."""
BRISK = {**QUIET, ("sync", "retry_first"): 0.05, ("sync", "retry_longest"): 0.2}
LIFE = "ab" * 8
"""The life of a peer that is played by a test."""


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    (port,) = free_ports(1)
    return port


def new_store(path: Path) -> None:
    """An empty store under `PASSPHRASE`, as `init` makes it; all have one salt, so that their key is derived once."""
    making.make(path, key_of(PASSPHRASE, b"one salt for all"))


class Place:
    """A node's folder and its settings; `async with place.serving() as daemon` runs the node."""

    def __init__(self, mesh: Mesh, name: str, settings: Mapping[tuple[str, str], Any]) -> None:
        self.name = name
        self.port = free_port()
        self.home = Home(mesh.folder / f"home-{name}")
        self._settings = {
            ("node", "name"): name,
            ("federation", "listen"): f"127.0.0.1:{self.port}",
            ("local", "listen"): "127.0.0.1:0",
            **settings,
        }
        key = mesh.folder / "ca.key"
        if not key.exists():
            key.touch(0o600)
            key.write_bytes(mesh.authority.key_pem)
        asks = ("local", "api_key_file") in settings
        made = setup.init(self.home, name, ("127.0.0.1",), ca=(mesh.ca, key), write_passphrase=False, api_key=asks)
        self.fingerprint: Fingerprint = made.fingerprint
        self.configure()
        new_store(self.home.path / "store.db")

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def configure(self, *peers: PeerConfig) -> None:
        """Write the configuration, with these peers in it."""
        lines: list[str] = []
        for section in dict.fromkeys(section for section, _ in self._settings):
            lines.append(f"[{section}]")
            lines += [f"{key} = {json.dumps(v)}" for (one, key), v in self._settings.items() if one == section]
        for peer in peers:
            values = msgspec.to_builtins(peer) | {"fingerprint": peer.fingerprint.text}
            lines.append("[[peer]]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
        self.home.config.write_text("\n".join(lines) + "\n")

    def write_secret(self, name: str, text: str) -> None:
        """A file in the folder that only its owner can read."""
        path = self.home.path / name
        path.touch(0o600)
        path.write_text(text)

    def list(self, *fingerprints: Fingerprint) -> None:
        """Put certificates on the allowlist."""
        path = self.home.path / "allowlist"
        text = path.read_text()
        for fingerprint in fingerprints:
            text = add(text, fingerprint, "test")
        path.write_text(text)

    def unlist(self, *fingerprints: Fingerprint) -> None:
        """Take certificates off the allowlist."""
        path = self.home.path / "allowlist"
        text = path.read_text()
        for fingerprint in fingerprints:
            text = remove(text, fingerprint)
        path.write_text(text)

    def as_peer(self, **changes: Any) -> PeerConfig:
        """This node as another one's configuration names it."""
        return peer(self.name, self.fingerprint, **{"url": self.url, **changes})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Daemon]:
        config = configuration.load(self.home.config, {})
        async with running(self.home, config, PASSPHRASE) as daemon:
            yield daemon


def peer(
    name: str,
    fingerprint: Fingerprint,
    *,
    url: str | None = None,
    direction: str = "both",
    read: Sequence[str] = ("**",),
    write: Sequence[str] = ("**",),
    legacy: bool = False,
    api_key_file: str | None = None,
    allow_unsigned: bool | None = None,
) -> PeerConfig:
    """One `[[peer]]`."""
    return PeerConfig(
        name, url, fingerprint, direction, tuple(read), tuple(write), legacy, api_key_file, allow_unsigned
    )


def pair(
    mesh: Mesh, settings: Mapping[tuple[str, str], Any], names: tuple[str, str] = ("a", "b"), **changes: Any
) -> tuple[Place, Place]:
    """Two nodes that trust each other and each call the other. `changes`: in what each says of the other."""
    a, b = (Place(mesh, name, settings) for name in names)
    a.configure(b.as_peer(**changes))
    b.configure(a.as_peer(**changes))
    a.list(b.fingerprint)
    b.list(a.fingerprint)
    return a, b


@asynccontextmanager
async def local(daemon: Daemon, **headers: str) -> AsyncIterator[Caller]:
    """A client of the local listener."""
    caller = Caller(port_of(daemon.local_url), None, {name.replace("_", "-"): v for name, v in headers.items()})
    try:
        yield caller
    finally:
        await caller.close()


@asynccontextmanager
async def federation(daemon: Daemon, mesh: Mesh, visitor: Visitor) -> AsyncIterator[Caller]:
    """A client of the federation listener with this certificate."""
    assert daemon.federation_url is not None, "the federation listener is closed"
    caller = Caller(port_of(daemon.federation_url), plain_client(mesh, visitor))
    try:
        yield caller
    finally:
        await caller.close()


def events(logs: list[Any], name: str) -> list[Any]:
    return [entry for entry in logs if entry["event"] == name]


@asynccontextmanager
async def serving(*places: Place) -> AsyncIterator[list[tuple[Daemon, Caller]]]:
    """These nodes, each with a client of its local listener."""
    async with AsyncExitStack() as stack:
        found = []
        for place in places:
            daemon = await stack.enter_async_context(place.serving())
            found.append((daemon, await stack.enter_async_context(local(daemon))))
        yield found


async def write(caller: Caller, *titles: str) -> None:
    bodies = [{"title": title, "content": f"content of {title} {MARKER}", "namespace": "n"} for title in titles]
    assert (await caller("POST", "/memories/bulk", bodies)).json["created"] == len(titles)


async def titles(caller: Caller) -> set[str]:
    return {one["title"] for one in (await caller("GET", "/memories?limit=1000")).json["memories"]}


async def status_of(caller: Caller, name: str) -> dict[str, Any]:
    peers = (await caller("GET", "/sync/status")).json["peers"]
    return next(dict(one) for one in peers if one["peer"] == name)


async def eventually(look: Callable[[], Awaitable[Any]], seconds: float = 15.0) -> Any:
    """What an awaited look-up says, once it says something."""
    async with asyncio.timeout(seconds):
        while not (found := await look()):
            await asyncio.sleep(0.02)
        return found


def in_step(caller: Caller, name: str) -> Callable[[], Awaitable[Any]]:
    async def look() -> bool:
        return bool((await status_of(caller, name))["state"] == "in_step")

    return look


def standing_is(caller: Caller, name: str, *wanted: str) -> Callable[[], Awaitable[Any]]:
    async def look() -> Any:
        told = await status_of(caller, name)
        return told if told["standing"] in wanted else None

    return look


def has(caller: Caller, *wanted: str) -> Callable[[], Awaitable[Any]]:
    async def look() -> bool:
        return set(wanted) <= await titles(caller)

    return look


async def failing(caller: Caller, name: str) -> dict[str, Any] | None:
    found = await status_of(caller, name)
    return found if found["state"] == "failing" else None


@dataclass
class Served:
    """A node with its two listeners. `friend` is a configured peer that may read and write everything."""

    mesh: Mesh
    place: Place
    daemon: Daemon
    local: Caller
    friend: Caller

    @property
    def listeners(self) -> Mapping[str, Caller]:
        return {"local": self.local, "federation": self.friend}

    @property
    def position(self) -> Position:
        """Where the feed stands, with the digest of the whole store."""
        return self.daemon.store.position

    def secrets(self) -> tuple[str, ...]:
        """What would tell a stranger more than what they did wrong."""
        folder = str(self.place.home.path)
        told = (folder, str(self.mesh.folder), PASSPHRASE, API_KEY, self.place.fingerprint.text)
        return (*told, "Traceback", 'File "', ".py", "site-packages", "SELECT", "INSERT", "sqlite", "0x7")

    def check_says_nothing(self, reply: Reply) -> None:
        text = repr(reply.headers) + reply.body.decode()
        assert [secret for secret in self.secrets() if secret in text] == []

    async def check_goes_on(self, before: Position) -> None:
        """Nothing was stored, and the next good request on either listener works."""
        assert self.position == before
        for caller in self.listeners.values():
            assert (await caller("GET", "/health")).status == 200

    async def read(self, path: str) -> Any:
        reply = await self.local("GET", path)
        assert reply.status == 200, reply.body
        return reply.json


# --- records as a peer sends them


def memory(
    title: str, content: str = "text", *, namespace: str = "team", at: int, clock: int = 1, **fields: Any
) -> Any:
    """A memory of a peer's own writing, as JSON. `at`: microseconds since 1970; `clock`: its counter."""
    draft = new_memory(
        Fields(title=title, content=content, namespace=namespace, **fields), memory_id(namespace, title, 0), at
    )
    return json.loads(memory_version(draft, pair_of("ai:peer"), stamp({LIFE: clock << 20})).doc)


def tombstone(title: str, *, namespace: str = "team", at: str, clock: int = 2) -> Any:
    """A delete by a peer, as JSON."""
    version = tombstone_version(
        namespace, memory_id(namespace, title, 0), at, pair_of("ai:peer"), stamp({LIFE: clock << 20})
    )
    return json.loads(version.doc)


def push(*memories: Any, **members: Any) -> dict[str, Any]:
    """The body of a push from a peer."""
    return {"sender_agent_id": "ai:peer", "life": LIFE, "memories": list(memories), **members}
