"""The network between simulated nodes: pages pushed and pulled, and lost, doubled, delayed and cut short."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
from keys import ANYBODY

from sync import attest, serve, wire
from sync.attest import Keychain
from sync.policy import Policy
from sync.receive import Alarm, Page, Part, Taken, current_cursor
from sync.scope import Globs
from sync.serve import Ask, Cut, RolledBack
from sync.trust import KeyPolicy
from sync.version import Version
from tests.simulation.keyrings import Ring
from tests.simulation.nodes import Node, Nodes

EVERYTHING = Globs.everything()
NOTHING = Taken()
Link = tuple[str, str, Sequence[str]]
"""Who pushes to, or is pulled from by whom; and how."""


@dataclass
class Message:
    sender: str
    receiver: str
    push: bool
    body: bytes
    asked_with: str | None
    asker_life: str
    cut: Cut | None = None
    """What a push carries, for whoever reads the answer."""


class Network(Nodes):
    """Nodes that talk. `page_limit` keys or `page_bytes` of documents a page, `slice_size` versions a transaction."""

    def __init__(
        self,
        names: str,
        links: Sequence[Link],
        *,
        page_limit: int,
        page_bytes: int,
        slice_size: int,
        seed: int,
        keys: Keychain | None,
        policy: KeyPolicy | None,
    ) -> None:
        self.links = list(links)
        self.page_limit = page_limit
        self.page_bytes = page_bytes
        self.slice_size = slice_size
        self.alarms: list[str] = []
        self.notes: list[Alarm] = []
        self.queue: list[Message] = []
        self.cut_links: set[frozenset[str]] = set()
        self.out: dict[tuple[str, str], Globs] = {}
        self.inn: dict[tuple[str, str], Globs] = {}
        self.bodies_sent = 0
        self.offers_sent = 0
        self._is_quiet = False
        self._policies: dict[tuple[int, int], tuple[Policy, Ring | None]] = {}
        """Whose tags are worked out once: by the identity of scope and ring, which live as long as this does."""
        super().__init__(names, seed, keys, policy)

    def hang_up(self, node: Node) -> None:
        """Nobody reads the answers to what this process had asked."""
        self.queue = [m for m in self.queue if m.push or m.receiver != node.name]

    def restart(self, node: Node) -> None:
        self.hang_up(node)
        super().restart(node)

    def _ask(self, sender: Node, receiver: Node, cursor: str | None, made_for: str, push: bool) -> Cut:
        ask = Ask(
            receiver.peer,
            cursor,
            made_for,
            self._outbound(sender, receiver),
            self._policy(sender, receiver),
            self.page_limit,
            self.page_bytes,
            push,
            sender.wanted.get(receiver.name, frozenset()) if push else frozenset(),
        )
        result = sender.engine.cut(sender.store, ask, self.clock(sender))
        if isinstance(result, RolledBack):
            alarms = sender.store.transaction(sender.engine.rolled_back, receiver.peer, self.clock(sender))
            self.note(alarms)
            result = sender.engine.cut(sender.store, ask, self.clock(sender))
        assert isinstance(result, Cut)
        if result.page.offers:
            self.offers_sent += len(msgspec.json.decode(b"[%b]" % result.page.offers))
        self.bodies_sent += result.page.count
        return result

    def _outbound(self, sender: Node, receiver: Node) -> Globs:
        return self.out.get((sender.name[0], receiver.name[0]), EVERYTHING)

    def _policy(self, receiver: Node, sender: Node) -> Policy:
        return self.policy_for(receiver, sender.name[0])

    def policy_for(self, receiver: Node, sender: str) -> Policy:
        """What a node takes from another: the one place where the simulator makes a policy."""
        scope, ring = self.inn.get((sender, receiver.name[0]), EVERYTHING), receiver.ring
        found = self._policies.get((id(scope), id(ring)))
        if found is None:
            found = (Policy(scope, ANYBODY if ring is None else ring.trust), ring)
            self._policies[id(scope), id(ring)] = found
        return found[0]

    def push(self, sender: str, receiver: str, how: str = "ok") -> None:
        p, q = self.nodes[sender], self.nodes[receiver]
        if how == "lost" or self._is_cut(sender, receiver):
            return
        if receiver not in p.view or how == "hello":
            p.view[receiver] = (self._have(q, p), q.life)
        have, life = p.view[receiver]
        cut = self._ask(p, q, have, life, push=True)
        message = Message(sender, receiver, True, wire.encode_push(f"node:{sender}", cut), None, "", cut)
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
        if message.cut is not None and answered:
            answer = wire.decode_answer(wire.encode_answer(taken, incoming.refused))
            sender.view[receiver.name] = (answer.have, answer.life)
            before = sender.wanted.get(receiver.name, frozenset())
            sender.wanted[receiver.name] = serve.wanted_next(
                message.cut, answer.have, answer.applied, answer.wanted, before
            )

    def apply(
        self, receiver: Node, page: Page, versions: tuple[Version, ...], policy: Policy, torn: bool = False
    ) -> Taken | None:
        """A page, in transactions of `slice_size` versions. `torn`: the process dies on the way; then None.

        A page of one transaction is torn inside it: all that it did is undone.
        """
        parts = [versions[i : i + self.slice_size] for i in range(0, len(versions), self.slice_size)] or [()]
        total = NOTHING
        for index, some in enumerate(parts):
            part = Part(some, index == 0, index + 1 == len(parts), attest.genuine(some))
            if torn and index:
                self.restart(receiver)
                return None
            now = self.clock(receiver)
            if torn and part.last:
                self.die_in(receiver, receiver.engine.receive, page, part, policy, total, now)
                return None
            taken = receiver.store.transaction(receiver.engine.receive, page, part, policy, total, now)
            total = total.joined(taken) if index else taken
            if not part.last:
                self._between(receiver, page.peer)
        total = receiver.engine.asking(page, versions, total, self.clock(receiver))
        self.note((*total.alarms, *receiver.engine.received(page, total, self.clock(receiver))))
        return total

    def note(self, alarms: Iterable[Alarm]) -> None:
        for alarm in alarms:
            self.alarms.append(alarm.kind)
            self.notes.append(alarm)

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
