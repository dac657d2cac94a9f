"""The daemon's clock and its way to write times: RFC 3339 with 0, 3, 6 or 9 digits of a second, always `+00:00`."""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

SECOND_NS = 1_000_000_000
TTL_SECONDS = {"short": 6 * 3600, "mid": 7 * 86_400, "long": None}
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


class Clock:
    """The wall clock that one daemon reads. `offset` (seconds) makes it wrong; `freeze` makes it stand."""

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset
        self._frozen: int | None = None

    def freeze(self, at: str | None = None) -> None:
        """Stand still, now or at a time that `text` would write with at most 6 digits."""
        if at is None:
            self._frozen = self.now_ns()
            return
        whole = datetime.fromisoformat(at) - datetime(1970, 1, 1, tzinfo=UTC)
        self._frozen = whole // timedelta(microseconds=1) * 1000

    def advance(self, seconds: float) -> None:
        """Go on by so much: a frozen clock stands at the new time, a running one is off by as much more."""
        if self._frozen is None:
            self.offset += seconds
        else:
            self._frozen += int(seconds * SECOND_NS)

    def now_ns(self) -> int:
        """Nanoseconds since 1970."""
        if self._frozen is not None:
            return self._frozen
        return time.time_ns() + int(self.offset * SECOND_NS)

    def now(self) -> str:
        return text(self.now_ns())


def text(ns: int) -> str:
    """A time as the daemon writes it."""
    seconds, rest = divmod(ns, SECOND_NS)
    whole = (datetime(1970, 1, 1) + timedelta(seconds=seconds)).isoformat()
    digits = f"{rest:09d}"
    for size in (0, 3, 6, 9):
        if not digits[size:].strip("0"):
            return f"{whole}{'.' if size else ''}{digits[:size]}+00:00"
    raise AssertionError("nine digits hold every nanosecond")


def expiry(tier: str, now_ns: int) -> str | None:
    """When a memory of this tier that is written now expires."""
    seconds = TTL_SECONDS[tier]
    return None if seconds is None else text(now_ns + seconds * SECOND_NS)


def is_rfc3339(value: Any) -> bool:
    """Whether the daemon's parser takes it: any offset, `Z`, any fraction."""
    match = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return False
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        datetime(year, month, day, hour, minute, min(second, 59))
    except ValueError:
        return False
    return second <= 60
