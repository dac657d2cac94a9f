"""The running node: store, engine, both listeners and the links to its peers, put together and taken down again."""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from importlib.metadata import version
from typing import Any

import structlog
import uvloop
from aiohttp import web

from node import bridge, keyfile
from node.api.federation import Federation
from node.api.local import Local
from node.api.serving import Runner
from node.bridge import Parts
from node.calls import Calls
from node.config import Config, ConfigError
from node.door import Door
from node.edits import Edits
from node.exchange import Exchange, new_engine
from node.home import Home
from node.identities import Identities
from node.links import Links, with_waiting
from node.memories import Memories
from node.passphrase import from_file
from node.peers import PeerBook, book_of
from node.proofs import Proofs
from node.store import Store
from node.store.errors import StoreError
from node.timekeeper import Timekeeper
from sync.keyring import Keyring, KeyringError
from sync.ports import Position
from tls.allowlist import Allowlist, AllowlistError
from tls.allowlist import load as load_allowlist
from tls.errors import TlsError
from tls.fingerprint import Fingerprint
from tls.gate import WARN_DAYS, Gate
from tls.listener import Limits
from tls.watch import Watcher

RETRY_WAITING = 15.0
"""Seconds between looks at what waits in the future, and at the clock."""

VERSION = version("ai-memory")
"""Looked up once: it is read from a file."""

log = structlog.get_logger("node")


class Daemon:
    """One node. `async with running(...)` gives one that serves."""

    def __init__(self, home: Home, config: Config, store: Store) -> None:
        self.home, self.config, self.store = home, config, store
        self.clock = Timekeeper()
        self.engine = new_engine(config.agent_id, store)
        self.exchange = Exchange(store, self.engine, book_of(config, config.peers, self._first_keyring()), self.clock)
        self.bridge = bridge.build(Parts(store, self.engine, self.exchange, self.clock, config.agent_id))
        self.memories = Memories(store, self.engine, self.clock.now, self.exchange.check_clock)
        self.gate = Gate(home.identity(config), self._first_allowlist())
        self.door = Door(
            self.gate,
            lambda: Federation(self.exchange, self.links.heard_from, VERSION, bridge=self.bridge).application(),
            config.address("federation"),
            Limits(
                config["federation", "handshake_timeout"],
                config["federation", "max_handshakes"],
                config["federation", "max_handshakes_per_address"],
                config["federation", "max_connections"],
            ),
            self.tell_where,
        )
        self.calls = Calls(home, config, self.gate, self.exchange, self.bridge)
        self.links = Links(self.calls.to)
        self.edits = Edits(self)
        self.local_url = ""
        self.poke: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._settling = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()

    @property
    def book(self) -> PeerBook:
        return self.exchange.book

    @property
    def federation_url(self) -> str | None:
        """None while the allowlist is empty: then nobody could enter, so nothing listens."""
        return self.door.url

    def tell_where(self) -> None:
        """Write down for commands in the same folder where this node is reached."""
        self.home.write_run(self.local_url, self.federation_url)

    def begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something beside everything else. What goes wrong in it is logged, and ends only itself."""
        task = self._loop.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, ConfigError | TlsError | StoreError):
            log.error(f"{task.get_name()}.failed", reason=str(error))
        elif error is not None:
            log.error(f"{task.get_name()}.bug", exc_info=error)

    async def close(self) -> None:
        """End what runs in the background."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    # --- what it begins with, and what `Edits` changes

    def _first_allowlist(self) -> Allowlist:
        try:
            return load_allowlist(self.home.allowlist(self.config))
        except AllowlistError as error:
            raise ConfigError([str(problem) for problem in error.problems]) from None

    def _first_keyring(self) -> Keyring:
        try:
            found = keyfile.load(self.home.keyring(self.config))
        except KeyringError as error:
            raise ConfigError([str(problem) for problem in error.problems]) from None
        for warning in found.warnings:
            log.warning("keyring.doubtful", reason=warning)
        return found

    def warn_of_expiry(self) -> None:
        """Say so while there is time to issue a new certificate."""
        days = self.gate.identity.days_left()
        if days < WARN_DAYS:
            log.warning("identity.expires", days_left=days, reason="issue a new certificate, give its fingerprint out")

    async def settle_links(self, book: PeerBook) -> None:
        """Know these peers, call them, and no others."""
        async with self._settling:  # two edits in a row: the later one counts
            if self.bridge is not None:
                await self.bridge.prepare(book)
            self.exchange.replace_book(book.with_keyring(self.book.keyring))  # edited meanwhile, perhaps
            await self.links.settle(book, self.store.position.number)
            if self.bridge is not None:
                await self.bridge.forget(book)

    # --- listeners

    async def serve_local(self) -> Runner:
        """Open the local listener. Raises ConfigError where its address cannot be listened on."""
        key_file = self.config["local", "api_key_file"]
        local = Local(
            self.memories,
            Identities(self.store, self.engine.agent, self.clock.now),
            Proofs(self.store, self.exchange.verifier.verify, self._name_of, lambda: self.book.keyring),
            self.health,
            self.status,
            max_body=self.config["local", "max_body"],
            api_key=from_file(self.home.under(key_file)) if key_file else None,
            any_host=self.config["local", "allow_non_loopback"] and not self.config["local", "hosts"],
            hosts=self.config["local", "hosts"],
        )
        runner = Runner(local.application())
        await runner.setup()
        address = self.config.address("local")
        site = web.TCPSite(runner, address.host, address.port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigError([f"[local] listen {address.text}: {error.strerror}; name another address"]) from None
        port = runner.addresses[0][1]
        self.local_url = f"http://{address.from_here(port).text}"
        self.tell_where()
        return runner

    # --- what the node says about itself

    def health(self) -> dict[str, Any]:
        return {
            "status": "ok",
            "service": "ai-memory",
            "version": VERSION,
            "federation_enabled": self.door.is_open,
            "embedder_ready": False,
        }

    async def status(self) -> dict[str, Any]:
        """Everything that `sync status` shows."""
        position = self.store.position
        conflicts, waiting = await self.store.reader.run(lambda reader: (reader.conflict_count(), reader.waiting()))
        return {
            "node": self.config.name,
            "fingerprint": self.gate.own_fingerprint.text,
            "certificate_days_left": self.gate.identity.days_left(),
            "federation_url": self.federation_url,
            "connections": self.door.connections,
            "feed": position.number,
            "digest": f"{position.digest:032x}",
            "conflicts": conflicts,
            "peers": [
                await self._with_notes(self.exchange.refusals.told(one))
                for one in with_waiting(self.links.status(self.book, position.number), waiting, self.clock.now())
            ],
            "alarms": [
                {"kind": alarm.kind, "peer": self.book.find(alarm.peer).name if alarm.peer else None,
                 "detail": alarm.detail, "at": at // 1_000_000}
                for alarm, at in self.exchange.alarms.values()
            ],
        }  # fmt: skip

    async def _with_notes(self, told: dict[str, Any]) -> dict[str, Any]:
        """A peer's status, and why it cannot agree with this node where that is so."""
        peer = self.book.find(told["fingerprint"])
        return told | {"notes": await self.bridge.notes(peer) if peer.legacy and self.bridge is not None else []}

    # --- peers

    def _name_of(self, fingerprint: str) -> str | None:
        """What the operator calls a certificate: its peer's name, or its label on the allowlist."""
        return self.book.name_of(fingerprint) or self.gate.allowlist.label_of(Fingerprint.parse(fingerprint))

    def committed(self, position: Position) -> None:
        """Called on the writer's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed already: there is nobody left to tell
            self._loop.call_soon_threadsafe(self.links.committed, position.number)

    async def sign_own(self) -> None:
        """Write again, signed, what this node wrote before it could sign: no peer takes it otherwise."""
        written = await self.exchange.sign_own()
        if written:
            log.info("store.signed", records=written, reason="they were written before this program could sign")

    async def keep_time(self) -> None:
        """Look at the clock, and at what waits for its time, again and again."""
        while True:
            await asyncio.sleep(RETRY_WAITING)
            try:
                await self.exchange.check_clock()
                await self.exchange.retry_waiting()
            except StoreError as error:
                log.error("store.error", reason=str(error))  # a full disk: the next look tries again


@contextlib.asynccontextmanager
async def running(home: Home, config: Config, passphrase: str, *, create: bool = False) -> AsyncIterator[Daemon]:
    """A node that serves. Raises ConfigError, StoreError or TlsError where it cannot."""
    store = await asyncio.to_thread(
        Store.open, home.store(config), passphrase, create=create, readers=config["store", "readers"]
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, store.close)
        daemon = Daemon(home, config, store)
        stack.push_async_callback(daemon.exchange.close)
        rewritten = await daemon.exchange.start()
        if rewritten:
            log.warning("store.restated", records=rewritten, reason="they lay in the future of this node's clock")
        if daemon.bridge is not None:
            await daemon.bridge.prepare(daemon.book)
        runner = await daemon.serve_local()
        stack.callback(home.clear_run)
        stack.push_async_callback(runner.cleanup)
        stack.push_async_callback(daemon.door.close)
        await daemon.door.settle()
        daemon.warn_of_expiry()
        store.writer.on_commit(daemon.committed)
        stack.push_async_callback(daemon.links.close)
        await daemon.settle_links(daemon.book)
        stack.push_async_callback(daemon.close)
        daemon.begin(daemon.keep_time(), "time")
        daemon.begin(daemon.sign_own(), "store.sign")
        watcher = Watcher(daemon.edits.watched)
        watcher.start()
        stack.push_async_callback(watcher.close)
        daemon.poke = watcher.poke
        yield daemon


async def serve(
    home: Home, config: Config, passphrase: str, *, create: bool = False, ready: Callable[[Daemon], None]
) -> None:
    """Run until SIGINT or SIGTERM; SIGHUP reloads what may be edited. `ready` is called once both listeners are."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with running(home, config, passphrase, create=create) as daemon:
        loop.add_signal_handler(signal.SIGHUP, daemon.poke)
        gc.collect()
        gc.freeze()  # what exists now lives as long as the process: no collection need look at it again
        ready(daemon)
        await stop.wait()
        log.info("node.stopping")


def run(main: Callable[[], Any]) -> None:
    """Run a coroutine function on the fast event loop, with short turns between threads."""
    sys.setswitchinterval(0.0001)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
