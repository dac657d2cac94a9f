"""Makes `attestation.json`: signed records of each kind under fixed keys, and the same with one thing altered.

    python tests/vectors/make.py > tests/vectors/attestation.json

What an implementation in another language does with them: sign `text` with the seed of the record's agent and compare
with `sig`, and verify each record; `valid` says what it has to find.
"""

import base64
import copy
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from sync import attest, ed25519
from sync.attest import Attested, KeyPair, Stamp, base64url, claims_of, first_of
from sync.context import Context
from sync.dot import Dot, seen_until
from sync.link import link_version, unlink_version
from sync.memory import Memory
from sync.record import memory_version, tombstone_version
from sync.version import Version

ALICE, BOB = (KeyPair.of(agent, bytes([byte]) * 32) for agent, byte in (("ai:alice", 1), ("ai:bob", 2)))
ID, OTHER = "0b5c6a4e-0000-5000-8000-000000000001", "0b5c6a4e-0000-5000-8000-000000000002"
AT, LATER = "2026-11-25T08:00:00.000000+00:00", "2026-11-25T09:30:00.123456+00:00"
LATEST = "2026-11-25T10:00:00.000000+00:00"
SEEN = Dot("0123456789abcdef", 4503599627370496, "00112233445566778899aabb")
OWN = Dot("aaaaaaaaaaaaaaaa", 7 << 20, "")
NODES = Dot("bbbbbbbbbbbbbbbb", 1, "")


def stamp(*seen: Dot, own: Dot = OWN) -> Stamp:
    """Of a write that has seen these."""
    return Stamp(Context(seen), 1 + len(seen), lambda check: own._replace(check=check))


NAMES = {"m": "memory", "t": "tombstone", "l": "link", "u": "unlink"}
Record = dict[str, Any]


def memory(**fields: Any) -> Memory:
    usual: dict[str, Any] = {
        "id": ID, "tier": "long", "namespace": "team/notes", "title": "Tea", "content": "Green, two minutes.",
        "tags": ["kitchen", "tea"], "priority": 5, "confidence": 1.0, "source": "api", "created_at": AT,
        "updated_at": LATER, "metadata": {},
    }  # fmt: skip
    return Memory(**{**usual, **fields})


def valid() -> Iterator[tuple[str, Version]]:
    """What agents say, each with its name."""
    yield "a memory", memory_version(memory(), ALICE, stamp(SEEN))
    yield (
        "a memory with all that it can have",
        memory_version(
            memory(
                content='Zeilen\n\tund "Zeichen": ü € 😀 \\ /', confidence=0.25, tier="short",
                expires_at="2026-11-26T08:00:00.000000+00:00",
                metadata={"agent_id": "ai:first", "b": [1, None, True, {"z": 1, "a": -7}], "a": "€"},
            ),
            BOB, stamp(SEEN, SEEN._replace(check="b" * 24), seen_until(1_764_000_000_000_000)),
        ),
    )  # fmt: skip
    yield "a tombstone", tombstone_version("team/notes", ID, LATER, ALICE, stamp(SEEN))
    yield "a link", link_version("team/notes", ID, OTHER, "supersedes", AT, ALICE, stamp(SEEN), observed_by="ai:alice")
    yield (
        "a link with a validity",
        link_version("team", ID, OTHER, "derived_from", AT, BOB, stamp(), at=LATER, valid_from=AT, valid_until=LATER),
    )
    by_alice = memory_version(memory(), ALICE, stamp())
    yield (
        "a memory that a node wrote on",
        memory_version(memory(updated_at=LATEST, metadata={"agent_id": "ai:alice"}), BOB,
                       replace(stamp(by_alice.dot, own=NODES), first=first_of(by_alice))),
    )  # fmt: skip
    yield "an unlink", unlink_version("team/notes", ID, OTHER, "supersedes", LATER, BOB, stamp(SEEN))


def attestation_in(record: Record) -> Record:
    found: Record = record["metadata"]["attestation"] if "metadata" in record else record["attestation"]
    return found


def _resigned(record: Record) -> None:
    """Bob signs what Alice said, and leaves her name in it."""
    made = attestation_in(record)
    read = attest.read(
        made, "m", record["namespace"], record["id"], bytes.fromhex(made["content"]), record["updated_at"]
    )
    assert isinstance(read, Attested), read
    made["sig"] = base64url(BOB.sign(read.text))


def _s_plus_l(record: Record) -> None:
    """The same point equation, another text: S is not less than L."""
    made = attestation_in(record)
    raw = _raw(made["sig"])
    s = int.from_bytes(raw[32:], "little") + ed25519.L
    made["sig"] = base64url(raw[:32] + s.to_bytes(32, "little"))


def _raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


def _set(name: str, value: Any) -> Callable[[Record], None]:
    return lambda record: record.update({name: value})


def _in_attestation(name: str, value: Any) -> Callable[[Record], None]:
    return lambda record: attestation_in(record).update({name: value})


def _first_writer(record: Record) -> None:
    record["metadata"]["agent_id"] = "ai:bob"


def _first_signature(record: Record) -> None:
    made = attestation_in(record)
    made["first"]["sig"] = made["sig"]


ALTERED: dict[str, tuple[str, Callable[[Record], None]]] = {
    "another title": ("a memory", _set("title", "Coffee")),
    "another content": ("a memory", _set("content", "Green, three minutes.")),
    "another namespace": ("a memory", _set("namespace", "public")),
    "another id": ("a memory", _set("id", OTHER)),
    "another tag": ("a memory", _set("tags", ["kitchen"])),
    "another priority": ("a memory", _set("priority", 6)),
    "another confidence": ("a memory", _set("confidence", 0.5)),
    "another tier": ("a memory", _set("tier", "mid")),
    "another source": ("a memory", _set("source", "cli")),
    "another time of making": ("a memory", _set("created_at", LATER)),
    "another time": ("a memory", _set("updated_at", AT)),
    "an expiry": ("a memory", _set("expires_at", LATER)),
    "metadata added": ("a memory", lambda record: record["metadata"].update(x=1)),
    "another agent": ("a memory", _in_attestation("agent", "ai:bob")),
    "another key": ("a memory", _in_attestation("key", base64url(BOB.key))),
    "another dot": ("a memory", _in_attestation("dot", [OWN.actor, OWN.counter + 1])),
    "another context": ("a memory", _in_attestation("context", [list(SEEN), ["b" * 16, 1, "c" * 24]])),
    "another content in the context": ("a memory", _in_attestation("context", [[*SEEN[:2], "c" * 24]])),
    "another depth": ("a memory", _in_attestation("depth", 9)),
    "another first writer": ("a memory with all that it can have", _first_writer),
    "another's word in the first author's": ("a memory that a node wrote on", _first_signature),
    "without its first author": (
        "a memory that a node wrote on",
        lambda record: attestation_in(record).__delitem__("first"),
    ),
    "signed by another": ("a memory", _resigned),
    "an S of L and more": ("a memory", _s_plus_l),
    "a key of small order": ("a memory", _in_attestation("key", base64url(bytes(32)))),
    "a tombstone moved to another id": ("a tombstone", _set("id", OTHER)),
    "a tombstone moved to another namespace": ("a tombstone", _set("namespace", "public")),
    "a tombstone of another time": ("a tombstone", _set("deleted_at", AT)),
    "a link turned round": ("a link", lambda record: record.update(source_id=OTHER, target_id=ID)),
    "a link of another relation": ("a link", _set("relation", "contradicts")),
    "a link moved to another namespace": ("a link", _set("namespace", "public")),
    "a link valid for longer": ("a link with a validity", _set("valid_until", "2030-01-01T00:00:00.000000+00:00")),
    "a link seen by another": ("a link", _set("observed_by", "ai:bob")),
    "an unlink of another relation": ("an unlink", _set("relation", "contradicts")),
}


def document() -> Record:
    """The whole file."""
    made = dict(valid())
    vectors: list[Record] = []
    for name, version in made.items():
        _, text, signature = claims_of(version)[0]
        record = json.loads(version.doc)
        vectors.append(
            {"name": name, "kind": NAMES[version.kind], "valid": True, "record": record, "text": text.decode()}
        )
        assert attest.is_genuine(version) and base64url(signature) == attestation_in(record)["sig"]
    for name, (of, alter) in ALTERED.items():
        record = copy.deepcopy(next(one for one in vectors if one["name"] == of)["record"])
        alter(record)
        vectors.append({"name": name, "kind": NAMES[made[of].kind], "valid": False, "record": record})
    keys = [{"agent": one.agent, "seed": one.seed.hex(), "key": base64url(one.key)} for one in (ALICE, BOB)]
    return {"about": "protocol section 5; made by tests/vectors/make.py", "keys": keys, "vectors": vectors}


def text() -> str:
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
