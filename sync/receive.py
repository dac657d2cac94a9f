"""Taking in a page of a peer's feed, pushed or pulled (protocol sections 4, 6 and 7). Decisions only; steps numbered.

For each version of the page:
 (1) out of the peer's write scope, signed by another key than it says, or by one that may not speak for its agent:
     refused for good, unless what is kept says as much already;
 (2) more than 300 s in our future: into the waiting table, or, where that is full, the cursor will not move;
 (3) merged: `same` and `stale` change nothing; where one was dropped, what was stale of its key is merged once more;
 (4) a claim on one of our own lives is checked by its MAC: what a lie would hide is written again, a true one beyond
     what we issued proves that we were rolled back;
 (5) more than 32 kept versions of one key are settled.
Then for the page:
 (6) what was offered and is neither kept nor waiting is wanted;
 (7) the cursor moves if it is the one the page goes on from, the page was made for our live life, nothing is wanted and
     nothing found the waiting table full.

A page may be applied in several transactions (`Part`), so that small local writes get in between. The cursor moves in
the last. Between the first and the last the peer's generation is odd, which voids the page's giver: a crash there
leaves versions without a giver, never a giver whose cursor did not move.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sync import claims, lives, moment
from sync.attest import Keychain
from sync.batch import Batch
from sync.claims import Own
from sync.merge import MAX_KEPT, Added, merge
from sync.policy import Policy
from sync.ports import Giver, Held, Kept, Ledger, PeerState, Waiting
from sync.record import Refused
from sync.version import Key, Version
from sync.writes import SKEW_BOUND, carry, restate_as_was

WAITING_LIMIT = 16 * 2**20
"""Bytes of documents that may wait for one peer."""
MAX_HELD = 8
"""Cursors kept for one certificate, one for each of its lives."""
MAX_WANTED = 2_000
MAX_SECOND_LOOKS = 2 * MAX_KEPT
"""Stale versions of one key that are merged once more: an honest page has at most `MAX_KEPT` + 1 of a key."""
ALWAYS_TOLD = frozenset(("scope", "bad_signature"))
"""Reasons for a refusal that are told even of what is kept already. The others are about whom we believe now."""

PolicyOf = Callable[[str], Policy]
"""Our rules of today for a peer, by its fingerprint."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A version that the sender merely relays: named, not sent."""

    key: Key
    tag: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """What came in, without its versions."""

    peer: str
    """Fingerprint of the certificate that it came from or was fetched from."""
    life: str
    """The sender's live life when it cut the page."""
    after: str | None
    """The cursor of ours that it goes on from."""
    to: str | None
    """The cursor after it; None moves nothing."""
    made_for: str | None
    """The life of ours that it was made for."""
    reset: bool
    """It starts over: the sender did not accept the cursor."""
    offers: tuple[Offer, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A slice of a page's versions, applied in one transaction."""

    versions: Sequence[Version]
    first: bool = True
    last: bool = True
    genuine: frozenset[int] = frozenset()
    """Places of those whose signature was verified (`attest.genuine`). Any other signature is bad."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that an operator should know. `kind` is a stable name."""

    kind: str
    peer: str
    detail: str


Stale = tuple[Kept, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """What one part did."""

    applied: int = 0
    noop: int = 0
    deleted: int = 0
    """Of `applied`, how many were tombstones."""
    links: int = 0
    """Of `applied`, how many were links or unlinks."""
    refused: tuple[Refused, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    full: bool = False
    """A version found no room to wait: the cursor stays."""
    wanted: tuple[bytes, ...] = ()
    have: str | None = None
    """Our cursor on the sender after the last part."""
    moved: bool = False
    life: str = ""
    """Our live life after it."""
    stale: Stale = ()
    """What the page brought so far, and did not change anything."""
    again: int = 0
    """Microseconds after which the sender should offer again what is lacking and not in `wanted`; 0: nothing is."""

    def joined(self, later: "Taken") -> "Taken":
        """The sum of two parts of one page, applied in this order."""
        return replace(
            later,
            applied=self.applied + later.applied,
            noop=self.noop + later.noop,
            deleted=self.deleted + later.deleted,
            links=self.links + later.links,
            refused=self.refused + later.refused,
            alarms=self.alarms + later.alarms,
            full=self.full or later.full,
        )


class Receiver:
    """Applies one part of one page inside an open transaction."""

    def __init__(self, ledger: Ledger, mint: lives.Mint, agent: str, keys: Keychain, now: int) -> None:
        self._ledger = ledger
        self._batch = Batch(ledger, mint)
        self._agent = agent
        self._keys = keys
        self._now = now
        self._horizon = moment.text(now + SKEW_BOUND)
        self._own = {life.actor: index for index, life in enumerate(self._batch.lives)}
        self._stale: dict[Key, list[Kept]] = {}
        self._alarms: list[Alarm] = []
        self._waiting: list[Waiting] = []

    def take(self, page: Page, part: Part, policy: Policy, before: Taken, rollback_allowed: bool) -> Taken:
        """Apply a part. `before`: the sum of the earlier parts of this page.

        `rollback_allowed`: whether a proof of rollback may begin a new life now (once an hour for each peer).
        """
        ledger, batch = self._ledger, self._batch
        state = ledger.peer(page.peer)
        if part.first and state.generation % 2:  # a page was cut short by a crash: its giver is void
            state = replace(state, generation=voided(state.generation))
        disturbed = _is_disturbed(state, part)
        batch.load(version.key for version in part.versions)
        expected = not disturbed and self._will_move(page, state, policy)
        step = 2 * (page.reset or self._is_new_life(page, state))
        settled = state.generation - state.generation % 2
        giver = ledger.giver_id(Giver(page.peer, page.life, settled + step)) if expected and part.versions else 0

        applied = noop = deleted = links = 0
        refused: list[Refused] = []
        full = before.full
        for one in before.stale:
            self._stale.setdefault(one.version.key, []).append(one)
        room = WAITING_LIMIT - ledger.waiting_bytes(page.peer) if self._any_early(part.versions) else 0
        for place, version in enumerate(part.versions):
            why = policy.refusal(version, genuine=place in part.genuine)
            if why is not None and (why.reason in ALWAYS_TOLD or self._is_news(version)):
                refused.append(why)
            elif why is not None:
                noop += 1
            elif version.at > self._horizon:
                room, full = self._set_aside(page.peer, version, room, full)
                refused.append(Refused(version.shown, version.kind, "clock_skew", _skew(version.at, self._now)))
            elif taken := self.accept(page.peer, version, giver, rollback_allowed):
                applied += len(taken)
                deleted += sum(one.kind == "t" for one in taken)
                links += sum(one.kind in ("l", "u") for one in taken)
                noop -= len(taken) - 1  # what was stale before was counted then
            else:
                noop += 1
        wanted = self._wanted(page.offers, policy) if part.last else ()
        state = self._rolled_state(state, page.peer)
        moved = False
        if part.last:
            state, moved = self._finished(page, state, policy, step, full or bool(wanted) or disturbed, expected)
        elif not disturbed:
            state = replace(state, generation=settled + 1)
        if state != ledger.peer(page.peer):
            ledger.put_peer(state)
        if self._waiting:
            ledger.put_waiting(self._waiting)
        batch.commit()
        return Taken(
            applied, noop, deleted, links, tuple(refused), tuple(self._alarms), full, wanted,
            current_cursor(state, page.life, policy), moved, batch.life.actor,
            tuple(one for some in self._stale.values() for one in some) if not part.last else (),
        )  # fmt: skip

    def due(self, policy_of: PolicyOf, limit: int) -> Taken:
        """Judge again what waited until now, by today's rules. It has no giver (protocol section 4, *Time*).

        What is refused is here no more, and the cursors have passed it: all are forgotten, so that it is sent again.
        """
        waiting = self._ledger.waiting_due(self._horizon, limit)
        self._batch.load(one.version.key for one in waiting)
        if waiting:
            self._ledger.drop_waiting(waiting)
        applied = 0
        refused: list[Refused] = []
        for one in waiting:
            # Its signature was verified before it waited.
            why = policy_of(one.peer).refusal(one.version, genuine=True)
            if why is not None:
                refused.append(why)
            else:
                applied += len(self.accept(one.peer, one.version, 0, rollback_allowed=False))
        if refused:
            # Not that peer's alone: whoever else sent it was told that it waits, and other rules may hold for them.
            forget_cursors(self._ledger)
        self._batch.commit()
        noop = len(waiting) - applied - len(refused)
        life = self._batch.life.actor
        return Taken(applied, noop, refused=tuple(refused), alarms=tuple(self._alarms), life=life)

    def _is_news(self, version: Version) -> bool:
        """True for what would change something, were it believed."""
        return isinstance(merge(self._batch.kept(version.key), Kept(version, 0)), Added)

    def accept(self, peer: str, version: Version, giver: int, rollback_allowed: bool) -> Sequence[Version]:
        """Steps (3) to (5) for one version; what changed something: it, and what was stale by what it dropped."""
        key, incoming = version.key, Kept(version, giver)
        dropped = self._merge(peer, incoming, rollback_allowed)
        stale = self._stale.setdefault(key, [])
        if dropped is None:
            if len(stale) < MAX_SECOND_LOOKS and all(one.version.tag != version.tag for one in self._batch.kept(key)):
                stale.append(incoming)
            return ()
        taken = [version]
        dropped += self._settled(peer, version)
        while dropped:
            dropped = ()
            for one in tuple(stale):
                fell = self._merge(peer, one, rollback_allowed)
                if fell is not None:
                    stale.remove(one)
                    taken.append(one.version)
                    dropped += fell
            dropped += self._settled(peer, version)
        return taken

    def _settled(self, peer: str, version: Version) -> tuple[Kept, ...]:
        """Step (5): what was let go of."""
        kept = self._batch.kept(version.key)
        if len(kept) <= MAX_KEPT:
            return ()
        carry(self._batch, version.key, self._keys.author(self._agent), self._now)
        self._alarm("settled", peer, f"{len(kept)} versions of {version.shown} were in conflict, one is left")
        return kept

    def _merge(self, peer: str, incoming: Kept, rollback_allowed: bool) -> tuple[Kept, ...] | None:
        """Steps (3) and (4): what it dropped, None where it changed nothing."""
        batch, version = self._batch, incoming.version
        merged = merge(batch.kept(version.key), incoming)
        if not isinstance(merged, Added):
            return None
        self._check_claims(peer, version, rollback_allowed)
        for one in merged.dropped:
            if one.giver is None and not claims.is_seen(version, one.version, self._ours()):
                restate_as_was(batch, one, self._keys)
        merged = merge(batch.kept(version.key), incoming)
        if not isinstance(merged, Added):
            return None  # what was written again lies one deeper, and has seen that actor's counter: this is stale now
        batch.put(version.key, merged.kept)
        self._check_twins(peer, version, merged.kept)
        return merged.dropped

    def _ours(self) -> Own:
        return Own(self._batch.lives, self._own, self._batch.issued)

    def _check_claims(self, peer: str, version: Version, rollback_allowed: bool) -> None:
        """Step (4): what a version says of our own lives that was not said before."""
        found = claims.judged(version, self._batch.kept(version.key), self._ours())
        if found.proves_rollback and rollback_allowed:
            self._begin_life(lives.ROLLED_BACK)
            found_out = "a version proves that this store once held writes that it lacks now"
            self._alarm("rolled_back", peer, f"{found_out}: {lives.WHAT_TO_DO}")
        if found.lies:
            self._alarm("forged_claim", peer, claims.accusation(version, found.lies))

    def _check_twins(self, peer: str, version: Version, kept: Sequence[Kept]) -> None:
        """Two signed versions under one counter: somebody used it twice. Both are kept, and the signers named."""
        if told := claims.equivocation(version, kept, self._ours()):
            self._alarm("equivocation", peer, told)

    def _begin_life(self, reason: str) -> None:
        life = self._batch.begin_life(reason)
        self._own[life.actor] = len(self._batch.lives) - 1

    def _alarm(self, kind: str, peer: str, detail: str) -> None:
        self._alarms.append(Alarm(kind, peer, detail))

    def _any_early(self, versions: Sequence[Version]) -> bool:
        return any(version.at > self._horizon for version in versions)

    def _set_aside(self, peer: str, version: Version, room: int, full: bool) -> tuple[int, bool]:
        """Step (2). Returns the room that is left and whether something found none."""
        # What is stale now waits too: what it is stale by may be gone by then, and it is not sent again.
        if any(one.version.tag == version.tag for one in self._batch.kept(version.key)):
            return room, full
        if self._ledger.waits((version.tag,)) or any(one.version.tag == version.tag for one in self._waiting):
            return room, full
        if len(version.doc) > room:
            if not full:
                self._alarm("waiting_full", peer, "too many versions from the future wait; its clock is probably wrong")
            return room, True
        self._waiting.append(Waiting(peer, version))
        return room - len(version.doc), full

    def _wanted(self, offers: Sequence[Offer], policy: Policy) -> tuple[bytes, ...]:
        """Step (6)."""
        asked = [offer for offer in offers if policy.scope.allows(offer.key[0])]
        if not asked:
            return ()
        kept = self._batch.tags(offer.key for offer in asked)
        waits = set(self._ledger.waits(offer.tag for offer in asked))
        waits.update(one.version.tag for one in self._waiting)
        lacking = [offer.tag for offer in asked if offer.tag not in waits and offer.tag not in kept.get(offer.key, ())]
        return tuple(lacking[:MAX_WANTED])

    def _will_move(self, page: Page, state: PeerState, policy: Policy) -> bool:
        return (
            page.to is not None
            and current_cursor(state, page.life, policy) == page.after
            and page.made_for == self._batch.life.actor
            and not self._wanted(page.offers, policy)
        )

    def _is_new_life(self, page: Page, state: PeerState) -> bool:
        return bool(state.held) and all(held.life != page.life for held in state.held)

    def _rolled_state(self, state: PeerState, peer: str) -> PeerState:
        """Forget all cursors where a rollback was proven: they may cover what this store no longer has."""
        if not any(alarm.kind == "rolled_back" for alarm in self._alarms):
            return state
        forget_cursors(self._ledger)
        return self._ledger.peer(peer)

    def _finished(
        self, page: Page, state: PeerState, policy: Policy, step: int, hindered: bool, expected: bool
    ) -> tuple[PeerState, bool]:
        """Step (7)."""
        settled = state.generation - state.generation % 2
        may = (
            page.to is not None
            and not hindered
            and current_cursor(state, page.life, policy) == page.after
            and page.made_for == self._batch.life.actor
        )
        if not may:
            # Versions of this page may carry a giver that counted on the move.
            counted_on = expected or state.generation % 2
            return replace(state, generation=voided(settled) if counted_on else settled), False
        assert page.to is not None
        others = tuple(held for held in state.held if held.life != page.life)
        moved = Held(page.life, page.to, policy.tag)
        return PeerState(page.peer, settled + step, (moved, *others)[:MAX_HELD]), True


def current_cursor(state: PeerState, life: str, policy: Policy) -> str | None:
    """Our cursor on this life of a peer; a life not seen before begins with the last one moved."""
    for held in state.held:
        if held.life == life:
            return held.cursor if held.scope == policy.tag else None
    if state.held and state.held[0].scope == policy.tag:
        return state.held[0].cursor
    return None


def _is_disturbed(state: PeerState, part: Part) -> bool:
    """True where all cursors were forgotten between two parts of a page: what came before is covered by it no more.

    A page under way has an odd generation, and whoever forgets the cursors leaves an even one.
    """
    return not part.first and not state.generation % 2


def forget_cursors(ledger: Ledger) -> None:
    """Read every peer from the start again, and void all givers."""
    for state in ledger.peers():
        ledger.put_peer(replace(state, generation=voided(state.generation), held=()))


def voided(generation: int) -> int:
    """An even generation that no giver of a page begun under this one can have: a page adds at most 2."""
    return generation - generation % 2 + 4


def _skew(at: str, now: int) -> str:
    ahead = (moment.microseconds(at) - now) // moment.SECOND
    return f"its time lies {ahead} s in the future of this node, at most 300 s are believed; kept until it is due"
