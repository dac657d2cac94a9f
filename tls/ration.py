"""Events at the gate, rationed: a stranger who knocks a thousand times a second must not fill the log."""

import asyncio
from collections import Counter
from collections.abc import Callable

from tls.address import account
from tls.listener import HandshakeEvent

_RARE = frozenset(("accepted", "dropped"))
"""Only who is, or was, on the allowlist causes these."""
_REMEMBERED = 1_000
_OTHERS = "elsewhere"
"""Where whatever comes from more than so many addresses is put together."""


class Ration:
    """How often one kind from one source is told in a window: `each`, and `total` of all; the rest is counted."""

    def __init__(self, each: int, total: int) -> None:
        self._each, self._total = each, total
        self._told: Counter[tuple[str, str]] = Counter()
        self._kept: dict[str, Counter[str]] = {}

    def admits(self, kind: str, source: str) -> bool:
        """True where this one may be told; otherwise it is counted."""
        key = kind, source
        if self._told[key] < self._each and self._told.total() < self._total:
            self._told[key] += 1
            return True
        kept = self._kept.setdefault(kind, Counter())
        kept[source if source in kept or len(kept) < _REMEMBERED else _OTHERS] += 1
        return False

    def left_out(self) -> dict[str, Counter[str]]:
        """What was kept back, by kind and source. Begins a new window."""
        kept, self._kept = self._kept, {}
        self._told.clear()
        return kept


class Rationed(Ration):
    """Passes events on, per window `each` of one kind and address and `total` in all; then counts, and sums up."""

    def __init__(
        self, tell: Callable[[HandshakeEvent], None], *, each: int = 5, total: int = 60, window: float = 60.0
    ) -> None:
        super().__init__(each, total)
        self._tell, self._window = tell, window
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, event: HandshakeEvent) -> None:
        if event.kind in _RARE:
            self._tell(event)
            return
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._window, self.sum_up)
        if self.admits(event.kind, account(event.address) if event.address else ""):
            self._tell(event)

    def sum_up(self) -> None:
        """Tell what was kept back, in one event of each kind, and begin a new window."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for kind, addresses in self.left_out().items():
            (most, _), *_ = addresses.most_common(1)
            others = f" and {len(addresses) - 1} other addresses" if len(addresses) > 1 else ""
            self._tell(HandshakeEvent(kind, most, reason=f"{addresses.total()} more, from this{others}"))
