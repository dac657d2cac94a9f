"""Keeps one peer in step: carries out what its `PeerMachine` decides, over HTTP."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec
import structlog

from node.dialer import Answer, AnswerTooLargeError, Dialer
from node.exchange import Exchange
from node.peers import Peer
from node.refusals import THEIRS
from node.store.errors import StoreError, StoreFull, StoreReadOnly, StoreReplaced
from sync import wire
from sync.errors import RemoteError
from sync.peer import Action, Health, Pace, PeerMachine, View
from sync.serve import Ask, Cut, wanted_next
from sync.standing import Standing

PUSH = "/api/v1/sync/push"
SINCE = "/api/v1/sync/since"
INLINE_BYTES = 16_384
"""A body up to this size is decoded on the event loop; larger ones go to a thread, and so do those of many pieces."""
INLINE_PIECES = 512
MAX_PUT_OFF = 256
"""Numbers that a receiver's cursor may lag behind while there is nothing to tell it."""

SMALLEST_PAGE = 65_536
LEAST_SHARE = 1 / 512

log = structlog.get_logger("sync")


class _Error(msgspec.Struct):
    """What an answer that is none says; nothing else of its body is made, however much there is."""

    error: str = ""


_error = msgspec.json.Decoder(_Error)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a page may be."""

    records: int = 500
    bytes: int = 4 * 2**20

    def shared(self, share: float) -> "Limits":
        """A part of it, but at least one record."""
        return Limits(max(1, int(self.records * share)), max(SMALLEST_PAGE, int(self.bytes * share)))


class _FailedError(Exception):
    """An exchange that did not work out; `code` is stable, the text is for the operator."""

    def __init__(self, code: str, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.code = code
        self.retry_after = retry_after


STORE_TROUBLE = {
    "store_full": "has a full disk",
    "store_read_only": "cannot write its disk",
    "store_replaced": "has lost the file of its store",
    "store": "has a problem with its store",
}
"""By the code that both listeners answer with."""
_OF_STORE: dict[type[StoreError], str] = {
    StoreFull: "store_full", StoreReadOnly: "store_read_only", StoreReplaced: "store_replaced",
}  # fmt: skip


class Replicator:
    """One peer that we call. `explain` turns a failed connection into (code, sentence)."""

    def __init__(
        self,
        peer: Peer,
        exchange: Exchange,
        dialer: Dialer,
        agent: str,
        limits: Limits,
        pace: Pace,
        explain: Callable[[BaseException], tuple[str, str]],
    ) -> None:
        self.peer = peer
        self.machine = PeerMachine(push=peer.sends, pull=peer.receives, pace=pace, jitter=random.random)
        self._exchange = exchange
        self._dialer = dialer
        self._agent = agent
        self._limits = limits
        self._share = dict.fromkeys(Action, 1.0)  # of a whole page: what gets through in time
        self._explain = explain
        self._loop = asyncio.get_running_loop()
        self._clock_ahead: float | None = None
        self._again_from: str | None = None
        self._is_reading_all = False
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        self._work: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin; from here on every event and one timer keep it going."""
        self._running = True
        self._turn()

    def stop(self) -> None:
        """Begin nothing more, and end what is under way."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        for task in self._work:
            task.cancel()

    async def close(self) -> None:
        """Stop, and close the connections to the peer."""
        self.stop()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self._dialer.close()

    def committed(self, number: int) -> None:
        """Our feed stands at `number` now."""
        self.machine.committed(number)
        self._turn()

    def heard_from(self) -> None:
        """The peer called us."""
        if self.machine.heard_from(time.monotonic()):
            self._turn()

    def read_again(self) -> None:
        """Our rules for what comes from it have changed."""
        self.machine.read_again(time.monotonic())
        self._turn()

    def read_all(self) -> None:
        """Read the peer's whole feed once more, beside our cursor: whatever is refused of it is named then."""
        if not self._is_reading_all:
            self._is_reading_all, self._again_from = True, None
            self.read_again()

    def look(self) -> None:
        """Look whether the peer has hung up, and ask it at once where that is so."""
        now = time.monotonic()
        if self._dialer.has_hung_up(now):
            self.machine.hung_up(now)
            self._turn()

    async def hang_up(self) -> None:
        """Close the connections to the peer, and ask it over a new one, if that may be: until then it seems in step."""
        await self._dialer.close()
        self.read_again()

    def _turn(self) -> None:
        """After any event: start what the machine wants started, then set the one timer anew (as in aioquic)."""
        if not self._running:
            return
        for action in self.machine.poll(time.monotonic()):
            task = self._loop.create_task(self._do(action), name=f"{action.value} {self.peer.name}")
            self._work.add(task)
            task.add_done_callback(self._done)
        if self._timer is not None:
            self._timer.cancel()
        due = self.machine.timer()
        self._timer = None if due is None else self._loop.call_later(max(0.0, due - time.monotonic()), self._turn)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._exchange.told.say("error", "sync.bug", self.peer.name, exc_info=error)
        self._turn()

    async def _do(self, action: Action) -> None:
        was = self.machine.health
        try:
            await (self._push() if action is Action.PUSH else self._pull())
        except _FailedError as failure:
            self._fail(action, failure.code, str(failure), failure.retry_after)
        except RemoteError as error:
            self._fail(action, error.code, f"the peer sent something illegal: {error}")
        except AnswerTooLargeError as error:
            self._fail(action, "answer_too_large", str(error))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._fail(action, *self._explain(error))
        except StoreError as error:
            self._fail(action, *store_trouble(error))
        except Exception as error:
            # Ours: a bug. The lane must not stay busy for ever; the task's callback logs the trace.
            self._fail(action, "internal", f"this node could not do its part ({type(error).__name__}); see its log")
            raise
        if self.machine.health is not was and was in (Health.STARTING, Health.FAILING):
            said = {"now": self.machine.health.value, "before": was.value}
            self._exchange.told.say("info", "sync.health", self.peer.name, **said)

    def _fail(self, action: Action, code: str, text: str, retry_after: float = 0.0) -> None:
        before = self.machine.trouble
        self._exchange.unreachable(self.peer.fingerprint)
        self._exchange.heard_of_us(self.peer.fingerprint, ())  # nobody says so at this moment
        if code == "timeout":
            # A slow link would never get a whole page through, however often it was tried.
            self._share[action] = max(LEAST_SHARE, self._share[action] / 2)
        self.machine.failed(time.monotonic(), action, code, text, retry_after)
        if before is None or before.code != code:  # once per kind of trouble, not once per attempt
            self._exchange.told.warn("sync.failed", self.peer.name, action=action.value, code=code, reason=text)

    def _got_through(self, action: Action) -> None:
        """A page with something in it arrived in time: the next may be larger."""
        self._share[action] = min(1.0, self._share[action] * 2)

    # --- push

    async def _push(self) -> None:
        view, wanted = self.machine.view, self.machine.wanted
        if view is None:
            await self._send(wire.encode_hello(self._agent, self._exchange.life, self._standing()), None)
            return
        cut = await self._exchange.cut(self._ask(view.have, view.life, wanted))
        # Not where there is more: the next page may have something in it, and this one would be cut again and again.
        if cut.page.is_empty and not cut.page.more and cut.span < MAX_PUT_OFF and self.machine.may_put_off:
            self.machine.push_put_off(time.monotonic(), cut.number)
            return
        await self._send(wire.encode_push(self._agent, cut, self._standing()), cut)

    async def _send(self, body: bytes, cut: Cut | None) -> None:
        answer = wire.decode_answer(self._checked(await self._dialer.post(PUSH, body)))
        if cut is not None and not cut.page.is_empty:
            self._got_through(Action.PUSH)
        self._note_refusals(answer)
        wanted = answer.wanted
        if cut is not None:
            wanted = wanted_next(cut, answer.have, answer.applied, wanted, self.machine.wanted)
        if cut is not None and answer.have == cut.to:
            covered = cut.number
        else:
            ask = self._ask(answer.have, answer.life, frozenset())
            covered = await self._exchange.covered(ask)
        self.machine.push_done(time.monotonic(), View(answer.have, answer.life), covered, wanted, answer.again)

    # --- pull

    async def _pull(self) -> None:
        life, is_reading_all = self._exchange.life, self._is_reading_all
        cursor = self._again_from if is_reading_all else self._exchange.last_held(self.peer.fingerprint)
        limits = self._limits.shared(self._share[Action.PULL])
        query = {"limit": str(limits.records), "for": life}
        query["standing"] = wire.encode_standing(self._standing())
        if cursor is not None:
            query["cursor"] = cursor
        body = self._checked(await self._dialer.get(SINCE, query))
        incoming = await _decoded(body, self.peer.fingerprint, cursor, life)
        if incoming.versions:
            self._got_through(Action.PULL)
        taken = await self._exchange.receive(incoming)
        self._exchange.heard(self.peer.fingerprint, incoming.standing)
        self._exchange.heard_of_us(self.peer.fingerprint, incoming.alarms)
        more = incoming.more and (taken.moved or not taken.full)
        count = len(incoming.versions) + len(incoming.page.offers)
        thin = count < limits.records // 10 and len(body) < SMALLEST_PAGE // 2
        if is_reading_all:
            self._again_from, self._is_reading_all = incoming.page.to, more
            more = True  # once it is done, the usual reading goes on
        self.machine.pull_done(time.monotonic(), more, thin=thin)

    # --- both

    def _standing(self) -> Standing:
        return self._exchange.standing(self.peer)

    def _ask(self, cursor: str | None, life: str, wanted: frozenset[bytes]) -> Ask:
        limits = self._limits.shared(self._share[Action.PUSH])
        return Ask(
            self.peer.fingerprint,
            cursor,
            life,
            self.peer.read,
            self._exchange.book.policy(self.peer.fingerprint),
            limits.records,
            limits.bytes,
            True,
            wanted,
        )

    def _checked(self, answer: Answer) -> bytes:
        self._clock_ahead = clock_ahead(answer.headers.get("Date"), time.time())
        if answer.status == 200:
            return answer.body
        raise _FailedError(f"http_{answer.status}", _complaint(answer.status, answer.body), answer.retry_after)

    def _note_refusals(self, answer: wire.PushAnswer) -> None:
        for entry in answer.refused:
            self._exchange.refusals.note(self.peer.fingerprint, self.peer.name, THEIRS, entry)
        self._exchange.heard(self.peer.fingerprint, answer.standing)
        self._exchange.heard_of_us(self.peer.fingerprint, answer.alarms)

    def _reason(self) -> str:
        machine = self.machine
        match machine.health:
            case Health.STARTING:
                return "waiting for the first answer"
            case Health.BEHIND if machine.behind:
                return f"{machine.behind} changes are still to be confirmed by the peer"
            case Health.BEHIND:
                return "still pulling"
            case _:
                return CONFIRMED[self.peer.sends, self.peer.receives]

    def status(self) -> dict[str, Any]:
        """For `sync status`: in step or not, how far behind, since when, and why."""
        machine, now = self.machine, time.monotonic()
        trouble = machine.trouble
        since = machine.in_step_since if machine.health is Health.IN_STEP else trouble.since if trouble else None
        return {
            "peer": self.peer.name,
            "fingerprint": self.peer.fingerprint,
            "url": self.peer.url,
            "state": machine.health.value,
            "behind": machine.behind,
            "for_seconds": None if since is None else round(now - since, 1),
            "code": trouble.code if trouble else None,
            "reason": trouble.text if trouble else self._reason(),
            "attempts": trouble.attempts if trouble else 0,
            "refused": 0,
            "clock_ahead": self._clock_ahead,
        }


CONFIRMED = {
    (True, True): "what is to be exchanged was confirmed in both directions",
    (True, False): "what is to go there was confirmed; nothing is taken from it (direction push)",
    (False, True): "what comes from there was read to the end; nothing is sent to it (direction pull)",
}
"""By (sends, receives)."""


def clock_ahead(date: str | None, now: float) -> float | None:
    """Seconds by which a peer's clock is ahead of ours, by the `Date` of its answer; None where it says none.

    That is its own text, and may be any: of a year or an offset that no clock has, say.
    """
    try:
        return None if date is None else round(parsedate_to_datetime(date).timestamp() - now, 1)
    except (ValueError, OverflowError, TypeError):
        return None


def store_trouble(error: StoreError) -> tuple[str, str]:
    """Code and sentence for a failure of this node's own store."""
    code = _OF_STORE.get(type(error), "store")
    return code, f"this node {STORE_TROUBLE[code]}: {error}"


def _complaint(status: int, body: bytes) -> str:
    """What the peer says, or the status where it says nothing that can be read."""
    try:
        error = _error.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        error = ""
    return f"the peer answered {status}: {error[:300]}" if error else f"the peer answered {status} and no reason"


def is_inline(body: bytes) -> bool:
    """True for a body that is read in no time, however it is made."""
    return len(body) <= INLINE_BYTES and body.count(b",") <= INLINE_PIECES


async def _decoded(body: bytes, peer: str, cursor: str | None, life: str) -> wire.Incoming:
    if is_inline(body):
        return wire.decode_since(body, peer, cursor, life)
    return await asyncio.to_thread(wire.decode_since, body, peer, cursor, life)
