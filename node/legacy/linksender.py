"""Sends links to one daemon of the older protocol, once each, after the memories that they join."""

from collections.abc import Awaitable, Callable, Sequence

from node.legacy.desk import Desk
from node.legacy.failure import UNTAKEN, FailedError
from node.legacy.linkbox import LinkItem
from node.peers import Peer
from sync.legacy.link import FOUR_RELATIONS
from sync.legacy.messages import Answer, encode_push
from sync.link import RELATIONS

Push = Callable[[bytes], Awaitable[Answer]]
"""One push to the daemon. Raises FailedError."""


class LinkSender:
    """One for each daemon that we call. `agent`: what this node calls itself; `read_new` reads what is new there."""

    def __init__(self, peer: Peer, desk: Desk, agent: str, push: Push, read_new: Callable[[], Awaitable[None]]) -> None:
        self._peer = peer
        self._desk = desk
        self._agent = agent
        self._push = push
        self._read_new = read_new
        self._relations = FOUR_RELATIONS

    async def is_newer(self) -> None:
        """The daemon said what v0.6.3 never says, so it takes all relations."""
        if self._relations == FOUR_RELATIONS:
            self._relations = frozenset(RELATIONS)
            await self._desk.look_at_links_again(self._peer)

    async def send(self) -> None:
        """Send what is due until nothing is left.

        Only once what is new there was read: a memory that was sent under a title that it had already has its id.
        """
        is_fresh = not self._peer.receives
        while True:
            plan = await self._desk.link_plan(self._peer, self._relations)
            if plan.items and not is_fresh:
                await self._read_new()
                is_fresh = True
                continue
            if plan.items:
                await self._deliver(plan.items)
            if not plan.is_idle:
                await self._desk.settle_links(self._peer, plan)
            if not plan.more:
                return

    async def _deliver(self, items: Sequence[LinkItem]) -> None:
        """Where one of them is not taken, the daemon does not say which: halves find it, and name it."""
        try:
            answer = await self._push(encode_push(self._agent, links=[one.doc for one in items]))
            fault = "it skipped it, and does not say why" if answer.skipped else ""
        except FailedError as failure:
            if failure.code not in UNTAKEN:
                raise
            fault = failure.text
        if not fault:
            await self._desk.links_are(self._peer, items, "there")
        elif len(items) > 1:
            half = len(items) // 2
            await self._deliver(items[:half])
            await self._deliver(items[half:])
        else:
            self._desk.tell_refused(self._peer, items[0].shown, "not_taken", fault)
            await self._desk.links_are(self._peer, items, "refused", fault)
