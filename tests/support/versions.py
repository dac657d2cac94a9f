"""Records and versions for tests, and a node without a network to put them in."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from keys import ANYBODY, Nobody
from memory_store import MemoryStore
from stamps import stamp

from sync import lives, moment
from sync.attest import Stamp, Unsigned
from sync.draft import Fields
from sync.engine import Engine
from sync.ids import memory_id
from sync.link import LinkFields, link_id, link_version, unlink_version
from sync.memory import Memory
from sync.policy import Policy
from sync.ports import Kept
from sync.receive import Page, Part, Taken
from sync.record import memory_version, tombstone_version
from sync.scope import Globs
from sync.serve import Ask
from sync.version import Key, Version
from sync.writes import Written

SECOND = moment.SECOND
NOW = 1_800_000_000 * SECOND
ALICE, BOB, CAROL = "a" * 16, "b" * 16, "c" * 16
"""Actors of nodes that these tests do not run."""
PEER = "sha256:" + "5" * 64
ID = "0b5c6a4e-0000-5000-8000-000000000001"
OTHER = "0b5c6a4e-0000-5000-8000-000000000002"
EVERYTHING = Globs.everything()


def memory(**fields: Any) -> Memory:
    """A memory that satisfies all limits, with these fields changed."""
    at = moment.text(NOW)
    usual: dict[str, Any] = {
        "id": ID, "tier": "long", "namespace": "a", "title": "x", "content": "text", "tags": [], "priority": 5,
        "confidence": 1.0, "source": "api", "created_at": at, "updated_at": at, "metadata": {},
    }  # fmt: skip
    return Memory(**{**usual, **fields})


def version(clock: Mapping[str, int] | Stamp | None = None, *, signature: bytes = b"", **fields: Any) -> Version:
    """A version of a memory by another node. `seconds`: its time, from `NOW`."""
    seconds = fields.pop("seconds", 0)
    fields.setdefault("updated_at", moment.text(NOW + round(seconds * SECOND)))
    made = memory_version(memory(**fields), Unsigned("agent:other"), _stamp(clock or {ALICE: 1}))
    return replace(made, signature=signature, tag=b"")


def _stamp(clock: Mapping[str, int] | Stamp) -> Stamp:
    return clock if isinstance(clock, Stamp) else stamp(clock)


def stone(
    clock: Mapping[str, int] | Stamp, *, seconds: float = 0, namespace: str = "a", record_id: str = ID
) -> Version:
    """A tombstone by another node."""
    return tombstone_version(
        namespace, record_id, moment.text(NOW + round(seconds * SECOND)), Unsigned("agent:other"), _stamp(clock)
    )


def link(clock: Mapping[str, int] | Stamp, *, seconds: float = 0, namespace: str = "a", **fields: Any) -> Version:
    """A link by another node, from the memory `ID` to `OTHER` where nothing else is said."""
    usual: dict[str, Any] = {
        "source_id": ID, "target_id": OTHER, "relation": "related_to",
        "created_at": moment.text(NOW + round(seconds * SECOND)),
    }  # fmt: skip
    return link_version(namespace, **{**usual, **fields}, author=Unsigned("agent:other"), stamp=_stamp(clock))


def unlink(clock: Mapping[str, int] | Stamp, *, seconds: float = 0, namespace: str = "a", **fields: Any) -> Version:
    """An unlink by another node."""
    usual = {"source_id": ID, "target_id": OTHER, "relation": "related_to"}
    at = moment.text(NOW + round(seconds * SECOND))
    return unlink_version(namespace, **{**usual, **fields}, at=at, author=Unsigned("agent:other"), stamp=_stamp(clock))


def verified(versions: Sequence[Version], *, first: bool = True, last: bool = True) -> Part:
    """A part of a page whose signatures count as verified: they may be any bytes."""
    return Part(versions, first, last, frozenset(range(len(versions))))


class Desk:
    """A node without a network: a store, an engine, and a clock that the test sets."""

    def __init__(self, seed: int = 1) -> None:
        self.store = MemoryStore()
        self.engine = Engine("node:desk", random.Random(seed).randbytes, Nobody())
        self.now = NOW
        self.begin(lives.START)

    def do(self, verb: Callable[..., Any], *args: Any) -> Any:
        """One of the engine's verbs in a transaction, at the time of this desk's clock."""
        return self.store.transaction(verb, *args, self.now)

    def begin(self, reason: str) -> int:
        rewritten: int = self.store.transaction(self.engine.begin_life, self.now, reason)
        return rewritten

    def write(self, title: str = "x", content: str = "text", **fields: Any) -> Written:
        """Store under a title, in namespace `a` if no other is given; long-lived, so that its expiry plays no part."""
        usual: dict[str, Any] = {"namespace": "a", "tier": "long"}
        written: Written = self.do(
            self.engine.store, Fields(title=title, content=content, **{**usual, **fields}), "agent:desk"
        )
        return written

    def update(self, key: Key, **fields: Any) -> Any:
        return self.do(self.engine.update, key, Fields(**fields), "agent:desk")

    def delete(self, key: Key) -> Any:
        return self.do(self.engine.delete, key, "agent:desk")

    def link(self, title: str, target_id: str, *, namespace: str = "a", **fields: Any) -> Any:
        """Link the memory of this title to another, which need not be here."""
        wanted = LinkFields(source_id=memory_id(namespace, title, 0), target_id=target_id, **fields)
        return self.do(self.engine.link, namespace, wanted, "agent:desk")

    def unlink(self, title: str, target_id: str, relation: str = "related_to", *, namespace: str = "a") -> int:
        key = (namespace, link_id(memory_id(namespace, title, 0), target_id, relation))
        taken: int = self.do(self.engine.unlink, (key,), "agent:desk")
        return taken

    def take(self, *versions: Version, scope: Globs = EVERYTHING, **fields: Any) -> Taken:
        """Receive a page in one part. `fields`: of the page; it moves no cursor if they do not say so."""
        page = self.page(**fields)
        taken: Taken = self.do(self.engine.receive, page, verified(versions), Policy(scope, ANYBODY), Taken())
        return replace(taken, alarms=(*taken.alarms, *self.engine.received(page, taken, self.now)))

    def cut(self, cursor: str | None = None, made_for: str | None = None, **fields: Any) -> Any:
        """Cut a page of this feed for `PEER`, which may read everything; a `Cut`, or `RolledBack`."""
        usual: dict[str, Any] = {
            "peer": PEER, "cursor": cursor, "made_for": made_for, "scope": EVERYTHING,
            "policy": Policy(EVERYTHING, ANYBODY), "limit": 100, "max_bytes": 10**6,
        }  # fmt: skip
        return self.engine.cut(self.store, Ask(**{**usual, **fields}), self.now)

    def page(self, **fields: Any) -> Page:
        usual: dict[str, Any] = {
            "peer": PEER, "life": ALICE, "after": None, "to": None, "made_for": self.life, "reset": False,
        }  # fmt: skip
        return Page(**{**usual, **fields})

    def kept(self, key: Key = ("a", ID)) -> Sequence[Kept]:
        return self.store.everything().get(key, ())

    def tags(self, key: Key = ("a", ID)) -> set[bytes]:
        return {one.version.tag for one in self.kept(key)}

    @property
    def life(self) -> str:
        """The live life's actor."""
        return self.store.lives()[-1].actor
