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


class Rationed:
    """Passes events on, per window `each` of one kind and address and `total` in all; then counts, and sums up."""

    def __init__(
        self, tell: Callable[[HandshakeEvent], None], *, each: int = 5, total: int = 60, window: float = 60.0
    ) -> None:
        self._tell = tell
        self._each, self._total, self._window = each, total, window
        self._told: Counter[tuple[str, str]] = Counter()
        self._kept: dict[str, Counter[str]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, event: HandshakeEvent) -> None:
        if event.kind in _RARE:
            self._tell(event)
            return
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._window, self.sum_up)
        address = account(event.address) if event.address else ""
        key = event.kind, address
        if self._told[key] < self._each and self._told.total() < self._total:
            self._told[key] += 1
            self._tell(event)
            return
        kept = self._kept.setdefault(event.kind, Counter())
        kept[address if address in kept or len(kept) < _REMEMBERED else _OTHERS] += 1

    def sum_up(self) -> None:
        """Tell what was kept back, in one event of each kind, and begin a new window."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        kept, self._kept = self._kept, {}
        self._told.clear()
        for kind, addresses in kept.items():
            (most, _), *_ = addresses.most_common(1)
            others = f" and {len(addresses) - 1} other addresses" if len(addresses) > 1 else ""
            self._tell(HandshakeEvent(kind, most, reason=f"{addresses.total()} more, from this{others}"))
