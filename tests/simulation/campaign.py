"""Very many histories, over processes, and the book that their figures are kept in.

A run's line in the book says which histories it played (shape, seed, how many from 0 on) over which code, so that the
figures of many runs can be summed and no history is counted twice.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tests.simulation.oracle import Fault
from tests.simulation.shapes import SHAPES, drawn, play, replay, verified_once

ROOT = Path(__file__).parents[2]
CODE = ("sync/**/*.py", "tests/simulation/*.py", "tests/support/memory_store.py", "tests/support/keys.py")
CHUNK = 50
"""Histories that a process plays before it answers."""
FOR_EVER = 100_000_000


@dataclass(frozen=True)
class Chunk:
    """Histories `first` to `first + count` of a shape under a seed. `until`: monotonic seconds."""

    shape: str
    seed: str
    first: int
    count: int
    until: float


@dataclass(frozen=True)
class Played:
    """What came of a chunk."""

    chunk: Chunk
    histories: int
    cpu: float
    broken: Sequence[tuple[str, Fault]]
    """Seeds, each with its first fault."""


class Line(msgspec.Struct, frozen=True):
    """One shape's figures in the book."""

    code: str
    shape: str
    seed: str
    histories: int
    violations: int
    cpu_seconds: float
    at: str


@dataclass
class Figures:
    """Of one shape, or of all."""

    histories: int = 0
    violations: int = 0
    cpu: float = 0.0

    def add(self, histories: int, violations: int, cpu: float) -> None:
        self.histories += histories
        self.violations += violations
        self.cpu += cpu

    @property
    def text(self) -> str:
        rate = self.histories / self.cpu if self.cpu else 0
        return f"{self.histories:>9,} histories  {self.violations:>3} violations  {rate:6.0f} a CPU second"


@dataclass
class Report:
    """A whole run. `code`: over which it began."""

    seed: str
    code: str
    shapes: dict[str, Figures] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def all(self) -> Figures:
        total = Figures()
        for one in self.shapes.values():
            total.add(one.histories, one.violations, one.cpu)
        return total


def code() -> str:
    """8 hex digits that differ where the code under test, or the simulator, does."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in CODE for path in ROOT.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def fresh_seed() -> str:
    return secrets.token_hex(4)


def chunks(histories: int, seed: str, names: Sequence[str], until: float) -> Iterator[Chunk]:
    """All shapes in turn, each with its share of the histories."""
    share = -(-histories // len(names))
    for first in range(0, share, CHUNK):
        for name in names:
            yield Chunk(name, seed, first, min(CHUNK, share - first), until)


def work(chunk: Chunk) -> Played:
    """Play a chunk, unless its time is over."""
    began, broken = time.process_time(), []
    if time.monotonic() >= chunk.until:
        return Played(chunk, 0, 0.0, ())
    with verified_once():
        for number in range(chunk.first, chunk.first + chunk.count):
            faults = play(SHAPES[chunk.shape], f"{chunk.seed}/{number}")
            if faults:
                broken.append((f"{chunk.seed}/{number}", faults[0]))
    return Played(chunk, chunk.count, time.process_time() - began, broken)


def run(histories: int, seed: str, jobs: int, names: Sequence[str], seconds: float | None = None) -> Report:
    """Play them all, or for so many seconds. Prints what broke, and how to play it again, as soon as it is known."""
    began = time.monotonic()
    until = began + seconds if seconds is not None else float("inf")
    report = Report(seed, code(), {name: Figures() for name in names})
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for played in pool.imap_unordered(work, chunks(histories, seed, names, until)):
            report.shapes[played.chunk.shape].add(played.histories, len(played.broken), played.cpu)
            for broken, fault in played.broken:
                print(f"BROKEN {fault.kind}: {fault.detail}\n{replay(played.chunk.shape, broken)}", flush=True)
            if seconds is not None and not played.histories:
                pool.terminate()
                break
    report.seconds = time.monotonic() - began
    return report


def enter(report: Report, book: Path, at: str) -> None:
    """Write a run into the book: one line of JSON a shape."""
    lines = [
        Line(report.code, name, report.seed, one.histories, one.violations, round(one.cpu, 1), at)
        for name, one in report.shapes.items()
        if one.histories
    ]
    with book.open("ab") as out:
        out.writelines(msgspec.json.encode(line) + b"\n" for line in lines)


def read(books: Iterable[Path]) -> list[Line]:
    """All lines of some books; of two runs over the same histories the longer."""
    best: dict[tuple[str, str, str], Line] = {}
    for book in books:
        for text in book.read_bytes().splitlines():
            line = msgspec.json.decode(text, type=Line)
            key = (line.code, line.shape, line.seed)
            if key not in best or best[key].histories < line.histories:
                best[key] = line
    return list(best.values())


def again(shape: str, seed: str) -> int:
    """Play one history once more, and show it; 1 where it is broken."""
    one = drawn(SHAPES[shape], seed)
    print(one)
    faults = play(SHAPES[shape], seed)
    for fault in faults:
        print(f"{fault.kind}: {fault.detail}")
    print("broken" if faults else "sound")
    return 1 if faults else 0
