"""Pages in and pages out: the engine's decisions carried out on the store. Knows no HTTP.

Pages come in slices, each its own transaction, so that a local write waits for one slice and not for a whole page.
Pages of one peer are applied one after the other.
"""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from node.peers import PeerBook
from node.refusals import OURS, Refusals
from node.store.tail import NotInTail
from node.timekeeper import Timekeeper
from node.verifier import Checks, Verifier
from sync import attest, lives
from sync.engine import Engine
from sync.feed import Cursor, resolve
from sync.policy import Policy
from sync.ports import FeedReader, Ledger, PeerState
from sync.receive import Alarm, Page, Part, Taken, current_cursor
from sync.serve import Ask, Cut, RolledBack
from sync.version import Version
from sync.wire import Incoming

if TYPE_CHECKING:
    from node.store import Store

SLICE = 100
"""Records of one transaction while others write too: about 10 ms of the writer's time (docs/decisions/0008)."""
LONG_SLICE = 500
"""Records of one transaction while nobody else does: fewer commits, and each writes its pages for more rows."""
SMALL = 8
"""Versions of a page that goes before bulk, as a local write does."""
MAX_AHEAD = 32
"""Peers for which one page is cut ahead."""

log = structlog.get_logger("sync")


class Exchange:
    """The meeting place of store, engine and peers."""

    def __init__(self, store: "Store", engine: Engine, book: PeerBook, clock: Timekeeper) -> None:
        self._store = store
        self.verifier = Verifier()
        self._engine = engine
        self._clock = clock
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._ahead: dict[str, tuple[Ask, int, asyncio.Task[Cut | RolledBack]]] = {}
        self._clock_turn = asyncio.Lock()
        self._epoch = 0  # of everything that decides which versions may be left out of a page
        self.book = book
        self.alarms: dict[tuple[str, str], tuple[Alarm, int]] = {}
        self.refusals = Refusals()

    @property
    def life(self) -> str:
        """Our live life."""
        return self._store.lives[-1].actor

    def replace_book(self, book: PeerBook) -> None:
        """Other peers, or other rules for them, from now on."""
        self._epoch += 1
        self.book = book

    # --- lives

    async def start(self) -> int:
        """Begin a life before the first write. Returns how many records from our own future were re-written."""
        return await self._begin_life(lives.START)

    async def sign_own(self) -> int:
        """Sign what this store wrote before it had keys, a part at a time. Returns how many versions it was."""
        total = 0
        while (written := await self._store.writer.run(self._engine.sign_own, bulk=True)) is not None:
            total += written
        return total

    async def check_clock(self) -> None:
        """Begin a new life where the wall clock jumped; whoever asks meanwhile waits until it has begun.

        Raises StoreError where it cannot be written; then the next who asks tries again.
        """
        if not self._clock.jumped():
            return
        async with self._clock_turn:
            jump = self._clock.jumped()
            if jump:
                rewritten = await self._begin_life(lives.CLOCK_JUMP)
                self._clock.take_in(jump)
                log.warning("clock.jumped", seconds=round(jump / 1e6, 3), rewritten=rewritten)

    async def _begin_life(self, reason: str) -> int:
        self._epoch += 1
        return await self._store.writer.run(lambda ledger: self._engine.begin_life(ledger, self._clock.now(), reason))

    # --- pages in

    async def receive(self, incoming: Incoming) -> Taken:
        """Apply a page. Returns once all of it is on disk."""
        await self.check_clock()
        page = incoming.page
        policy = self.book.policy(page.peer)
        versions = incoming.versions
        async with self._locks[page.peer]:
            if not versions and not page.offers and page.to is None:  # a hello
                return Taken(have=current_cursor(self._peer_state(page.peer), page.life, policy), life=self.life)
            if not versions and not page.offers and not page.reset and self._is_settled(page, policy):
                taken = Taken(have=page.to, moved=True, life=self.life)
            else:
                taken = await self._apply(page, versions, policy)
        taken = self._engine.asking(page, versions, taken, self._clock.now())
        self.note(page.peer, (*taken.alarms, *self._engine.received(page, taken, self._clock.now())))
        for name in incoming.alarms:
            self.note(page.peer, (Alarm(name, page.peer, "reported by that peer about this node"),))
        if incoming.refused or taken.refused:
            name = self.book.find(page.peer).name
            for one in (*incoming.refused, *taken.refused):
                self.refusals.note(page.peer, name, OURS, one)
        return taken

    async def _apply(self, page: Page, versions: tuple[Version, ...], policy: Policy) -> Taken:
        self._epoch += 1
        taken = Taken()
        is_bulk = len(versions) > SMALL
        checks = self.verifier.begin(versions) if is_bulk else Checks()
        start, is_last = 0, False
        with checks:
            while not is_last:
                end = min(len(versions), start + (SLICE if self._store.writer.is_shared else LONG_SLICE))
                is_last = end == len(versions)
                part = Part(versions[start:end], start == 0, is_last, await checks.between(start, end))
                start, before = end, taken

                def apply(ledger: Ledger, part: Part = part, before: Taken = before) -> Taken:
                    if not is_bulk:  # a few signatures are verified on the writer's thread: no way is shorter
                        part = replace(part, genuine=attest.genuine(part.versions))
                    return self._engine.receive(ledger, page, part, policy, before, self._clock.now())

                taken = taken.joined(await self._store.writer.run(apply, bulk=is_bulk))
        self._epoch += 1
        return taken

    def _is_settled(self, page: Page, policy: Policy) -> bool:
        """True for a page that says only what we know: its cursor is the one that we hold. It needs no transaction."""
        if page.to is None or page.to != page.after or page.made_for != self.life:
            return False
        state = self._peer_state(page.peer)
        return state.generation % 2 == 0 and any(
            held.life == page.life and held.scope == policy.tag and held.cursor == page.to for held in state.held
        )

    def last_held(self, peer: str) -> str | None:
        """Our cursor on the life that we last heard of."""
        state = self._peer_state(peer)
        return current_cursor(state, state.held[0].life, self.book.policy(peer)) if state.held else None

    def _peer_state(self, peer: str) -> PeerState:
        return self._store.tail.peer(peer)

    def unreachable(self, peer: str) -> None:
        """A request to this peer failed."""
        self._engine.unreachable(peer)

    async def retry_waiting(self) -> int:
        """Judge again what waited in the future until now. Returns how many versions were taken."""
        taken = await self._store.writer.run(
            lambda ledger: self._engine.due(ledger, self.book.policy, self._clock.now())
        )
        self.note("", taken.alarms)
        for one in taken.refused:
            log.warning("waiting.refused", id=one.id, code=one.reason, reason=one.detail)
        return taken.applied

    # --- pages out

    async def cut(self, ask: Ask) -> Cut:
        """A page of our feed for a peer. Raises RemoteError `bad_cursor`."""
        await self.check_clock()
        result = self._from_tail(ask) or await self._cut_ahead(ask) or await self._read(ask)
        if isinstance(result, RolledBack):
            self._epoch += 1
            alarms = await self._store.writer.run(
                lambda ledger: self._engine.rolled_back(ledger, ask.peer, self._clock.now())
            )
            self.note(ask.peer, alarms)
            result = await self._read(ask)
            assert isinstance(result, Cut), "a peer is believed at most once an hour"
        if result.page.more:
            self._read_ahead(replace(ask, cursor=result.to))
        return result

    def _from_tail(self, ask: Ask) -> Cut | RolledBack | None:
        """What is newest, or that nothing is new: from memory alone, no statement touches the store."""
        try:
            with self._store.tail.reading() as reader:
                return self._engine.cut(reader, ask, self._clock.now())
        except NotInTail:
            return None

    async def _read(self, ask: Ask) -> Cut | RolledBack:
        def read(reader: FeedReader) -> Cut | RolledBack:
            return self._engine.cut(reader, ask, self._clock.now())

        return await self._store.reader.run(read)

    def _read_ahead(self, ask: Ask) -> None:
        if len(self._ahead) >= MAX_AHEAD and ask.peer not in self._ahead:
            return
        task = asyncio.get_running_loop().create_task(self._read(ask))
        self._ahead[ask.peer] = (ask, self._epoch, task)

    async def _cut_ahead(self, ask: Ask) -> Cut | RolledBack | None:
        found = self._ahead.pop(ask.peer, None)
        if found is None:
            return None
        expected, epoch, task = found
        result = await task
        # Only what decides about leaving versions out can make the page wrong: rows that came since are after it.
        return result if expected == ask and epoch == self._epoch else None

    async def covered(self, ask: Ask) -> int:
        """The number that a peer's cursor on us goes on from, judged as for a page; 0 where it would start over."""
        if ask.cursor is None:
            return 0
        cursor = Cursor.parse(ask.cursor)

        def judge(reader: FeedReader) -> int:
            position = reader.position()
            at = resolve(cursor, reader.lives(), position, reader.head_at, ask.scope.tag)
            return min(at.after, position.number)

        try:
            with self._store.tail.reading() as reader:
                return judge(reader)
        except NotInTail:
            return await self._store.reader.run(judge)

    # --- alarms

    def note(self, peer: str, alarms: tuple[Alarm, ...]) -> None:
        """Alarms that came up over a peer: for the log and for `sync status`."""
        for alarm in alarms:
            label = self.book.find(peer).name if peer else ""
            self.alarms[alarm.kind, peer] = (alarm, self._clock.now())
            log.warning(f"alarm.{alarm.kind}", peer=label, reason=alarm.detail)

    async def close(self) -> None:
        """Wait for pages that are being cut ahead, and end the verifier."""
        tasks = [task for _, _, task in self._ahead.values()]
        self._ahead.clear()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.verifier.close()


def new_engine(agent: str, store: "Store", random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> Engine:
    """An engine over a store's keys and the system's randomness."""
    return Engine(agent, random_bytes, store.keys)
