"""Records as a peer sends them: read into a version, or refused by name. Never an exception, whatever the bytes."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import versions
from hypothesis import given, settings
from hypothesis import strategies as st
from keys import agent_of
from versions import ALICE, BOB, ID, NOW

from sync import record
from sync.record import Refused, read
from sync.version import Version

MEMORY = versions.version(
    {ALICE: 7}, tags=["t"], metadata={"k": [1, None]}, expires_at="2028-01-01T00:00:00.000000+00:00"
)
STONE = versions.stone({ALICE: 8})
Edit = Callable[[dict[str, Any]], object]


def edited(version: Version, edit: Edit) -> bytes:
    """The version's document after an edit of its JSON."""
    document = msgspec.json.decode(version.doc)
    edit(document)
    return msgspec.json.encode(document)


def strangers(count: int) -> list[list[Any]]:
    """A context of actors that nobody is."""
    return [[f"{n:016x}", 1, "0" * 24] for n in range(count)]


def seen(document: dict[str, Any], later: int) -> list[list[Any]]:
    """A context that names the version's own actor, so much later than its own counter."""
    actor, counter = attestation(document)["dot"]
    return [[actor, counter + later, "0" * 24]]


def attestation(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["metadata"]["attestation"] if "metadata" in document else document["attestation"]
    return found


def refusal(raw: bytes, kind: str = "m") -> Refused:
    found = read(raw, kind)  # type: ignore[arg-type]
    assert isinstance(found, Refused), found
    return found


@pytest.mark.parametrize("version", [MEMORY, STONE], ids=["memory", "tombstone"])
def test_what_a_node_writes_another_reads_as_the_same_version(version: Version) -> None:
    """The document alone gives back identity, time, stamp, content and bytes."""
    assert read(version.doc, version.kind) == version


def test_a_document_says_who_wrote_it() -> None:
    """The agent that the attestation names, of memory and tombstone alike."""
    assert agent_of(MEMORY) == agent_of(STONE) == "agent:other"


HARMLESS: dict[str, Edit] = {
    "access count": lambda doc: doc.update(access_count=99),
    "last access": lambda doc: doc.update(last_accessed_at="2027-01-15T09:00:00.000000+00:00"),
    "unknown field": lambda doc: doc.update(memory_kind="observation"),
    "fields in another order": lambda doc: doc.update({key: doc.pop(key) for key in sorted(doc)}),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_is_not_ours_to_keep_is_left_out(case: str) -> None:
    """Local bookkeeping and unknown fields change neither the version nor the document that goes on to others."""
    assert read(edited(MEMORY, HARMLESS[case]), "m") == MEMORY


def test_no_expiry_is_written_one_way() -> None:
    """An expiry of null and none at all are the same version and the same bytes."""
    plain = versions.version({ALICE: 7})
    assert read(edited(plain, lambda doc: doc.update(expires_at=None)), "m") == plain


DEEP = b"[" * 10_000 + b"]" * 10_000
UNREADABLE = {
    "nothing": b"",
    "no JSON": b"{",
    "two values": MEMORY.doc + b"{}",
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "NaN": MEMORY.doc.replace(b'"confidence":1.0', b'"confidence":NaN'),
    "infinity": MEMORY.doc.replace(b'"confidence":1.0', b'"confidence":Infinity'),
    "a number out of range": MEMORY.doc.replace(b'"confidence":1.0', b'"confidence":1e999'),
    "a number out of range in metadata": MEMORY.doc.replace(b"[1,null]", b"1e999"),
    "half a surrogate pair": MEMORY.doc.replace(b'"title":"x"', b'"title":"\\ud800"'),
    "half a surrogate pair in a key": MEMORY.doc.replace(b'"k":', b'"\\udc00":'),
    "a surrogate pair the wrong way round": MEMORY.doc.replace(b'"title":"x"', b'"title":"\\udc00\\ud800"'),
    "invalid UTF-8": MEMORY.doc.replace(b'"title":"x"', b'"title":"\xff"'),
    "a surrogate in UTF-8": MEMORY.doc.replace(b'"title":"x"', b'"title":"\xed\xa0\x80"'),
    "10,000 levels": MEMORY.doc.replace(b"[1,null]", DEEP),
    "10,000 levels outside": DEEP,
    "UTF-16": MEMORY.doc.decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + MEMORY.doc,
    "a raw control character": MEMORY.doc.replace(b'"title":"x"', b'"title":"\x01"'),
    "a field missing": edited(MEMORY, lambda doc: doc.pop("content")),
    "text for a number": edited(MEMORY, lambda doc: doc.update(priority="5")),
    "a fraction for a whole number": edited(MEMORY, lambda doc: doc.update(priority=5.5)),
    "a number for text": edited(MEMORY, lambda doc: doc.update(title=7)),
    "null for text": edited(MEMORY, lambda doc: doc.update(content=None)),
    "one tag for a list": edited(MEMORY, lambda doc: doc.update(tags="t")),
    "an unknown tier": edited(MEMORY, lambda doc: doc.update(tier="eternal")),
    "a list for metadata": edited(MEMORY, lambda doc: doc.update(metadata=[])),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_no_record_is_refused_as_malformed(case: str) -> None:
    """Whatever is wrong with the bytes, the answer is a value that says so in a sentence."""
    assert UNREADABLE[case] != MEMORY.doc
    for kind in "mt":
        found = refusal(UNREADABLE[case], kind)
        assert found.reason == "malformed"
        assert found.kind == kind
        assert 0 < len(found.detail) < 400


def test_a_refused_record_is_named_where_its_id_can_be_read() -> None:
    """The sender learns which record it was; an id that is no id names nothing, a long one is cut."""
    assert refusal(UNREADABLE["text for a number"]).id == ID
    assert refusal(UNREADABLE["no JSON"]).id == ""
    assert refusal(edited(MEMORY, lambda doc: doc.update(id=7))).id == ""
    assert len(refusal(edited(MEMORY, lambda doc: doc.update(id="i" * 9_000))).id) == 128


OVER_LIMITS: dict[str, tuple[Version, Edit, str]] = {
    "title": (MEMORY, lambda doc: doc.update(title="t" * 513), "title: 513 characters, at most 512"),
    "big integer": (MEMORY, lambda doc: doc["metadata"].update(k=10**30), "metadata: integer 1000"),
    "time": (MEMORY, lambda doc: doc.update(updated_at="2027-01-15T08:00:00Z"), "updated_at: '2027-01-15T08:00:00Z'"),
    "stone's id": (STONE, lambda doc: doc.update(id=""), "id: empty"),
    "stone's namespace": (STONE, lambda doc: doc.update(namespace="a//b"), "namespace: segment ''"),
    "stone's time": (STONE, lambda doc: doc.update(deleted_at="soon"), "deleted_at: 'soon', expected the form"),
    "stone's id and time": (STONE, lambda doc: doc.update(id="", deleted_at="soon"), "id: empty"),
    "great counter": (STONE, lambda doc: attestation(doc).update(dot=[ALICE, 2**53 + 1]), "dot: counter"),
    "counter of nothing": (STONE, lambda doc: attestation(doc).update(dot=[BOB, 0]), "dot: counter 0"),
    "foreign actor": (MEMORY, lambda doc: attestation(doc).update(dot=["old", 1]), "dot: actor 'old'"),
    "everybody's actor": (
        MEMORY,
        lambda doc: attestation(doc).update(dot=["legacy", 1]),
        "dot: actor 'legacy', the actor of one write",
    ),
    "a daemon's, of other content": (
        MEMORY,
        lambda doc: attestation(doc).update(dot=["legacy-" + "0" * 16, 1]),
        "dot: legacy-0000000000000000:1, legacy-",
    ),
    "great depth": (MEMORY, lambda doc: attestation(doc).update(depth=2**53 + 1), "depth: 9007199254740993"),
    "negative depth": (MEMORY, lambda doc: attestation(doc).update(depth=-1), "depth: -1"),
    "too much seen": (
        MEMORY,
        lambda doc: attestation(doc).update(context=strangers(257)),
        "context: 257 entries, at most 256",
    ),
    "its own future": (
        MEMORY,
        lambda doc: attestation(doc).update(context=seen(doc, 0)),
        f"context: number 7000 of {ALICE}, less than the version's own 7000 expected",
    ),
    "a comma in an actor seen": (
        MEMORY,
        lambda doc: attestation(doc).update(context=[[f"{ALICE}:1:{'0' * 24},{BOB}", 1, "0" * 24]]),
        "context: a comma or colon in an entry",
    ),
    "a colon in a check seen": (
        STONE,
        lambda doc: attestation(doc).update(context=[[BOB, 1, "0:" * 12]]),
        "context: a comma or colon in an entry",
    ),
    "daemons' future": (
        MEMORY,
        lambda doc: attestation(doc).update(context=[["legacy", NOW + 1, ""]]),
        f"context: {NOW + 1} of legacy, at most the version's own time {NOW}",
    ),
}


@pytest.mark.parametrize("case", OVER_LIMITS)
def test_a_record_over_a_limit_is_refused_by_that_name(case: str) -> None:
    """The reason is `limits`, and the detail names field, finding and limit."""
    version, edit, detail = OVER_LIMITS[case]
    found = refusal(edited(version, edit), version.kind)
    assert found.reason == "limits"
    assert found.detail.startswith(detail)


WITHIN_LIMITS: dict[str, Edit] = {
    "much seen": lambda doc: attestation(doc).update(context=strangers(256)),
    "great depth": lambda doc: attestation(doc).update(depth=2**53),
    "no depth": lambda doc: attestation(doc).update(depth=0),
    "great counter": lambda doc: attestation(doc).update(dot=[BOB, 2**53], context=[]),
    "great counter seen": lambda doc: attestation(doc).update(context=[[BOB, 2**53, "0" * 24]]),
    "daemons until now": lambda doc: attestation(doc).update(context=[["legacy", NOW, ""]]),
}


@pytest.mark.parametrize("version", [MEMORY, STONE], ids=["memory", "tombstone"])
@pytest.mark.parametrize("case", WITHIN_LIMITS)
def test_a_record_that_just_reaches_a_limit_is_read(case: str, version: Version) -> None:
    """As another version than before, and as itself from then on."""
    found = read(edited(version, WITHIN_LIMITS[case]), version.kind)
    assert isinstance(found, Version), found
    assert found.dot != version.dot
    assert read(found.doc, version.kind) == found


ALTERED: dict[str, Edit] = {
    field: lambda doc, field=field, value=value: doc.update({field: value})  # type: ignore[misc]
    for field, value in {
        "tier": "short", "namespace": "b", "title": "y", "content": "other", "tags": [], "priority": 6,
        "confidence": 0.5, "source": "cli", "created_at": "2020-01-01T00:00:00.000000+00:00",
        "expires_at": "2029-01-01T00:00:00.000000+00:00",
    }.items()
}  # fmt: skip


@pytest.mark.parametrize("field", [*ALTERED, "metadata"])
def test_a_row_altered_on_its_way_is_refused(field: str) -> None:
    """The attestation's digest covers each field of the content."""
    edit = ALTERED.get(field, lambda doc: doc["metadata"].update(k="other"))
    found = refusal(edited(MEMORY, edit))
    assert (found.id, found.reason) == (ID, "bad_attestation")
    assert found.detail == "attestation.content: is not the digest of this record's content"


def test_without_the_digest_an_altered_row_would_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: nothing but the comparison with the computed digest refuses it."""
    monkeypatch.setattr(record, "content_digest", lambda _: MEMORY.content)
    assert isinstance(read(edited(MEMORY, ALTERED["content"]), "m"), Version)


Document = dict[str, Any]
BAD_ATTESTATION: dict[str, tuple[Edit, str, str]] = {
    "none": (lambda doc: doc["metadata"].pop("attestation"), "bad_attestation", "none found, an object expected"),
    "no object": (lambda doc: doc["metadata"].update(attestation=[]), "bad_attestation", "an object expected"),
    "a key missing": (lambda doc: attestation(doc).pop("agent"), "bad_attestation", "agent missing or not known"),
    "a key too many": (lambda doc: attestation(doc).update(x=1), "bad_attestation", "x missing or not known"),
    "a key alone": (lambda doc: attestation(doc).update(key="A" * 43), "bad_attestation", "key missing or not known"),
    "a key of another length": (
        lambda doc: attestation(doc).update(sig="A" * 86, key="A" * 42), "bad_attestation", "key: base64url without"
    ),
    "a signature with padding": (
        lambda doc: attestation(doc).update(sig="A" * 86 + "==", key="A" * 43), "bad_attestation", "sig: base64url with"
    ),
    "a signature with bits left over": (
        lambda doc: attestation(doc).update(sig="A" * 85 + "B", key="A" * 43), "bad_attestation", "sig: base64url with"
    ),
    "a signature that is no text": (
        lambda doc: attestation(doc).update(sig=7, key="A" * 43), "bad_attestation", "sig: base64url without"
    ),
    "another version": (lambda doc: attestation(doc).update(v=2), "unsupported", "version 2, 1 expected"),
    "a version that equals one": (lambda doc: attestation(doc).update(v=True), "unsupported", "version True, 1 exp"),
    "a fraction of a version": (lambda doc: attestation(doc).update(v=1.0), "unsupported", "version 1.0, 1 expected"),
    "no agent id": (lambda doc: attestation(doc).update(agent="a b"), "bad_attestation", "agent: not an agent id"),
    "agent of a wrong type": (lambda doc: attestation(doc).update(agent=7), "bad_attestation", "agent: not an agent"),
    "another time": (
        lambda doc: attestation(doc).update(at="2027-01-15T08:00:00.000001+00:00"), "bad_attestation",
        "at: differs from the record's own time",
    ),
    "the row's time altered": (
        lambda doc: doc.update(updated_at="2027-01-15T08:00:00.000001+00:00"), "bad_attestation",
        "at: differs from the record's own time",
    ),
    "another digest": (lambda doc: attestation(doc).update(content="0" * 64), "bad_attestation", "is not the digest"),
    "digest in capitals": (
        lambda doc: attestation(doc).update(content=MEMORY.content.hex().upper()), "bad_attestation",
        "is not the digest",
    ),
    "digest of a wrong type": (lambda doc: attestation(doc).update(content=None), "bad_attestation", "is not the dig"),
    "context that is an object": (lambda doc: attestation(doc).update(context={}), "bad_attestation", "a list of ["),
    "entry of two": (lambda doc: attestation(doc).update(context=[[ALICE, 1]]), "bad_attestation", "a list of ["),
    "entry that is text": (lambda doc: attestation(doc).update(context=["x"]), "bad_attestation", "a list of ["),
    "dot that is an object": (lambda doc: attestation(doc).update(dot={}), "bad_attestation", "[actor, counter]"),
    "counter of text": (lambda doc: attestation(doc).update(dot=[ALICE, "1"]), "bad_attestation", "[actor, counter]"),
    "counter that is a fraction": (
        lambda doc: attestation(doc).update(dot=[ALICE, 1.0]), "bad_attestation", "[actor, counter] expected"
    ),
    "counter that is a truth": (
        lambda doc: attestation(doc).update(dot=[ALICE, True]), "bad_attestation", "[actor, counter] expected"
    ),
    "depth that is a truth": (lambda doc: attestation(doc).update(depth=True), "bad_attestation", "a whole number"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ATTESTATION)
def test_an_attestation_has_exactly_its_keys_and_speaks_of_this_row(case: str) -> None:
    """Anything else is refused with the key that is wrong."""
    edit, reason, detail = BAD_ATTESTATION[case]
    found = refusal(edited(MEMORY, edit))
    assert (found.id, found.reason) == (ID, reason)
    assert detail in found.detail


def test_a_tombstones_attestation_has_no_content() -> None:
    """A tombstone that claims content is refused, and so is one whose time was moved."""
    claimed = refusal(edited(STONE, lambda doc: attestation(doc).update(content="0" * 64)), "t")
    moved = refusal(edited(STONE, lambda doc: doc.update(deleted_at="2027-01-15T09:00:00.000000+00:00")), "t")
    assert "content missing or not known" in claimed.detail
    assert "differs from the record's own time" in moved.detail


# --- whatever the bytes

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to each value within a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


@settings(max_examples=300)
@given(st.data(), st.sampled_from((MEMORY, STONE)))
def test_any_value_in_any_place_gives_a_version_or_a_refusal(data: st.DataObject, version: Version) -> None:
    """Well-formed JSON of any shape never raises, and what is taken describes itself truthfully."""
    document = msgspec.json.decode(version.doc)
    *path, last = data.draw(st.sampled_from(places(document)[1:]))
    target = document
    for key in path:
        target = target[key]
    target[last] = data.draw(VALUES)
    try:
        raw = msgspec.json.encode(document)
    except UnicodeEncodeError:  # half a surrogate pair, which has no bytes
        return
    found = read(raw, version.kind)
    assert isinstance(found, Version | Refused)
    if isinstance(found, Version):
        assert read(found.doc, version.kind) == found


@settings(max_examples=300)
@given(st.data(), st.sampled_from((MEMORY, STONE)))
def test_any_damage_to_the_bytes_gives_a_version_or_a_refusal(data: st.DataObject, version: Version) -> None:
    """Bytes cut out, cut off or replaced never raise."""
    start = data.draw(st.integers(0, len(version.doc)))
    end = data.draw(st.integers(start, min(len(version.doc), start + 20)))
    raw = version.doc[:start] + data.draw(st.binary(max_size=8)) + version.doc[end:]
    assert isinstance(read(raw, data.draw(st.sampled_from(("m", "t")))), Version | Refused)
