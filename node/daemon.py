"""The running node: store, engine, both listeners and the links to its peers, put together and taken down again."""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from importlib.metadata import version
from typing import Any

import structlog
import uvloop
from aiohttp import web

from node import bridge, keyfile
from node import config as configuration
from node.api.federation import Federation
from node.api.local import Local
from node.api.serving import Runner
from node.bridge import Call, Calling, Parts
from node.config import Config, ConfigError, PeerConfig
from node.dialer import Dialer
from node.door import Door
from node.exchange import Exchange, new_engine
from node.home import Home
from node.identities import Identities
from node.links import Links, with_waiting
from node.memories import Memories
from node.passphrase import from_file
from node.peers import Peer, PeerBook, Strangers
from node.proofs import Proofs
from node.replicator import Limits as PageLimits
from node.replicator import Replicator
from node.store import Store
from node.store.errors import StoreError
from node.timekeeper import Timekeeper
from sync.keyring import Keyring, KeyringError
from sync.peer import Pace
from sync.ports import Position
from sync.scope import Globs
from tls.allowlist import Allowlist, AllowlistError
from tls.allowlist import load as load_allowlist
from tls.contexts import PinnedContext
from tls.errors import IdentityError, TlsError
from tls.explain import explain
from tls.fingerprint import Fingerprint
from tls.gate import WARN_DAYS, Gate
from tls.listener import Limits
from tls.watch import Watched, Watcher

RETRY_WAITING = 15.0
"""Seconds between looks at what waits in the future, and at the clock."""

log = structlog.get_logger("node")


class Daemon:
    """One node. `async with running(...)` gives one that serves."""

    def __init__(self, home: Home, config: Config, store: Store) -> None:
        self.home, self.config, self.store = home, config, store
        self.clock = Timekeeper()
        self.engine = new_engine(config.agent_id, store)
        self.exchange = Exchange(store, self.engine, _book(config, config.peers, self._first_keyring()), self.clock)
        self.bridge = bridge.build(Parts(store, self.engine, self.exchange, self.clock, config.agent_id))
        self.memories = Memories(store, self.engine, self.clock.now, self.exchange.check_clock)
        self.gate = Gate(home.identity(config), self._first_allowlist())
        self.door = Door(
            self.gate,
            lambda: Federation(
                self.exchange, self.links.heard_from, version("ai-memory"), bridge=self.bridge
            ).application(),
            config.address("federation"),
            Limits(
                config["federation", "handshake_timeout"],
                config["federation", "max_handshakes"],
                config["federation", "max_handshakes_per_address"],
                config["federation", "max_connections"],
            ),
            self.tell_where,
        )
        self.links = Links(self._replicator)
        self.local_url = ""
        self.poke: Callable[[], None] = lambda: None
        self._written = config.as_written
        self._contexts: dict[str, PinnedContext] = {}
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

    # --- what the operator edits while the node runs

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
        dropped = self.door.drop_unlisted()
        for warning in fresh.warnings:
            log.warning("allowlist.duplicate", reason=warning)
        added, removed = fresh.fingerprints - before.fingerprints, before.fingerprints - fresh.fingerprints
        log.info("allowlist.loaded", entries=len(fresh), added=len(added), removed=len(removed), dropped=dropped)
        for fingerprint in removed:
            self.begin(self.links.hang_up(fingerprint.text), "peer.hang_up")
        self.begin(self.door.settle(), "federation.listen")

    def _first_keyring(self) -> Keyring:
        try:
            found = keyfile.load(self.home.keyring(self.config))
        except KeyringError as error:
            raise ConfigError([str(problem) for problem in error.problems]) from None
        for warning in found.warnings:
            log.warning("keyring.doubtful", reason=warning)
        return found

    def reload_keyring(self) -> None:
        """Take in an edited keyring, for what was refused under the last one too; a broken one changes nothing."""
        before = self.book.keyring
        try:
            fresh = keyfile.load(self.home.keyring(self.config))
        except KeyringError as error:
            for problem in error.problems:
                log.error("keyring.broken", reason=str(problem), kept=len(before))
            return
        if fresh == before:
            return
        self.exchange.replace_book(self.book.with_keyring(fresh))
        for warning in fresh.warnings:
            log.warning("keyring.doubtful", reason=warning)
        log.info("keyring.loaded", keys=len(fresh), agents=len(fresh.agents), before=len(before))
        if fresh.tag != before.tag:
            self.links.read_again()

    def reload_identity(self) -> None:
        """Take in a rotated certificate, key or CA bundle; a pair that does not match changes nothing."""
        try:
            if self.gate.reload_identity():
                self._contexts.clear()
                identity = self.gate.identity
                log.info("identity.loaded", fingerprint=identity.fingerprint.text, days_left=identity.days_left())
        except IdentityError as error:
            log.error("identity.broken", reason=str(error), kept=self.gate.own_fingerprint.short)
        self.warn_of_expiry()

    def warn_of_expiry(self) -> None:
        """Say so while there is time to issue a new certificate."""
        days = self.gate.identity.days_left()
        if days < WARN_DAYS:
            log.warning("identity.expires", days_left=days, reason="issue a new certificate, give its fingerprint out")

    def reload_config(self) -> None:
        """Take in added, changed and removed peers. Every other setting waits for the next start, and that is told."""
        try:
            fresh = configuration.load(self.home.config, self.config.environment)
        except ConfigError as error:
            for problem in error.problems:
                log.error("config.broken", reason=problem, kept=len(self.book.peers))
            return
        later = sorted(f"[{section}] {key}" for section, key in fresh.differences(self._written))
        self._written = fresh
        if later:
            log.warning("config.restart_needed", reason=f"{', '.join(later)} take effect at the next start")
        self.begin(self.settle_links(_book(self.config, fresh.peers, self.book.keyring)), "peer.links")

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
            "version": version("ai-memory"),
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
                await self._with_notes(one)
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

    def _replicator(self, peer: Peer) -> Calling:
        config, fingerprint = self.config, Fingerprint.parse(peer.fingerprint)
        assert peer.url is not None, "only peers with an address are called"

        def explained(error: BaseException) -> tuple[str, str]:
            found = explain(error, self.gate.own_fingerprint, config.name)
            return found.code, found.text

        pace = Pace(config["sync", "pull_interval"], config["sync", "retry_first"], config["sync", "retry_longest"])
        limits = PageLimits(config["sync", "page_records"], config["sync", "page_bytes"])
        url = peer.url

        def dialer(headers: Mapping[str, str], least: float) -> Dialer:
            timeout = max(config["sync", "request_timeout"], least)
            return Dialer(url, lambda: self._context_for(fingerprint), timeout, headers)

        if peer.legacy and self.bridge is not None:
            return self.bridge.calling(peer, Call(dialer, pace, explained, self._api_key(peer)))
        return Replicator(peer, self.exchange, dialer({}, 0.0), config.agent_id, limits, pace, explained)

    def _api_key(self, peer: Peer) -> str | None:
        """The key that a daemon of the older protocol asks for; without it `sync status` shows what the daemon says."""
        if peer.api_key_file is None:
            return None
        try:
            return self.home.under(peer.api_key_file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            log.error("peer.api_key", peer=peer.name, reason=f"{peer.api_key_file}: {error}")
            return None

    def _name_of(self, fingerprint: str) -> str | None:
        """What the operator calls a certificate: its peer's name, or its label on the allowlist."""
        return self.book.name_of(fingerprint) or self.gate.allowlist.label_of(Fingerprint.parse(fingerprint))

    def _context_for(self, fingerprint: Fingerprint) -> PinnedContext:
        """The TLS context for calling one peer; made once for each identity."""
        found = self._contexts.get(fingerprint.text)
        if found is not None:
            return found
        context = self.gate.client_context(frozenset((fingerprint,)))
        self._contexts[fingerprint.text] = context
        return context

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
        files = home.identity(config)
        watcher = Watcher(
            (
                Watched((home.allowlist(config),), daemon.reload_allowlist),
                Watched((home.keyring(config),), daemon.reload_keyring),
                Watched((files.cert, files.key, files.ca), daemon.reload_identity),
                Watched((home.config,), daemon.reload_config),
            )
        )
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


def _book(config: Config, peers: Iterable[PeerConfig], keyring: Keyring) -> PeerBook:
    strangers = Strangers(
        Globs(tuple(config["federation", "default_read"])),
        Globs(tuple(config["federation", "default_write"])),
        config["federation", "default_legacy"],
        config["federation", "default_allow_unsigned"],
    )
    return PeerBook(map(_peer, peers), strangers, keyring, config["trust", "policy"])


def _peer(one: PeerConfig) -> Peer:
    return Peer(
        one.name,
        one.fingerprint.text,
        one.url,
        Globs(one.read),
        Globs(one.write),
        sends=one.direction in ("push", "both"),
        receives=one.direction in ("pull", "both"),
        legacy=one.legacy,
        allow_unsigned=one.allow_unsigned,
        api_key_file=one.api_key_file,
    )
