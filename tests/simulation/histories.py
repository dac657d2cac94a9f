"""Random histories for the simulation: lists of operations, drawn from a mixture."""

import random
from collections.abc import Sequence

from tests.simulation import byzantine
from tests.simulation.keyrings import LIAR
from tests.simulation.nodes import CHOICES
from tests.simulation.topologies import TOPOLOGIES
from tests.simulation.world import Op

PUSHES = ("ok", "ok", "ok", "lost", "noack", "delay", "delay", "dup", "hello", "torn")
PULLS = ("ok", "ok", "ok", "lost", "delay", "delay", "dup", "torn")
LIES = [name for name in byzantine.LIES if name != "flood"] * 2 + ["flood"]
"""A flood costs as much as ten other lies."""
LINKS = ["link", "link", "unlink"]
USUAL = (
    ["write"] * 6
    + ["delete"] * 2
    + ["move", "rename"]
    + LINKS
    + ["resolve"] * 2
    + ["push"] * 5
    + ["pull"] * 5
    + ["deliver"] * 3
)  # the mixture of a history in which nothing but the network fails


def history(
    rng: random.Random,
    topology: str,
    length: int,
    faults: Sequence[str],
    usual: Sequence[str] = USUAL,
    *,
    one_key: bool = False,
) -> list[Op]:
    """A random history. Titles and namespaces are few, so that writes collide; of `one_key`, all of them do."""
    names, links = TOPOLOGIES[topology]
    namespaces, titles = ("a", "b"), ("x", "y") if rng.random() < 0.5 else ("x",)
    if one_key:
        namespaces, titles = ("a",), ("x",)
    ops: list[Op] = []
    for _ in range(length):
        kind, name = rng.choice((*usual, *faults)), rng.choice(names)
        namespace, title = rng.choice(namespaces), rng.choice(titles)
        p, q, by = rng.choice(links)
        match kind:
            case "write" | "delete" | "crash":
                ops.append((kind, name, namespace, title))
            case "move":
                ops.append((kind, name, namespace, title, rng.choice(namespaces)))
            case "rename":
                ops.append((kind, name, namespace, title, rng.choice(titles)))
            case "link":
                target = (rng.choice(namespaces), rng.choice(titles))
                ops.append((kind, name, (namespace, title), target, rng.random() < 0.3))
            case "unlink":
                ops.append((kind, name, rng.randrange(4)))
            case "resolve":
                ops.append((kind, name, rng.randrange(4), rng.choice(list(CHOICES)), rng.random() < 0.5))
            case "push" | "pull":
                kind = kind if kind in by else by[0]
                ops.append((kind, p, q, rng.choice(PUSHES if kind == "push" else PULLS)))
            case "deliver":
                ops.append((kind, rng.randrange(6)))
            case "restore":
                ops.append((kind, name, rng.choice(("warm", "cold", "cold")), rng.randrange(3)))
            case "rollback":
                ops.append(("restore", name, "machine", rng.randrange(3)))
            case "skew":
                ops.append((kind, name, rng.choice((-250, -100, 299, 400, 86_400 * 365, 0))))
            case "cut" | "mend":
                ops.append((kind, p, q))
            case "scope":
                ops.append((kind, rng.choice(("out", "in")), p, q, rng.choice((("**",), ("a",), ("b",), ("**",)))))
            case "forge":
                ahead, has_seen = rng.choice((-1, 0, 1, 2, 50)), rng.random() < 0.5
                ops.append((kind, name, rng.choice(names), namespace, title, ahead, has_seen))
            case "lie":
                what, ahead, has_seen = rng.choice(LIES), rng.choice((-1, 0, 1, 2, 50)), rng.random() < 0.5
                ops.append((kind, what, name, rng.choice(names), namespace, title, ahead, has_seen))
            case "daemon":
                ops.append((kind, name, namespace, title, rng.random() < 0.5))
            case "enrol":
                whose = rng.choice((*names, LIAR) if "lie" in faults else names)
                ops.append((kind, name, whose, rng.random() < 0.3))
            case "strike":
                ops.append((kind, name, rng.choice(names)))
            case "revoke":
                ops.append((kind, name, rng.choice(names), rng.choice((-20, -2, 0, None, None))))
            case "wait":
                ops.append((kind, rng.choice((10, 400, 4_000))))
            case _:
                ops.append((kind, name))
    return ops


def enrolments(rng: random.Random, topology: str, faults: Sequence[str]) -> list[Op]:
    """What stands in each node's keyring at first: most of all agents."""
    names = TOPOLOGIES[topology][0] + (LIAR if "lie" in faults else "")
    return [("enrol", at, "".join(one for one in names if rng.random() < 0.7), False) for at in TOPOLOGIES[topology][0]]
