"""How this node stands with its peers: a replicator for each that it calls, a note on each that only calls here."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from node.bridge import Calling
from node.peers import Peer, PeerBook
from node.replicator import Replicator
from sync import moment

LOOK_EVERY = 0.5
"""Seconds between two looks whether a peer has hung up."""

log = structlog.get_logger("node")


@dataclass(slots=True)
class _Heard:
    """What is known of a peer without an address: it comes when it wants."""

    at: float
    """Monotonic seconds of its last request."""
    reached: int = 0
    """The number of our feed that its last cursor goes on from."""


class Links:
    """One replicator for each peer with an address. `make` builds one for a peer."""

    def __init__(self, make: Callable[[Peer], Calling]) -> None:
        self._make = make
        self._replicators: dict[str, Calling] = {}
        self._heard: dict[str, _Heard] = {}
        self._turn = asyncio.Lock()
        self._latest: PeerBook | None = None

    def take_away(self, book: PeerBook) -> None:
        """Stop calling whoever is not in this book, or not like this; at once, and whatever is under way ends.

        `settle` with the same book begins what there is to begin; one with an earlier book begins nothing any more.
        """
        self._latest = book
        wanted = {peer.fingerprint: peer for peer in book.peers if peer.url is not None}
        for fingerprint, replicator in self._replicators.items():
            if wanted.get(fingerprint) != replicator.peer:
                replicator.stop()

    async def settle(self, book: PeerBook, number: int) -> None:
        """Begin with new peers, end with removed ones, and both for changed ones; nobody else is disturbed.

        `number`: where our feed stands.
        """
        async with self._turn:
            wanted = {peer.fingerprint: peer for peer in book.peers if peer.url is not None}
            for fingerprint, replicator in list(self._replicators.items()):
                if wanted.get(fingerprint) != replicator.peer:
                    del self._replicators[fingerprint]
                    await replicator.close()
                    log.info("peer.ended", peer=replicator.peer.name)
            if self._latest not in (None, book):
                return  # edited meanwhile
            for fingerprint, peer in wanted.items():
                if fingerprint not in self._replicators:
                    replicator = self._make(peer)
                    self._replicators[fingerprint] = replicator
                    replicator.committed(number)
                    replicator.start()
                    log.info("peer.begun", peer=peer.name, url=peer.url)

    def committed(self, number: int) -> None:
        """Our feed stands at `number` now."""
        for replicator in self._replicators.values():
            replicator.committed(number)

    def heard_from(self, fingerprint: str, reached: int | None = None) -> None:
        """A request of this peer arrived. `reached`: the number of our feed up to which it proved to have all."""
        replicator = self._replicators.get(fingerprint)
        if replicator is not None:
            replicator.heard_from()
            return
        heard = self._heard.setdefault(fingerprint, _Heard(0.0))
        heard.at = time.monotonic()
        if reached is not None:
            heard.reached = reached

    def read_again(self) -> None:
        """Our rules for what comes in have changed: ask every peer now, not when its period is over."""
        for replicator in self._replicators.values():
            replicator.read_again()

    async def keep_looking(self) -> None:
        """See soon who has hung up, not only when the next request fails: a peer that stopped must not seem in step."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for replicator in tuple(self._replicators.values()):
                replicator.look()

    async def hang_up(self, fingerprint: str) -> None:
        """Close our own connections to a peer."""
        replicator = self._replicators.get(fingerprint)
        if replicator is not None:
            await replicator.hang_up()

    def read_all(self, fingerprint: str) -> None:
        """Read this peer's whole feed once more."""
        replicator = self._replicators.get(fingerprint)
        if isinstance(replicator, Replicator):  # a daemon of the older protocol is read in rounds anyway
            replicator.read_all()

    async def hang_up_all(self) -> None:
        """Close all of our own connections to peers."""
        for replicator in list(self._replicators.values()):
            await replicator.hang_up()

    def status(self, book: PeerBook, number: int) -> list[dict[str, Any]]:
        """One entry for each configured peer. `number`: where our feed stands."""
        self.committed(number)  # whoever has the answer to a write finds it here, though the word of it is on its way
        called = [replicator.status() for replicator in self._replicators.values()]
        return called + [self._passive(peer, number) for peer in book.peers if peer.url is None]

    def _passive(self, peer: Peer, number: int) -> dict[str, Any]:
        heard = self._heard.get(peer.fingerprint)
        # A daemon of the older protocol reads by time, and does not tell how far it got.
        behind = number - heard.reached if heard is not None and peer.sends and not peer.legacy else 0
        ago = None if heard is None else round(time.monotonic() - heard.at, 1)
        reason = "it calls here, and has not since this node started" if ago is None else f"it called {ago:.0f} s ago"
        return {
            "peer": peer.name,
            "fingerprint": peer.fingerprint,
            "url": None,
            "state": "starting" if heard is None else "behind" if behind else "in_step",
            "behind": behind,
            "for_seconds": ago,
            "code": None,
            "reason": reason,
            "attempts": 0,
            "refused": 0,
        }

    async def close(self) -> None:
        async with self._turn:
            await asyncio.gather(*(replicator.close() for replicator in self._replicators.values()))
            self._replicators.clear()


def with_waiting(
    peers: Sequence[Mapping[str, Any]], waiting: Mapping[str, tuple[int, str]], now: int
) -> list[dict[str, Any]]:
    """The entries of `Links.status`, each with how many changes of that peer lie in our future and wait.

    A peer of whom some wait is not in step, although it did its part: one of the two clocks is wrong.
    `waiting`: count and latest time by fingerprint; `now`: microseconds.
    """
    told = []
    for peer in peers:
        count, at = waiting.get(peer["fingerprint"], (0, ""))
        entry = {**peer, "waiting": count}
        if count and peer["code"] is None:
            ahead = (moment.microseconds(at) - now) // moment.SECOND
            entry["state"] = "behind" if peer["state"] == "in_step" else peer["state"]
            entry["code"] = "clock_skew"
            entry["reason"] = (
                f"{peer['reason']}; {count} of its changes wait, their times are up to {ahead} s ahead of this node's"
                " clock: set the clock that is wrong, here or there"
            )
        told.append(entry)
    return told
