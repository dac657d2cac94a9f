"""The shapes of histories: which misfortunes befall which meshes, and how one is played from its seed."""

from __future__ import annotations

import random
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from keys import Nobody, Signing

from sync.attest import Keychain
from sync.trust import KeyPolicy
from tests.simulation import world
from tests.simulation.histories import USUAL, enrolments, history
from tests.simulation.limits import TINY, Limits, in_force
from tests.simulation.oracle import Fault
from tests.simulation.remembered import LASTING, OF_A_HISTORY, remembered
from tests.simulation.topologies import TOPOLOGIES
from tests.simulation.world import Op

PAGES = (world.PAGE_BYTES, world.PAGE_BYTES, 1, 900, 1_800)
"""Bytes of documents in a page: more than there are, none, one memory and a part, three; a key goes whole."""


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
    limits: Sequence[Limits] = (Limits(),)
    one_key: bool = False
    """All is about one memory."""
    policies: Sequence[KeyPolicy] = ()
    """Where there are any, all nodes have keyrings and one of these for agents that are not listed."""


BYZANTINE = ("lie",) * 6
LIVES = ("restart",) * 6
DAEMONS = ("daemon",) * 4
DENSE = ("write",) * 6 + ("delete", "link") + ("push",) * 5 + ("pull",) * 5 + ("deliver",) * 3
"""So many writes that keys have more versions than are kept."""
BUSY = ("write",) * 8 + ("delete", "resolve", "move") + ("push",) * 5 + ("pull",) * 5 + ("deliver",) * 2
ENROLLING = ("enrol", "enrol", "enrol", "revoke", "rotate", "strike")
SMALL: Mapping[str, Any] = {"limits": TINY, "longest": 60, "one_key": True, "usual": BUSY}
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
    "daemons": Shape((*DAEMONS, "restart")),
    "daemons and restores": Shape((*DAEMONS, "backup", "restore", "clone", "restart", "scope")),
    "tiny": Shape(LIVES, **SMALL),
    "tiny, with conflicts": Shape(LIVES, ("mesh of four", "star of four"), **SMALL | {"usual": DENSE}),
    "tiny, with restores": Shape((*LIVES, "backup", "restore", "rollback", "clone"), **SMALL),
    "tiny, with scopes": Shape((*LIVES, "scope", "skew", "wait"), limits=TINY, longest=45),
    "tiny, with clocks": Shape((*LIVES, "skew", "skew", "wait"), **SMALL),
    "tiny, with daemons": Shape((*LIVES, *DAEMONS), **SMALL),
    "tiny, with liars": Shape((*LIVES, *BYZANTINE), signed=1.0, **SMALL),
    "tiny, with everything": Shape(
        (*LIVES, *BYZANTINE, *DAEMONS, "crash", "backup", "restore", "rollback", "clone", "skew", "cut", "mend"),
        **SMALL,
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
    limits: Limits

    def __str__(self) -> str:
        played = f"{self.topology}, {type(self.keys).__name__}, {dict(self.options)}, {self.limits}"
        return f"{self.seed!r}: {played}\n{list(self.ops)!r}"


def drawn(shape: Shape, seed: str) -> History:
    """A history of a shape."""
    rng = random.Random(seed)
    topology = rng.choice(list(shape.topologies))
    length = rng.randint(shape.shortest, shape.longest)
    drawn_ops = history(rng, topology, length, shape.faults, shape.usual, one_key=shape.one_key)
    ops = [*shape.begin, *drawn_ops]
    options: dict[str, Any] = {
        "page_limit": rng.choice((1, 1, 2, 3, 20)),
        "page_bytes": rng.choice(PAGES),
        "slice_size": rng.choice((1, 1, 2)),
        "seed": rng.randrange(999),
    }
    if shape.policies:
        options["policy"] = rng.choice(shape.policies)
        ops = [*enrolments(rng, topology, shape.faults), *ops]
    return History(
        seed, topology, ops, options, Signing() if rng.random() < shape.signed else Nobody(), rng.choice(shape.limits)
    )


def play(shape: Shape, seed: str) -> list[Fault]:
    """Play one history; an error that somebody raised is a fault too."""
    one = drawn(shape, seed)
    try:
        with in_force(one.limits), remembered(OF_A_HISTORY):
            return world.run(one.topology, one.ops, keys=one.keys, **one.options)
    except Exception:
        return [Fault("raised", traceback.format_exc(limit=-4))]


@contextmanager
def verified_once() -> Iterator[None]:
    """Each signature is verified once in a process, each line of a keyring read once."""
    with remembered(LASTING):
        yield


def replay(shape: str, seed: str) -> str:
    """The command that plays a history again."""
    return f"REPLAY='{shape}/{seed}' make simulate"
