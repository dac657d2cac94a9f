"""A switch in user space: passes frames between TAP devices, late, lossy, out of order or not at all.

The kernel's own emulator (netem) is a module that many kernels lack, and a cut in one direction needs a firewall. Run
as a program with the numbers of the open devices, one for each host, it reads its orders from standard input, one JSON
object a line, and confirms each. It ends with its standard input.
"""

import heapq
import itertools
import json
import os
import random
import selectors
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

FRAME = 65_536
MAX_QUEUE = 4_096
"""Frames under way; what comes beyond is dropped, as a full queue of a router would."""


@dataclass(frozen=True, slots=True)
class Weather:
    """What the network does to every frame."""

    delay: float = 0.0
    """One way, in seconds."""
    jitter: float = 0.0
    """At most so much is added to the delay, in seconds."""
    loss: float = 0.0
    """Of each frame, from 0 to 1."""
    reorder: float = 0.0
    """How probably a frame may overtake those before it, from 0 to 1."""

    def __str__(self) -> str:
        reordered = f" reorder {self.reorder:.0%}" if self.reorder else ""
        return f"{self.delay * 1e3:.0f}+{self.jitter * 1e3:.0f} ms loss {self.loss:.0%}{reordered}"


@dataclass(slots=True)
class Fabric:
    """The switch's rules, without a device: when a frame from one port to another is due, if ever."""

    weather: Weather = field(default_factory=Weather)
    cuts: frozenset[tuple[int, int]] = frozenset()
    """Directions, (from, to), in which nothing passes."""
    dice: random.Random = field(default_factory=lambda: random.Random(0))
    last: dict[tuple[int, int], float] = field(default_factory=dict)

    def due(self, source: int, target: int, now: float) -> float | None:
        """When the frame arrives; None where it never does."""
        link, weather = (source, target), self.weather
        if link in self.cuts or self.dice.random() < weather.loss:
            return None
        at = now + weather.delay + weather.jitter * self.dice.random()
        if self.dice.random() >= weather.reorder:
            at = self.last[link] = max(at, self.last.get(link, 0.0))
        return at


class Switch:
    """The program's other end: starts it over open devices and gives it its orders."""

    def __init__(self, devices: Sequence[int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, *map(str, devices)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=devices,
        )

    def order(self, weather: Weather, cuts: Iterable[tuple[int, int]], seed: int) -> None:
        """Set weather and cuts; returns once they are in force."""
        told = {"weather": asdict(weather), "cuts": sorted(cuts), "seed": seed}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(told).encode() + b"\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != b"ok\n":
            raise RuntimeError(f"the switch has ended with {self._process.wait(5)}")

    def close(self) -> None:
        """End the program."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def _ordered(fabric: Fabric, line: bytes) -> None:
    told = json.loads(line)
    fabric.weather = Weather(**told["weather"])
    fabric.cuts = frozenset((source, target) for source, target in told["cuts"])
    fabric.dice.seed(told["seed"])


def _main(devices: Sequence[int]) -> None:
    fabric, selector = Fabric(), selectors.DefaultSelector()
    for port, device in enumerate(devices):
        os.set_blocking(device, False)
        selector.register(device, selectors.EVENT_READ, port)
    selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
    queue: list[tuple[float, int, int, bytes]] = []
    order, pending = itertools.count(), b""
    while True:
        wait = max(0.0, queue[0][0] - time.monotonic()) if queue else None
        for key, _ in selector.select(wait):
            if key.data is None:
                read = os.read(key.fd, FRAME)
                if not read:
                    return
                *lines, pending = (pending + read).split(b"\n")
                for line in lines:
                    _ordered(fabric, line)
                    os.write(sys.stdout.fileno(), b"ok\n")
                continue
            try:
                frame = os.read(key.fd, FRAME)
            except OSError:  # its device went down
                continue
            target = frame[5] - 1  # the last byte of a host's hardware address is its number (`netns.py`)
            if frame[0] & 1 or not 0 <= target < len(devices) or len(queue) >= MAX_QUEUE:
                continue  # hosts know each other's addresses: nobody needs a broadcast
            due = fabric.due(key.data, target, time.monotonic())
            if due is not None:
                heapq.heappush(queue, (due, next(order), target, frame))
        now = time.monotonic()
        while queue and queue[0][0] <= now:
            _, _, target, frame = heapq.heappop(queue)
            try:
                os.write(devices[target], frame)
            except OSError:  # its device is down: the frame is lost
                continue


if __name__ == "__main__":
    _main([int(one) for one in sys.argv[1:]])
