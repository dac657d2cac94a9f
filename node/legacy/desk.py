"""What is kept of daemons of the older protocol, worked on from the event loop: one task of the store at a time each.

The two ends of the HTTP side, requests that come and requests that are made, meet here and nowhere else.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from node.exchange import SLICE, Exchange
from node.legacy import linkbox, linktables, ours, outbox, tables
from node.legacy.intake import NO_LIFE, Came, Intake
from node.legacy.linkbox import LinkItem, LinkPlan
from node.legacy.outbox import Item, Plan
from node.legacy.tables import PeerRow, Record
from node.peers import Peer
from node.store import Reader, Store
from node.timekeeper import Timekeeper
from sync.engine import Engine
from sync.ids import memory_id
from sync.legacy.link import TheirLink
from sync.legacy.row import Row
from sync.ports import Ledger
from sync.receive import Page
from sync.record import Refused

T = TypeVar("T")
MOST_TOLD = 1_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reading of a daemon's store stands once its rows are taken in. None leaves it as it is."""

    newest: str | None = None
    scan: str | None = None
    is_scan: bool = False
    ends_round: bool = False
    """Everything was read: what was not seen is gone there."""


class Desk:
    """One for the node."""

    def __init__(self, store: Store, engine: Engine, exchange: Exchange, clock: Timekeeper) -> None:
        self._store = store
        self._engine = engine
        self._exchange = exchange
        self._clock = clock
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._told: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self.refused: defaultdict[str, set[str]] = defaultdict(set)
        """Names of records that one side refuses now, by peer: each leaves it when it is taken."""

    @property
    def number(self) -> int:
        """Where our feed stands."""
        return self._store.position.number

    def now(self) -> int:
        return self._clock.now()

    # --- peers

    async def make_tables(self) -> None:
        """Make what is not there yet; the index of times takes a few seconds over a large store, once."""
        await self._store.writer.run(lambda ledger: tables.make(tables.executing(ledger)))

    async def keep_only(self, peers: Sequence[str]) -> None:
        """Forget all peers but these: one that is configured again is read and sent everything anew."""

        def run(ledger: Ledger) -> None:
            execute = tables.executing(ledger)
            if tables.are_made(execute):
                tables.keep_only(execute, peers)

        await self._store.writer.run(run)
        for kept in (self._told, self.refused):
            for fingerprint in kept.keys() - set(peers):
                del kept[fingerprint]

    async def standing(self, peer: Peer) -> PeerRow:
        return await self._store.reader.run(lambda reader: tables.peer(reader.execute, peer.fingerprint))

    async def asked(self, peer: Peer, since: str, top: int) -> None:
        """It came with this `since`; what came here since it last did, with an earlier time, it will never see."""
        before = await self.standing(peer)
        if (before.asked, before.asked_at) == (since, top):
            return

        def run(ledger: Ledger) -> None:
            execute = tables.executing(ledger)
            row = tables.peer(execute, peer.fingerprint)
            missed = row.missed
            if row.asked is not None:
                missed += ours.behind(execute, peer.fingerprint, since, row.asked_at)
            tables.put_peer(execute, replace(row, asked=since, asked_at=top, missed=missed))

        await self._store.writer.run(run)

    # --- in

    async def rows(self, peer: Peer, rows: Sequence[Row], place: Place | None = None) -> tuple[Refused, ...]:
        """Take in rows, in slices; the place moves in the transaction of the last. Without a place they were pushed."""
        refused: list[Refused] = []
        are_shown = place is not None
        for start in range(0, len(rows), SLICE) or range(1):
            some, is_last = rows[start : start + SLICE], start + SLICE >= len(rows)
            if not some and place is None:
                break

            def run(intake: Intake, some: Sequence[Row] = some, is_last: bool = is_last) -> Came:
                came = intake.rows(some, are_shown=are_shown) if some else Came()
                if is_last and place is not None:
                    intake.move(lambda row: _moved(row, place), place.ends_round)
                return came

            came = await self._take(peer, run, bulk=len(some) > 8)
            if self.refused[peer.fingerprint]:
                self._taken(peer, _names(some) - {one.id for one in (*came.refused, *came.late)} - came.waiting)
            refused += came.refused
        return tuple(refused)

    async def remove(self, peer: Peer, deletions: Iterable[str], archives: Iterable[str]) -> tuple[Came, Came]:
        """Deletes and archives that it tells."""
        return (
            await self._take(peer, lambda intake: intake.deletions(deletions)),
            await self._take(peer, lambda intake: intake.archives(archives)),
        )

    async def restore(self, peer: Peer, ids: Iterable[str]) -> Came:
        return await self._take(peer, lambda intake: intake.restores(ids))

    async def links(self, peer: Peer, links: Sequence[TheirLink]) -> Came:
        """Links that it tells, in slices."""
        total = Came()
        for start in range(0, len(links), SLICE):

            def run(intake: Intake, some: Sequence[TheirLink] = links[start : start + SLICE]) -> Came:
                return intake.links(some)

            came = await self._take(peer, run, bulk=len(links) > 8)
            total = replace(
                came, refused=(*total.refused, *came.refused), done=total.done + came.done, noop=total.noop + came.noop
            )
        return total

    async def _take(self, peer: Peer, task: Callable[[Intake], Came], *, bulk: bool = False) -> Came:
        await self._exchange.check_clock()
        policy = self._exchange.policy(peer.fingerprint)

        def run(ledger: Ledger) -> Came:
            return task(Intake(ledger, self._engine, peer.fingerprint, policy, self._clock.now()))

        async with self._locks[peer.fingerprint]:
            came = await self._store.writer.run(run, bulk=bulk)
        page = Page(peer.fingerprint, NO_LIFE, None, None, None, reset=False)
        alarms = self._engine.received(page, came.taken, self._clock.now())
        self._exchange.note(peer.fingerprint, (*came.taken.alarms, *alarms))
        for one in (*came.refused, *came.late):
            self.tell_refused(peer, one.id, one.reason, one.detail)
        return came

    # --- out

    async def plan(self, peer: Peer) -> Plan:
        def read(reader: Reader) -> Plan:
            return outbox.plan(reader, peer.fingerprint, peer.read)

        return await self._store.reader.run(read)

    async def note(self, peer: Peer, records: Iterable[Record]) -> None:
        """The daemon has taken these, or was not sent them for a reason."""
        records = list(records)
        self._taken(peer, (one.key[1] for one in records if one.state != "refused"))
        await self._store.writer.run(lambda ledger: outbox.note(ledger, peer.fingerprint, records))

    async def deleted(self, peer: Peer, plan: Plan) -> None:
        """The daemon has taken the deletes of a plan."""
        await self._store.writer.run(lambda ledger: outbox.deleted(ledger, peer.fingerprint, plan))

    async def refused_there(self, peer: Peer, item: Item, why: str) -> None:
        """The daemon did not take this record. It is sent again once it changes, here or there."""
        record = item.then
        known = replace(record.known, at="", tag=b"")
        self.tell_refused(peer, record.key[1], "not_taken", f"{item.title}: {why}")
        await self.note(peer, [replace(record, known=known, state="refused", why=why)])

    async def finish(self, peer: Peer, plan: Plan) -> None:
        for record in plan.kept_back:
            if record.state == "refused":
                self.tell_refused(peer, record.key[1], "not_sent", f"{record.known.title}: {record.why}")
        await self._store.writer.run(lambda ledger: outbox.finish(ledger, peer.fingerprint, plan))

    async def link_plan(self, peer: Peer, relations: Collection[str]) -> LinkPlan:
        return await self._store.reader.run(lambda reader: linkbox.plan(reader, peer.fingerprint, relations))

    async def settle_links(self, peer: Peer, plan: LinkPlan) -> None:
        await self._store.writer.run(lambda ledger: linkbox.settle(ledger, peer.fingerprint, plan))

    async def links_are(self, peer: Peer, items: Sequence[LinkItem], state: str, why: str = "") -> None:
        """What has become of links that were sent."""
        keys = [one.key for one in items]

        def run(ledger: Ledger) -> None:
            linktables.put_state(tables.executing(ledger), peer.fingerprint, keys, state, why)

        await self._store.writer.run(run)

    async def look_at_links_again(self, peer: Peer) -> None:
        """The daemon is one that takes what another release would refuse."""

        def run(ledger: Ledger) -> None:
            linktables.look_again(tables.executing(ledger), peer.fingerprint)

        await self._store.writer.run(run)

    # --- for the operator

    def tell(self, peer: Peer, kind: str, text: str) -> None:
        """Say something about a peer: in the log where it is news, and in `sync status` from now on."""
        told = self._told[peer.fingerprint]
        if told.get(kind) != text:
            is_new = kind not in told
            told[kind] = text
            if is_new:
                self._exchange.told.warn(f"legacy.{kind}", peer.name, reason=text)

    def untell(self, peer: Peer, kind: str) -> None:
        self._told[peer.fingerprint].pop(kind, None)

    def tell_refused(self, peer: Peer, record_id: str, code: str, reason: str) -> None:
        """Name a record that one side refused, once."""
        known = self.refused[peer.fingerprint]
        if record_id not in known and len(known) < MOST_TOLD:
            known.add(record_id)
            self._exchange.told.warn("sync.refused", peer.name, id=record_id, code=code, reason=reason)

    def tell_more(self, peer: Peer, count: int) -> None:
        """So many records could not be read, beside those that were named."""
        if count:
            self._exchange.told.warn("sync.refused", peer.name, left_out=count, reason=f"{count} more cannot be read")

    def say(self, level: str, event: str, peer: Peer, **said: Any) -> None:
        """A line of the log that a peer can cause."""
        self._exchange.told.say(level, event, peer.name, **said)

    def _taken(self, peer: Peer, ids: Iterable[str]) -> None:
        """Whatever kept these from being taken is over."""
        if known := self.refused[peer.fingerprint]:
            known.difference_update(ids)

    async def notes(self, peer: Peer) -> list[str]:
        """Everything about a peer that keeps two correct nodes from agreeing, in words."""

        def read(reader: Reader) -> tuple[list[tuple[str, int, str, str]], PeerRow, int, int]:
            execute, name = reader.execute, peer.fingerprint
            states = tables.states(execute, name) + linktables.states(execute, name)
            return states, tables.peer(execute, name), reader.conflict_count(), linktables.held_count(execute, name)

        states, standing, conflicts, held = await self._store.reader.run(read)
        words = [_STATES[state].format(n=count, title=title, why=why) for state, count, title, why in states]
        if held:
            room = ", which is all that are held: more of them are lost" if held >= linktables.MAX_HELD else ""
            words.append(f"{held} of its links came before their memories, and are held here until those come{room}")
        if conflicts and peer.sends:
            words.append(f"{conflicts} memories here are in conflict: it is sent only what readers see")
        if peer.url is None and peer.sends:
            words.append("it only calls here, so deletes and links never reach it; give it a url to send them")
            if standing.missed:
                words.append(
                    f"{standing.missed} changes came here behind the time that it reads on from: it misses them"
                )
        return [*words, *self._told[peer.fingerprint].values()]


_STATES = {
    "refused": "{n} memories are not on it ({title}: {why})",
    "held": "{n} memories are another version there ({title}: {why})",
    "altered": "{n} memories are not quite the same there ({title}: {why})",
    "link refused": "{n} links are not on it ({title}: {why})",
    "link unlinked": "{n} links were taken back here and are still on it, which has no message for that ({title})",
    "gone": "{n} memories are gone there, and nobody told: deleted, archived or expired; they are kept here ({title})",
}


def _names(rows: Iterable[Row]) -> set[str]:
    """What these may have been refused under: the daemon's ids, and those that they have here."""
    memories = [row.memory for row in rows]
    return {one.id for one in memories} | {memory_id(one.namespace, one.title, 0) for one in memories}


def _moved(row: PeerRow, place: Place) -> PeerRow:
    if place.newest is not None and (row.newest is None or place.newest > row.newest):
        row = replace(row, newest=place.newest)
    if place.ends_round:
        return replace(row, scan=None, round=row.round + 1)
    return replace(row, scan=place.scan) if place.is_scan else row
