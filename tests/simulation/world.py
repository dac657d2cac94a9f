"""Nodes of the real `sync` code in one process: virtual time, a network that loses, doubles, delays and reorders.

A history is a list of operations (`TABLE` says what each does); `run` plays it, heals the world and asks the oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sync import lives, moment, writes
from sync.attest import Keychain
from sync.draft import Fields
from sync.trust import KeyPolicy
from tests.simulation import byzantine, daemons, keyrings, misfortunes
from tests.simulation.network import Network
from tests.simulation.nodes import SECOND
from tests.simulation.oracle import Fault
from tests.simulation.topologies import TOPOLOGIES

PAGE_BYTES = 10_000
"""Of documents in a page that is not cut by them."""
Op = tuple[Any, ...]
STEPS = (SECOND // 10, SECOND // 10, SECOND)
"""Between two operations: less than a receiver waits for what it asked for, or more."""


class World(Network):
    """`page_limit` keys or `page_bytes` a page, `slice_size` versions a transaction: small, so that all seams show."""

    def __init__(
        self,
        topology: str,
        *,
        page_limit: int = 1,
        page_bytes: int = PAGE_BYTES,
        slice_size: int = 1,
        seed: int = 1,
        keys: Keychain | None = None,
        policy: KeyPolicy | None = None,
    ) -> None:
        names, links = TOPOLOGIES[topology]
        super().__init__(
            names,
            links,
            page_limit=page_limit,
            page_bytes=page_bytes,
            slice_size=slice_size,
            seed=seed,
            keys=keys,
            policy=policy,
        )

    def _one_of(self, name: str) -> str:
        """A node, or its clone."""
        twin = name + "2"
        return twin if twin in self.nodes and self.random.random() < 0.5 else name

    def do(self, op: Op) -> None:
        kind, *rest = op
        if kind in ("write", "delete", "link", "unlink", "resolve", "push", "pull", "crash"):
            rest = [self._one_of(one) if one in self.nodes else one for one in rest]
        with self.oracle.watching():
            TABLE[kind](self, *rest)
            if self.random.random() < 0.3:
                self.retry()
        self.now += self.random.choice(STEPS)

    # --- the end

    def heal(self, rounds: int = 80) -> bool:
        """All faults end, time passes, everybody talks. True where the world comes to rest."""
        self._is_quiet = True
        with self.oracle.watching():
            while self.queue:
                self._arrive(self.queue.pop(0), answered=False)
            self.cut_links.clear()
            self._agree()
            self.now += 1_000 * SECOND
            for node in self.nodes.values():
                node.offset = 0
                self.notice(node)
                if node.store.own_after(moment.text(self.now + writes.SKEW_BOUND)):
                    # It was restarted once its clock was right; its cursors stay as they are.
                    self.begin(node, lives.START)
            rest = 0
            for _ in range(rounds):
                before = self._state()
                self.now += SECOND  # so that whoever is asked for what it does not send is given up
                self.retry()
                for p, q, by in self.links:
                    if "push" in by:
                        self.push(p, q)
                    if "pull" in by:
                        self.pull(q, p)
                rest = rest + 1 if self._state() == before else 0
                if rest == 3:
                    return True
        return False

    def _agree(self) -> None:
        """All operators come to have the same keyring."""
        if self.keyrings is not None:
            for agent in (agent for name in self.nodes for agent in keyrings.agents(name)):
                self.keyrings.of(agent)
            common = self.keyrings.common([node.the_ring for node in self.nodes.values()])
            for node in self.nodes.values():
                node.ring = common

    def _state(self) -> object:
        return [(n.store.position(), n.life, n.store.peers(), len(n.store.waiting_all())) for n in self.nodes.values()]

    def faults(self) -> list[Fault]:
        """What the oracle finds broken now."""
        stores = {name: node.store for name, node in self.nodes.items()}
        links = [(p, q) for p, q, _ in self.links]
        found = self.oracle.faults(stores, links, self._lets_through, alike=not self.out and not self.inn)
        horizon = moment.text(self.now + writes.SKEW_BOUND)
        return found + [Fault("future", name) for name, store in stores.items() if store.own_after(horizon)]

    def _lets_through(self, sender: str, receiver: str, namespace: str) -> bool:
        """Whether scopes let a namespace from one node to the next."""
        scopes = [table.get((sender[0], receiver[0])) for table in (self.out, self.inn)]
        return all(scope is None or scope.allows(namespace) for scope in scopes)


def _deliver(world: World, which: int) -> None:
    if world.queue:
        world._arrive(world.queue.pop(which % len(world.queue)), answered=which % 2 == 0)


TABLE: dict[str, Callable[..., None]] = {
    "write": World.write,
    "delete": World.delete,
    "link": World.link,
    "unlink": World.unlink,
    "resolve": World.resolve,
    "rename": lambda w, n, ns, t, new: w.change(n, ns, t, Fields(title=new)),
    "move": lambda w, n, ns, t, new: w.change(n, ns, t, Fields(namespace=new)),
    "push": World.push,
    "pull": lambda w, p, q, how: w.pull(q, p, how),
    "deliver": _deliver,
    "restart": lambda w, n: w.restart(w.nodes[n]),
    "backup": misfortunes.back_up,
    "restore": misfortunes.restore,
    "skew": lambda w, n, seconds: setattr(w.nodes[n], "offset", seconds * SECOND),
    "cut": lambda w, a, b: w.cut_links.add(frozenset((a, b))),
    "mend": lambda w, a, b: w.cut_links.discard(frozenset((a, b))),
    "scope": misfortunes.hide,
    "crash": World.crash,
    "forge": byzantine.forge,
    "lie": byzantine.lie,
    "clone": misfortunes.clone,
    "daemon": daemons.write,
    "enrol": keyrings.enrol,
    "strike": keyrings.strike,
    "revoke": keyrings.revoke,
    "rotate": keyrings.rotate,
    "wait": lambda w, seconds: setattr(w, "now", w.now + seconds * SECOND),
}


def run(topology: str, ops: Sequence[Op], **options: Any) -> list[Fault]:
    """Play a history, heal, and return what is broken: nothing, if all is well."""
    world = World(topology, **options)
    for op in ops:
        world.do(op)
    rested = world.heal()
    return [*world.faults(), *([] if rested else [Fault("restless", "the world does not come to rest")])]
