"""What may befall a simulated node besides its network: restores, snapshots, clones, changed scopes and liars."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from keys import ANYBODY
from oracle import SimStore

from sync import clock as clocks
from sync.attest import Unsigned
from sync.draft import Fields, new_memory
from sync.engine import Engine
from sync.ids import memory_id
from sync.policy import Policy
from sync.receive import Page, Part, Taken
from sync.record import memory_version
from sync.scope import Globs

if TYPE_CHECKING:
    from simulation import World

LIAR = "f" * 16


@dataclass
class Backup:
    """A copy of the store; and, for a snapshot of the whole machine, of what the process had in memory."""

    store: SimStore
    engine: Engine
    view: dict[str, tuple[str | None, str]]
    wanted: dict[str, frozenset[bytes]]


def back_up(world: World, name: str) -> None:
    """Only the last three are kept."""
    node = world.nodes[name]
    store = cast("SimStore", node.store.copy())
    backup = Backup(store, copy.deepcopy(node.engine), dict(node.view), dict(node.wanted))
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


def clone(world: World, name: str) -> None:
    """A second node runs on a copy of the whole home folder, certificate included: `A2` beside `A`."""
    node, twin = world.nodes[name], name + "2"
    if twin in world.nodes:
        return
    store = cast("SimStore", node.store.copy())
    world.nodes[twin] = replace(node, name=twin, store=store, backups=[])
    world.links += [(twin, q, by) for p, q, by in world.links if p == name]
    world.links += [(p, twin, by) for p, q, by in world.links if q == name]
    world.restart(node)
    world.restart(world.nodes[twin])


def hide(world: World, side: str, sender: str, receiver: str, visible: tuple[str, ...]) -> None:
    """An operator changes what one node lets out to another (`out`), or takes in from it (`in`)."""
    table = world.out if side == "out" else world.inn
    table[sender, receiver] = Globs(visible)


def forge(world: World, at: str, victim: str, namespace: str, title: str, ahead: int, has_seen: bool = False) -> None:
    """An allowlisted liar hands `at` a version that claims to have seen writes of `victim`.

    `has_seen`: it builds on what `at` keeps, so only the claim on `victim` is a lie.
    """
    node = world.nodes[at]
    life = world.nodes[victim].store.lives()[-1]
    key = (namespace, memory_id(namespace, title, 0))
    seen = node.store.everything().get(key, ()) if has_seen else ()
    number = max(1, world.nodes[victim].store.position().number + ahead)
    lie = {life.actor: number << 20 | world.random.getrandbits(20), LIAR: world.random.randrange(1, 2**40)}
    clock = clocks.join((lie, *(one.version.clock for one in seen)))
    fields = Fields(namespace=namespace, title=title, content=f"forged {world.random.random()}")
    version = memory_version(new_memory(fields, key[1], world.now), Unsigned("agent:liar"), clock)
    world.oracle.forgery(version, [one.version.tag for one in seen])
    page, everything = Page("cert-liar", LIAR, None, None, None, False), Globs.everything()
    policy = Policy(everything, ANYBODY)
    taken = node.store.transaction(node.engine.receive, page, Part([version]), policy, Taken(), world.clock(node))
    world.alarms.extend(alarm.kind for alarm in taken.alarms)
