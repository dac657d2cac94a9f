"""What happens in one round, drawn from its seed alone: topology, weather, faults with their moments, writes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from switch import Weather

ROUNDS_OF_A_MESH = 25
"""Consecutive seeds that one mesh lives through; a seed's topology depends on which of these runs it lies in."""
ONSET = 1.2
"""Seconds over which faults begin and writes come."""
KINDS = (
    "stop", "cut", "kill", "skew_ahead", "crash", "half_cut", "rotate", "pause", "full", "unlist",
    "empty", "link_down", "skew_behind", "rollback", "rotate_overlap",
)  # fmt: skip
BETWEEN_TWO = frozenset(("cut", "half_cut"))
DISKS_LOST = frozenset(("empty", "rollback"))
"""Faults that take away what one node has written: one a round, or two could take the last two copies."""
JUMPS = frozenset(("skew_ahead", "skew_behind"))
SKEW = 600.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Topology:
    """Who is configured with whom."""

    name: str
    nodes: int
    edges: frozenset[tuple[int, int]]


TOPOLOGIES = (
    Topology("mesh of 3", 3, frozenset(((0, 1), (0, 2), (1, 2)))),
    Topology("chain of 3", 3, frozenset(((0, 1), (1, 2)))),
    Topology("star of 4", 4, frozenset(((0, 1), (0, 2), (0, 3)))),
)


@dataclass(frozen=True, slots=True)
class Write:
    """One request of a client. `title` is looked up at that node at that moment."""

    at: float
    node: int
    kind: str
    """`put` (create, or update where the title exists), `edit`, `delete`, `move` or `bulk`."""
    namespace: str
    title: str


@dataclass(frozen=True, slots=True)
class Fault:
    """One misfortune. It begins at `at`; it ends, in the order of `turn`, once its true reason was seen."""

    at: float
    kind: str
    target: int
    other: int
    """The other end of a link, or the node that takes the target off its list."""
    turn: float

    def __str__(self) -> str:
        names = "abcdefgh"
        both = f"{names[self.target]}-{names[self.other]}"
        return f"{self.kind} {both if self.kind in BETWEEN_TWO or self.kind == 'unlist' else names[self.target]}"


@dataclass(frozen=True, slots=True)
class Round:
    """The whole script."""

    seed: int
    topology: Topology
    weather: Weather
    faults: tuple[Fault, ...]
    writes: tuple[Write, ...]


def topology_of(seed: int) -> Topology:
    return TOPOLOGIES[seed // ROUNDS_OF_A_MESH % len(TOPOLOGIES)]


def script(seed: int, kinds: Sequence[str] = KINDS) -> Round:
    """The round of a seed. Its first fault goes through all kinds as seeds follow each other; the others are drawn."""
    dice, topology = random.Random(f"faults {seed}"), topology_of(seed)
    wanted = [kinds[seed % len(kinds)], *dice.choices(kinds, k=dice.choice((0, 0, 1, 1, 2)))]
    return Round(seed, topology, _weather(dice), _faults(dice, topology, wanted), _writes(dice, topology, seed))


def _weather(dice: random.Random) -> Weather:
    delay = dice.choice((0.002, 0.005, 0.01, 0.02, 0.04))
    loss = dice.choice((0.0, 0.0, 0.005, 0.01, 0.02, 0.05, 0.1))
    return Weather(delay, delay * dice.choice((0.0, 0.25, 0.5)), loss, dice.choice((0.0, 0.0, 0.0, 0.05)))


def _faults(dice: random.Random, topology: Topology, wanted: Sequence[str]) -> tuple[Fault, ...]:
    """No node is struck twice: what is true of it at one time stays one thing."""
    struck: set[int] = set()
    found: list[Fault] = []
    for kind in wanted:
        if kind in DISKS_LOST and any(one.kind in DISKS_LOST for one in found):
            continue
        edges = sorted(topology.edges)
        links = [link for edge in edges for link in (edge, edge[::-1]) if link[0] not in struck]
        if kind in BETWEEN_TWO:
            links = [link for link in links if not struck.intersection(link)]
        if not links:
            continue
        target, other = dice.choice(links)
        struck |= {target, other} if kind in BETWEEN_TWO else {target}
        found.append(Fault(round(dice.uniform(0.05, ONSET), 3), kind, target, other, dice.random()))
    return tuple(sorted(found, key=lambda one: one.at))


def _writes(dice: random.Random, topology: Topology, seed: int) -> tuple[Write, ...]:
    own = (f"r{seed}/a", f"r{seed}/b")
    hot = [(dice.choice(own), f"hot {index}") for index in range(3)] + [("common", f"old {n}") for n in range(6)]
    found = [Write(0.0, node, "put", f"r{seed}/a", f"of {node}") for node in range(topology.nodes)]
    for index in range(dice.randint(14, 22)):
        at, node = dice.uniform(0.0, ONSET), dice.randrange(topology.nodes)
        kind = dice.choices(("put", "edit", "delete", "move"), (5, 4, 2, 2))[0]
        namespace, title = dice.choice(hot) if dice.random() < 0.75 else (dice.choice(own), f"new {index}")
        found.append(Write(at, node, kind, namespace, title))
        if dice.random() < 0.4:  # somebody else, at nearly the same moment
            found.append(Write(at + 0.001, (node + 1) % topology.nodes, dice.choice(("put", "edit")), namespace, title))
    found.append(
        Write(dice.uniform(0.0, ONSET), dice.randrange(topology.nodes), "bulk", f"r{seed}/bulk", f"bulk {seed}")
    )
    return tuple(sorted(found, key=lambda one: (one.at, one.node)))
