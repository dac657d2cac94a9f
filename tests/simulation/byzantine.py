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

from sync import attest, context, merge, moment, wire
from sync import dot as dots
from sync.attest import MAX_DEPTH, Author, Stamp, Unsigned
from sync.canonical import content_digest
from sync.context import NOTHING, Context, join
from sync.dot import Dot
from sync.draft import Fields, new_memory
from sync.errors import RemoteError
from sync.feed import Cursor
from sync.ids import memory_id
from sync.memory import Memory
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
_memory = msgspec.json.Decoder(Memory)
_encode = msgspec.json.Encoder().encode


@dataclass
class Byzantine:
    """What it has read so far; as any peer it may read all."""

    heard: list[Version] = field(default_factory=list)

    def listen(self, node: Node) -> None:
        known = set(self.heard)
        for some in node.store.everything().values():
            come = [one.version for one in some if one.version not in known]
            self.heard += come
            known.update(come)
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
    def kept(self) -> list[Version]:
        """What `node` keeps of the key, the winner first."""
        return [one.version for one in self.node.store.everything().get(self.key, ())]

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
    check = _invented(on)
    guess = number << dots.MAC_BITS | on.world.random.getrandbits(dots.MAC_BITS)
    true = dots.counter(life.secret, *on.key, check, number)
    _own(on, [Dot(life.actor, guess ^ (guess == true), check)])


def _future(on: Occasion) -> None:
    """It is dated 400 s ahead, so it has to wait."""
    _own(on, [], ahead=400)


def _huge(on: Occasion) -> None:
    """The greatest counters that are allowed, of the victim's life and of its own dot."""
    _own(on, [Dot(on.victim.life, dots.MAX_COUNTER, _invented(on))], counter=dots.MAX_COUNTER)


def _invent(on: Occasion) -> None:
    """A context that is full of actors which nobody is."""
    room = context.MAX_ENTRIES - len(_truly_seen(on))
    _own(on, [Dot(on.world.random.randbytes(8).hex(), 9, _invented(on)) for _ in range(max(0, room))])


def _short(on: Occasion) -> None:
    """It names what it replaces, and nothing of what that had seen."""
    seen = on.kept
    _tell(on, _version(on, Stamp(_named(seen), 1 + _deepest(seen), _dot(on))), seen)


def _deep(on: Occasion) -> None:
    """As deep as a version can be: nothing that is written over it can be deeper."""
    seen = on.kept
    _tell(on, _version(on, Stamp(_named(seen), MAX_DEPTH, _dot(on))), seen)


def _impostor(on: Occasion) -> None:
    """A dot of the victim's live life, which it never gave."""
    number = max(1, on.victim.store.position().number + on.ahead)
    counter = number << dots.MAC_BITS | on.world.random.getrandbits(dots.MAC_BITS)
    life = on.victim.store.lives()[-1]

    def dot(check: str) -> Dot:
        true = dots.counter(life.secret, *on.key, check, number)
        return Dot(life.actor, counter ^ (counter == true), check)

    seen = on.kept if on.has_seen else []
    _tell(on, _version(on, Stamp(_named(seen), 1 + _deepest(seen), dot)), seen)


def _copy(on: Occasion) -> None:
    """Other content under the very counter, context and depth of somebody's write, for who has not got that."""
    if on.kept:
        true = on.kept[0]
        stamp = Stamp(true.context, true.depth, lambda check: Dot(true.dot.actor, true.dot.counter, check))
        # It says truly what that write had seen; of the write itself it knows nothing.
        book = on.world.oracle
        seen = [book.versions[tag] for tag in book.ancestors.get(true.tag, ())]
        _tell(on, _version(on, stamp), seen, on.victim)


def _circle(on: Occasion) -> None:
    """Two or three versions, each of which says that it has seen the next; for different nodes."""
    some = [on.world.random.randbytes(8).hex() for _ in range(2 + on.ahead % 2)]
    depth = MAX_DEPTH if on.has_seen else 1
    for place, actor in enumerate(some):
        following = Dot(some[(place + 1) % len(some)], 6 << dots.MAC_BITS, _invented(on))
        stamp = Stamp(Context([following]), depth, lambda check, actor=actor: Dot(actor, 5, check))  # type: ignore[misc]  # a default binds it
        _tell(on, _version(on, stamp), [], on.victim if place % 2 else on.node)


def _own(on: Occasion, claims: list[Dot], ahead: int = 0, counter: int = 0) -> None:
    """A version of the liar's own, with these claims in its context."""
    seen = on.kept if on.has_seen else []
    own = counter or on.world.random.randrange(1, 2**20) << dots.MAC_BITS
    past = [entry for entry in _truly_seen(on) if entry.actor not in {LIAR, *(claim.actor for claim in claims)}]
    stamp = Stamp(Context([*past, *claims]), 1 + _deepest(seen), lambda check: Dot(LIAR, own, check))
    _tell(on, _version(on, stamp, ahead=ahead), seen)


def _tell(on: Occasion, version: Version, seen: list[Version], node: Node | None = None) -> None:
    """Push a version of the liar's own, whose author had truly seen those that its context covers."""
    if version.tag not in on.world.oracle.versions:
        on.world.oracle.forgery(version, [one.tag for one in seen if version.context.covers(one.dot)])
    _push(on, [version.doc], node)


def _truly_seen(on: Occasion) -> Context:
    kept = on.kept if on.has_seen else []
    return join([(one.context, one.dot) for one in reversed(kept)], on.world.now)


def _named(seen: list[Version]) -> Context:
    return Context(dict.fromkeys(one.dot for one in seen if one.context.number(LIAR) < 0))


def _deepest(seen: list[Version]) -> int:
    return min(MAX_DEPTH - 1, max((one.depth for one in seen), default=0))


def _dot(on: Occasion) -> Callable[[str], Dot]:
    actor = on.world.random.randbytes(8).hex()
    return lambda check: Dot(actor, 5, check)


def _invented(on: Occasion) -> str:
    return on.world.random.randbytes(dots.CHECK_DIGITS // 2).hex()


def _version(on: Occasion, stamp: Stamp, *, ahead: int = 0, author: Author | None = None) -> Version:
    fields = Fields(namespace=on.key[0], title=on.title, content=f"forged {on.world.random.random()}")
    now = on.world.now + ahead * moment.SECOND
    return memory_version(new_memory(fields, on.key[1], now), author or on.author, stamp)


def _equivocate(on: Occasion) -> None:
    """One counter, two contents, each told to another node."""
    stamp = Stamp(NOTHING, 1, _dot(on))
    twins = [_version(on, stamp) for _ in range(2)]
    for version in twins:
        on.world.oracle.forgery(version, ())
    if on.author.key:  # of two unsigned ones the merge may keep one (protocol section 8)
        on.world.oracle.twins.append((twins[0].tag, twins[1].tag))
    for node, version in zip((on.node, on.victim), twins, strict=True):
        _push(on, [version.doc], node)


def _flood(on: Occasion) -> None:
    """More versions of one key than are kept."""
    docs = []
    for _ in range(merge.MAX_KEPT + 3):
        version = _version(on, Stamp(NOTHING, 1, _dot(on)))
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
        made["dot"] = [on.world.random.randbytes(8).hex(), 9]
        made["context"] = [list(version.dot)]
        read = attest.read(made, "m", *version.key, version.content, version.at)
        assert isinstance(read, attest.Attested), read
        made["sig"] = attest.base64url(pair(AGENT).sign(read.text))
        _refusable(on, doc, version)


def _later_context(on: Occasion) -> None:
    """A tombstone or memory of another's that has seen more, under the old signature."""
    version = on.chosen()
    if version is not None:
        doc, made = _opened(version)
        made["context"] = [*made["context"], [LIAR, 2**50, _invented(on)]]
        _refusable(on, doc, version)


def _deeper(on: Occasion) -> None:
    """Another's version, said to lie deeper than it does."""
    version = on.chosen()
    if version is not None:
        doc, made = _opened(version)
        made["depth"] += 9
        _refusable(on, doc, version)


def _other_dot(on: Occasion) -> None:
    """Another's version, said to be a write of the liar's life."""
    version = on.chosen()
    if version is not None and version.context.number(LIAR) < 0:
        doc, made = _opened(version)
        made["dot"] = [LIAR, 2**50]
        _refusable(on, doc, version)


def _swap_agent(on: Occasion) -> None:
    """The same version, said to be another agent's."""
    version = on.chosen("mt")
    if version is not None:
        doc, made = _opened(version)
        made["agent"] = AGENT
        _refusable(on, doc, version)


def _swap_key(on: Occasion) -> None:
    """The same version, said to be signed with another key: it has the tag of the true one."""
    version = on.chosen("mt")
    if version is not None and version.signature:
        doc, made = _opened(version)
        made["key"] = attest.base64url(pair(AGENT).key)
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
    made = _version(on, Stamp(NOTHING, 1, _dot(on)), author=false)
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
    "invent": _invent,
    "short": _short,
    "deep": _deep,
    "impostor": _impostor,
    "copy": _copy,
    "circle": _circle,
    "equivocate": _equivocate,
    "flood": _flood,
    "replay": _replay,
    "strip": _strip,
    "alter": _alter,
    "alter all": _alter_all,
    "forge signature": _forge_signature,
    "later context": _later_context,
    "deeper": _deeper,
    "other dot": _other_dot,
    "swap agent": _swap_agent,
    "swap key": _swap_key,
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
    """A document as values: its bytes may differ."""
    return _opened(version)[0]


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
