"""What a row's attestation is worth, and which memories the older daemon cannot take."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
import versions
from keys import pair
from stamps import stamp
from versions import ALICE, NOW, SECOND

from sync import moment
from sync.attest import Unsigned
from sync.legacy.row import claim_in, unfit
from sync.memory import MAX_METADATA_BYTES, MAX_METADATA_DEPTH
from sync.record import load, memory_version
from sync.version import Version

KEY = ("a", versions.ID)
SIGNED = memory_version(versions.memory(), pair("ai:writer"), stamp({ALICE: 3}))
UNSIGNED = memory_version(versions.memory(), Unsigned("ai:writer"), stamp({ALICE: 3}))
A_DAEMONS = memory_version(versions.memory(), Unsigned("ai:writer"), stamp({"legacy": NOW}))


@pytest.mark.parametrize(
    ("version", "is_bound"), [(SIGNED, True), (UNSIGNED, False), (A_DAEMONS, True)], ids=["signed", "not", "a daemon's"]
)
def test_an_attestation_holds_by_itself(version: Version, *, is_bound: bool) -> None:
    """Whatever became of the row around it; of which key it was is proven by a signature or by a daemon's own dot."""
    claim = claim_in(load(version.doc).metadata, KEY)
    assert claim is not None
    assert (claim.agent, claim.at, claim.past.dot) == ("ai:writer", version.at, version.dot)
    assert claim.is_bound is is_bound


CHANGES: dict[str, Any] = {
    "no digest": {"content": None},
    "a digest that is too short": {"content": "0" * 63},
    "a digest in capitals": {"content": "A" * 64},
    "no time": {"at": None},
    "a time of another form": {"at": "2027-01-15T08:00:00Z"},
    "a dot that is none": {"dot": []},
    "a depth that is none": {"depth": -1},
    "another time": {"at": moment.text(NOW + SECOND)},
    "another content": {"content": "0" * 64},
    "another agent": {"agent": "ai:other"},
}


@pytest.mark.parametrize("case", CHANGES)
def test_an_attestation_that_was_altered_says_nothing(case: str) -> None:
    """Signed as it was."""
    made = load(SIGNED.doc).metadata["attestation"]
    assert claim_in({"attestation": made}, KEY) is not None
    assert claim_in({"attestation": made | CHANGES[case]}, KEY) is None
    assert claim_in({"attestation": made}, ("a", versions.OTHER)) is None


@pytest.mark.parametrize("metadata", [{}, {"attestation": None}, {"attestation": []}, {"attestation": "x"}])
def test_no_attestation_says_nothing(metadata: dict[str, Any]) -> None:
    """Whatever stands in its place."""
    assert claim_in(metadata, KEY) is None


def nested(depth: int, inner: Any = 1) -> Any:
    for number in range(depth):
        inner = [inner] if number % 2 else {"k": inner}
    return inner


def test_what_is_too_deep_for_it_with_our_own_keys_is_not_sent() -> None:
    """It counts the attestation, in which a first author's word lies deeper than anything of a client's need."""
    plain = versions.version()
    for depth, fault in ((30, None), (31, f"metadata: nested more than {MAX_METADATA_DEPTH} deep")):
        doc = msgspec.json.decode(plain.doc)
        doc["metadata"]["attestation"]["first"] = nested(depth)
        assert unfit(replace(plain, doc=msgspec.json.encode(doc))) == fault


def test_what_is_too_long_for_it_with_our_own_keys_is_not_sent() -> None:
    """To the byte."""
    empty = versions.version(metadata={"k": ""})
    room = MAX_METADATA_BYTES - len(msgspec.json.encode(load(empty.doc).metadata))
    assert unfit(versions.version(metadata={"k": "x" * room})) is None
    fault = unfit(versions.version(metadata={"k": "x" * (room + 1)}))
    assert fault == f"metadata: {MAX_METADATA_BYTES + 1} bytes with its attestation, at most {MAX_METADATA_BYTES}"
