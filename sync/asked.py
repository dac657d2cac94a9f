"""Which offered versions were asked of whom, and since when: so that one body comes once (protocol section 7).

Several peers offer the same version at nearly the same time, and each answer that names it brings a body. So a version
that was asked of one peer a moment ago is not asked of another; where it does not come within a patience, the next who
offers it is asked. In memory only, and no condition of anything: which cursor moves was decided before, by what is
lacking, and an answer may always name fewer than are wanted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sync import moment

PATIENCE = moment.SECOND // 2
"""How long a version is left to the peer that was asked for it, and that sends nothing of what it was asked for."""
MAX_ASKED = 20_000
"""Versions that are remembered; of more, the oldest are forgotten, and may be asked twice."""
MAX_OTHERS = 8
"""Peers that are remembered to have offered a version in vain."""


@dataclass(slots=True)
class _Request:
    """One version, asked of one peer."""

    peer: str
    since: int
    others: list[str] = field(default_factory=list)
    """Who offered it meanwhile and was not asked."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to name in the answer to an offer."""

    wanted: tuple[bytes, ...]
    """To be sent by this peer."""
    again: int = 0
    """Microseconds after which it should offer the rest again; 0 where there is no rest."""


class Asked:
    """One for each node. Times are microseconds, of the clock that the engine is handed: it may jump."""

    def __init__(self, patience: int = PATIENCE) -> None:
        self._patience = patience
        self._requests: dict[bytes, _Request] = {}
        self._heard: dict[str, int] = {}  # when each peer last sent something that it was asked for

    def choose(self, peer: str, lacking: Sequence[bytes], now: int) -> Choice:
        """Of what this peer offers and we lack: what to ask it for."""
        wanted: list[bytes] = []
        again = 0
        for tag in lacking:
            left = self._left(tag, peer, now)
            if left:
                again = max(again, left)
            else:
                wanted.append(tag)
        return Choice(tuple(wanted), again)

    def came(self, peer: str, tags: Iterable[bytes], now: int) -> None:
        """These were sent by this peer: taken, refused, or had already."""
        for tag in tags:
            request = self._requests.pop(tag, None)
            if request is not None and request.peer == peer:
                self._heard[peer] = now

    def failed(self, peer: str) -> None:
        """This peer cannot be reached: whoever offers what it was asked for is asked at once."""
        self._heard.pop(peer, None)
        for tag in [tag for tag, request in self._requests.items() if request.peer == peer]:
            del self._requests[tag]

    def _left(self, tag: bytes, peer: str, now: int) -> int:
        """How long this peer has to wait to be asked for a version; 0 where it is asked now."""
        request = self._requests.get(tag)
        if request is None:
            self._remember(tag, peer, now)
            return 0
        waited = now - max(request.since, self._heard.get(request.peer, 0))
        if request.peer == peer:
            # It lost our answer, or had no room for all. But who offers and never sends must not keep others away:
            # its time is not begun anew while there are others, and when it is over they come first.
            if request.others and self._patience <= waited < 2 * self._patience:
                return 2 * self._patience - waited
            if not 0 <= waited < self._patience:
                self._remember(tag, peer, now)
            return 0
        if 0 <= waited < self._patience:
            if peer not in request.others and len(request.others) < MAX_OTHERS:
                request.others.append(peer)
            return self._patience - waited
        self._remember(tag, peer, now)
        return 0

    def _remember(self, tag: bytes, peer: str, now: int) -> None:
        self._requests.pop(tag, None)
        if len(self._requests) >= MAX_ASKED:
            del self._requests[next(iter(self._requests))]
        self._requests[tag] = _Request(peer, now)
