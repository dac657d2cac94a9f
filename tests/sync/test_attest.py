"""Who wrote what: the text that is signed, the vectors, and every way to put words into somebody's mouth."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from keys import ANYBODY, Signing, pair
from versions import ALICE, BOB, EVERYTHING, ID, NOW, Desk, memory

from sync import attest, link, moment, record
from sync.attest import KeyPair, Said, Unsigned, base64url, genuine, is_genuine, writer_of
from sync.policy import Policy
from sync.receive import Part, Taken
from sync.record import Refused, memory_version, read, tombstone_version
from sync.version import Version
from tests.vectors import make, verify

VECTORS = json.loads((Path(make.__file__).parent / "attestation.json").read_text())
AT = moment.text(NOW)
WRITER = pair("ai:writer")


def version_in(vector: dict[str, Any]) -> Version | Refused:
    """A vector's record as it comes over the wire."""
    raw = json.dumps(vector["record"]).encode()
    kind = vector["kind"]
    return link.read(raw) if "link" in kind else read(raw, "m" if kind == "memory" else "t")


def named(name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in VECTORS["vectors"] if one["name"] == name)
    return found


# --- the vectors


def test_the_vectors_are_those_that_are_made() -> None:
    """The file is what this version of the program signs."""
    assert json.loads(make.text()) == VECTORS


@pytest.mark.parametrize("name", [one["name"] for one in VECTORS["vectors"]])
def test_each_vector_is_judged_as_it_says(name: str) -> None:
    """By the program and by the book, which shares no code with it."""
    vector = named(name)
    found = version_in(vector)
    assert (isinstance(found, Version) and is_genuine(found)) is vector["valid"] is verify.verdict(vector)


def test_the_texts_are_those_of_the_vectors() -> None:
    """Byte for byte, and the signature over them is that of the seed."""
    pairs = {one["agent"]: KeyPair.of(one["agent"], bytes.fromhex(one["seed"])) for one in VECTORS["keys"]}
    assert all(base64url(pairs[one["agent"]].key) == one["key"] for one in VECTORS["keys"])
    for vector in VECTORS["vectors"]:
        if vector["valid"]:
            found = version_in(vector)
            assert isinstance(found, Version)
            _, text, signature = attest.claim_of(found)
            assert text.decode() == vector["text"]
            assert pairs[writer_of(found)[0]].sign(text) == signature


def test_every_field_of_a_memory_has_a_vector_that_alters_it() -> None:
    """A field that could be altered unseen would be one that nobody thought of."""
    ours = {"access_count", "last_accessed_at", "metadata"}
    altered = set()
    for name, (of, _) in make.ALTERED.items():
        before, after = named(of)["record"], named(name)["record"]
        if of == "a memory":
            altered |= {field for field in after if after[field] != before.get(field)}
    assert altered == set(memory().__struct_fields__) - ours | {"metadata"}


# --- the text


def test_no_two_statements_have_one_text() -> None:
    """Whatever is said of another kind, in another place, at another time or by another agent reads otherwise."""
    ends = "\x1f".join((ID, "other", "related_to"))
    usual: dict[str, Any] = {
        "namespace": "a", "agent": "x", "content": bytes(32), "at": AT, "clock": {ALICE: 1},
    }  # fmt: skip
    said = [
        Said(kind=kind, id=record_id, **usual) for kind, record_id in zip("mtlu", (ID, ID, ends, ends), strict=True)
    ]
    said += [replace(said[0], id="other"), replace(said[0], agent="y"), replace(said[0], content=b"\1" * 32)]
    said += [replace(said[0], at="later"), replace(said[0], clock={ALICE: 2}), replace(said[1], namespace="b")]
    said += [replace(said[2], namespace="b"), replace(said[2], content=b"\1" * 32), replace(said[3], namespace="b")]
    assert len({one.text for one in said}) == len(said)


def test_a_clock_is_signed_in_the_order_of_its_actors() -> None:
    """However it was built."""
    one, other = (Said("m", "a", ID, "x", bytes(32), AT, clock) for clock in ({ALICE: 1, BOB: 2}, {BOB: 2, ALICE: 1}))
    assert one.text == other.text
    assert one.text.endswith(f"clock {ALICE}:1,{BOB}:2\n".encode())


def test_a_private_key_is_shown_nowhere() -> None:
    """Neither in what is logged of a value nor in what is said of it."""
    assert WRITER.seed.hex() not in repr(WRITER)
    assert repr(WRITER.seed) not in repr(WRITER)


def test_an_unsigned_attestation_has_neither_key_nor_signature() -> None:
    """As it always was: what older versions wrote is read as it was written."""
    made = memory_version(memory(), Unsigned("x"), {ALICE: 1})
    assert json.loads(made.doc)["metadata"]["attestation"].keys() == {"v", "agent", "content", "at", "clock"}
    assert made.signature == b""
    assert writer_of(made) == ("x", b"")


# --- what a receiver does


def signed(title: str = "x", clock: dict[str, int] | None = None, **fields: Any) -> Version:
    return memory_version(memory(title=title, **fields), WRITER, clock or {ALICE: 1 << 20})


def taken(desk: Desk, *versions: Version, part: Part | None = None) -> Taken:
    part = part or Part(versions, genuine=genuine(versions))
    found: Taken = desk.do(desk.engine.receive, desk.page(), part, Policy(EVERYTHING, ANYBODY), Taken())
    return found


def reread(version: Version, **fields: Any) -> Version:
    """A version as it comes in after somebody on the way altered its attestation."""
    doc = json.loads(version.doc)
    doc["metadata"]["attestation"].update(fields)
    found = record.read(json.dumps(doc).encode(), "m")
    assert isinstance(found, Version)
    return found


ATTACKS = {
    "signature of another record": lambda one: reread(one, sig=base64url(signed("y").signature)),
    "signature of an older version": lambda one: reread(one, sig=base64url(signed(content="before").signature)),
    "another agent": lambda one: reread(one, agent="ai:other"),
    "another key": lambda one: reread(one, key=base64url(pair("ai:other").key)),
    "another clock": lambda one: reread(one, clock={ALICE: 9 << 20}),
    "a signature of nothing": lambda one: reread(one, sig=base64url(bytes(64))),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("is_verified", [True, False], ids=["verified", "control"])
def test_a_forged_record_is_refused_alone(attack: str, is_verified: bool) -> None:
    """By name; the one beside it is taken. (Control: were signatures believed, it would be kept.)"""
    desk = Desk()
    forged = ATTACKS[attack](signed())
    versions = (forged, signed("beside", id="0b5c6a4e-0000-5000-8000-00000000000f"))
    places = genuine(versions) if is_verified else frozenset((0, 1))
    found = taken(desk, part=Part(versions, genuine=places))
    if is_verified:
        assert [(one.id, one.reason) for one in found.refused] == [(ID, "bad_signature")]
        assert found.applied == 1
        assert not desk.kept()
    else:
        assert found.applied == 2
        assert desk.kept()[0].version.tag == forged.tag


def test_a_stripped_signature_changes_nothing_where_the_signed_one_is_kept() -> None:
    """Of two versions with one clock the signed one stays, whichever came first."""
    one = signed()
    stripped = memory_version(memory(), Unsigned(WRITER.agent), one.clock)
    for order in ((one, stripped), (stripped, one)):
        desk = Desk()
        for version in order:
            taken(desk, version)
        assert [kept.version.tag for kept in desk.kept()] == [one.tag]


def test_an_old_version_that_is_played_again_changes_nothing() -> None:
    """It is genuine, and was superseded."""
    desk = Desk()
    before, after = signed(content="before"), signed(content="after", clock={ALICE: 2 << 20}, updated_at=AT)
    taken(desk, before)
    taken(desk, after)
    assert taken(desk, before).noop == 1
    assert desk.tags() == {after.tag}


def test_a_tombstone_is_verified_as_well() -> None:
    """Nobody deletes in another's name."""
    stone = tombstone_version("a", ID, AT, WRITER, {ALICE: 2 << 20})
    doc = json.loads(stone.doc)
    doc["attestation"]["agent"] = "ai:other"
    forged = record.read(json.dumps(doc).encode(), "t")
    assert isinstance(forged, Version)
    desk = Desk()
    assert [one.reason for one in taken(desk, forged).refused] == ["bad_signature"]
    assert taken(desk, stone).applied == 1


def test_what_lies_in_the_future_is_verified_before_it_waits() -> None:
    """A forged one takes no room from what is genuine."""
    desk = Desk()
    late = signed(updated_at=moment.text(NOW + 3_600 * moment.SECOND))
    forged = reread(late, agent="ai:other")
    assert [one.reason for one in taken(desk, forged, late).refused] == ["bad_signature", "clock_skew"]
    assert desk.store.waiting((late.key,))[0].version.tag == late.tag


# --- what a node writes


@pytest.mark.parametrize("verb", ["store", "update", "promote", "delete", "link", "unlink"])
def test_every_write_is_signed_by_its_agent(verb: str) -> None:
    """Created, changed, deleted, linked and unlinked: each version names the agent, its key, and verifies."""
    desk = Desk()
    desk.engine.keys = Signing()
    key = desk.write().version.key
    desk.write("y")
    desk.link("x", "y" * 8)
    {
        "store": lambda: desk.write(content="again"),
        "update": lambda: desk.update(key, content="other"),
        "promote": lambda: desk.update(key, tier="mid"),
        "delete": lambda: desk.delete(key),
        "link": lambda: desk.link("x", "z" * 8),
        "unlink": lambda: desk.unlink("x", "y" * 8),
    }[verb]()
    kept = [one.version for some in desk.store.everything().values() for one in some]
    assert len(kept) >= 3
    for version in kept:
        assert writer_of(version) == ("agent:desk", pair("agent:desk").key)
        assert is_genuine(version)


def test_what_is_written_again_is_signed_again() -> None:
    """A version of this node's own future, which a start writes anew, verifies as the old one did."""
    desk = Desk()
    desk.engine.keys = Signing()
    desk.now = NOW + 3_600 * moment.SECOND
    desk.write()
    desk.now = NOW
    assert desk.begin("start") == 1
    (again,) = [one.version for some in desk.store.everything().values() for one in some]
    assert again.at == AT
    assert is_genuine(again)
