"""The nodes of a simulated mesh: processes of the real `sync` code over stores, and what is written at each."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from keys import Nobody

from sync import lives, moment
from sync.attest import Keychain
from sync.draft import Fields
from sync.engine import Engine
from sync.ids import memory_id
from sync.link import LinkFields
from sync.settle import Choice, Delete, Keep, Replace
from sync.trust import KeyPolicy
from sync.version import Key, Version
from tests.simulation.byzantine import Byzantine
from tests.simulation.keyrings import Keyrings, Ring, Signers
from tests.simulation.misfortunes import Backup
from tests.simulation.oracle import Oracle, SimStore

SECOND = 1_000_000
START = 1_800_000_000 * SECOND

CHOICES: dict[str, Callable[[Sequence[Version], str], Choice]] = {
    "winner": lambda _found, _text: Keep(),
    "other": lambda found, _text: Keep(found[-1].tag),
    "delete": lambda _found, _text: Delete(),
    "replace": lambda found, text: Replace(text) if any(one.kind == "m" for one in found) else Delete(),
}
"""How a conflict may be settled: by what is kept, the winner first, and some new text."""


class DiedError(Exception):
    """A simulated process died in the middle of a transaction."""


@dataclass
class Node:
    name: str
    peer: str
    store: SimStore
    engine: Engine
    offset: int = 0
    jumped: bool = False
    """The machine was rolled back, and the process has not noticed yet."""
    backups: list[Backup] = field(default_factory=list)
    view: dict[str, tuple[str | None, str]] = field(default_factory=dict)
    wanted: dict[str, frozenset[bytes]] = field(default_factory=dict)
    looked: dict[Key, frozenset[bytes]] = field(default_factory=dict)
    """Conflicts as they were shown to somebody who thinks about them."""
    ring: Ring | None = None
    """None where anybody is believed."""

    @property
    def life(self) -> str:
        return self.store.lives()[-1].actor

    @property
    def the_ring(self) -> Ring:
        assert self.ring is not None, "no history of keyrings"
        return self.ring


class Nodes:
    """Nodes without a network, under one clock and one source of chance.

    `policy`: each has a keyring, empty at first, and takes nothing unsigned.
    """

    def __init__(self, names: str, seed: int, keys: Keychain | None, policy: KeyPolicy | None) -> None:
        self.now = START
        self.random = random.Random(seed)
        self.keys = keys or Nobody()
        self.keyrings = Keyrings(policy) if policy is not None else None
        self.signers: dict[str, Signers] = {}
        self.oracle = Oracle(self.admits)
        self.liar = Byzantine()
        with self.oracle.watching():
            self.nodes = {name: self._born(name) for name in names}

    def _born(self, name: str) -> Node:
        node = Node(name, f"cert-{name}", SimStore(name), self.new_engine(name))
        node.ring = Ring(self.keyrings.policy) if self.keyrings is not None else None
        self.begin(node, lives.START)
        return node

    def new_engine(self, name: str) -> Engine:
        keys = self.keys if self.keyrings is None else self.signers.setdefault(name, Signers())
        return Engine(f"node:{name}", self.random.randbytes, keys)

    def admits(self, name: str, version: Version) -> bool:
        """Whether a node's operator would take this from a peer."""
        ring = self.nodes[name].ring if name in self.nodes else None
        return ring is None or ring.admits(version)

    def begin(self, node: Node, reason: str) -> None:
        node.store.transaction(node.engine.begin_life, self.clock(node), reason)

    def clock(self, node: Node) -> int:
        return self.now + node.offset

    def restart(self, node: Node) -> None:
        """The process ends and another begins: memory is lost, what was committed is not."""
        node.engine = self.new_engine(node.name)
        node.view, node.wanted, node.jumped = {}, {}, False
        self.begin(node, lives.START)

    def notice(self, node: Node) -> None:
        """Look at the clocks; where the machine was rolled back they disagree."""
        if node.jumped:
            node.jumped = False
            self.begin(node, lives.CLOCK_JUMP)

    def before_write(self, node: Node) -> None:
        """What the caller of the engine owes it before each local write."""
        self.notice(node)

    def die_in(self, node: Node, body: Callable[..., Any], *args: Any) -> None:
        """The process dies after a transaction has done its work and before it is committed."""

        def dying(*rest: Any) -> None:
            body(*rest)
            raise DiedError

        before = node.store.copy()
        with suppress(DiedError):
            node.store.transaction(dying, *args)
        node.store.restore(before)
        self.restart(node)

    # --- local operations

    def write(self, name: str, namespace: str, title: str) -> None:
        node = self.nodes[name]
        self.before_write(node)
        fields = Fields(namespace=namespace, title=title, content=f"{name} at {self.now} {self.random.random()}")
        node.store.transaction(node.engine.store, fields, f"agent:{name}", self.clock(node))

    def crash(self, name: str, namespace: str, title: str) -> None:
        """The process dies over a write: after all its work, before the commit."""
        node = self.nodes[name]
        self.before_write(node)
        fields = Fields(namespace=namespace, title=title, content=f"never acknowledged {self.random.random()}")
        self.die_in(node, node.engine.store, fields, f"agent:{name}", self.clock(node))

    def _find(self, node: Node, namespace: str, title: str) -> Key | None:
        found = node.store.titled(namespace, title)
        return max(found, key=lambda one: one.version.rank).version.key if found else None

    def delete(self, name: str, namespace: str, title: str) -> None:
        node = self.nodes[name]
        self.before_write(node)
        key = self._find(node, namespace, title)
        if key is not None:
            node.store.transaction(node.engine.delete, key, f"agent:{name}", self.clock(node))

    def change(self, name: str, namespace: str, title: str, fields: Fields) -> None:
        node = self.nodes[name]
        self.before_write(node)
        key = self._find(node, namespace, title)
        if key is not None:
            node.store.transaction(node.engine.update, key, fields, f"agent:{name}", self.clock(node))

    def link(self, name: str, source: tuple[str, str], target: tuple[str, str], valid: bool) -> None:
        """Link the memory of this (namespace, title) to another, which may not be here."""
        node = self.nodes[name]
        self.before_write(node)
        key = self._find(node, *source)
        target_id = memory_id(*target, 0)
        if key is not None and key[1] != target_id:
            until = moment.text(self.now) if valid else msgspec.UNSET
            fields = LinkFields(source_id=key[1], target_id=target_id, valid_until=until)
            node.store.transaction(node.engine.link, key[0], fields, f"agent:{name}", self.clock(node))

    def unlink(self, name: str, which: int) -> None:
        node = self.nodes[name]
        self.before_write(node)
        keys = sorted(key for key, kept in node.store.everything().items() if kept[0].version.kind == "l")
        if keys:
            key = keys[which % len(keys)]
            node.store.transaction(node.engine.unlink, (key,), f"agent:{name}", self.clock(node))

    def resolve(self, name: str, which: int, how: str, at_once: bool) -> None:
        """Settle a conflict, as `ai-memory conflicts resolve` does; `how` is one of `CHOICES`.

        Not `at_once`: somebody looks at it now, and settles it by what they saw when this is asked for again.
        """
        node = self.nodes[name]
        conflicts = {key: some for key, some in sorted(node.store.everything().items()) if len(some) > 1}
        if not conflicts:
            return
        key = list(conflicts)[which % len(conflicts)]
        found = [one.version for one in conflicts[key]]
        tags = frozenset(version.tag for version in found)
        if not at_once and key not in node.looked:
            node.looked[key] = tags
            return
        seen = tags if at_once else node.looked.pop(key)
        self.before_write(node)
        choice = CHOICES[how](found, f"{name} settled at {self.now} {self.random.random()}")
        node.store.transaction(node.engine.resolve, key, choice, seen, f"agent:{name}", self.clock(node))
        left = frozenset(one.version.tag for one in node.store.everything()[key])
        self.oracle.settled(name, found[0], tags, seen, left)
