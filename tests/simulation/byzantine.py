"""An allowlisted peer that lies: about who wrote what, about clocks, about cursors and about what it has.

All that it says goes over the wire, as bytes. What is written under a signature that is nobody's is told to the oracle,
which never wants to see it kept. What the liar signs itself, and what it repeats, may be kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from keys import pair

from sync import attest, moment, wire
from sync import clock as clocks
from sync.attest import Author, Unsigned
from sync.canonical import content_digest
from sync.draft import Fields, new_memory
from sync.errors import RemoteError
from sync.feed import Cursor
from sync.ids import memory_id
from sync.memory import Memory
from sync.merge import MAX_KEPT
from sync.record import memory_version
from sync.serve import Ask, Cut, RolledBack
from sync.version import Key, Kind, Version

if TYPE_CHECKING:
    from tests.simulation.nodes import Node
    from tests.simulation.world import World

LIAR = "f" * 16
"""The life that it says it has."""
CERTIFICATE = "cert-liar"
AGENT = "agent:liar"
MOST_HEARD = 40
FLOOD = MAX_KEPT + 3
_memory = msgspec.json.Decoder(Memory)
_encode = msgspec.json.Encoder().encode


@dataclass
class Byzantine:
    """What it has read so far; as any peer it may read all."""

    heard: list[Version] = field(default_factory=list)

    def listen(self, node: Node) -> None:
        for some in node.store.everything().values():
            self.heard += [one.version for one in some if one.version not in self.heard]
        del self.heard[:-MOST_HEARD]


@dataclass(frozen=True)
class Occasion:
    """Where a lie is told: at which node, about whom, of which key."""

    world: World
    node: Node
    victim: Node
    key: Key
    title: str
    ahead: int
    has_seen: bool

    @property
    def author(self) -> Author:
        """The liar: it signs where everybody does."""
        signs = bool(self.world.keys.author(AGENT).key)
        return pair(AGENT) if signs else Unsigned(AGENT)

    @property
    def honest(self) -> list[Version]:
        """Signed versions of others that it has heard of, the newest last."""
        return [one for one in self.world.liar.heard if one.signature and attest.writer_of(one)[1] != pair(AGENT).key]

    def chosen(self, kinds: str = "mtlu") -> Version | None:
        """One of `honest` of these kinds."""
        some = [one for one in self.honest if one.kind in kinds]
        return some[-1 - self.ahead % len(some)] if some else None


def lie(world: World, what: str, at: str, victim: str, namespace: str, title: str, ahead: int, has_seen: bool) -> None:
    """Tell one lie of `LIES` to `at`."""
    key = (namespace, memory_id(namespace, title, 0))
    world.liar.listen(world.nodes[victim])
    world.liar.listen(world.nodes[at])
    LIES[what](Occasion(world, world.nodes[at], world.nodes[victim], key, title, ahead, has_seen))


def forge(world: World, at: str, victim: str, namespace: str, title: str, ahead: int, has_seen: bool = False) -> None:
    """A version that claims to have seen writes of `victim`, the number given from where its feed stands.

    `has_seen`: it builds on what `at` keeps, so only the claim on `victim` is a lie.
    """
    key = (namespace, memory_id(namespace, title, 0))
    _claim(Occasion(world, world.nodes[at], world.nodes[victim], key, title, ahead, has_seen))


def _claim(on: Occasion) -> None:
    """Of the bits that only the victim can compute it guesses another value than the true one.

    Once in 2**20 guesses it would be right, and no rule could tell its claim from a version that has seen that write.
    """
    life = on.victim.store.lives()[-1]
    number = max(1, on.victim.store.position().number + on.ahead)
    guess = number << clocks.MAC_BITS | on.world.random.getrandbits(clocks.MAC_BITS)
    _own(on, {life.actor: guess ^ (guess == clocks.counter(life.secret, *on.key, number))})


def _future(on: Occasion) -> None:
    """It is dated 400 s ahead, so it has to wait."""
    _own(on, {}, ahead=400)


def _huge(on: Occasion) -> None:
    """The greatest counters that are allowed, of its own and of the victim's life."""
    _own(on, {on.victim.life: clocks.MAX_COUNTER, LIAR: clocks.MAX_COUNTER})


def _own(on: Occasion, claims: dict[str, int], ahead: int = 0) -> None:
    """A version of the liar's own, with these claims in its clock."""
    seen = on.node.store.everything().get(on.key, ()) if on.has_seen else ()
    own = {LIAR: on.world.random.randrange(1, 2**40)} | claims
    version = _version(on, clocks.join((own, *(one.version.clock for one in seen))), ahead=ahead)
    if version.tag not in on.world.oracle.versions:
        on.world.oracle.forgery(version, [one.version.tag for one in seen])
    _push(on, [version.doc])


def _version(on: Occasion, clock: clocks.Clock, *, ahead: int = 0, author: Author | None = None) -> Version:
    fields = Fields(namespace=on.key[0], title=on.title, content=f"forged {on.world.random.random()}")
    now = on.world.now + ahead * moment.SECOND
    return memory_version(new_memory(fields, on.key[1], now), author or on.author, clock)


def _equivocate(on: Occasion) -> None:
    """One counter, two contents, each told to another node."""
    clock = {LIAR: on.world.random.randrange(1, 2**40)}
    twins = [_version(on, clock) for _ in range(2)]
    for version in twins:
        on.world.oracle.forgery(version, ())
    if on.author.key:  # of two unsigned ones the merge may keep one (protocol section 8)
        on.world.oracle.twins.append((twins[0].tag, twins[1].tag))
    for node, version in zip((on.node, on.victim), twins, strict=True):
        _push(on, [version.doc], node)


def _flood(on: Occasion) -> None:
    """More versions of one key than are kept."""
    docs = []
    for number in range(FLOOD):
        version = _version(on, {f"{number:015x}f": on.world.random.randrange(1, 2**40)})
        on.world.oracle.forgery(version, ())
        docs.append(version.doc)
    _push(on, docs)


def _replay(on: Occasion) -> None:
    """What it once heard, and which may be long superseded."""
    version = on.chosen()
    if version is not None:
        _push(on, [version.doc], kind=version.kind)


def _strip(on: Occasion) -> None:
    """The very record, without its signature."""
    version = on.chosen("mt")
    if version is None:
        return
    doc, made = _opened(version)
    del made["key"], made["sig"]
    if on.world.keyrings is not None:
        _refusable(on, doc, version)
        return
    for copy in _decoded(_encode(doc), version.kind):
        if copy.tag not in on.world.oracle.versions:
            on.world.oracle.forgery(copy, [version.tag] if version.tag in on.world.oracle.versions else [])
            on.world.oracle.stripped[copy.tag] = version.tag
    _push(on, [_encode(doc)], kind=version.kind)


def _alter(on: Occasion) -> None:
    """Another text under the same attestation, whose digest does not fit."""
    version = on.chosen("m")
    if version is not None:
        doc, _ = _opened(version)
        doc["content"] = f"altered {on.world.random.random()}"
        _refusable(on, doc, version)


def _alter_all(on: Occasion) -> None:
    """Another text with a fitting digest, under the old signature."""
    version = on.chosen("m")
    if version is not None:
        doc, made = _opened(version)
        doc["content"] = f"altered {on.world.random.random()}"
        made["content"] = content_digest(_memory.decode(_encode(doc))).hex()
        _refusable(on, doc, version)


def _forge_signature(on: Occasion) -> None:
    """Another's name and key, and a signature by the liar's."""
    version = on.chosen("m")
    if version is not None:
        doc, made = _opened(version)
        made["clock"] = {**version.clock, LIAR: on.world.random.randrange(1, 2**40)}
        said = attest.Said(
            "m", version.namespace, version.id, made["agent"], version.content, version.at, made["clock"]
        )
        made["sig"] = attest.base64url(pair(AGENT).sign(said.text))
        _refusable(on, doc, version)


def _later_clock(on: Occasion) -> None:
    """A tombstone or memory of another's with a greater clock, under the old signature: it would supersede all."""
    version = on.chosen()
    if version is not None:
        doc, made = _opened(version)
        made["clock"] = {**version.clock, LIAR: 2**40}
        _refusable(on, doc, version)


def _swap_agent(on: Occasion) -> None:
    """The same version, said to be another agent's: it has the tag of the true one."""
    version = on.chosen("mt")
    if version is not None:
        doc, made = _opened(version)
        made["agent"] = AGENT
        _refusable(on, doc, version)


def _transplant(on: Occasion) -> None:
    """The signature of one record on another."""
    version = on.chosen("m")
    others = [one for one in on.honest if version is not None and one.tag != version.tag]
    if version is not None and others:
        doc, made = _opened(version)
        made["sig"] = _opened(others[-1])[1]["sig"]
        _refusable(on, doc, version)


def _malformed(on: Occasion) -> None:
    """A signature with S + L in place of S, and one of all zeros: what lax verifiers let pass."""
    version = on.chosen("mt")
    if version is not None:
        doc, made = _opened(version)
        if on.has_seen:
            s = int.from_bytes(version.signature[32:], "little") + attest.ed25519.L
            made["sig"] = attest.base64url(version.signature[:32] + s.to_bytes(32, "little"))
        else:
            made["sig"] = attest.base64url(bytes(64))
            made["key"] = attest.base64url(bytes(32))
        _refusable(on, doc, version)


def _impersonate(on: Occasion) -> None:
    """Signed truly, with the liar's key, in another agent's name: only a list of whose a key is can tell."""
    version = on.chosen("m")
    if version is None:
        return
    agent = attest.writer_of(version)[0]
    false = attest.KeyPair(agent, pair(AGENT).key, pair(AGENT).seed)
    made = _version(on, {LIAR: on.world.random.randrange(1, 2**40)}, author=false)
    listed = on.world.keyrings is not None and on.world.keyrings.policy == "enrolled"
    if not listed:
        on.world.oracle.forgery(made, ())
    _push(on, [made.doc], false=listed)


def _garbage(on: Occasion) -> None:
    """Bytes that are broken somewhere: refused as a whole or one record alone, and never an error of ours."""
    version = on.chosen()
    body = _body([version.doc] if version else [], version.kind if version else "m")
    at = on.world.random.randrange(len(body))
    broken = body[:at] + on.world.random.randbytes(1 + on.ahead % 3) + body[at + 1 :]
    try:
        incoming = wire.decode_push(broken, CERTIFICATE)
    except RemoteError:
        return
    _tell_oracle(on, incoming.versions)
    on.world.apply(on.node, incoming.page, incoming.versions, on.world.policy_for(on.node, "liar"))


def _cursor(on: Occasion) -> None:
    """It asks with a cursor that nobody issued: in a life of ours or another, with another head."""
    life = on.node.life if on.has_seen else LIAR
    cursor = Cursor(life, 0, max(0, on.node.store.position().number + on.ahead), bytes(8), "0" * 8)
    everything = on.world.policy_for(on.node, "liar")
    ask = Ask(CERTIFICATE, cursor.text, LIAR, everything.scope, everything, 2, 10_000, on.ahead % 2 == 0)
    found = on.node.engine.cut(on.node.store, ask, on.world.clock(on.node))
    if isinstance(found, RolledBack):
        on.world.note(on.node.store.transaction(on.node.engine.rolled_back, CERTIFICATE, on.world.clock(on.node)))
        found = on.node.engine.cut(on.node.store, ask, on.world.clock(on.node))
    assert isinstance(found, Cut)


def _offer(on: Occasion) -> None:
    """It offers what it will never send: invented tags, and true ones that others have."""
    version = on.chosen()
    tag = version.tag if version is not None and on.has_seen else on.world.random.randbytes(16)
    key = version.key if version is not None else on.key
    _push(on, [], offers=[[*key, tag.hex()]])


LIES: dict[str, Callable[[Occasion], None]] = {
    "claim": _claim,
    "future": _future,
    "huge": _huge,
    "equivocate": _equivocate,
    "flood": _flood,
    "replay": _replay,
    "strip": _strip,
    "alter": _alter,
    "alter all": _alter_all,
    "forge signature": _forge_signature,
    "later clock": _later_clock,
    "swap agent": _swap_agent,
    "transplant": _transplant,
    "malformed": _malformed,
    "impersonate": _impersonate,
    "garbage": _garbage,
    "cursor": _cursor,
    "offer": _offer,
}


def _opened(version: Version) -> tuple[dict[str, Any], dict[str, Any]]:
    """A version's document and the attestation in it, to be altered."""
    doc = msgspec.json.decode(version.doc)
    return doc, doc["metadata"]["attestation"] if version.kind == "m" else doc["attestation"]


def _refusable(on: Occasion, doc: dict[str, Any], model: Version) -> None:
    _push(on, [_encode(doc)], kind=model.kind, false=True)


def _push(
    on: Occasion,
    docs: list[bytes],
    node: Node | None = None,
    *,
    kind: Kind = "m",
    offers: list[list[str]] | None = None,
    false: bool = False,
) -> None:
    """A push to a node, with a cursor of the liar's own making. `false`: no record of it may be accepted."""
    node = node or on.node
    to = Cursor(LIAR, on.ahead % 5, 5, bytes(8), "0" * 8).text if on.has_seen else None
    incoming = wire.decode_push(_body(docs, kind, to, node.life, offers or []), CERTIFICATE)
    if false:
        _tell_oracle(on, incoming.versions)
    on.world.apply(node, incoming.page, incoming.versions, on.world.policy_for(node, "liar"))


def _tell_oracle(on: Occasion, versions: tuple[Version, ...]) -> None:
    """These are lies, but where they are what somebody truly wrote."""
    oracle = on.world.oracle
    for one in versions:
        true = oracle.versions.get(one.tag)
        if true is None or _signed_part(one) != _signed_part(true):
            oracle.lies.add(one.doc)


def _signed_part(version: Version) -> dict[str, Any]:
    """A document without `metadata.agent_id`, which no signature is over (protocol section 5): a relay may alter it."""
    doc, _ = _opened(version)
    doc.get("metadata", {}).pop("agent_id", None)
    return doc


def _decoded(doc: bytes, kind: Kind) -> tuple[Version, ...]:
    return wire.decode_push(_body([doc], kind), CERTIFICATE).versions


def _body(
    docs: list[bytes],
    kind: Kind,
    to: str | None = None,
    made_for: str | None = None,
    offers: list[list[str]] | None = None,
) -> bytes:
    where = {"m": "memories", "t": "tombstones", "l": "links", "u": "links"}[kind]
    records = b",".join(b'"%b":[%b]' % (name.encode(), b",".join(docs) if name == where else b"") for name in PARTS)
    envelope = {"sender_agent_id": AGENT, "life": LIAR, "after": None, "to": to, "for": made_for, "reset": False}
    envelope["offers"] = offers or []
    return _encode(envelope)[:-1] + b"," + records + b"}"


PARTS = ("memories", "tombstones", "links")
