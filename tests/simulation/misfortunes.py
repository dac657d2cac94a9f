"""What may befall a simulated node besides its network: restores, snapshots, clones, other scopes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from sync.attest import KeyPair
from sync.engine import Engine
from sync.scope import Globs
from tests.simulation.oracle import SimStore

if TYPE_CHECKING:
    from tests.simulation.keyrings import Ring
    from tests.simulation.world import World


@dataclass
class Backup:
    """A copy of the store; and, for a snapshot of the whole machine, of what the process had in memory."""

    store: SimStore
    engine: Engine
    view: dict[str, tuple[str | None, str]]
    wanted: dict[str, frozenset[bytes]]
    signers: dict[str, KeyPair]
    ring: Ring | None


def back_up(world: World, name: str) -> None:
    """Only the last three are kept."""
    node = world.nodes[name]
    store = cast("SimStore", node.store.copy())
    signers = dict(world.signers[name].current) if name in world.signers else {}
    backup = Backup(store, copy.deepcopy(node.engine), dict(node.view), dict(node.wanted), signers, node.ring)
    node.backups = [*node.backups[-2:], backup]


def restore(world: World, name: str, how: str, which: int) -> None:
    """An older copy takes the store's place.

    `cold`: between two processes. `warm`: under a running process that notices. `machine`: memory and store go back
    together, and the process goes on until it looks at its clocks.
    """
    node = world.nodes[name]
    if not node.backups:
        return
    old = node.backups[which % len(node.backups)]
    world.oracle.restored(node.store, old.store)
    node.store.restore(old.store)
    if name in world.signers:
        world.signers[name].current = dict(old.signers)
    if how == "cold":
        world.restart(node)
        return
    world.hang_up(node)
    node.jumped = True
    if how == "warm":
        node.view, node.wanted = {}, {}
        world.notice(node)
    else:
        node.engine, node.view, node.wanted = copy.deepcopy(old.engine), dict(old.view), dict(old.wanted)
        node.ring = old.ring


def clone(world: World, name: str) -> None:
    """A second node runs on a copy of the whole home folder, certificate included: `A2` beside `A`."""
    node, twin = world.nodes[name], name + "2"
    if twin in world.nodes:
        return
    store = cast("SimStore", node.store.copy())
    store.owner = twin
    world.nodes[twin] = replace(node, name=twin, store=store, backups=[], looked={})
    world.links += [(twin, q, by) for p, q, by in world.links if p == name]
    world.links += [(p, twin, by) for p, q, by in world.links if q == name]
    world.restart(node)
    world.restart(world.nodes[twin])


def hide(world: World, side: str, sender: str, receiver: str, visible: tuple[str, ...]) -> None:
    """An operator changes what one node lets out to another (`out`), or takes in from it (`in`)."""
    table = world.out if side == "out" else world.inn
    table[sender, receiver] = Globs(visible)
