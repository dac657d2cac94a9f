"""The C library's allocator: that a node which took in large pages gives their memory back.

Without this, each thread of glibc keeps a heap of its own, and what a page of some megabytes took there stays: under a
peer that sends one after another, a node came to hold twice of what it used. mallopt(3), malloc_trim(3), mallinfo(3).
"""

import asyncio
import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
HEAPS = 2
LARGE = 256 * 1024
"""Bytes from which on a piece of memory is the system's own, and goes back to it at once."""
SPARE = 4 * 2**20
"""Bytes that a heap keeps at its end."""
MOST_SPARE = 16 * 2**20
"""Bytes that may lie free between others in all heaps: the pages of a store's cache stay where they are, and what a
large message took between them does not go back by itself."""
EVERY = 0.5
"""Seconds between two looks."""


_MEMBERS = (
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
)  # fmt: skip


class _Info(ctypes.Structure):
    """mallinfo2(3)."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _MEMBERS)
    fordblks: int


@dataclass(frozen=True, slots=True)
class Heaps:
    """What can be asked of the heaps of this process."""

    spare: Callable[[], int]
    """Bytes that lie free in them."""
    trim: Callable[[], None]
    """Give back every page of memory that is wholly free. Takes some milliseconds; other threads may wait for it."""


def keep_little() -> bool:
    """Ask for it, before threads begin. False where the C library has no such setting."""
    mallopt = getattr(_library(), "mallopt", None)
    if mallopt is None:
        return False
    wanted = ((M_ARENA_MAX, HEAPS), (M_MMAP_THRESHOLD, LARGE), (M_TRIM_THRESHOLD, SPARE))
    return all(mallopt(what, value) == 1 for what, value in wanted)


def heaps() -> Heaps | None:
    """None where the C library is not glibc 2.33 or later."""
    library = _library()
    info, trim = getattr(library, "mallinfo2", None), getattr(library, "malloc_trim", None)
    if info is None or trim is None:
        return None
    info.restype = _Info
    return Heaps(lambda: int(info().fordblks), lambda: trim(0))


async def give_back() -> None:
    """Run for ever: whenever much lies free in the heaps, it goes back to the system."""
    found = heaps()
    while found is not None:
        await asyncio.sleep(EVERY)
        if found.spare() > MOST_SPARE:
            await asyncio.to_thread(found.trim)


def _library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
