"""How fast the machine is just now, and how busy everything else on it was while something was measured."""

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Look:
    """Processor seconds until now: of the whole machine, and of the processes that belong to the measurement."""

    at: float
    busy: float
    ours: float


def look(root: int | None = None) -> Look:
    """Ours is a process, this one if none is named, with all that it ever started."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    idle = int(fields[3]) + int(fields[4])
    busy = sum(map(int, fields[:8])) - idle
    return Look(time.monotonic(), busy / TICKS, _used(os.getpid() if root is None else root) / TICKS)


def foreign(before: Look, after: Look) -> float:
    """Cores that others used between two looks; above 0.2 a figure is not to be trusted."""
    spent = max(after.at - before.at, 0.001)
    return max(0.0, (after.busy - before.busy) - (after.ours - before.ours)) / spent


def speed() -> str:
    """What one core does now, in two figures: the same machine is at times twice as fast as at others."""
    block, began = bytes(2**20), time.perf_counter()
    for _ in range(200):
        hashlib.sha512(block).digest()
    hashed, total = time.perf_counter(), 0
    for number in range(2_000_000):
        total += number
    added = time.perf_counter()
    return f"SHA-512 {200 / (hashed - began):,.0f} MiB/s, 2,000,000 additions {(added - hashed) * 1_000:.0f} ms"


def _used(root: int) -> int:
    """Ticks of a process and its descendants, those included that have ended and were waited for."""
    parents: dict[int, int] = {}
    used: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            pid = int(entry.name)
            parents[pid], used[pid] = int(fields[1]), sum(map(int, fields[11:15]))
    return sum(ticks for pid, ticks in used.items() if _descends(pid, root, parents))


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid not in (0, root):
        pid = parents.get(pid, 0)
    return pid == root
