"""The running node: store, engine, both listeners and the links to its peers, put together; what it says of itself."""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import structlog
from aiohttp import web

from node import alarms, bridge, health, keyfile
from node.api.callers import Callers
from node.api.federation import Federation
from node.api.local import Local
from node.api.serving import Runner
from node.bridge import Parts
from node.calls import Calls
from node.config import Config, ConfigError
from node.door import Door, unheard
from node.edits import Edits
from node.exchange import Exchange, new_engine
from node.home import Home, Running
from node.identities import Identities
from node.links import Links, with_waiting
from node.memories import Memories
from node.passphrase import from_file
from node.peers import Peer, PeerBook, book_of
from node.proofs import Proofs
from node.refusals import OURS, THEIRS
from node.standing import Facts, as_listed, clock_notes, judged, since
from node.store import Store
from node.store.errors import StoreError
from node.timekeeper import Timekeeper
from node.tokens import load as load_tokens
from sync.feed import Cursor
from sync.keyring import Keyring
from sync.ports import Position
from sync.receive import Alarm
from tls.allowlist import Allowlist
from tls.allowlist import load as load_allowlist
from tls.errors import TlsError
from tls.fingerprint import Fingerprint
from tls.gate import WARN_DAYS, Gate
from tls.listener import Limits

LOCAL_CONNECTIONS = 256
"""Of the local listener at one time: every user of the machine can open some, and they cost a descriptor each."""
RETRY_WAITING = 15.0
"""Seconds between looks at what waits in the future, and at the clock."""

VERSION = version("ai-memory")
"""Looked up once: it is read from a file."""

REPORTED = {
    "duplicate_identity": "it says that two nodes take turns behind this node's certificate: was this node cloned with"
    " its key? If so, give one of the two a certificate of its own",
}
"""What is said of an alarm that a peer reports about this node: its word, and no finding of this node."""

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
            lambda: Federation(
                self.exchange, self.links.heard_from, VERSION, bridge=self.bridge, health=self.health
            ).application(),
            config.address("federation"),
            Limits(
                config["federation", "handshake_timeout"],
                config["federation", "max_handshakes"],
                config["federation", "max_handshakes_per_address"],
                config["federation", "max_connections"],
                config["federation", "max_connections_per_peer"],
            ),
            self.tell_where,
        )
        self.calls = Calls(home, config, self.gate, self.exchange, self.bridge)
        self.links = Links(self.calls.to)
        self.edits = Edits(self)
        self.exchange.admits = lambda peer: self.gate.allowed(Fingerprint.parse(peer))
        self.local_url = ""
        self._run_secret = secrets.token_hex(32)
        self.poke: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._settling = asyncio.Lock()
        self._stood: dict[str, tuple[str, float]] = {}
        self._logged: dict[str, str] = {}
        self._compared: dict[str, tuple[str | None, str]] = {}
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
        self.home.write_run(self._running())

    def prove(self, nonce: str) -> str:
        """Show that the local listener is the one that `run.json` speaks of."""
        return self._running().proof(nonce)

    def _running(self) -> Running:
        return Running(os.getpid(), self.local_url, self.federation_url, str(self.store.path), self._run_secret)

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
        """Raises AllowlistError."""
        return load_allowlist(self.home.allowlist(self.config))

    def _first_keyring(self) -> Keyring:
        """Raises KeyringError."""
        found = keyfile.load(self.home.keyring(self.config))
        for warning in found.warnings:
            log.warning("keyring.doubtful", reason=warning)
        return found

    def warn_of_expiry(self) -> None:
        """Say so while there is time to issue a new certificate."""
        days = self.gate.identity.days_left()
        if days < WARN_DAYS:
            log.warning("identity.expires", days_left=days, reason="issue a new certificate, give its fingerprint out")

    async def settle_links(self, book: PeerBook, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Know these peers, call them, and no others. `is_wanted`: false once a later edit says something else."""
        async with self._settling:
            if self.bridge is not None:
                await self.bridge.prepare(book)
            if not is_wanted():
                return
            self.exchange.replace_book(book.with_keyring(self.book.keyring))  # edited meanwhile, perhaps
            await self.links.settle(book, self.store.position.number)
            if self.bridge is not None and is_wanted():
                await self.bridge.forget(book)

    # --- listeners

    async def serve_local(self) -> Runner:
        """Open the local listener. Raises ConfigError where its address cannot be listened on."""
        key_file = self.config["local", "api_key_file"]
        _require_named(self.home, key_file)
        if key_file:
            from_file(self.home.under(key_file))  # one that cannot be used is told now, not to the first client
        load_tokens(self.home.tokens)
        local = Local(
            self.memories,
            Identities(self.store, self.engine.agent, self.clock.now),
            Proofs(self.store, self.exchange.verifier.verify, self._name_of, lambda: self.book.keyring),
            self.health,
            self.status,
            max_body=self.config["local", "max_body"],
            prove=self.prove,
            callers=Callers(self.home.under(key_file) if key_file else None, self.home.tokens),
            any_host=self.config["local", "allow_non_loopback"] and not self.config["local", "hosts"],
            hosts=self.config["local", "hosts"],
        )
        runner = Runner(local.application(), most=LOCAL_CONNECTIONS)
        await runner.setup()
        address = self.config.address("local")
        site = web.TCPSite(runner, address.host, address.port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise unheard("local", address, error) from None
        port = runner.addresses[0][1]
        self.local_url = f"http://{address.from_here(port).text}"
        self.tell_where()
        return runner

    # --- what the node says about itself

    def health(self) -> tuple[dict[str, Any], int]:
        """Body and HTTP status of the answer to `health`, on both listeners."""
        troubles = [*self.store.troubles(), *self.door.troubles()]
        return health.answer(troubles, version=VERSION, federation_enabled=self.door.is_open)

    async def status(self) -> dict[str, Any]:
        """Everything that `sync status` shows."""
        conflicts = await self.store.reader.run(lambda reader: reader.conflict_count())
        peers = self.standings(await self.exchange.look_at_waiting())
        position = self.store.position
        raised: list[tuple[Alarm, int | None]] = [
            (alarm, at // 1_000_000) for alarm, at in self.exchange.current_alarms().values()
        ]
        raised += [(alarm, None) for alarm in self._alarms()]
        return {
            "node": self.config.name,
            "fingerprint": self.gate.own_fingerprint.text,
            "certificate_days_left": self.gate.identity.days_left(),
            "federation_url": self.federation_url,
            "connections": self.door.connections,
            "feed": position.number,
            "digest": position.digest,
            "conflicts": conflicts,
            "edits": self.edits.status(),
            "peers": [await self._with_notes(one) for one in peers],
            "alarms": [
                {"kind": alarm.kind, "peer": self.book.find(alarm.peer).name if alarm.peer else None,
                 "detail": alarm.detail, "at": at}
                for alarm, at in raised
            ],
        }  # fmt: skip

    def _alarms(self) -> Iterator[Alarm]:
        """What is wrong with this node at this moment."""
        yield from self.edits.alarms()
        yield from alarms.of_certificate(self.gate.identity.leaf, datetime.now(UTC))
        yield from alarms.of_peers(self.gate.allowlist, self.book, self.store.tail.known)

    def standings(self, waiting: Mapping[str, tuple[int, str]]) -> list[dict[str, Any]]:
        """How this node stands with each of its peers, at this moment. `waiting`: as `Exchange.look_at_waiting`."""
        status, lacking = self.links.status(self.book, self.store.position.number), self.exchange.lacking(waiting)
        status = [as_listed(one, self.exchange.admits(one["fingerprint"])) for one in status]
        told = with_waiting(status, lacking, self.clock.now())
        stood, now = self._stood, time.monotonic()
        found = [judged(one, self._facts(self.book.find(one["fingerprint"]))) for one in told]
        self._stood = {one["fingerprint"]: since(one, stood.get(one["fingerprint"]), now) for one in found}
        return [one | {"for_seconds": round(now - self._stood[one["fingerprint"]][1], 1)} for one in found]

    def _facts(self, peer: Peer) -> Facts:
        exchange, refusals, who = self.exchange, self.exchange.refusals, peer.fingerprint
        position, held = self.store.position, exchange.last_held(who)
        return Facts(
            position.number,
            position.digest,
            peer.is_whole,
            None if held is None else Cursor.parse(held).number,
            refusals.here(who),
            refusals.there(who),
            {side: said for side in (OURS, THEIRS) if (said := refusals.said(who, side)) is not None},
            refusals.last_heard(who),
            refusals.rules(who) not in (None, exchange.policy(who).tag),
        )

    async def _with_notes(self, told: dict[str, Any]) -> dict[str, Any]:
        """A peer's status, what it reports of this node, and why it cannot agree with this node where that is so."""
        peer = self.book.find(told["fingerprint"])
        notes = [REPORTED[name] for name in self.exchange.reported.get(peer.fingerprint, ())]
        notes += clock_notes(told.get("clock_ahead"))
        return told | {"notes": notes + (await self.bridge.notes(peer) if peer.legacy and self.bridge else [])}

    def tell_standings(self) -> None:
        """For the log: with whom this node stands otherwise than at the last look, in the words of `status`."""
        told = self.standings(self.exchange.waiting)
        for one in told:
            before = self._logged.get(one["fingerprint"])
            if before != one["standing"]:
                log.info("sync.standing", peer=one["peer"], now=one["standing"], before=before, reason=one["reason"])
            digests = one["digest"], self.store.position.digest
            if one["standing"] == "differs" and self._compared.get(one["fingerprint"]) != digests:
                self._compared[one["fingerprint"]] = digests
                self.links.read_all(one["fingerprint"])
        self._logged = {one["fingerprint"]: one["standing"] for one in told}
        self._compared = {one: digests for one, digests in self._compared.items() if one in self._logged}

    # --- peers

    def _name_of(self, fingerprint: str) -> str | None:
        """What the operator calls a certificate: its peer's name, or its label on the allowlist."""
        return self.book.name_of(fingerprint) or self.gate.allowlist.label_of(Fingerprint.parse(fingerprint))

    def committed(self, position: Position) -> None:
        """Called on the writer's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed already: there is nobody left to tell
            self._loop.call_soon_threadsafe(self.links.committed, position.number)

    async def keep_time(self) -> None:
        """Look at the clock, and at what waits for its time, again and again."""
        while True:
            await asyncio.sleep(RETRY_WAITING)
            try:
                await self.exchange.check_clock()
                await self.exchange.retry_waiting()
            except StoreError as error:
                log.error("store.error", reason=str(error))  # a full disk: the next look tries again
            self.tell_standings()


def _require_named(home: Home, key_file: str | None) -> None:
    """Raises ConfigError where a node has an API key and its configuration does not name it: it may have been cut off.

    It would be in order as it is, and its local listener open to every user of the machine.
    """
    if not key_file and os.path.lexists(home.api_key):
        told = f"{home.api_key} is there, and {home.config} names no [local] api_key_file: was that file cut off?"
        do = f'Put api_key_file = "{home.api_key.name}" back below [local], and whatever else is missing'
        raise ConfigError([f"{told} {do}; or take {home.api_key.name} away, to let every user of this machine in"])
