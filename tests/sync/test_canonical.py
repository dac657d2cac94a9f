"""The bytes that are hashed: RFC 8785, whichever of the two ways leads to them."""

import hashlib
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import find, given, settings
from hypothesis import strategies as st
from stamps import stamp
from versions import memory

from sync import canonical
from sync.attest import Unsigned
from sync.canonical import content_bytes, content_digest
from sync.memory import MAX_SAFE_INTEGER, Memory, memory_fault
from sync.record import memory_version, read
from sync.version import Version

# What a JSON body can hold: no half surrogate pairs, no NaN. Keys of every plane: RFC 8785 sorts by UTF-16 units, in
# which the astral planes come before U+E000.
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
KEYS = st.one_of(st.text("abz", max_size=3), st.sampled_from(("😀", "\ue000", "\uffee", "é", "€", "\x7f", '"', "\\")))
NUMBERS = st.one_of(
    st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from((0.0, -0.0, 1.0, 1e-7, 1e21, 1e22, 5e-324, 0.1, 100.0, 333333333.3333333)),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)
CONFIDENCE = st.one_of(
    st.sampled_from((0.0, -0.0, 1.0, 1, 0, 0.5, 0.9, 1e-7, 1e-6, 0.001, 0.00099, 5e-324)), st.floats(0, 1)
)
MEMORIES = st.builds(
    memory,
    title=TEXT,
    content=TEXT,
    tags=st.lists(TEXT, max_size=3),
    priority=st.integers(1, 10),
    confidence=CONFIDENCE,
    expires_at=st.one_of(st.none(), st.just("2027-01-15T08:00:00.000000+00:00")),
    metadata=st.dictionaries(KEYS, VALUES, max_size=3),
)


def by_the_book(one: Memory) -> bytes:
    """What protocol section 5 says, done by the reference library."""
    return rfc8785.dumps(
        {
            "tier": one.tier, "namespace": one.namespace, "title": one.title, "content": one.content, "tags": one.tags,
            "priority": one.priority, "confidence": one.confidence, "source": one.source,
            "created_at": one.created_at, "expires_at": one.expires_at if isinstance(one.expires_at, str) else None,
            "metadata": {k: v for k, v in one.metadata.items() if k not in ("agent_id", "attestation")},
        }
    )  # fmt: skip


@settings(max_examples=600)
@given(MEMORIES)
def test_the_content_is_hashed_as_rfc_8785_writes_it(one: Memory) -> None:
    """For any memory that JSON can carry, the bytes are those of the reference library."""
    assert content_bytes(one) == by_the_book(one)
    assert content_digest(one) == hashlib.sha256(by_the_book(one)).digest()


def test_the_usual_memory_takes_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, whole numbers and keys in ASCII never reach the slow library."""
    usual = memory(title="größer 😀", confidence=0.9, metadata={"scope": "team", "n": [1, {"a": None, "b": True}]})
    expected = by_the_book(usual)
    monkeypatch.setattr(rfc8785, "dumps", lambda _: pytest.fail("the reference library was asked"))
    assert content_bytes(usual) == expected


@pytest.mark.parametrize(
    "fields",
    [{"metadata": {"\ue000": 1, "😀": 2}}, {"metadata": {"n": 1e21}}, {"confidence": 1e-6}],
    ids=["keys beyond ASCII", "a fraction in metadata", "a tiny confidence"],
)
def test_the_fast_way_alone_would_be_wrong(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: each of these differs between the two ways, so leaving the slow one out is noticed."""
    one = memory(**fields)
    expected = by_the_book(one)
    assert content_bytes(one) == expected
    monkeypatch.setattr(rfc8785, "dumps", canonical._encode)
    assert content_bytes(one) != expected


def test_taking_the_fast_way_always_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the property above has a counterexample if everything counts as plain."""
    monkeypatch.setattr(canonical, "_is_plain", lambda _: True)
    quick = settings(max_examples=2_000, database=None)
    assert find(MEMORIES, lambda one: content_bytes(one) != by_the_book(one), settings=quick)


def test_the_bytes_of_a_memory_are_for_ever_the_same() -> None:
    """Digests in stored attestations rest on this text: it can never change."""
    one = memory(tags=["t"], confidence=0.5, metadata={"b": 1, "a": "é", "agent_id": "x", "attestation": {}})
    assert content_bytes(one).decode() == (
        '{"confidence":0.5,"content":"text","created_at":"2027-01-15T08:00:00.000000+00:00","expires_at":null,'
        '"metadata":{"a":"é","agent_id":"x","b":1},"namespace":"a","priority":5,"source":"api","tags":["t"],'
        '"tier":"long","title":"x"}'
    )


SIGNED = {
    "tier": "mid", "namespace": "b", "title": "y", "content": "other", "tags": ["t"], "priority": 6, "confidence": 0.5,
    "source": "cli", "created_at": "2027-01-15T08:00:00.000001+00:00", "metadata": {"agent_id": "another"},
    "expires_at": "2027-01-15T08:00:00.000000+00:00",
}  # fmt: skip
UNSIGNED = {
    "id": "another", "access_count": 9, "updated_at": "2027-01-15T09:00:00.000000+00:00",
    "last_accessed_at": "2027-01-15T09:00:00.000000+00:00", "metadata": {"attestation": {"v": 1}},
    "expires_at": None,
}  # fmt: skip


@pytest.mark.parametrize("field", SIGNED)
def test_a_change_of_what_is_said_changes_the_digest(field: str) -> None:
    """Each of the eleven fields is covered."""
    assert content_digest(memory(**{field: SIGNED[field]})) != content_digest(memory())


@pytest.mark.parametrize("field", UNSIGNED)
def test_what_is_no_part_of_the_content_leaves_the_digest_alone(field: str) -> None:
    """Identity, time, bookkeeping and the attestation itself are not hashed; no expiry is one thing, however said."""
    assert content_digest(memory(**{field: UNSIGNED[field]})) == content_digest(memory())


LONG = st.one_of(NUMBERS, st.integers(-(10**25), 10**25), st.sampled_from((1e20, 2**53, 2**60)))


@given(st.dictionaries(st.sampled_from("xyz"), st.lists(LONG, max_size=3), max_size=2))
def test_the_canonical_form_of_what_is_taken_is_taken(metadata: dict[str, Any]) -> None:
    """RFC 8785 writes 1e20 as 100000000000000000000: whoever sends it so means the same record."""
    one = memory(metadata=metadata)
    if memory_fault(one) is not None:
        return  # a number that two readers of JSON would take for two
    version = memory_version(one, Unsigned("x"), stamp({"a" * 16: 1}))
    again = read(rfc8785.dumps(canonical._in_doubles(msgspec.json.decode(version.doc))), "m")
    assert isinstance(again, Version), again
    assert again.tag == version.tag


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        (b"1e20", True),
        (b"100000000000000000000", True),
        (b"100000000000000000001", False),
        (b"9007199254740992", True),
        (b"9007199254740993", False),
        (b"-100000000000000000000", True),
        (b"1e21", True),
        (b"1000000000000000000000", False),
    ],
)
def test_an_integer_beyond_2_to_the_53_is_taken_in_its_one_spelling(text: bytes, *, is_taken: bool) -> None:
    """That of the double that all readers take it for; any other is refused by name."""
    metadata = msgspec.json.decode(b'{"n":%b}' % text)
    fault = memory_fault(memory(metadata=metadata))
    assert (fault is None) is is_taken
    if is_taken:
        assert content_digest(memory(metadata=metadata)) == content_digest(memory(metadata={"n": float(text)}))
