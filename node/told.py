"""What a peer can cause to be told, rationed: no push of three thousand lies fills the log or hides what others did.

Of each event so many lines of one peer stand in the log in a minute; then they are counted, and the count is told.
"""

import asyncio
from typing import Any

import structlog

from tls.ration import Ration

EACH = 5
"""Lines of one event and one peer in a window."""
TOTAL = 120
"""Lines of all of them: whoever has more than this to tell has said enough."""
WINDOW = 60.0
"""Seconds."""

log = structlog.get_logger("sync")


class Told:
    """One for the node; used on the event loop."""

    def __init__(self, each: int = EACH, total: int = TOTAL, window: float = WINDOW) -> None:
        self._ration, self._window = Ration(each, total), window
        self._timer: asyncio.TimerHandle | None = None
        self._levels: dict[str, str] = {}

    def warn(self, event: str, peer: str = "", **said: Any) -> None:
        """A warning about a peer, under the name that the operator knows it by."""
        self.say("warning", event, peer, **said)

    def say(self, level: str, event: str, peer: str = "", **said: Any) -> None:
        """A line of the log, where there is still one for this event of this peer."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._window, self.sum_up)
        if self._ration.admits(event, peer):
            getattr(log, level)(event, **({"peer": peer} if peer else {}), **said)
        else:
            self._levels[event] = level

    def sum_up(self) -> None:
        """Tell how many were left out, in one line for each event, and begin a new window."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for event, peers in self._ration.left_out().items():
            (most, _), *_ = peers.most_common(1)
            others = f" and {len(peers) - 1} others" if len(peers) > 1 else ""
            reason = f"{peers.total()} more in the last minute, from this peer{others}, were not told one by one"
            getattr(log, self._levels.pop(event, "warning"))(event, peer=most, left_out=peers.total(), reason=reason)
