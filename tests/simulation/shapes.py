"""The shapes of histories: which misfortunes befall which meshes, and how one is played from its seed."""

from __future__ import annotations

import random
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from keys import Nobody, Signing

from sync import ed25519
from sync.attest import Keychain
from sync.trust import KeyPolicy
from tests.simulation import world
from tests.simulation.histories import USUAL, enrolments, history
from tests.simulation.oracle import Fault
from tests.simulation.topologies import TOPOLOGIES
from tests.simulation.world import Op

PAGES = (world.PAGE_BYTES, world.PAGE_BYTES, 1, 900, 1_800)
"""Bytes of documents in a page: more than there are, none, one memory and a part, three; a key goes whole."""
VERIFIED = 4_096
"""Signatures whose verification is remembered, by key, text and signature."""


@dataclass(frozen=True)
class Shape:
    """A mixture of misfortunes."""

    faults: Sequence[str] = ()
    topologies: Sequence[str] = tuple(TOPOLOGIES)
    signed: float = 0.4
    """The share of histories in which everybody signs, with Ed25519."""
    shortest: int = 6
    longest: int = 30
    usual: Sequence[str] = tuple(USUAL)
    begin: Sequence[Op] = ()
    """Played first: a scene that random histories come upon too rarely."""
    policies: Sequence[KeyPolicy] = ()
    """Where there are any, all nodes have keyrings and one of these for agents that are not listed."""


BYZANTINE = ("lie",) * 6
ENROLLING = ("enrol", "enrol", "enrol", "revoke", "rotate", "strike")
SHAPES: Mapping[str, Shape] = {
    "nothing": Shape(),
    "restarts": Shape(("restart", "crash")),
    "restores": Shape(("backup", "restore", "restart")),
    "rollbacks": Shape(("backup", "rollback", "rollback")),
    "clocks": Shape(("skew", "wait")),
    "partitions": Shape(("cut", "mend")),
    "scopes": Shape(("scope",)),
    "forgers": Shape(("forge",)),
    "clones": Shape(("clone", "restart")),
    "liars": Shape(BYZANTINE, signed=1.0),
    "liars and restores": Shape((*BYZANTINE, "backup", "restore", "rollback", "restart"), signed=1.0),
    "everything": Shape(
        ("restart", "crash", "backup", "restore", "rollback", "skew", "cut", "mend", "wait", "scope", "clone")
    ),
    # A lie that a scope keeps from its victim cannot be answered by it, so these two do not go together.
    "everything with forgers": Shape(
        ("restart", "crash", "backup", "restore", "rollback", "skew", "cut", "mend", "wait", "forge")
    ),
    "everything with liars": Shape(
        ("restart", "crash", "backup", "restore", "rollback", "skew", "cut", "mend", "wait", "lie", "lie", "lie"),
        signed=1.0,
    ),
    "keyrings": Shape(ENROLLING, signed=1.0, policies=("enrolled", "any")),
    "keyrings with liars": Shape((*BYZANTINE, *ENROLLING), signed=1.0, policies=("enrolled", "enrolled", "any")),
    # A clone is another agent to the simulator, which nobody enrols.
    "everything with keyrings": Shape(
        ("restart", "crash", "backup", "restore", "rollback", "skew", "cut", "mend", "wait", "scope", *ENROLLING),
        signed=1.0,
        policies=("enrolled", "any"),
    ),
}


@dataclass(frozen=True)
class History:
    """What is played: the same seed gives the same, in every process."""

    seed: str
    topology: str
    ops: Sequence[Op]
    options: Mapping[str, Any]
    keys: Keychain

    def __str__(self) -> str:
        return f"{self.seed!r}: {self.topology}, {type(self.keys).__name__}, {dict(self.options)}\n{list(self.ops)!r}"


def drawn(shape: Shape, seed: str) -> History:
    """A history of a shape."""
    rng = random.Random(seed)
    topology = rng.choice(list(shape.topologies))
    ops = [*shape.begin, *history(rng, topology, rng.randint(shape.shortest, shape.longest), shape.faults, shape.usual)]
    options: dict[str, Any] = {
        "page_limit": rng.choice((1, 1, 2, 3, 20)),
        "page_bytes": rng.choice(PAGES),
        "slice_size": rng.choice((1, 1, 2)),
        "seed": rng.randrange(999),
    }
    if shape.policies:
        options["policy"] = rng.choice(shape.policies)
        ops = [*enrolments(rng, topology, shape.faults), *ops]
    return History(seed, topology, ops, options, Signing() if rng.random() < shape.signed else Nobody())


def play(shape: Shape, seed: str) -> list[Fault]:
    """Play one history; an error that somebody raised is a fault too."""
    one = drawn(shape, seed)
    try:
        return world.run(one.topology, one.ops, keys=one.keys, **one.options)
    except Exception:
        return [Fault("raised", traceback.format_exc(limit=-4))]


@contextmanager
def verified_once() -> Iterator[None]:
    """Each signature is verified once in a process, and remembered by all that the answer depends on."""
    verifies = ed25519.verifies
    ed25519.verifies = lru_cache(maxsize=VERIFIED)(verifies)
    try:
        yield
    finally:
        ed25519.verifies = verifies


def replay(shape: str, seed: str) -> str:
    """The command that plays a history again."""
    return f"REPLAY='{shape}/{seed}' make simulate"
