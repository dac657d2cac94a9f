"""`make scale`: what a change costs in large meshes, in virtual time: messages, bodies, offers, and how long."""

from __future__ import annotations

import argparse
import itertools
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.simulation.largemesh import MEAN_DELAY, Counts, LargeMesh
from tests.simulation.shapes import verified_once

CHANGES = 12


def pairs_of_mesh(size: int) -> list[tuple[int, int]]:
    return list(itertools.combinations(range(size), 2))


def pairs_of_star(size: int) -> list[tuple[int, int]]:
    return [(0, other) for other in range(1, size)]


def pairs_of_chain(size: int) -> list[tuple[int, int]]:
    return [(one, one + 1) for one in range(size - 1)]


def pairs_of_regular(size: int, degree: int, seed: int = 1) -> list[tuple[int, int]]:
    """A random graph in which every node has this many peers: stubs are paired until no pair is twofold."""
    rng = random.Random(seed)
    while True:
        found: set[tuple[int, int]] = set()
        left = [node for node in range(size) for _ in range(degree)]
        while left:
            rng.shuffle(left)
            rest = []
            for a, b in zip(left[::2], left[1::2], strict=True):
                pair = (min(a, b), max(a, b))
                if a == b or pair in found:
                    rest += [a, b]
                else:
                    found.add(pair)
            if len(rest) == len(left):
                break
            left = rest
        if not left:
            return sorted(found)


@dataclass(frozen=True)
class Row:
    """One line of the table: medians over changes."""

    name: str
    nodes: int
    bodies: float
    body_bytes: float
    offers: float
    offer_bytes: float
    messages: float
    seconds: float
    rounds: float
    rest: float

    @property
    def cells(self) -> str:
        return (
            f"| {self.name} | {self.nodes:,} | {self.bodies:,.0f} | {self.nodes - 1:,} | {self.messages:.1f} | "
            f"{self.body_bytes:,.0f} | {self.offers:.1f} | {self.offer_bytes:,.0f} | "
            f"{self.seconds:.2f} | {self.rounds:.0f} | {self.rest:.1f} |"
        )


HEAD = (
    "| mesh | nodes | bodies a change | needed | messages a node | bytes of bodies a node | offers a node | "
    "bytes of offers a node | s until everywhere | rounds | s until at rest |\n|---|" + "---:|" * 10
)
MESHES: dict[str, Callable[[], list[tuple[int, int]]]] = {
    "full mesh of 8": lambda: pairs_of_mesh(8),
    "star of 1,000": lambda: pairs_of_star(1_000),
    "random 6-regular graph of 1,000": lambda: pairs_of_regular(1_000, 6),
    "chain of 100": lambda: pairs_of_chain(100),
}


def measure(name: str, links: list[tuple[int, int]], changes: int = CHANGES) -> Row:
    """Let the mesh come to rest, then write changes one after the other, each at another member."""
    mesh = LargeMesh(links)
    mesh.run(3.0)
    size = len(mesh.members)
    found = [mesh.spread(mesh.random.randrange(size), f"change {number}") for number in range(changes)]

    def middle(of: Callable[[Counts], float]) -> float:
        return median(of(counts) for _, _, counts in found)

    seconds = median(everywhere for everywhere, _, _ in found)
    return Row(
        name,
        size,
        middle(lambda counts: counts.bodies),
        middle(lambda counts: counts.body_bytes / size),
        middle(lambda counts: counts.offers / size),
        middle(lambda counts: counts.offer_bytes / size),
        middle(lambda counts: (counts.pushes + counts.pulls) / size),
        seconds,
        seconds / MEAN_DELAY,
        median(rest for _, rest, _ in found),
    )


def rows(names: Sequence[str], changes: int) -> Iterator[Row]:
    with verified_once():
        for name in names:
            yield measure(name, MESHES[name](), changes)


def run(options: argparse.Namespace) -> int:
    """Measure what a change costs in large meshes."""
    lines = [HEAD]
    print(HEAD)
    began = time.monotonic()
    for row in rows(options.mesh or list(MESHES), options.changes):
        lines.append(row.cells)
        print(row.cells, flush=True)
    print(f"{time.monotonic() - began:.0f} s")
    if options.table:
        write(options.table, "scale", "\n".join(lines))
    return 0


def write(document: Path, name: str, text: str) -> None:
    """Put a measured table into its place in a document."""
    block = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- /measured -->)", re.DOTALL)
    before = document.read_text()
    assert block.search(before), f"{document}: no place for the table found, `<!-- measured: {name} -->` expected"
    document.write_text(block.sub(lambda found: f"{found[1]}{text}\n{found[2]}", before))
