"""Nodes of the real `sync` code in one process: virtual time, a network that loses, doubles, delays and reorders.

The oracle is the true ancestor set of every write, recorded beside the code under test: after healing, what each node
keeps must be exactly the maximal elements of all that reached it. It never looks at a clock of the protocol.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from memory_store import MemoryStore

from sync import lives, wire
from sync.batch import Batch
from sync.draft import Fields, new_memory
from sync.engine import Engine
from sync.ids import memory_id
from sync.ports import Kept
from sync.receive import Page, Part, Policy, Taken, current_cursor
from sync.record import memory_version
from sync.scope import Globs
from sync.serve import Ask, Cut, RolledBack
from sync.version import Key, Version

SECOND = 1_000_000
START = 1_800_000_000 * SECOND
Op = tuple[Any, ...]

BOTH = ("push", "pull")


def links(*pairs: str, by: Sequence[str] = BOTH) -> list[tuple[str, str, Sequence[str]]]:
    return [(pair[0], pair[1], by) for pair in pairs]


TOPOLOGIES = {
    "pair": ("AB", links("AB", "BA")),
    "pair, push only": ("AB", links("AB", "BA", by=("push",))),
    "pair, pull only": ("AB", links("AB", "BA", by=("pull",))),
    "chain": ("ABC", links("AB", "BA", "BC", "CB")),
    "chain, push only": ("ABC", links("AB", "BA", "BC", "CB", by=("push",))),
    "triangle": ("ABC", links("AB", "BA", "AC", "CA", "BC", "CB")),
    "one way round": ("ABC", links("AB", "BC", "CA", by=("push",))),
    "line of four": ("ABCD", links("AB", "BA", "BC", "CB", "CD", "DC")),
}


class SimStore(MemoryStore):
    """Also remembers which versions it ever kept, for the oracle. A restore forgets, as a disk would."""

    def __init__(self) -> None:
        super().__init__()
        self.known: set[bytes] = set()


@dataclass
class Node:
    name: str
    peer: str
    store: SimStore
    engine: Engine
    offset: int = 0
    backups: list[SimStore] = field(default_factory=list)
    view: dict[str, tuple[str | None, str]] = field(default_factory=dict)
    wanted: dict[str, frozenset[bytes]] = field(default_factory=dict)

    @property
    def life(self) -> str:
        return self.store.lives()[-1].actor


@dataclass
class Message:
    sender: str
    receiver: str
    push: bool
    body: bytes
    asked_with: str | None
    asker_life: str


@dataclass(frozen=True)
class Fault:
    """A broken promise, found by the oracle."""

    kind: str
    detail: str


class World:
    """`page_limit` keys a page and `slice_size` versions a transaction: small, so that every seam is crossed."""

    def __init__(self, topology: str, *, page_limit: int = 1, slice_size: int = 1, seed: int = 1) -> None:
        names, self.links = TOPOLOGIES[topology]
        self.now = START
        self.page_limit = page_limit
        self.slice_size = slice_size
        self.random = random.Random(seed)
        self.versions: dict[bytes, Version] = {}
        self.ancestors: dict[bytes, frozenset[bytes]] = {}
        self.forged: set[bytes] = set()
        self.alarms: list[str] = []
        self.queue: list[Message] = []
        self.cut_links: set[frozenset[str]] = set()
        self.out: dict[tuple[str, str], Globs] = {}
        self.inn: dict[tuple[str, str], Globs] = {}
        self.bodies_sent = 0
        self.offers_sent = 0
        with self.watching():
            self.nodes = {name: self._born(name) for name in names}

    # --- the oracle's eyes

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record, at each change of the feed, what each own write truly replaced."""
        original = Batch.put

        def put(batch: Batch, key: Key, kept: tuple[Kept, ...]) -> int:
            before = [one.version.tag for one in batch.kept(key)]
            after = [one.version.tag for one in kept]
            gone = [tag for tag in before if tag not in after]
            for one in kept:
                tag = one.version.tag
                if one.giver is None and tag not in before:
                    assert tag not in self.ancestors, "a version was written twice"
                    self.ancestors[tag] = frozenset(gone).union(*(self.ancestors[old] for old in gone))
                    self.versions[tag] = one.version
            store = batch.ledger
            assert isinstance(store, SimStore)
            store.known = store.known | set(after)
            return original(batch, key, kept)

        Batch.put = put  # type: ignore[method-assign]
        try:
            yield
        finally:
            Batch.put = original  # type: ignore[method-assign]

    # --- nodes

    def _born(self, name: str) -> Node:
        node = Node(name, f"cert-{name}", SimStore(), self._engine(name))
        self._begin(node, lives.START)
        return node

    def _engine(self, name: str) -> Engine:
        return Engine(f"node:{name}", self.random.randbytes)

    def _begin(self, node: Node, reason: str) -> None:
        node.store.transaction(node.engine.begin_life, self.clock(node), reason)

    def clock(self, node: Node) -> int:
        return self.now + node.offset

    def restart(self, node: Node) -> None:
        """The process ends and another begins: memory is lost, what was committed is not."""
        node.engine = self._engine(node.name)
        node.view, node.wanted = {}, {}
        self.queue = [m for m in self.queue if not (m.receiver == node.name and not m.push)]
        self._begin(node, lives.START)

    # --- local operations

    def write(self, name: str, namespace: str, title: str) -> None:
        node = self.nodes[name]
        fields = Fields(namespace=namespace, title=title, content=f"{name} at {self.now} {self.random.random()}")
        node.store.transaction(node.engine.store, fields, f"agent:{name}", self.clock(node))

    def _find(self, node: Node, namespace: str, title: str) -> Key | None:
        found = node.store.titled(namespace, title)
        return max(found, key=lambda one: one.version.rank).version.key if found else None

    def delete(self, name: str, namespace: str, title: str) -> None:
        node = self.nodes[name]
        key = self._find(node, namespace, title)
        if key is not None:
            node.store.transaction(node.engine.delete, key, f"agent:{name}", self.clock(node))

    def change(self, name: str, namespace: str, title: str, fields: Fields) -> None:
        node = self.nodes[name]
        key = self._find(node, namespace, title)
        if key is not None:
            node.store.transaction(node.engine.update, key, fields, f"agent:{name}", self.clock(node))

    # --- the network

    def _ask(self, sender: Node, receiver: Node, cursor: str | None, made_for: str, push: bool) -> Cut:
        ask = Ask(
            receiver.peer,
            cursor,
            made_for,
            self._outbound(sender, receiver),
            self._policy(sender, receiver),
            self.page_limit,
            10_000,
            push,
            sender.wanted.get(receiver.name, frozenset()) if push else frozenset(),
        )
        result = sender.engine.cut(sender.store, ask, self.clock(sender))
        if isinstance(result, RolledBack):
            alarms = sender.store.transaction(sender.engine.rolled_back, receiver.peer, self.clock(sender))
            self.alarms.extend(alarm.kind for alarm in alarms)
            result = sender.engine.cut(sender.store, ask, self.clock(sender))
        assert isinstance(result, Cut)
        self.offers_sent += len(msgspec.json.decode(b"[%b]" % result.page.offers))
        self.bodies_sent += result.page.count
        return result

    def _outbound(self, sender: Node, receiver: Node) -> Globs:
        return self.out.get((sender.name, receiver.name), Globs.everything())

    def _policy(self, receiver: Node, sender: Node) -> Policy:
        scope = self.inn.get((sender.name, receiver.name), Globs.everything())
        return Policy(scope, scope.tag)

    def push(self, sender: str, receiver: str, how: str = "ok") -> None:
        p, q = self.nodes[sender], self.nodes[receiver]
        if how == "lost" or self._is_cut(sender, receiver):
            return
        if receiver not in p.view or how == "hello":
            p.view[receiver] = (self._have(q, p), q.life)
        have, life = p.view[receiver]
        cut = self._ask(p, q, have, life, push=True)
        message = Message(sender, receiver, True, wire.encode_push(f"node:{sender}", cut), None, "")
        self._send(message, how)

    def pull(self, receiver: str, sender: str, how: str = "ok") -> None:
        p, q = self.nodes[sender], self.nodes[receiver]
        if how == "lost" or self._is_cut(sender, receiver):
            return
        have = self._have(q, p)
        cut = self._ask(p, q, have, q.life, push=False)
        message = Message(sender, receiver, False, wire.encode_since(cut, self.page_limit), have, q.life)
        self._send(message, how)

    def _send(self, message: Message, how: str) -> None:
        if how == "delay":
            self.queue.append(message)
            return
        self._arrive(message, answered=how != "noack", torn=how == "torn")
        if how == "dup":
            self.queue.append(message)

    def _have(self, receiver: Node, sender: Node) -> str | None:
        return current_cursor(receiver.store.peer(sender.peer), sender.life, self._policy(receiver, sender))

    def _arrive(self, message: Message, *, answered: bool, torn: bool = False) -> None:
        sender, receiver = self.nodes[message.sender], self.nodes[message.receiver]
        if message.push:
            incoming = wire.decode_push(message.body, sender.peer)
        else:
            incoming = wire.decode_since(message.body, sender.peer, message.asked_with, message.asker_life)
        assert not incoming.refused, incoming.refused
        taken = self._apply(receiver, sender, incoming.page, incoming.versions, torn)
        if taken is None:
            return
        if message.push and answered:
            answer = wire.decode_answer(wire.encode_answer(taken, incoming.refused))
            sender.view[receiver.name] = (answer.have, answer.life)
            sender.wanted[receiver.name] = answer.wanted

    def _apply(
        self, receiver: Node, sender: Node, page: Page, versions: tuple[Version, ...], torn: bool
    ) -> Taken | None:
        parts = [versions[i : i + self.slice_size] for i in range(0, len(versions), self.slice_size)] or [()]
        policy = self._policy(receiver, sender)
        total = Taken()
        for index, some in enumerate(parts):
            part = Part(some, index == 0, index + 1 == len(parts))
            if torn and index:
                self.restart(receiver)
                return None
            now = self.clock(receiver)
            total = total.joined(receiver.store.transaction(receiver.engine.receive, page, part, policy, total, now))
        total_alarms = (*total.alarms, *receiver.engine.received(page, total, self.clock(receiver)))
        self.alarms.extend(alarm.kind for alarm in total_alarms)
        return total

    def _is_cut(self, a: str, b: str) -> bool:
        return frozenset((a, b)) in self.cut_links

    def retry(self) -> None:
        for node in self.nodes.values():

            def scope_of(peer: str, node: Node = node) -> Globs:
                return self.inn.get((peer.removeprefix("cert-"), node.name), Globs.everything())

            node.store.transaction(node.engine.due, scope_of, self.clock(node))

    # --- faults

    def forge(self, at: str, victim: str, namespace: str, title: str, ahead: int) -> None:
        """An allowlisted liar hands `at` a version that claims to have seen writes of `victim`."""
        liar, node = "f" * 16, self.nodes[at]
        life = self.nodes[victim].store.lives()[-1]
        number = max(1, self.nodes[victim].store.position().number + ahead)
        clock = {life.actor: number << 20 | self.random.getrandbits(20), liar: self.random.randrange(1, 2**40)}
        fields = Fields(namespace=namespace, title=title, content=f"forged {self.random.random()}")
        memory = new_memory(fields, memory_id(namespace, title, 0), self.now)
        version = memory_version(memory, "agent:liar", clock)
        self.versions[version.tag] = version
        self.ancestors[version.tag] = frozenset()
        self.forged.add(version.tag)
        page = Page("cert-liar", liar, None, None, None, False)
        everything = Globs.everything()
        policy = Policy(everything, everything.tag)
        taken = node.store.transaction(node.engine.receive, page, Part([version]), policy, Taken(), self.clock(node))
        self.alarms.extend(alarm.kind for alarm in taken.alarms)

    def restore(self, name: str, how: str, which: int) -> None:
        """An older copy takes the store's place: under a running process that notices, or between two processes."""
        node = self.nodes[name]
        if not node.backups:
            return
        node.store.restore(node.backups[which % len(node.backups)])
        if how == "warm":
            node.view, node.wanted = {}, {}
            self.queue = [m for m in self.queue if not (m.receiver == name and not m.push)]
            self._begin(node, lives.CLOCK_JUMP)
        else:
            self.restart(node)

    def do(self, op: Op) -> None:
        kind, *rest = op
        with self.watching():
            TABLE[kind](self, *rest)
            if self.random.random() < 0.3:
                self.retry()
        self.now += SECOND

    # --- the end

    def heal(self, rounds: int = 80) -> bool:
        """All faults end, time passes, everybody talks. True where the world comes to rest."""
        with self.watching():
            while self.queue:
                self._arrive(self.queue.pop(0), answered=False)
            self.cut_links.clear()
            self.now += 1_000 * SECOND
            for node in self.nodes.values():
                node.offset = 0
                self._begin(node, lives.CLOCK_JUMP)
            rest = 0
            for _ in range(rounds):
                before = self._state()
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

    def _state(self) -> object:
        return [(n.store.position(), n.life, n.store.peers(), len(n.store.waiting_all())) for n in self.nodes.values()]

    def faults(self) -> list[Fault]:
        found = []
        kept = {
            name: {one.version.tag for kept in node.store.everything().values() for one in kept}
            for name, node in self.nodes.items()
        }
        # What waits for its time is held, and told to the operator, though nobody reads it yet.
        waits = {one.version.tag for node in self.nodes.values() for one in node.store.waiting_all()}
        for name, node in self.nodes.items():
            reaching: dict[str, set[str]] = {}
            known: set[bytes] = set()
            for other in self.nodes.values():
                for tag in other.store.known:
                    namespace = self.versions[tag].namespace
                    if namespace not in reaching:
                        reaching[namespace] = self._reaching(name, namespace)
                    if other.name in reaching[namespace]:
                        known.add(tag)
            dead = frozenset[bytes]().union(*(self.ancestors[tag] for tag in known)) if known else frozenset()
            for tag in known - dead - kept[name] - self.forged - waits:
                found.append(Fault("lost", f"{name} lacks {self.versions[tag]}"))
            for tag in kept[name] & dead:
                if not any(tag in self.ancestors[one] and one in self.forged for one in known):
                    found.append(Fault("undead", f"{name} keeps {self.versions[tag]}"))
            if name != next(iter(self.nodes)) and not self.out and not self.inn and not waits:
                first = next(iter(self.nodes))
                if kept[name] != kept[first]:
                    found.append(Fault("diverged", f"{first} and {name}"))
                if node.store.position().digest != self.nodes[first].store.position().digest:
                    found.append(Fault("digests", f"{first} and {name}"))
        return found

    def _reaching(self, name: str, namespace: str) -> set[str]:
        seen, todo = {name}, [name]
        while todo:
            q = todo.pop()
            for p, other, _ in self.links:
                if other != q or p in seen:
                    continue
                if self.out.get((p, q), Globs.everything()).allows(namespace) and self.inn.get(
                    (p, q), Globs.everything()
                ).allows(namespace):
                    seen.add(p)
                    todo.append(p)
        return seen


def _hidden(world: World, side: str, p: str, q: str, visible: tuple[str, ...]) -> None:
    table = world.out if side == "out" else world.inn
    table[p, q] = Globs(visible)


def _backup(world: World, name: str) -> None:
    node = world.nodes[name]
    node.backups = [*node.backups[-2:], node.store.copy()]


def _deliver(world: World, which: int) -> None:
    if world.queue:
        world._arrive(world.queue.pop(which % len(world.queue)), answered=which % 2 == 0)


TABLE: dict[str, Callable[..., None]] = {
    "write": World.write,
    "delete": World.delete,
    "rename": lambda w, n, ns, t, new: w.change(n, ns, t, Fields(title=new)),
    "move": lambda w, n, ns, t, new: w.change(n, ns, t, Fields(namespace=new)),
    "push": World.push,
    "pull": lambda w, p, q, how: w.pull(q, p, how),
    "deliver": _deliver,
    "restart": lambda w, n: w.restart(w.nodes[n]),
    "backup": _backup,
    "restore": World.restore,
    "skew": lambda w, n, seconds: setattr(w.nodes[n], "offset", seconds * SECOND),
    "cut": lambda w, a, b: w.cut_links.add(frozenset((a, b))),
    "mend": lambda w, a, b: w.cut_links.discard(frozenset((a, b))),
    "scope": _hidden,
    "forge": World.forge,
    "wait": lambda w, seconds: setattr(w, "now", w.now + seconds * SECOND),
}

PUSHES = ("ok", "ok", "ok", "lost", "noack", "delay", "delay", "dup", "hello", "torn")
PULLS = ("ok", "ok", "ok", "lost", "delay", "delay", "dup", "torn")
FAULTS = ("restart", "backup", "restore", "skew", "cut", "mend", "scope", "forge", "wait")


def history(rng: random.Random, topology: str, length: int, faults: Sequence[str]) -> list[Op]:
    """A random history. Titles and namespaces are few, so that writes collide."""
    names, links_ = TOPOLOGIES[topology]
    namespaces, titles = ("a", "b"), ("x", "y") if rng.random() < 0.5 else ("x",)
    pool = (
        ["write"] * 6 + ["delete"] * 2 + ["move", "rename"] + ["push"] * 5 + ["pull"] * 5 + ["deliver"] * 3 + [*faults]
    )
    ops: list[Op] = []
    for _ in range(length):
        kind, name = rng.choice(pool), rng.choice(names)
        namespace, title = rng.choice(namespaces), rng.choice(titles)
        p, q, by = rng.choice(links_)
        match kind:
            case "write" | "delete":
                ops.append((kind, name, namespace, title))
            case "move":
                ops.append((kind, name, namespace, title, rng.choice(namespaces)))
            case "rename":
                ops.append((kind, name, namespace, title, rng.choice(titles)))
            case "push" | "pull":
                kind = kind if kind in by else by[0]
                ops.append((kind, p, q, rng.choice(PUSHES if kind == "push" else PULLS)))
            case "deliver":
                ops.append((kind, rng.randrange(6)))
            case "restore":
                ops.append((kind, name, rng.choice(("warm", "cold", "cold")), rng.randrange(3)))
            case "skew":
                ops.append((kind, name, rng.choice((-250, -100, 299, 400, 86_400 * 365, 0))))
            case "cut" | "mend":
                ops.append((kind, p, q))
            case "scope":
                ops.append((kind, rng.choice(("out", "in")), p, q, rng.choice((("**",), ("a",), ("b",), ("**",)))))
            case "forge":
                ops.append((kind, name, rng.choice(names), namespace, title, rng.choice((-1, 0, 1, 2, 50))))
            case "wait":
                ops.append((kind, rng.choice((10, 400, 4_000))))
            case _:
                ops.append((kind, name))
    return ops


def run(topology: str, ops: Sequence[Op], **options: Any) -> list[Fault]:
    """Play a history, heal, and return what is broken: nothing, if all is well."""
    world = World(topology, **options)
    for op in ops:
        world.do(op)
    rested = world.heal()
    return [*world.faults(), *([] if rested else [Fault("restless", "the world does not come to rest")])]
