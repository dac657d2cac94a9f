"""A large mesh in virtual time, in which nothing fails: what goes over its links is counted.

The members run the real engine, the real peer machine and the real messages; the store is in memory, and a link takes
`DELAY` one way. What a broken link costs is the other simulator's part (`world`).
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec
from keys import ANYBODY, Signing
from memory_store import MemoryStore

from sync import attest, lives, wire
from sync.draft import Fields
from sync.engine import Engine
from sync.feed import Cursor, resolve
from sync.moment import SECOND
from sync.peer import Action, Pace, PeerMachine, View
from sync.policy import Policy
from sync.ports import Giver
from sync.receive import Part, Taken, current_cursor
from sync.scope import Globs
from sync.serve import Ask, Cut, wanted_next

START = 1_800_000_000 * SECOND
DELAY = (0.015, 0.025)
"""Seconds that a message takes, drawn for each link."""
MEAN_DELAY = sum(DELAY) / 2
BYTES = 400
"""Of a change's content."""
EVERYTHING = Globs.everything()
POLICY = Policy(EVERYTHING, ANYBODY)
MAX_PUT_OFF = 256
PAGE = (500, 4 * 2**20)
LONGEST = 120.0
"""Seconds within which a change has to be everywhere."""


class LeanStore(MemoryStore):
    """Nothing fails here, so no copies; and a node with a thousand peers has a thousand givers."""

    def __init__(self) -> None:
        super().__init__()
        self._giver_ids: dict[Giver, int] = {}

    def transaction(self, body: Any, *args: Any) -> Any:
        return body(self, *args)

    def giver_id(self, giver: Giver) -> int:
        return self._giver_ids.setdefault(giver, len(self._giver_ids) + 1)

    def find_giver(self, giver: Giver) -> int:
        return self._giver_ids.get(giver, 0)

    def keeps(self, digest: int) -> bool:
        return self._position.digest == digest


@dataclass
class Counts:
    """What went over all links."""

    pushes: int = 0
    pulls: int = 0
    bodies: int = 0
    offers: int = 0
    body_bytes: int = 0
    offer_bytes: int = 0
    other_bytes: int = 0

    def since(self, before: Counts) -> Counts:
        return Counts(*(getattr(self, one.name) - getattr(before, one.name) for one in fields(self)))


@dataclass
class Member:
    """One node of the mesh."""

    number: int
    store: LeanStore
    engine: Engine
    machines: dict[int, PeerMachine] = field(default_factory=dict)
    timers: dict[int, float] = field(default_factory=dict)

    @property
    def peer(self) -> str:
        return f"sha256:{self.number:064x}"

    @property
    def life(self) -> str:
        return self.store.lives()[-1].actor


class LargeMesh:
    """Members, links, and a queue of what happens when."""

    def __init__(self, links: Sequence[tuple[int, int]], seed: int = 1, delay: tuple[float, float] = DELAY) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.counts = Counts()
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._delay: dict[tuple[int, int], float] = {}
        size = max(map(max, links)) + 1
        self.members = [self._born(number) for number in range(size)]
        for a, b in links:
            self._delay[a, b] = self._delay[b, a] = self.random.uniform(*delay)
            for one, other in ((a, b), (b, a)):
                machine = PeerMachine(push=True, pull=True, pace=Pace(), jitter=self.random.random)
                self.members[one].machines[other] = machine
        for member in self.members:
            for other in member.machines:
                # Not all at once, as machines are not all started in one moment.
                self._at(self.random.uniform(0, 1), self._turn, member, other)

    def _born(self, number: int) -> Member:
        engine = Engine(f"node:{number}", self.random.randbytes, Signing())
        member = Member(number, LeanStore(), engine)
        member.store.transaction(engine.begin_life, START, lives.START)
        return member

    @property
    def wall(self) -> int:
        return START + int(self.now * SECOND)

    # --- events

    def _at(self, when: float, what: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, args))

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Let happen what happens until then, or until `done`; True where it is."""
        while self._events and self._events[0][0] <= until:
            self.now, _, what, args = heapq.heappop(self._events)
            what(*args)
            if done():
                return True
        self.now = until
        return done()

    def write(self, number: int, title: str) -> None:
        """A new memory at a member."""
        member = self.members[number]
        content = self.random.randbytes(BYTES // 2).hex()
        draft = Fields(namespace="scale", title=title, content=content)
        member.store.transaction(member.engine.store, draft, f"agent:{number}", self.wall)
        self._committed(member)

    def _committed(self, member: Member) -> None:
        number = member.store.position().number
        for other, machine in member.machines.items():
            machine.committed(number)
            self._turn(member, other)

    # --- what `node.replicator` does, without its failures

    def _turn(self, member: Member, other: int) -> None:
        machine = member.machines[other]
        for action in machine.poll(self.now):
            if action is Action.PUSH:
                self._push(member, other)
            else:
                self._pull(member, other)
        due = machine.timer()
        if due is not None and member.timers.get(other) != due:
            member.timers[other] = due
            self._at(max(due, self.now), self._timer, member, other, due)

    def _timer(self, member: Member, other: int, due: float) -> None:
        if member.timers.get(other) == due:
            member.timers.pop(other)
            self._turn(member, other)

    def _push(self, member: Member, other: int) -> None:
        machine, peer = member.machines[other], self.members[other]
        view = machine.view
        cut = None
        if view is None:
            body = wire.encode_hello(member.engine.agent, member.life)
        else:
            cut = self._cut(member, self._ask(peer, view.have, view.life, machine.wanted, push=True))
            if cut.page.is_empty and not cut.page.more and cut.span < MAX_PUT_OFF and machine.may_put_off:
                machine.push_put_off(self.now, cut.number)
                return
            body = wire.encode_push(member.engine.agent, cut)
            self._count(cut, body)
        self.counts.pushes += 1
        self._send(member, other, self._pushed, member, other, cut, body)

    def _pushed(self, member: Member, other: int, cut: Cut | None, body: bytes) -> None:
        peer = self.members[other]
        incoming = wire.decode_push(body, member.peer)
        if incoming.page.to is None:
            have = current_cursor(peer.store.peer(member.peer), incoming.page.life, POLICY)
            taken = Taken(have=have, life=peer.life)
        else:
            taken = self._receive(peer, incoming)
        peer.machines[member.number].heard_from(self.now)
        answer = wire.decode_answer(wire.encode_answer(taken, ()))
        self._send(peer, member.number, self._answered, member, other, cut, answer)

    def _answered(self, member: Member, other: int, cut: Cut | None, answer: wire.PushAnswer) -> None:
        wanted, covered = answer.wanted, 0
        machine = member.machines[other]
        if cut is not None:
            wanted = wanted_next(cut, answer.have, answer.applied, wanted, machine.wanted)
        if cut is not None and answer.have == cut.to:
            covered = cut.number
        elif answer.have is not None:
            store = member.store
            cursor = Cursor.parse(answer.have)
            at = resolve(cursor, store.lives(), store.position(), store.head_at, EVERYTHING.tag)
            covered = min(at.after, store.position().number)
        machine.push_done(self.now, View(answer.have, answer.life), covered, wanted, answer.again)
        self._turn(member, other)

    def _pull(self, member: Member, other: int) -> None:
        peer = self.members[other]
        state = member.store.peer(peer.peer)
        cursor = current_cursor(state, state.held[0].life, POLICY) if state.held else None
        self.counts.pulls += 1
        self._send(member, other, self._asked, member, other, cursor, member.life)

    def _asked(self, member: Member, other: int, cursor: str | None, life: str) -> None:
        peer = self.members[other]
        cut = self._cut(peer, self._ask(member, cursor, life, frozenset(), push=False))
        body = wire.encode_since(cut, PAGE[0])
        self._count(cut, body)
        self._send(peer, member.number, self._pulled, member, other, cursor, life, body)

    def _pulled(self, member: Member, other: int, cursor: str | None, life: str, body: bytes) -> None:
        incoming = wire.decode_since(body, self.members[other].peer, cursor, life)
        taken = self._receive(member, incoming)
        member.machines[other].pull_done(self.now, incoming.more and (taken.moved or not taken.full))
        self._turn(member, other)

    def _receive(self, member: Member, incoming: wire.Incoming) -> Taken:
        part = Part(incoming.versions, genuine=attest.genuine(incoming.versions))
        before = member.store.position().number
        taken: Taken = member.store.transaction(member.engine.receive, incoming.page, part, POLICY, Taken(), self.wall)
        taken = member.engine.asking(incoming.page, incoming.versions, taken, self.wall)
        member.engine.received(incoming.page, taken, self.wall)
        if member.store.position().number != before:
            self._committed(member)
        return taken

    def _cut(self, member: Member, ask: Ask) -> Cut:
        cut = member.engine.cut(member.store, ask, self.wall)
        assert isinstance(cut, Cut), "nobody is rolled back here"
        return cut

    def _ask(self, peer: Member, cursor: str | None, life: str, wanted: frozenset[bytes], *, push: bool) -> Ask:
        return Ask(peer.peer, cursor, life, EVERYTHING, POLICY, *PAGE, push, wanted)

    def _send(self, sender: Member, receiver: int, what: Callable[..., None], *args: Any) -> None:
        self._at(self.now + self._delay[sender.number, receiver], what, *args)

    def _count(self, cut: Cut, body: bytes) -> None:
        page, counts = cut.page, self.counts
        documents = len(page.memories) + len(page.tombstones) + len(page.links)
        counts.bodies += page.count
        counts.body_bytes += documents
        counts.offers += len(msgspec.json.decode(b"[%b]" % page.offers))
        counts.offer_bytes += len(page.offers)
        counts.other_bytes += len(body) - documents - len(page.offers)

    # --- the measurement

    def spread(self, number: int, title: str) -> tuple[float, float, Counts]:
        """One change, from its commit until all members keep it, and all cursors have come to rest over it.

        Returns the seconds until it was everywhere and until nothing more is sent for it, and what that took.
        """
        before, began = self.counts.since(Counts()), self.now
        self.write(number, title)
        digest = self.members[number].store.position().digest
        lacking = {one.number for one in self.members}

        def is_everywhere() -> bool:
            while lacking:
                one = next(iter(lacking))
                if not self.members[one].store.keeps(digest):
                    return False
                lacking.discard(one)
            return True

        assert self.run(began + LONGEST, is_everywhere), f"not everywhere after {LONGEST} s"
        everywhere = self.now - began

        def rests() -> bool:
            return all(not machine.behind for one in self.members for machine in one.machines.values())

        while not rests():
            self.run(self.now + 0.1)
            assert self.now < began + LONGEST, f"not at rest after {LONGEST} s"
        return everywhere, self.now - began, self.counts.since(before)
