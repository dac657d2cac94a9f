"""Who wrote what: the text that is signed, the vectors, and every way to put words into somebody's mouth."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from keys import ANYBODY, Signing, pair
from stamps import stamp
from versions import ALICE, BOB, EVERYTHING, ID, NOW, Desk, memory

from sync import attest, link, moment, record
from sync.attest import (
    KeyPair,
    Said,
    Stamp,
    Unsigned,
    base64url,
    dotted,
    first_of,
    genuine,
    is_carried,
    is_genuine,
    signer_of,
    words_of,
    writer_of,
)
from sync.context import MAX_ENTRIES, Context
from sync.dot import Dot
from sync.keyline import key_text
from sync.keyring import parse
from sync.memory import agent_fault, id_fault, namespace_fault
from sync.policy import Policy
from sync.receive import Part, Taken
from sync.record import Refused, memory_version, read, tombstone_version
from sync.trust import Trust, judge
from sync.version import Version
from tests.vectors import make, verify

VECTORS = json.loads((Path(make.__file__).parent / "attestation.json").read_text())
AT = moment.text(NOW)
WRITER = pair("ai:writer")
SEEN = Dot(ALICE, 1, "0" * 24)


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
            _, text, signature = attest.claims_of(found)[0]
            assert text.decode() == vector["text"]
            assert pairs[signer_of(found)].sign(text) == signature


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
        "namespace": "a", "agent": "x", "content": bytes(32), "at": AT, "context": Context([SEEN]), "depth": 1,
    }  # fmt: skip
    said = [
        Said(kind=kind, id=record_id, **usual) for kind, record_id in zip("mtlu", (ID, ID, ends, ends), strict=True)
    ]
    said += [replace(said[0], id="other"), replace(said[0], agent="y"), replace(said[0], content=b"\1" * 32)]
    said += [replace(said[0], at="later"), replace(said[0], depth=2), replace(said[0], first=b"\1" * 16)]
    said += [replace(said[0], context=Context()), replace(said[0], context=Context([SEEN._replace(check="1" * 24)]))]
    said += [replace(said[2], content=b"\1" * 32), *(replace(one, namespace="b") for one in said[:4])]
    assert len({one.undotted for one in said}) == len(said)
    dots = [Dot(ALICE, 1, ""), Dot(ALICE, 2, ""), Dot(BOB, 1, "")]
    assert len({dotted(said[0].undotted, dot) for dot in dots}) == len(dots)


@pytest.mark.parametrize("separator", ["\n", "\r", "\x1f", "\x85", "\u2028", "\u2029", "\t", "\x00"])
@pytest.mark.parametrize("name", ["id", "namespace", "agent", "source", "target", "relation"])
def test_no_value_of_the_text_can_hold_a_lines_end(name: str, separator: str) -> None:
    """So what one line says can never be read as two."""
    value = f"a{separator}b"
    fault = {
        "id": lambda: id_fault(value),
        "namespace": lambda: namespace_fault(value),
        "agent": lambda: agent_fault(value),
        "source": lambda: link.triple_fault(value, ID, "related_to"),
        "target": lambda: link.triple_fault(ID, value, "related_to"),
        "relation": lambda: link.triple_fault(ID, "other", f"related_to{separator}"),
    }[name]()
    assert fault is not None
    assert name in fault


def test_with_a_lines_end_in_an_id_two_unlinks_would_have_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: it is the limit of an id that tells them apart."""
    one, other = (
        Said("u", "a", "\x1f".join((source, target, "related_to")), "x", b"", AT, Context(), 1)
        for source, target in (("s", "t\ntarget u"), ("s\ntarget t", "u"))
    )
    assert one.undotted == other.undotted


def test_a_context_is_signed_in_its_order() -> None:
    """What was joined last is the last to be pushed out: the order is what its author says."""
    others = SEEN._replace(actor=BOB)
    one, other = (
        Said("m", "a", ID, "x", bytes(32), AT, Context(entries), 1) for entries in ((SEEN, others), (others, SEEN))
    )
    assert one.undotted != other.undotted
    assert f"context {ALICE}:1:{'0' * 24},{BOB}:1:{'0' * 24}\n".encode() in one.undotted


def test_a_private_key_is_shown_nowhere() -> None:
    """Neither in what is logged of a value nor in what is said of it."""
    assert WRITER.seed.hex() not in repr(WRITER)
    assert repr(WRITER.seed) not in repr(WRITER)


def test_an_unsigned_attestation_has_neither_key_nor_signature() -> None:
    """As it always was: what older versions wrote is read as it was written."""
    made = memory_version(memory(), Unsigned("x"), stamp({ALICE: 1}))
    assert json.loads(made.doc)["metadata"]["attestation"].keys() == {
        "v",
        "agent",
        "content",
        "at",
        "dot",
        "context",
        "depth",
    }
    assert made.signature == b""
    assert writer_of(made) == ("x", b"")


# --- what a receiver does


def signed(title: str = "x", by: Stamp | None = None, **fields: Any) -> Version:
    return memory_version(memory(title=title, **fields), WRITER, by or stamp({ALICE: 1 << 20}))


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
    "another dot": lambda one: reread(one, dot=[ALICE, 9 << 40]),
    "another context": lambda one: reread(one, context=[[BOB, 1, "0" * 24]]),
    "another depth": lambda one: reread(one, depth=99),
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
    """Of one write in two documents the signed one stays, whichever came first."""
    one = signed()
    doc = json.loads(one.doc)
    del doc["metadata"]["attestation"]["key"], doc["metadata"]["attestation"]["sig"]
    stripped = record.read(json.dumps(doc).encode(), "m")
    assert isinstance(stripped, Version)
    assert (stripped.dot, stripped.signature) == (one.dot, b"")
    for order in ((one, stripped), (stripped, one)):
        desk = Desk()
        for version in order:
            taken(desk, version)
        assert [kept.version.tag for kept in desk.kept()] == [one.tag]


def test_an_old_version_that_is_played_again_changes_nothing() -> None:
    """It is genuine, and was superseded."""
    desk = Desk()
    before, after = signed(content="before"), signed(content="after", by=stamp({ALICE: 2 << 20}), updated_at=AT)
    taken(desk, before)
    taken(desk, after)
    assert taken(desk, before).noop == 1
    assert desk.tags() == {after.tag}


def test_a_tombstone_is_verified_as_well() -> None:
    """Nobody deletes in another's name."""
    stone = tombstone_version("a", ID, AT, WRITER, stamp({ALICE: 2 << 20}))
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


# --- what a node writes on for others


def settled() -> Version:
    """What becomes of so many versions of one key that a node settles them by itself."""
    desk = Desk()
    desk.engine.keys = Signing()
    some = [memory_version(memory(content=str(n)), pair("ai:stranger"), stamp({f"{n:016x}": 1})) for n in range(33)]
    desk.take(*some)
    (kept,) = desk.kept()
    return kept.version


def test_what_a_node_settles_by_itself_is_worth_what_its_author_is_worth() -> None:
    """The first author is shown and verified; the node's own key, enrolled or not, makes nobody's word greater."""
    version = settled()
    assert (writer_of(version)[0], signer_of(version)) == ("ai:stranger", "node:desk")
    assert is_genuine(version)
    assert record.read(version.doc, "m") == version
    ring = parse(f"{key_text(pair('node:desk').key)} node:desk", "ring")
    assert judge(Trust(ring), version) == "self_signed"
    refused = judge(Trust(ring, "enrolled"), version)
    assert isinstance(refused, Refused)
    assert refused.reason == "not_enrolled"


def test_an_old_word_that_somebody_writes_on_is_worth_no_more_than_theirs() -> None:
    """Or whoever has read what an enrolled agent once wrote could bring it back as that agent's."""
    ann = pair("ai:ann")
    said = signed_by(ann)
    by_stranger = replace(stamp({ALICE: 9}), first=first_of(said))
    brought_back = memory_version(memory(metadata={"agent_id": "ai:ann"}), pair("ai:stranger"), by_stranger)
    assert is_genuine(brought_back)
    ring = parse(f"{key_text(ann.key)} ai:ann", "ring")
    assert judge(Trust(ring), said) == "attested"
    assert judge(Trust(ring), brought_back) == "self_signed"


def signed_by(who: KeyPair) -> Version:
    return memory_version(memory(), who, stamp({ALICE: 1}))


@pytest.mark.parametrize("what", ["sig", "agent", "dot", "at", "context", "depth"])
def test_the_first_authors_word_cannot_be_altered(what: str) -> None:
    """It is verified as the node's own is."""
    version = settled()
    first = json.loads(version.doc)["metadata"]["attestation"]["first"]
    altered = {
        "sig": base64url(bytes(64)), "agent": "ai:other", "dot": [BOB, 7], "at": moment.text(NOW - 1),
        "context": [[BOB, 7, "0" * 24]], "depth": 7,
    }[what]  # fmt: skip
    assert not is_genuine(reread(version, first=first | {what: altered}))


def test_what_was_written_on_is_written_on_as_it_is() -> None:
    """However often: there is one first author, and no pile of attestations."""
    desk = Desk()
    desk.engine.keys = Signing()
    desk.take(*(memory_version(memory(content=str(n)), WRITER, stamp({f"{n:016x}": 1})) for n in range(33)))
    (once,) = (one.version for one in desk.kept())
    desk.take(*(memory_version(memory(content=f"b{n}"), WRITER, stamp({f"b{n:015x}": 1})) for n in range(32)))
    (again,) = (one.version for one in desk.kept())
    assert again.tag != once.tag
    assert is_genuine(again)
    assert (writer_of(again)[0], len(words_of(again))) == ("ai:writer", 2)


# what stands in the place of the first author's word: (its edit, how it is refused)
NO_FIRST: dict[str, tuple[Any, str, str]] = {
    "no object": (lambda first: [first], "bad_attestation", "an attestation without a further one expected"),
    "text": (lambda first: "first", "bad_attestation", "an attestation without a further one expected"),
    "one with another inside": (
        lambda first: first | {"first": first}, "bad_attestation", "an attestation without a further one expected"
    ),
    "nothing": (lambda first: {}, "bad_attestation", "attestation: agent"),
    "another content": (lambda first: first | {"content": "0" * 64}, "bad_attestation", "attestation.content: is not"),
    "no time": (lambda first: first | {"at": 7}, "bad_attestation", "attestation.at: differs"),
    "a time in words": (lambda first: first | {"at": "soon"}, "bad_attestation", "attestation.at: differs"),
    "a dot over its limit": (lambda first: first | {"dot": [ALICE, 0]}, "limits", "dot: counter 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_FIRST)
def test_a_first_authors_word_that_is_none_is_refused_as_the_nodes_own_would_be(case: str) -> None:
    """By the place that is wrong, and nothing raises."""
    version = settled()
    assert record.read(version.doc, "m") == version
    edit, reason, detail = NO_FIRST[case]
    doc = json.loads(version.doc)
    made = doc["metadata"]["attestation"]
    made["first"] = edit(made["first"])
    found = record.read(json.dumps(doc).encode(), "m")
    assert isinstance(found, Refused)
    assert (found.id, found.reason) == (ID, reason)
    assert found.detail.startswith(f"attestation.first: {detail}")


def test_whoever_says_first_of_something_else_carries_nobodys_word() -> None:
    """The word alone, somewhere in the record, is not what stands in an attestation."""
    one = signed(metadata={"first": {"agent": "ai:other"}})
    assert b'"first":{' in one.doc
    assert not is_carried(one)
    assert is_genuine(one)
    assert is_carried(settled())


def test_an_unsigned_version_is_nobodys() -> None:
    """Whatever it carries: a version is worth its own signature first."""
    unsigned = memory_version(memory(), Unsigned("x"), stamp({ALICE: 1}))
    by_nobody = replace(stamp({ALICE: 9}), first=first_of(signed()))
    carried = memory_version(memory(), Unsigned("x"), by_nobody)
    assert is_carried(carried)
    assert not is_genuine(unsigned) and not is_genuine(carried)
    assert genuine((unsigned, signed(), carried)) == {1}


def test_a_list_that_is_too_long_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted first: a million entries cost no more than their number."""
    doc = json.loads(signed().doc)
    doc["metadata"]["attestation"]["context"] = [[f"{n:016x}", 1, "0" * 24] for n in range(MAX_ENTRIES + 1)]
    monkeypatch.setattr(attest, "read_entries", None)
    found = record.read(json.dumps(doc).encode(), "m")
    assert isinstance(found, Refused)
    assert (found.reason, found.detail) == ("limits", f"context: {MAX_ENTRIES + 1} entries, at most {MAX_ENTRIES}")


def test_what_nobody_signed_is_written_on_under_one_signature() -> None:
    """The node's own: of the first author there is none to verify."""
    desk = Desk()
    desk.engine.keys = Signing()
    desk.take(*(memory_version(memory(content=str(n)), Unsigned("ai:x"), stamp({f"{n:016x}": 1})) for n in range(33)))
    (kept,) = desk.kept()
    assert (writer_of(kept.version), signer_of(kept.version)) == (("ai:x", b""), "node:desk")
    assert is_genuine(kept.version)
    refused = judge(Trust(), kept.version)
    assert isinstance(refused, Refused)
    assert refused.reason == "unsigned_refused"
    assert judge(Trust(allow_unsigned=True), kept.version) == "unsigned"
