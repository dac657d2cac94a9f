"""Pages in and pages out: the engine's decisions carried out on the store. Knows no HTTP.

Pages come in slices, each its own transaction, so that a local write waits for one slice and not for a whole page.
Pages of one peer are applied one after the other.
"""

import asyncio
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from node.peers import Peer, PeerBook
from node.refusals import OURS, Refusals
from node.store.tail import NotInTail
from node.timekeeper import Timekeeper
from node.told import Told
from node.verifier import Checks, Verifier
from sync import attest, lives, moment
from sync.engine import Engine
from sync.feed import Cursor, resolve
from sync.keyring import EMPTY
from sync.policy import Policy
from sync.ports import FeedReader, Ledger, PeerState
from sync.receive import MAX_WANTED, Alarm, Page, Part, Taken, current_cursor
from sync.scope import Globs
from sync.serve import Ask, Cut, RolledBack
from sync.standing import Standing, standing
from sync.trust import Trust
from sync.version import Version, shown_id
from sync.wire import ALARMS, Incoming

if TYPE_CHECKING:
    from node.store import Store

SLICE = 100
"""Records of one transaction while others write too: about 10 ms of the writer's time (docs/decisions/0008)."""
LONG_SLICE = 500
"""Records of one transaction while nobody else does: fewer commits, and each writes its pages for more rows."""
SMALL = 8
"""Versions of a page that goes before bulk, as a local write does."""
MAX_AHEAD = 8
"""Peers for which one page is cut ahead, of up to 8 MiB."""
AHEAD_FOR = 10.0
"""Seconds that it is kept for a peer that does not come for it."""
TOLD = ALARMS
"""Alarms that are told to whom they are about."""
ALARM_LASTS = 900 * moment.SECOND
"""Microseconds that an alarm about a state of a peer holds after it was last seen: two lives behind one certificate."""
SHUT_OUT = Policy(Globs(()), Trust(EMPTY, "enrolled", allow_unsigned=False))
"""The rules for a certificate that is not on the allowlist."""

log = structlog.get_logger("sync")


class Exchange:
    """The meeting place of store, engine and peers."""

    def __init__(self, store: "Store", engine: Engine, book: PeerBook, clock: Timekeeper) -> None:
        self._store = store
        self.told = Told()
        self.verifier = Verifier(self._verifier_failed)
        self._engine = engine
        self._clock = clock
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._ahead: dict[str, tuple[Ask, int, asyncio.Task[Cut | RolledBack]]] = {}
        self._clock_turn = asyncio.Lock()
        self._epoch = 0  # of everything that decides which versions may be left out of a page
        self.book = book
        self.admits: Callable[[str], bool] = lambda peer: True
        """Whether a peer's certificate may connect at this moment: nothing more is taken from one that may not."""
        self.alarms: dict[tuple[str, str], tuple[Alarm, int]] = {}
        """What *this node* found. What others report stands in `reported`, decides nothing and is not passed on."""
        self.reported: dict[str, tuple[str, ...]] = {}
        """By the peer that says so now: names of alarms that it raised about this node."""
        self.waiting: Mapping[str, tuple[int, str]] = {}
        self.refusals = Refusals(self.told)

    @property
    def life(self) -> str:
        """Our live life."""
        return self._store.lives[-1].actor

    def replace_book(self, book: PeerBook) -> None:
        """Other peers, or other rules for them, from now on."""
        self._epoch += 1
        self.book = book

    def policy(self, peer: str) -> Policy:
        """Our rules of this moment for what comes from a certificate; one that may not connect has none."""
        return self.book.policy(peer) if self.admits(peer) else SHUT_OUT

    # --- lives

    async def start(self) -> int:
        """Begin a life before the first write. Returns how many records from our own future were re-written."""
        return await self._begin_life(lives.START)

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
        versions = incoming.versions
        async with self._locks[page.peer]:
            policy = self.policy(page.peer)
            self.refusals.judged_under(page.peer, policy.tag)
            if not versions and not page.offers and page.to is None:  # a hello
                self._note_refusals(incoming, Taken(), policy)
                return Taken(have=current_cursor(self._peer_state(page.peer), page.life, policy), life=self.life)
            if not versions and not page.offers and not page.reset and self._is_settled(page, policy):
                taken = Taken(have=page.to, moved=True, life=self.life)
            else:
                if page.after is None or page.reset:
                    self._note_beginning(page, policy)
                taken = await self._apply(page, versions)
        self._note_refusals(incoming, taken, policy)
        taken = self._engine.asking(page, versions, taken, self._clock.now())
        self.note(page.peer, (*taken.alarms, *self._engine.received(page, taken, self._clock.now())))
        if any(one.reason == "clock_skew" for one in taken.refused):
            await self.look_at_waiting()
        if taken.moved:
            self.alarms.pop(("waiting_full", page.peer), None)
        return taken

    def _note_beginning(self, page: Page, policy: Policy) -> None:
        """Where a page is where the reading begins: whatever is refused of this feed comes again."""
        if current_cursor(self._peer_state(page.peer), page.life, policy) == page.after:
            self.refusals.begun_anew(page.peer)

    def _note_refusals(self, incoming: Incoming, taken: Taken, policy: Policy) -> None:
        """What of a page was refused; and what was refused before and is here now, brought or named by this page."""
        peer, refused = incoming.page.peer, (*incoming.refused, *taken.refused)
        if self.refusals.here(peer):
            ids = {version.shown for version in incoming.versions}
            if len(taken.wanted) < MAX_WANTED:
                wanted = set(taken.wanted)
                named = [offer for offer in incoming.page.offers if offer.tag not in wanted]
                ids.update(shown_id(one.key[1]) for one in named if policy.scope.allows(one.key[0]))
            self.refusals.taken(peer, ids - {one.id for one in refused})
        if refused:
            name = self.book.find(peer).name
            for one in refused:
                self.refusals.note(peer, name, OURS, one)
        self.refusals.note_more(peer, incoming.left_out)

    async def _apply(self, page: Page, versions: tuple[Version, ...]) -> Taken:
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
                    # Asked anew for each part: a right that was taken away meanwhile is not used for the rest.
                    return self._engine.receive(ledger, page, part, self.policy(page.peer), before, self._clock.now())

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
        taken = await self._store.writer.run(lambda ledger: self._engine.due(ledger, self.policy, self._clock.now()))
        self.note("", taken.alarms)
        for one in taken.refused:
            self.told.warn("waiting.refused", id=one.id, code=one.reason, reason=one.detail)
        if self.waiting:
            await self.look_at_waiting()
        return taken.applied

    async def look_at_waiting(self) -> Mapping[str, tuple[int, str]]:
        """By fingerprint: how many versions wait for their time and are lacked, and the latest of these times."""
        self.waiting = await self._store.reader.run(lambda reader: reader.lacked())
        return self.waiting

    def lacking(self, waiting: Mapping[str, tuple[int, str]]) -> Mapping[str, tuple[int, str]]:
        """Of what waits, that of peers that keep something else than this node, by their last word.

        What waits from one that keeps the same is not kept there either, and nobody lacks it: it was superseded by what
        was itself superseded since. (What is superseded by something kept is not counted to begin with.)
        """
        digest = self._store.position.digest

        def agrees(peer: str) -> bool:
            heard = self.refusals.last_heard(peer)
            return heard is not None and heard.standing.digest == digest

        return {peer: found for peer, found in waiting.items() if not agrees(peer)}

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
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._read(ask))
        self._ahead[ask.peer] = (ask, self._epoch, task)
        loop.call_later(AHEAD_FOR, self._drop_ahead, ask.peer, task)

    def _drop_ahead(self, peer: str, task: "asyncio.Task[Cut | RolledBack] | None" = None) -> None:
        """Let go of the page that was cut ahead for a peer, if it is still this one (None: whichever it is)."""
        found = self._ahead.get(peer)
        if found is not None and task in (None, found[2]):
            del self._ahead[peer]
            found[2].add_done_callback(_looked_at)  # nobody waits for it: what went wrong in it is nobody's

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

    # --- what is told to peers, and what they tell

    def standing(self, peer: Peer) -> Standing:
        """Where this node stands, for this peer to be told."""
        position = self._store.position
        refusing = Counter(self.refusals.here(peer.fingerprint))
        count, _ = self.lacking(self.waiting).get(peer.fingerprint, (0, ""))
        if count:
            refusing["clock_skew"] = count
        return standing(position.number, position.digest, peer.is_whole, refusing, self._clock.now())

    def heard(self, peer: str, told: Standing | None) -> None:
        """A peer told where it stands."""
        self.refusals.heard(peer, told, self._store.position.number)

    def heard_of_us(self, peer: str, names: tuple[str, ...]) -> None:
        """What a peer reports about this node, all of it, at this moment. It is shown as its word, and ends with it."""
        if names == self.reported.get(peer, ()):
            return
        if names:
            self.reported[peer] = names
            text = "reported by that peer about this node"
            self.told.warn("peer.reports", self.book.find(peer).name, names=list(names), reason=text)
        else:
            del self.reported[peer]

    def found_about(self, peer: str) -> list[str]:
        """What this node found about a peer, of that which the peer should tell its own operator."""
        return [kind for kind in sorted(TOLD) if (kind, peer) in self.current_alarms()]

    def forget(self, peer: str) -> None:
        """This peer may not come any more: free what was kept for it, and what it said is nobody's word now."""
        self.reported.pop(peer, None)
        self.refusals.forget(peer)
        self._drop_ahead(peer)
        self._engine.forget(peer)
        if not self._locks[peer].locked():
            del self._locks[peer]

    # --- alarms

    def _verifier_failed(self, reason: str) -> None:
        self.note("", (Alarm("verifier", "", reason),))

    def current_alarms(self) -> Mapping[tuple[str, str], tuple[Alarm, int]]:
        """Those whose cause has not ended."""
        limit = self._clock.now() - ALARM_LASTS
        for key, (_, at) in list(self.alarms.items()):
            if key[0] in TOLD and at < limit:
                del self.alarms[key]
        return self.alarms

    def note(self, peer: str, alarms: tuple[Alarm, ...]) -> None:
        """Alarms that came up over a peer: for the log and for `sync status`."""
        for alarm in alarms:
            label = self.book.find(peer).name if peer else ""
            self.alarms[alarm.kind, peer] = (alarm, self._clock.now())
            self.told.warn(f"alarm.{alarm.kind}", label, reason=alarm.detail)

    async def close(self) -> None:
        """Wait for pages that are being cut ahead, and end the verifier."""
        tasks = [task for _, _, task in self._ahead.values()]
        self._ahead.clear()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.verifier.close()
        self.told.sum_up()


def _looked_at(task: "asyncio.Task[Cut | RolledBack]") -> None:
    if not task.cancelled():
        task.exception()


def new_engine(agent: str, store: "Store", random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> Engine:
    """An engine over a store's keys and the system's randomness."""
    return Engine(agent, random_bytes, store.keys)
