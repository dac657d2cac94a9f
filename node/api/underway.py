"""What each peer may have under way on the federation listener: requests, and the bytes of their bodies and answers.

Whose turn is next is a function of values; `UnderWay` keeps them, and lets requests wait for their turn.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from node.api.errors import ApiError


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much at one time."""

    requests: int = 3
    """Of one peer: a node uses two lanes, and somebody may look at `/health`."""
    bytes: int = 24 * 2**20
    """Of one peer."""
    total: int = 192 * 2**20
    """Of all peers; but each may have one request, whatever the others have."""
    waiting: int = 32
    """Requests of one peer that wait for others of it."""
    patience: float = 20.0
    """Seconds that one waits."""


@dataclass(slots=True, eq=False)
class Place:
    """One request's share."""

    number: int
    peer: str
    cost: int
    """Bytes that it may come to hold; once its answer is there, what that has."""


def next_in(waiting: Iterable[Place], under_way: Iterable[Place], bounds: Bounds) -> Place | None:
    """Which of those that wait may begin: of the peer that holds least, the first that came."""
    requests: dict[str, int] = {}
    held: dict[str, int] = {}
    for one in under_way:
        requests[one.peer] = requests.get(one.peer, 0) + 1
        held[one.peer] = held.get(one.peer, 0) + one.cost
    total = sum(held.values())
    heads: dict[str, Place] = {}
    for one in waiting:
        heads.setdefault(one.peer, one)
    fitting = [
        one
        for one in heads.values()
        if one.peer not in requests
        or (
            requests[one.peer] < bounds.requests
            and held[one.peer] + one.cost <= bounds.bytes
            and total + one.cost <= bounds.total
        )
    ]
    return min(fitting, key=lambda one: (held.get(one.peer, 0), one.number), default=None)


class UnderWay:
    """The requests of all peers that are being answered, and those that wait."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._numbers = itertools.count()
        self._under_way: list[Place] = []
        self._waiting: dict[Place, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def place(self, peer: str, cost: int) -> AsyncIterator[Place]:
        """Waits for a share. Raises ApiError `busy` where there is none in time, or too many wait already."""
        place = Place(next(self._numbers), peer, cost)
        turn = asyncio.get_running_loop().create_future()
        if sum(one.peer == peer for one in self._waiting) >= self._bounds.waiting:
            raise ApiError("busy", f"{self._bounds.waiting} requests of yours wait already")
        self._waiting[place] = turn
        try:
            self._go_on()
            if not turn.done():
                try:
                    async with asyncio.timeout(self._bounds.patience):
                        await turn
                except TimeoutError:
                    raise ApiError(
                        "busy",
                        "your other requests are not answered yet; read their answers, or ask for less at a time",
                    ) from None
            yield place
        finally:
            self._waiting.pop(place, None)
            if place in self._under_way:
                self._under_way.remove(place)
            self._go_on()

    def holds_only(self, place: Place, cost: int) -> None:
        """It turned out to need less (or more)."""
        place.cost = cost
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and (chosen := next_in(self._waiting, self._under_way, self._bounds)) is not None:
            turn = self._waiting.pop(chosen)
            self._under_way.append(chosen)
            if not turn.done():
                turn.set_result(None)
