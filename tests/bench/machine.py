"""How busy everything else on the machine was while something was measured."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Look:
    """Processor seconds until now: of the whole machine, and of the processes that belong to the measurement."""

    at: float
    busy: float
    ours: float


def look(pids: Iterable[int]) -> Look:
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    idle = int(fields[3]) + int(fields[4])
    busy = sum(map(int, fields[:8])) - idle
    return Look(time.monotonic(), busy / TICKS, sum(_used(pid) for pid in pids) / TICKS)


def foreign(before: Look, after: Look) -> float:
    """Cores that others used between two looks; above 0.2 a figure is not to be trusted."""
    spent = max(after.at - before.at, 0.001)
    return max(0.0, (after.busy - before.busy) - (after.ours - before.ours)) / spent


def _used(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])
