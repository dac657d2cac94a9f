"""Nodes of the real `sync` code in one process: virtual time, a network that loses, doubles, delays and reorders.

A history is a list of operations (`TABLE` says what each does); `run` plays it, heals the world and asks the oracle.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from keys import ANYBODY, Nobody

from sync import attest, lives, moment, wire, writes
from sync.attest import Keychain
from sync.draft import Fields
from sync.engine import Engine
from sync.ids import memory_id
from sync.link import LinkFields
from sync.policy import Policy
from sync.receive import Alarm, Page, Part, Taken, current_cursor
from sync.scope import Globs
from sync.serve import Ask, Cut, RolledBack
from sync.version import Key, Version
from tests.simulation import byzantine, misfortunes
from tests.simulation.byzantine import Byzantine
from tests.simulation.misfortunes import Backup
from tests.simulation.oracle import Fault, Oracle, SimStore
from tests.simulation.topologies import TOPOLOGIES

SECOND = 1_000_000
START = 1_800_000_000 * SECOND
Op = tuple[Any, ...]
EVERYTHING = Globs.everything()
STEPS = (SECOND // 10, SECOND // 10, SECOND)
"""Between two operations: less than a receiver waits for what it asked for, or more."""


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


class World:
    """`page_limit` keys a page and `slice_size` versions a transaction: small, so that every seam is crossed."""

    def __init__(
        self, topology: str, *, page_limit: int = 1, slice_size: int = 1, seed: int = 1, keys: Keychain | None = None
    ) -> None:
        names, links_ = TOPOLOGIES[topology]
        self.links = list(links_)
        self.now = START
        self.page_limit = page_limit
        self.slice_size = slice_size
        self.random = random.Random(seed)
        self.keys = keys or Nobody()
        self.oracle = Oracle()
        self.liar = Byzantine()
        self.alarms: list[str] = []
        self.notes: list[Alarm] = []
        self.queue: list[Message] = []
        self.cut_links: set[frozenset[str]] = set()
        self.out: dict[tuple[str, str], Globs] = {}
        self.inn: dict[tuple[str, str], Globs] = {}
        self.bodies_sent = 0
        self.offers_sent = 0
        self._is_quiet = False
        with self.oracle.watching():
            self.nodes = {name: self._born(name) for name in names}

    # --- nodes

    def _born(self, name: str) -> Node:
        node = Node(name, f"cert-{name}", SimStore(), self.new_engine(name))
        self.begin(node, lives.START)
        return node

    def new_engine(self, name: str) -> Engine:
        return Engine(f"node:{name}", self.random.randbytes, self.keys)

    def begin(self, node: Node, reason: str) -> None:
        node.store.transaction(node.engine.begin_life, self.clock(node), reason)

    def clock(self, node: Node) -> int:
        return self.now + node.offset

    def restart(self, node: Node) -> None:
        """The process ends and another begins: memory is lost, what was committed is not."""
        node.engine = self.new_engine(node.name)
        node.view, node.wanted, node.jumped = {}, {}, False
        self.hang_up(node)
        self.begin(node, lives.START)

    def notice(self, node: Node) -> None:
        """Look at the clocks; where the machine was rolled back they disagree."""
        if node.jumped:
            node.jumped = False
            self.begin(node, lives.CLOCK_JUMP)

    def before_write(self, node: Node) -> None:
        """What the caller of the engine owes it before each local write."""
        self.notice(node)

    def hang_up(self, node: Node) -> None:
        """Nobody reads the answers to what this process had asked."""
        self.queue = [m for m in self.queue if m.push or m.receiver != node.name]

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
            self.note(alarms)
            result = sender.engine.cut(sender.store, ask, self.clock(sender))
        assert isinstance(result, Cut)
        self.offers_sent += len(msgspec.json.decode(b"[%b]" % result.page.offers))
        self.bodies_sent += result.page.count
        return result

    def _outbound(self, sender: Node, receiver: Node) -> Globs:
        return self.out.get((sender.name[0], receiver.name[0]), EVERYTHING)

    def _policy(self, receiver: Node, sender: Node) -> Policy:
        return self.policy_for(receiver, sender.name[0])

    def policy_for(self, receiver: Node, sender: str) -> Policy:
        """What a node takes from another: the one place where the simulator makes a policy."""
        scope = self.inn.get((sender, receiver.name[0]), EVERYTHING)
        return Policy(scope, ANYBODY)

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
        if self.random.random() < 0.5:
            self.notice(receiver)  # or between the check and the page the machine was rolled back
        if message.push:
            incoming = wire.decode_push(message.body, sender.peer)
        else:
            incoming = wire.decode_since(message.body, sender.peer, message.asked_with, message.asker_life)
        assert not incoming.refused, incoming.refused
        taken = self.apply(receiver, incoming.page, incoming.versions, self._policy(receiver, sender), torn)
        if taken is None:
            return
        if message.push and answered:
            answer = wire.decode_answer(wire.encode_answer(taken, incoming.refused))
            sender.view[receiver.name] = (answer.have, answer.life)
            sender.wanted[receiver.name] = answer.wanted

    def apply(
        self, receiver: Node, page: Page, versions: tuple[Version, ...], policy: Policy, torn: bool = False
    ) -> Taken | None:
        """A page, in transactions of `slice_size` versions. `torn`: the process dies on the way; then None.

        A page of one transaction is torn inside it: all that it did is undone.
        """
        parts = [versions[i : i + self.slice_size] for i in range(0, len(versions), self.slice_size)] or [()]
        total = Taken()
        for index, some in enumerate(parts):
            part = Part(some, index == 0, index + 1 == len(parts), attest.genuine(some))
            if torn and index:
                self.restart(receiver)
                return None
            now = self.clock(receiver)
            if torn and part.last:
                self.die_in(receiver, receiver.engine.receive, page, part, policy, total, now)
                return None
            total = total.joined(receiver.store.transaction(receiver.engine.receive, page, part, policy, total, now))
            if not part.last:
                self._between(receiver, page.peer)
        total = receiver.engine.asking(page, versions, total, self.clock(receiver))
        self.note((*total.alarms, *receiver.engine.received(page, total, self.clock(receiver))))
        return total

    def note(self, alarms: Iterable[Alarm]) -> None:
        for alarm in alarms:
            self.alarms.append(alarm.kind)
            self.notes.append(alarm)

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

    def _between(self, receiver: Node, sender: str) -> None:
        """What a node does between two transactions of one page: it writes, and it talks to its other peers."""
        if self._is_quiet or self.random.random() < 0.7:
            return
        self._is_quiet = True
        others = [
            (p, q, by)
            for p, q, by in self.links
            if receiver.name in (p, q) and sender not in (self.nodes[p].peer, self.nodes[q].peer)
        ]
        if not others or self.random.random() < 0.5:
            self.write(receiver.name, self.random.choice("ab"), "x")
        else:
            p, q, by = self.random.choice(others)
            if "push" in by:
                self.push(p, q)
            else:
                self.pull(q, p)
        self._is_quiet = False

    def _is_cut(self, a: str, b: str) -> bool:
        return frozenset((a, b)) in self.cut_links

    def retry(self) -> None:
        for node in self.nodes.values():

            def policy_of(peer: str, node: Node = node) -> Policy:
                return self.policy_for(node, peer.removeprefix("cert-"))

            node.store.transaction(node.engine.due, policy_of, self.clock(node))

    def _one_of(self, name: str) -> str:
        """A node, or its clone."""
        twin = name + "2"
        return twin if twin in self.nodes and self.random.random() < 0.5 else name

    def do(self, op: Op) -> None:
        kind, *rest = op
        if kind in ("write", "delete", "link", "unlink", "push", "pull", "crash"):
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

    def _state(self) -> object:
        return [(n.store.position(), n.life, n.store.peers(), len(n.store.waiting_all())) for n in self.nodes.values()]

    def faults(self) -> list[Fault]:
        """What the oracle finds broken now."""
        stores = {name: node.store for name, node in self.nodes.items()}
        found = self.oracle.faults(stores, self._reaching, alike=not self.out and not self.inn)
        horizon = moment.text(self.now + writes.SKEW_BOUND)
        return found + [Fault("future", name) for name, store in stores.items() if store.own_after(horizon)]

    def _reaching(self, name: str, namespace: str) -> set[str]:
        seen, todo = {name}, [name]
        while todo:
            q = todo.pop()
            for p, other, _ in self.links:
                if other != q or p in seen:
                    continue
                scopes = [table.get((p[0], q[0])) for table in (self.out, self.inn)]
                if all(scope is None or scope.allows(namespace) for scope in scopes):
                    seen.add(p)
                    todo.append(p)
        return seen


def _deliver(world: World, which: int) -> None:
    if world.queue:
        world._arrive(world.queue.pop(which % len(world.queue)), answered=which % 2 == 0)


TABLE: dict[str, Callable[..., None]] = {
    "write": World.write,
    "delete": World.delete,
    "link": World.link,
    "unlink": World.unlink,
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
    "wait": lambda w, seconds: setattr(w, "now", w.now + seconds * SECOND),
}


def run(topology: str, ops: Sequence[Op], **options: Any) -> list[Fault]:
    """Play a history, heal, and return what is broken: nothing, if all is well."""
    world = World(topology, **options)
    for op in ops:
        world.do(op)
    rested = world.heal()
    return [*world.faults(), *([] if rested else [Fault("restless", "the world does not come to rest")])]
