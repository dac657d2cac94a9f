"""Keyrings in a simulated mesh: each node's own, edited by its operator, and the keys that agents sign with.

What is listed is text that goes through `sync.keyring`. Beside it stands what the operator meant, and the oracle judges
by that: it looks at no rule of `sync.trust`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
from keys import pair

from sync import attest, keyring, moment
from sync.attest import KeyPair
from sync.keyring import KeyringError
from sync.trust import KeyPolicy, Trust
from sync.version import Version

if TYPE_CHECKING:
    from tests.simulation.world import World

LIAR = "!"
"""How the liar's agent is named in an operation."""


@dataclass(frozen=True)
class Made:
    """A key that an agent was given, and the one that it took over from."""

    pair: KeyPair
    after: KeyPair | None = None
    at: str = ""
    """When it took over, canonical."""

    @cached_property
    def handover(self) -> bytes:
        """The signature of the key before, by which it took over."""
        assert self.after is not None, "the first key of its agent"
        return self.after.sign(keyring.successor_text(self.pair.agent, self.pair.key, self.after.key, self.at))


@dataclass
class Signers:
    """The key pairs of one node's agents. They are in its store: an older copy signs with the former ones."""

    current: dict[str, KeyPair] = field(default_factory=dict)

    def author(self, agent: str) -> KeyPair:
        return self.current.get(agent) or pair(agent)

    def __deepcopy__(self, _memo: Any) -> Signers:
        """A snapshot of the process has the node's own; `Backup.signers` has what they were."""
        return self


@dataclass(frozen=True)
class Ring:
    """One node's keyring."""

    policy: KeyPolicy
    text: str = ""
    meant: tuple[tuple[bytes, str, str | None], ...] = ()
    """Key, agent, and the canonical time from which on it is revoked."""

    @cached_property
    def trust(self) -> Trust:
        """What the product makes of it: unsigned records are refused."""
        return Trust(keyring.parse(self.text, "keyring"), self.policy)

    def admits(self, version: Version) -> bool:
        """Whether this node may take a version from a peer, for the oracle: by all whose word it is."""
        return all(self._takes(*word) for word in _words(version))

    def _takes(self, agent: str, key: bytes, at: str) -> bool:
        if not key:
            return False
        for listed, owner, revoked in self.meant:
            if listed == key:
                return owner == agent and (revoked is None or at < revoked)
        return self.policy == "any" and all(owner != agent for _, owner, _ in self.meant)

    def lists(self, key: bytes) -> bool:
        return any(listed == key for listed, _, _ in self.meant)

    def keys_of(self, agent: str) -> list[bytes]:
        return [listed for listed, owner, _ in self.meant if owner == agent]

    def revoked(self, key: bytes, at: str) -> Ring:
        """`ai-memory identity revoke`. `at`: canonical."""
        meant = tuple((listed, owner, at if listed == key else old) for listed, owner, old in self.meant)
        return replace(self, text=keyring.revoke(self.text, key, at), meant=meant)

    def struck(self, key: bytes) -> Ring:
        """A line taken out; none where a successor's line names it."""
        try:
            text = keyring.remove(self.text, key)
        except KeyringError:
            return self
        return replace(self, text=text, meant=tuple(one for one in self.meant if one[0] != key))

    def enrolled(self, made: Made) -> Ring:
        """`ai-memory identity enroll`, of a line that `generate` or `rotate` prints."""
        new, old = made.pair, made.after
        if self.lists(new.key):
            return self
        if old is not None and self.lists(old.key):
            text = keyring.add_successor(self.text, new.agent, new.key, old.key, made.at, made.handover)
        else:
            text = keyring.add(self.text, new.key, new.agent)
        return replace(self, text=text, meant=(*self.meant, (new.key, new.agent, None)))


class Keyrings:
    """What all operators of a mesh know: every key that was ever made."""

    def __init__(self, policy: KeyPolicy) -> None:
        self.policy = policy
        self.made: dict[str, list[Made]] = {}

    def of(self, agent: str) -> list[Made]:
        """The agent's keys, the first one first."""
        return self.made.setdefault(agent, [Made(pair(agent))])

    def rotated(self, old: KeyPair, at: str) -> Made:
        """Another key for an agent, signed by this one."""
        known = self.of(old.agent)
        fresh = pair(f"{old.agent} key {len(known)}")
        known.append(Made(KeyPair(old.agent, fresh.key, fresh.seed), old, at))
        return known[-1]

    def common(self, rings: list[Ring]) -> Ring:
        """What all operators agree on in the end: each key, revoked or not as the first who lists it says."""
        ring = Ring(self.policy)
        for made in (made for some in self.made.values() for made in some):
            ring = ring.enrolled(made)
            key = made.pair.key
            said = [revoked for one in rings for listed, _, revoked in one.meant if listed == key]
            if said and said[0] is not None:
                ring = ring.revoked(key, said[0])
        return ring


def agents(whose: str) -> tuple[str, ...]:
    """The agents that write at a node: whoever uses it, and the node itself."""
    return ("agent:liar",) if whose == LIAR else (f"agent:{whose}", f"node:{whose}")


def enrol(world: World, at: str, whose: str, only_newest: bool) -> None:
    """An operator enters the agents of some nodes: each key that they had, or that which they sign with now."""
    node, known = world.nodes[at], world.keyrings
    assert known is not None
    for agent in (agent for name in whose for agent in agents(name)):
        for made in known.of(agent)[-1 if only_newest else 0 :]:
            node.ring = node.the_ring.enrolled(made)


def strike(world: World, at: str, whose: str) -> None:
    """An operator takes the newest line of each agent of a node out."""
    node = world.nodes[at]
    for agent in agents(whose):
        for key in node.the_ring.keys_of(agent)[-1:]:
            node.ring = node.the_ring.struck(key)


def revoke(world: World, at: str, whose: str, seconds: int | None) -> None:
    """An operator revokes the newest key of each agent of a node, from so many seconds on; None: from its last word."""
    node = world.nodes[at]
    for agent in agents(whose):
        for key in node.the_ring.keys_of(agent)[-1:]:
            since = moment.text(world.clock(node) + (seconds or 0) * moment.SECOND)
            if seconds is None:
                since = max(
                    (one.at for one in world.oracle.versions.values() if _words(one)[0][1] == key), default=since
                )
            node.ring = node.the_ring.revoked(key, since)


def rotate(world: World, name: str) -> None:
    """`ai-memory identity rotate`, for the agents of a node; its own keyring has the new line where it has the old."""
    node, known = world.nodes[name], world.keyrings
    assert known is not None
    signers = node.engine.keys
    assert isinstance(signers, Signers)
    for agent in agents(name):
        old = signers.author(agent)
        made = known.rotated(old, moment.text(world.clock(node)))
        signers.current[agent] = made.pair
        if node.the_ring.lists(old.key):
            node.ring = node.the_ring.enrolled(made)


class _Said(msgspec.Struct):
    agent: str
    at: str
    key: str = ""
    first: _Said | None = None


class _Metadata(msgspec.Struct):
    attestation: _Said


class _Signed(msgspec.Struct):
    attestation: _Said | None = None
    metadata: _Metadata | None = None


_signed = msgspec.json.Decoder(_Signed)


def _words(version: Version) -> tuple[tuple[str, bytes, str], ...]:
    """Agent, key and time as they stand in a document: of who wrote it, then of whose content it writes on.

    The key is empty where it is unsigned.
    """
    return _words_in(version.doc)


@lru_cache(maxsize=4_096)
def _words_in(doc: bytes) -> tuple[tuple[str, bytes, str], ...]:
    found = _signed.decode(doc)
    said = found.metadata.attestation if found.metadata is not None else found.attestation
    assert said is not None
    some = (said,) if said.first is None else (said, said.first)
    return tuple((one.agent, attest.from_base64url(one.key, 32) or b"", one.at) for one in some)
