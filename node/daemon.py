"""The running node: store, engine, both listeners and a replicator for each peer, put together and taken down again."""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import structlog
import uvloop
from aiohttp import web

from node.api.federation import Federation
from node.api.local import Local
from node.config import Address, Config, ConfigError, PeerConfig
from node.dialer import Dialer
from node.exchange import Exchange, new_engine
from node.home import Home
from node.memories import Memories
from node.passphrase import from_file
from node.peers import Peer, PeerBook
from node.replicator import Limits as PageLimits
from node.replicator import Replicator
from node.store import Store
from node.timekeeper import Timekeeper
from sync.peer import Pace
from sync.ports import Position
from sync.scope import Globs
from tls.allowlist import Allowlist, AllowlistError
from tls.allowlist import load as load_allowlist
from tls.contexts import PinnedContext
from tls.errors import IdentityError
from tls.explain import explain
from tls.fingerprint import Fingerprint
from tls.gate import WARN_DAYS, Gate, self_test
from tls.listener import HandshakeEvent, Limits, Listener
from tls.watch import Watched, Watcher

KEEPALIVE = 75.0
RETRY_WAITING = 15.0
"""Seconds between looks at what waits in the future, and at the clock."""
GRACE = 5.0
"""Seconds that requests under way get at the end."""

log = structlog.get_logger("node")


@dataclass(slots=True)
class _Links:
    """What exists per configured peer."""

    replicators: dict[str, Replicator] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Daemon:
    """One node. `async with running(...)` gives one that serves."""

    def __init__(self, home: Home, config: Config, store: Store) -> None:
        self.home, self.config, self.store = home, config, store
        self.clock = Timekeeper()
        self.engine = new_engine(config.agent_id)
        self.book = PeerBook(
            (_peer(one) for one in config.peers),
            Globs(tuple(config["federation", "default_read"])),
            Globs(tuple(config["federation", "default_write"])),
        )
        self.exchange = Exchange(store, self.engine, self.book, self.clock)
        self.memories = Memories(store, self.engine, self.clock.now)
        self.gate = Gate(home.identity(config), self._first_allowlist())
        self.listener: Listener | None = None
        self.local_url = ""
        self._links = _Links()
        self._contexts: dict[str, PinnedContext] = {}
        self._loop = asyncio.get_running_loop()
        self.poke: Callable[[], None] = lambda: None

    @property
    def federation_url(self) -> str | None:
        """None while the allowlist is empty: then nobody could enter, so nothing listens."""
        if self.listener is None:
            return None
        address = self.config.address("federation")
        host = "127.0.0.1" if address.host in ("0.0.0.0", "::") else address.host  # noqa: S104 - compared, not bound
        return f"https://{Address(host, self.listener.port).text}"

    # --- allowlist and identity

    def _first_allowlist(self) -> Allowlist:
        try:
            return load_allowlist(self.home.allowlist(self.config))
        except AllowlistError as error:
            raise ConfigError([str(problem) for problem in error.problems]) from None

    def reload_allowlist(self) -> None:
        """Take in an edited allowlist; a broken one changes nothing, and is told."""
        try:
            fresh = load_allowlist(self.home.allowlist(self.config))
        except AllowlistError as error:
            for problem in error.problems:
                log.error("allowlist.broken", reason=str(problem), kept=len(self.gate.allowlist))
            return
        before = self.gate.allowlist
        self.gate.replace_allowlist(fresh)
        self._contexts.clear()
        dropped = self.listener.drop_unlisted() if self.listener is not None else 0
        for warning in fresh.warnings:
            log.warning("allowlist.duplicate", reason=warning)
        added, removed = fresh.fingerprints - before.fingerprints, before.fingerprints - fresh.fingerprints
        log.info("allowlist.loaded", entries=len(fresh), added=len(added), removed=len(removed), dropped=dropped)
        if removed:
            self._loop.create_task(self._hang_up(removed))
        if fresh.entries and self.listener is None:
            self._loop.create_task(self._listen())

    async def _hang_up(self, removed: frozenset[Fingerprint]) -> None:
        """Close our own connections to peers that were taken off the list."""
        for fingerprint in removed:
            replicator = self._links.replicators.get(fingerprint.text)
            if replicator is not None:
                await replicator.hang_up()

    def reload_identity(self) -> None:
        """Take in a rotated certificate, key or CA bundle; a pair that does not match changes nothing."""
        try:
            if self.gate.reload_identity():
                self._contexts.clear()
                identity = self.gate.identity
                log.info("identity.loaded", fingerprint=identity.fingerprint.text, days_left=identity.days_left())
        except IdentityError as error:
            log.error("identity.broken", reason=str(error), kept=self.gate.own_fingerprint.short)
        self._warn_of_expiry()

    def _warn_of_expiry(self) -> None:
        days = self.gate.identity.days_left()
        if days < WARN_DAYS:
            log.warning("identity.expires", days_left=days, reason="issue a new certificate, give its fingerprint out")

    def _context_for(self, fingerprint: Fingerprint) -> PinnedContext:
        """The TLS context for calling one peer; made once for each identity and allowlist."""
        found = self._contexts.get(fingerprint.text)
        if found is not None:
            return found
        context = self.gate.client_context(frozenset((fingerprint,)))
        self._contexts[fingerprint.text] = context
        return context

    # --- listeners

    async def _listen(self) -> None:
        """Open the federation listener, once there is somebody to let in and the gate has proven itself."""
        if not self.gate.allowlist.entries:
            log.warning("federation.closed", reason="the allowlist is empty: add a peer's fingerprint to open it")
            return
        await asyncio.to_thread(self_test)
        federation = Federation(self.exchange, self._heard_from, version("ai-memory"))
        runner = web.AppRunner(
            federation.application(),
            access_log=None,
            keepalive_timeout=KEEPALIVE,
            auto_decompress=False,
            shutdown_timeout=GRACE,
        )
        await runner.setup()
        assert runner.server is not None
        address = self.config.address("federation")
        limits = Limits(
            self.config["federation", "handshake_timeout"],
            self.config["federation", "max_handshakes"],
            self.config["federation", "max_handshakes_per_address"],
            self.config["federation", "max_connections"],
        )
        listener = Listener(self.gate, runner.server, address.host, address.port, limits, self._at_the_gate)
        try:
            await listener.start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigError([f"[federation] listen {address.text}: {error.strerror}; name another address"]) from None
        self.listener, self._federation_runner = listener, runner
        log.info("federation.open", url=self.federation_url, entries=len(self.gate.allowlist))
        self.home.write_run(self.local_url, self.federation_url)

    _federation_runner: web.AppRunner | None = None

    def _at_the_gate(self, event: HandshakeEvent) -> None:
        known = {"address": event.address, "peer": event.label, "reason": event.reason}
        if event.fingerprint is not None:
            known["fingerprint"] = event.fingerprint.text
        level = log.debug if event.kind == "accepted" else log.warning
        level(f"gate.{event.kind}", **{key: value for key, value in known.items() if value is not None})

    def _heard_from(self, fingerprint: str) -> None:
        replicator = self._links.replicators.get(fingerprint)
        if replicator is not None:
            replicator.heard_from()

    async def _serve_local(self) -> web.AppRunner:
        key_file = self.config["local", "api_key_file"]
        local = Local(
            self.memories,
            self.health,
            self.status,
            max_body=self.config["local", "max_body"],
            api_key=from_file(self.home.under(key_file)) if key_file else None,
            any_host=self.config["local", "allow_non_loopback"],
        )
        runner = web.AppRunner(
            local.application(),
            access_log=None,
            keepalive_timeout=KEEPALIVE,
            auto_decompress=False,
            shutdown_timeout=GRACE,
        )
        await runner.setup()
        address = self.config.address("local")
        site = web.TCPSite(runner, address.host, address.port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigError([f"[local] listen {address.text}: {error.strerror}; name another address"]) from None
        port = runner.addresses[0][1]
        self.local_url = f"http://{Address(address.host, port).text}"
        return runner

    # --- what the node says about itself

    def health(self) -> dict[str, Any]:
        return {
            "status": "ok",
            "service": "ai-memory",
            "version": version("ai-memory"),
            "federation_enabled": self.listener is not None,
        }

    async def status(self) -> dict[str, Any]:
        """Everything that `sync status` shows."""
        position = self.store.position
        conflicts = await self.store.reader.run(lambda reader: reader.conflict_count())
        return {
            "node": self.config.name,
            "fingerprint": self.gate.own_fingerprint.text,
            "certificate_days_left": self.gate.identity.days_left(),
            "federation_url": self.federation_url,
            "connections": self.listener.connections if self.listener is not None else 0,
            "feed": position.number,
            "digest": f"{position.digest:032x}",
            "conflicts": conflicts,
            "peers": [one.status() for one in self._links.replicators.values()],
            "alarms": [
                {"kind": alarm.kind, "peer": self.book.find(alarm.peer).name if alarm.peer else None,
                 "detail": alarm.detail, "at": at // 1_000_000}
                for alarm, at in self.exchange.alarms.values()
            ],
        }  # fmt: skip

    # --- peers

    def _connect_peers(self) -> None:
        config = self.config
        pace = Pace(config["sync", "pull_interval"], config["sync", "retry_first"], config["sync", "retry_longest"])
        limits = PageLimits(self.config["sync", "page_records"], self.config["sync", "page_bytes"])
        for peer in self.book.peers:
            if peer.url is not None:
                self._links.replicators[peer.fingerprint] = self._replicator(peer, peer.url, limits, pace)
        for replicator in self._links.replicators.values():
            replicator.committed(self.store.position.number)
            self._links.tasks.append(asyncio.create_task(replicator.run(), name=f"peer {replicator.peer.name}"))

    def _replicator(self, peer: Peer, url: str, limits: PageLimits, pace: Pace) -> Replicator:
        fingerprint = Fingerprint.parse(peer.fingerprint)

        def explained(error: BaseException) -> tuple[str, str]:
            found = explain(error, self.gate.own_fingerprint, self.config.name)
            return found.code, found.text

        dialer = Dialer(url, lambda: self._context_for(fingerprint), self.config["sync", "request_timeout"])
        return Replicator(peer, self.exchange, dialer, self.config.agent_id, limits, pace, explained)

    def _committed(self, position: Position) -> None:
        """Called on the writer's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed already: there is nobody left to tell
            self._loop.call_soon_threadsafe(self._tell_peers, position.number)

    def _tell_peers(self, number: int) -> None:
        for replicator in self._links.replicators.values():
            replicator.committed(number)

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(RETRY_WAITING)
            await self.exchange.check_clock()
            await self.exchange.retry_waiting()


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
        runner = await daemon._serve_local()
        stack.push_async_callback(runner.cleanup)
        stack.callback(home.clear_run)
        home.write_run(daemon.local_url, None)
        stack.push_async_callback(_stop_listening, daemon)
        await daemon._listen()
        daemon._warn_of_expiry()
        store.writer.on_commit(daemon._committed)
        daemon._connect_peers()
        daemon._links.tasks.append(asyncio.create_task(daemon._keep_time(), name="time"))
        stack.push_async_callback(_cancel, daemon._links.tasks)
        files = home.identity(config)
        watcher = Watcher(
            (
                Watched((home.allowlist(config),), daemon.reload_allowlist),
                Watched((files.cert, files.key, files.ca), daemon.reload_identity),
            )
        )
        watcher.start()
        stack.push_async_callback(watcher.close)
        daemon.poke = watcher.poke
        yield daemon


async def _stop_listening(daemon: Daemon) -> None:
    if daemon.listener is not None:
        await daemon.listener.close()
    if daemon._federation_runner is not None:
        await daemon._federation_runner.cleanup()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def serve(
    home: Home, config: Config, passphrase: str, *, create: bool = False, ready: Callable[[Daemon], None]
) -> None:
    """Run until SIGINT or SIGTERM; SIGHUP reloads allowlist and identity. `ready` is called once both listeners are."""
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
    sys.setswitchinterval(0.0005)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def _peer(one: PeerConfig) -> Peer:
    return Peer(
        one.name,
        one.fingerprint.text,
        one.url,
        Globs(one.read),
        Globs(one.write),
        sends=one.direction in ("push", "both"),
        receives=one.direction in ("pull", "both"),
    )
