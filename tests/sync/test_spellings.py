"""One number, several spellings: what has one digest is kept, and answered, as one document."""

import json
from typing import Any

import msgspec
import pytest
import versions
from hypothesis import given
from hypothesis import strategies as st
from stamps import stamp
from versions import ALICE

from sync import record
from sync.record import read
from sync.version import Version

SPELLINGS = [
    ("1", "1.0"),
    ("0", "-0.0"),
    ("100000000000000000000", "1e20"),
    ("-7", "-7.0e0"),
    ('[1,{"a":2}]', '[1.0,{"a":2.0}]'),
]


def taken(spelling: str) -> Version:
    """A record whose metadata has this value, as somebody wrote it."""
    made = versions.version(stamp({ALICE: 1}), metadata={"n": json.loads(spelling)})
    number = msgspec.json.encode(json.loads(made.doc)["metadata"]["n"]).decode()
    found = read(made.doc.replace(f'"n":{number}'.encode(), f'"n":{spelling}'.encode()), "m")
    assert isinstance(found, Version), found
    return found


@pytest.mark.parametrize(("one", "other"), SPELLINGS)
def test_two_spellings_of_a_number_are_one_document(one: str, other: str) -> None:
    """Else two nodes that are in step, with equal digests, would answer differently for ever."""
    assert taken(one).doc == taken(other).doc
    assert taken(one) == taken(other)


def test_without_one_spelling_two_nodes_would_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the tag is the same, and the document is not."""
    monkeypatch.setattr(record, "has_floats", lambda _: False)
    one, other = taken("1"), taken("1.0")
    assert (one.tag, one.doc == other.doc) == (other.tag, False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=6,
)


@given(JSON)
def test_what_a_node_writes_is_read_as_it_is(value: Any) -> None:
    """Whatever number a client stores: the peer's document is the writer's, byte for byte."""
    made = versions.version(stamp({ALICE: 1}), metadata={"n": value})
    found = read(made.doc, "m")
    assert isinstance(found, Version) and found.doc == made.doc


def test_a_negative_zero_is_zero() -> None:
    """In the one field that is a fraction, too."""
    made = versions.version(stamp({ALICE: 1}), confidence=0.0)
    found = read(made.doc.replace(b'"confidence":0.0', b'"confidence":-0.0'), "m")
    assert isinstance(found, Version) and found.doc == made.doc
