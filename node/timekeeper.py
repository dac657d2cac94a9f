"""The one place that reads a clock, and that notices when the wall clock jumped."""

import time
from collections.abc import Callable

JUMP_US = 1_000_000
"""A wall clock that moved by more than this, against the time since boot, was set, or the machine was rolled back."""

# Time since boot goes on while the machine sleeps, as the wall clock does; the plain monotonic clock of Linux stops.
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _since_boot_us() -> int:
    return time.clock_gettime_ns(_BOOT_CLOCK) // 1_000


def _wall_us() -> int:
    return time.time_ns() // 1_000


class Timekeeper:
    """Wall time in microseconds, watched. The two sources can be replaced in tests."""

    def __init__(self, wall: Callable[[], int] = _wall_us, boot: Callable[[], int] = _since_boot_us) -> None:
        self._wall = wall
        self._boot = boot
        self._offset = wall() - boot()

    def now(self) -> int:
        """Microseconds since 1970-01-01T00:00:00Z."""
        return self._wall()

    def jumped(self) -> int:
        """By how many microseconds the wall clock jumped since the last jump that was taken in; 0 for not."""
        jump = self._wall() - self._boot() - self._offset
        return jump if abs(jump) > JUMP_US else 0

    def take_in(self, jump: int) -> None:
        """What a jump asks for was done, and is on disk: it is no news any more."""
        self._offset += jump
