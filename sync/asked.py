"""Which offered versions were asked of whom, and since when: so that one body comes once (protocol section 7).

Several peers offer the same version at nearly the same time, and each answer that names it brings a body. So a version
that was asked of one peer a moment ago is not asked of another, once; where it does not come within a patience, whoever
offers it is asked. In memory only, and no condition of anything: which cursor moves was decided before, by what is
lacking, and an answer may always name fewer than are wanted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sync import moment

PATIENCE = moment.SECOND // 2
"""How long a version is left to the peer that was asked for it, and that sends nothing of what it was asked for."""
LIMIT = 3 * PATIENCE
"""How long it is left to that peer at most, whatever else of it comes meanwhile."""
LAZY = 60 * moment.SECOND
"""How long a peer for which another was put off in vain keeps nobody else away, from when it was asked."""
MAX_ASKED = 20_000
"""Versions that are remembered; while so many are waited for, what is asked for beside them may be asked twice."""
MAX_PEERS = 1_000
"""Peers of which is remembered when they sent something, or that they are lazy."""


@dataclass(slots=True)
class _Request:
    """One version, asked of one peer."""

    peer: str
    since: int
    put_off: bool = False
    """Another offered it meanwhile and was not asked."""
    over: bool = False
    """It is waited for no more: whoever offers it is asked, also the peer that was. It is not begun anew."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to name in the answer to an offer."""

    wanted: tuple[bytes, ...]
    """To be sent by this peer."""
    again: int = 0
    """Microseconds after which it should offer the rest again; 0 where there is no rest."""


class Asked:
    """One for each node. Times are microseconds, of the clock that the engine is handed: it may jump."""

    def __init__(self, patience: int = PATIENCE, limit: int = LIMIT) -> None:
        self._patience, self._limit = patience, limit
        self._requests: dict[bytes, _Request] = {}  # the oldest first
        # When each peer last sent something that it was asked for, and that is believed.
        self._heard: dict[str, int] = {}
        # Since when each for which another was put off in vain keeps nobody away.
        self._lazy: dict[str, int] = {}

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
        """These were sent by this peer, and taken or had already."""
        for tag in tags:
            request = self._requests.get(tag)
            if request is None:
                continue
            if request.peer == peer and not request.over:
                _note(self._heard, peer, now)
            self._end(tag, request)

    def refused(self, peer: str, tags: Iterable[bytes]) -> None:
        """These were sent by this peer, and refused: another may bring them so that they are taken."""
        for tag in tags:
            request = self._requests.get(tag)
            if request is not None and request.peer == peer:
                self._end(tag, request, in_vain=True)

    def failed(self, peer: str) -> None:
        """This peer cannot be reached: whoever offers what it was asked for is asked at once."""
        self._heard.pop(peer, None)
        for tag, request in [(tag, request) for tag, request in self._requests.items() if request.peer == peer]:
            self._end(tag, request, in_vain=True)

    def forget(self, peer: str) -> None:
        """This certificate is on the list no more: free what was kept for it."""
        self.failed(peer)
        self._lazy.pop(peer, None)

    def _left(self, tag: bytes, peer: str, now: int) -> int:
        """How long this peer has to wait to be asked for a version; 0 where it is asked now."""
        request = self._requests.get(tag)
        if request is not None and not request.over:
            left = self._time_left(request, now)
            if not left:
                self._end(tag, request, in_vain=True)
            elif request.peer == peer:
                return 0  # it lost our answer, or had no room for all
            else:
                request.put_off = True
                return left
        if tag not in self._requests:
            self._remember(tag, peer, now)
        return 0

    def _time_left(self, request: _Request, now: int) -> int:
        """How long it is still waited for what this request asks for."""
        if request.since > now or self._is_lazy(request.peer, now):
            return 0
        heard = self._heard.get(request.peer, 0)
        last = heard if request.since <= heard <= now else request.since
        return max(0, min(last + self._patience, request.since + self._limit) - now)

    def _end(self, tag: bytes, request: _Request, *, in_vain: bool = False) -> None:
        """It is waited for no more.

        Where another was put off for it, nobody is again: whoever offers, sends something else, cannot be reached for a
        moment and offers again must not keep the others away by it.
        """
        if not request.put_off:
            del self._requests[tag]
            return
        if in_vain and not request.over:
            _note(self._lazy, request.peer, max(request.since, self._lazy.get(request.peer, 0)))
        request.over = True

    def _is_lazy(self, peer: str, now: int) -> bool:
        since = self._lazy.get(peer)
        return since is not None and 0 <= now - since < LAZY

    def _remember(self, tag: bytes, peer: str, now: int) -> None:
        if self._is_lazy(peer, now):
            return
        if len(self._requests) >= MAX_ASKED:
            oldest, request = next(iter(self._requests.items()))
            if not request.over and self._time_left(request, now):
                return  # who offers very much at once must not make us forget what it was asked for before
            self._end(oldest, request, in_vain=True)
            self._requests.pop(oldest, None)
        self._requests[tag] = _Request(peer, now)


def _note(times: dict[str, int], peer: str, now: int) -> None:
    """The peer of which nothing was noted for the longest is forgotten."""
    times.pop(peer, None)
    if len(times) >= MAX_PEERS:
        del times[next(iter(times))]
    times[peer] = now
