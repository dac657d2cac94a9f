"""Keeps one daemon of the older protocol in step: reads what is new there, then sends what is new here, in turns.

One request at a time: a newer daemon with an encrypted store answers nothing while it writes. Between two looks at what
is new, one page of a slow reading of everything finds what came there late, with an earlier time than was read already.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
import structlog

from node.dialer import Answer, AnswerTooLargeError, Dialer
from node.legacy.desk import Desk, Place
from node.legacy.failure import UNTAKEN, FailedError, checked
from node.legacy.linksender import LinkSender
from node.legacy.outbox import Item
from node.peers import Peer
from node.replicator import store_trouble
from node.store.errors import StoreError
from sync import moment
from sync.errors import RemoteError
from sync.legacy import messages, paging
from sync.legacy.messages import Rows, decode_answer, decode_quota, decode_since, encode_push
from sync.legacy.paging import Step
from sync.peer import WAKING, Health, Pace, Trouble

PUSH = "/api/v1/sync/push"
SINCE = "/api/v1/sync/since"
USUAL = 500
"""Rows of one page."""
SCAN_EVERY = 60.0
"""Seconds between two pages of the reading of everything: a page of a large store costs the daemon half a second."""
MIN_TIMEOUT = 60.0
"""Seconds that a request is given at least: 150 ms for each of at most 100 rows, four times over."""
LONGEST_QUOTA = 25 * 3_600.0
UNKNOWN_QUOTA = 3_600.0

log = structlog.get_logger("legacy")


class LegacyReplicator:
    """One daemon that we call. `explain` turns a failed connection into (code, sentence)."""

    def __init__(
        self,
        peer: Peer,
        desk: Desk,
        dialer: Dialer,
        agent: str,
        pace: Pace,
        explain: Callable[[BaseException], tuple[str, str]],
    ) -> None:
        self.peer = peer
        self._desk = desk
        self._dialer = dialer
        self._agent = agent
        self._pace = pace
        self._explain = explain
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._limit = USUAL
        self._scan_limit = USUAL
        self._pull_at = self._scan_at = self._retry_at = self._quota_until = 0.0
        self._number = self._reached = 0
        self._woken_at = -WAKING
        self._trouble: Trouble | None = None
        self._in_step_since: float | None = None
        self._links = LinkSender(peer, desk, agent, self._push, self._read_new)

    # --- what happens to it

    def start(self) -> None:
        """Begin: the first look reads everything anyway, so the slow reading of everything is due later."""
        self._scan_at = time.monotonic() + SCAN_EVERY
        self._task = asyncio.get_running_loop().create_task(self._work(), name=f"legacy {self.peer.name}")

    def stop(self) -> None:
        """Begin nothing more, and end what is under way."""
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Stop, and close the connections to the peer."""
        self.stop()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self._dialer.close()

    def committed(self, number: int) -> None:
        """Our feed stands at `number` now."""
        self._number = max(self._number, number)
        self._news.set()

    def heard_from(self) -> None:
        """The peer called us: it is up, so do not sit out a wait."""
        now = time.monotonic()
        if self._trouble is not None and self._woken_at <= now:
            self._woken_at = self._retry_at = self._pull_at = max(now, self._woken_at + WAKING)
            self._news.set()

    def read_again(self) -> None:
        """Our rules for what comes from it have changed: look at once, and go on with reading everything."""
        self._pull_at = self._scan_at = 0.0
        self._news.set()

    def look(self) -> None:
        """Look whether the peer has hung up, and read what is new at once where that is so."""
        if self._dialer.has_hung_up(time.monotonic()):
            self._pull_at = 0.0
            self._news.set()

    async def hang_up(self) -> None:
        await self._dialer.close()

    # --- the one loop

    async def _work(self) -> None:
        while True:
            self._news.clear()
            if time.monotonic() >= self._retry_at:
                await self._round()
            await self._pause()

    async def _round(self) -> None:
        try:
            if self.peer.receives and time.monotonic() >= self._pull_at:
                await self._pull()
            if self.peer.sends and time.monotonic() >= self._quota_until:
                await self._send()
        except FailedError as failure:
            self._failed(failure.code, failure.text, failure.retry_after)
        except RemoteError as error:
            self._failed(error.code, f"the peer sent something illegal: {error}")
        except AnswerTooLargeError as error:
            self._failed("answer_too_large", str(error))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._failed(*self._explain(error))
        except StoreError as error:
            self._failed(*store_trouble(error))
        except Exception as error:
            # Ours: a bug. The loop goes on, and tries again.
            self._desk.say("error", "sync.bug", self.peer, exc_info=error)
            self._failed("internal", f"this node could not do its part ({type(error).__name__}); see its log")
        else:
            if time.monotonic() >= self._quota_until:
                if self._trouble is not None:
                    self._desk.say("info", "sync.health", self.peer, now="in_step", before="failing")
                self._trouble = None
            if self._in_step_since is None:
                self._in_step_since = time.monotonic()

    def _failed(self, code: str, text: str, retry_after: float = 0.0) -> None:
        now, before = time.monotonic(), self._trouble
        attempts = before.attempts + 1 if before is not None else 1
        if before is None or before.code != code:
            self._desk.say("warning", "sync.failed", self.peer, code=code, reason=text)
        self._trouble = Trouble(code, text, before.since if before is not None else now, attempts)
        self._in_step_since = None
        wait = min(self._pace.first_retry * 2 ** min(attempts - 1, 20), self._pace.longest_retry)
        self._retry_at = now + max(retry_after, wait * (0.5 + random.random() / 2))  # noqa: S311 - only spreads load

    async def _pause(self) -> None:
        now = time.monotonic()
        if self._retry_at > now:
            due = self._retry_at
        else:
            due = self._pull_at if self.peer.receives else now + self._pace.period
            if self._quota_until > now:
                due = min(due, self._quota_until)
        try:
            async with asyncio.timeout(max(0.0, due - now)):
                while True:
                    await self._news.wait()
                    if time.monotonic() >= self._retry_at:
                        return
                    self._news.clear()
        except TimeoutError:
            return

    # --- in

    async def _pull(self) -> None:
        """Read what is new; then, where it is time, one page of everything."""
        await self._read_new()
        self._pull_at = time.monotonic() + self._pace.period * (0.9 + random.random() / 5)  # noqa: S311
        if time.monotonic() >= self._scan_at:
            await self._scan()
            self._scan_at = time.monotonic() + SCAN_EVERY

    async def _read_new(self) -> None:
        now = self._desk.now()
        since, limit = paging.begin((await self._desk.standing(self.peer)).newest), self._limit
        while True:
            page, step = await self._page(since, limit, self._limit)
            if page is not None:
                newest = paging.reached(step.since, now) if step.since is not None else None
                await self._take(page, step, Place(newest))
            if not step.more:
                break
            since, limit = step.since, step.limit

    async def _scan(self) -> None:
        since = (await self._desk.standing(self.peer)).scan
        page, step = await self._page(since, self._scan_limit, USUAL)
        self._scan_limit = step.limit
        if page is not None:
            ends = not step.more and not step.stuck
            await self._take(page, step, Place(scan=step.since if step.more else None, is_scan=True, ends_round=ends))

    async def _page(self, since: str | None, limit: int, usual: int) -> tuple[Rows | None, Step]:
        """Ask for a page; None where it was too large to be taken, and is asked for in smaller parts next."""
        query = {"limit": str(limit), "peer": self._agent}
        if since is not None:
            query["since"] = since
        try:
            answer = await self._dialer.get(SINCE, query)
        except AnswerTooLargeError:
            if limit <= 1:
                raise
            self._limit = max(1, self._limit // 2)
            return None, Step(None, since, max(1, limit // 2), more=True)
        page = decode_since(checked(answer))
        if page.scope_status:
            await self._links.is_newer()
        self._told(page)
        step = paging.step(since, limit, usual, page.times, page.count)
        if step.stuck:
            self._desk.tell(self.peer, "unread", f"some of its memories cannot be read: {step.stuck}")
        return page, step

    async def _take(self, page: Rows, step: Step, place: Place) -> None:
        for one in page.refused:
            self._desk.tell_refused(self.peer, one.id, one.reason, one.detail)
        self._desk.tell_more(self.peer, page.left_out)
        rows = [row for row in page.rows if step.upto is not None and row.at <= step.upto]
        await self._desk.rows(self.peer, rows, place)

    def _told(self, page: Rows) -> None:
        if page.scope_status == "no_allowlist_default_deny":
            text = (
                "it shows this node nothing: its operator has to allow it (AI_MEMORY_FED_PEER_ATTESTATION with"
                f" {self._agent}, or AI_MEMORY_FED_SYNC_TRUST_PEER=1)"
            )
            self._desk.tell(self.peer, "default_deny", text)
        else:
            self._desk.untell(self.peer, "default_deny")
        if page.hidden:
            self._desk.tell(self.peer, "hidden", "its scope hides some of its memories from this node")

    # --- out

    async def _send(self) -> None:
        """Send until nothing is left: memories, then the links between those that are there now."""
        await self._send_memories()
        await self._links.send()

    async def _send_memories(self) -> None:
        """Deletes only once what is newer there was read: it would be lost with its row."""
        is_fresh = not self.peer.receives
        while True:
            plan = await self._desk.plan(self.peer)
            gone = [*(one.theirs for one in plan.deletes), *plan.orphans]
            if gone and not is_fresh:
                await self._read_new()
                is_fresh = True
                continue
            if gone:
                answer = await self._post([], gone)
                await self._desk.deleted(self.peer, plan)
                log.debug("legacy.deleted", peer=self.peer.name, deleted=answer.deleted, noop=answer.noop)
            if plan.puts:
                await self._deliver(plan.puts)
            if not plan.is_idle:
                await self._desk.finish(self.peer, plan)
            self._reached = plan.reached
            self._number = max(self._number, plan.reached + plan.behind)
            if not plan.more and not plan.twins:
                return

    async def _deliver(self, items: Sequence[Item]) -> None:
        """Send rows. Where one of them is not taken, the daemon does not say which: halves find it, and name it."""
        try:
            answer = await self._post([one.row for one in items if one.row is not None], [], items)
            fault = "it skipped it, and does not say why" if answer.skipped else ""
        except FailedError as failure:
            if failure.code not in UNTAKEN:
                raise
            fault = failure.text
        if not fault:
            await self._desk.note(self.peer, [one.then for one in items])
        elif len(items) > 1:
            half = len(items) // 2
            await self._deliver(items[:half])
            await self._deliver(items[half:])
        else:
            await self._desk.refused_there(self.peer, items[0], fault)

    async def _post(
        self, rows: Sequence[bytes], deletions: Sequence[str], items: Sequence[Item] = ()
    ) -> messages.Answer:
        return await self._push(encode_push(self._agent, rows, deletions), items)

    async def _push(self, body: bytes, items: Sequence[Item] = ()) -> messages.Answer:
        answer = await self._dialer.post(PUSH, body)
        if answer.status == 429:
            await self._out_of_quota(answer, items)
        told = decode_answer(checked(answer))
        if told.quota_refused is not None:
            await self._links.is_newer()
        return told

    async def _out_of_quota(self, answer: Answer, items: Sequence[Item]) -> None:
        """It has taken the first few, and no more until its day is over."""
        quota = decode_quota(answer.body)
        taken = items[: max(0, quota.applied_before_refusal)]
        await self._desk.note(self.peer, [one.then for one in taken])
        reset = moment.canonical(answer.headers.get("x-quota-reset-at", "") or quota.reset_at)
        wait = UNKNOWN_QUOTA
        if reset is not None:
            wait = (moment.microseconds(reset) - self._desk.now()) / moment.SECOND
        wait = min(max(wait, 1.0), LONGEST_QUOTA) + random.random()  # noqa: S311
        self._quota_until = time.monotonic() + wait
        who = f"the daily quota of {quota.agent_id[:128] or 'an agent'} is used up there"
        raise FailedError("quota", f"{who}; nothing is sent until {reset or 'an hour from now'}")

    # --- for people

    @property
    def health(self) -> Health:
        if self._trouble is not None and self._trouble.code != "quota":
            return Health.FAILING
        if self._in_step_since is None and self._trouble is None:
            return Health.STARTING
        return Health.BEHIND if self._behind or self._trouble is not None else Health.IN_STEP

    @property
    def _behind(self) -> int:
        return max(0, self._number - self._reached) if self.peer.sends else 0

    def status(self) -> dict[str, Any]:
        """As `Replicator.status`."""
        now, trouble = time.monotonic(), self._trouble
        since = trouble.since if trouble is not None else self._in_step_since
        reason = "all that it can take was sent, and all that it shows was read"
        if self.health is not Health.IN_STEP:
            reason = f"{self._behind} changes are still to be sent" if self._in_step_since else "waiting for an answer"
        return {
            "peer": self.peer.name,
            "fingerprint": self.peer.fingerprint,
            "url": self.peer.url,
            "state": self.health.value,
            "behind": self._behind,
            "for_seconds": None if since is None else round(now - since, 1),
            "code": trouble.code if trouble else None,
            "reason": trouble.text if trouble else reason,
            "attempts": trouble.attempts if trouble else 0,
            "refused": len(self._desk.refused[self.peer.fingerprint]),
        }
