"""Lists of records taken out of a body that no reader takes as a whole."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync import apart

NAMES = ("memories", "tombstones")
# Text that looks like structure, so that a scan which looks into strings is caught.
TEXT = st.text('ab"\\[]{},: \n', max_size=6)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.integers(), TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(TEXT, st.sampled_from(NAMES)), inner, max_size=3)
    ),
    max_leaves=6,
)
INDENT = st.sampled_from((None, 0, 2))


@given(st.lists(VALUES, max_size=4), INDENT)
def test_a_list_comes_apart_into_its_elements(some: list[Any], indent: int | None) -> None:
    """However nested the elements are, and whatever their texts look like."""
    found = apart.elements(json.dumps(some, indent=indent).encode())
    assert found is not None
    assert [json.loads(one) for one in found] == some


@given(st.dictionaries(st.one_of(TEXT, st.sampled_from(NAMES)), VALUES, max_size=5), INDENT)
def test_an_objects_own_lists_are_taken_out_and_nothing_else(some: dict[str, Any], indent: int | None) -> None:
    """Lists under the same names deeper down stay where they are, and so does a name whose value is no list."""
    own = {name for name in NAMES if isinstance(some.get(name), list)}
    found = apart.lists(json.dumps(some, indent=indent).encode(), NAMES)
    if not own:
        assert found is None
        return
    assert found is not None
    envelope, lists = found
    assert json.loads(envelope) == {name: [] if name in own else value for name, value in some.items()}
    assert {name: [json.loads(one) for one in lists[name]] for name in lists} == {name: some[name] for name in own}


@pytest.mark.parametrize(
    "record",
    [b'{"a":NaN}', b'{"a":"\\ud800"}', b'{"a":"\xff"}', b"[" * 10_000 + b"]" * 10_000, b'{"a":1e999}', b'{"a":"\\""}'],
    ids=["NaN", "half a pair", "no UTF-8", "deep", "out of range", "a quote"],
)
def test_a_record_that_no_reader_takes_stands_alone(record: bytes) -> None:
    """Its neighbours come out whole, and it as it was sent."""
    found = apart.lists(b'{"life":"x","memories":[{"b":1}, %b ,{"c":[2]}],"to":"y"}' % record, NAMES)
    assert found is not None
    envelope, lists = found
    assert json.loads(envelope) == {"life": "x", "memories": [], "to": "y"}
    assert [one.strip() for one in lists["memories"]] == [b'{"b":1}', record, b'{"c":[2]}']


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"memories":[', b'{"memories":[1', b'{"memories":["', b'{"memories":{}}', b'{"x":1}', b"\xff"],
)
def test_what_has_no_whole_list_is_left_alone(body: bytes) -> None:
    """Then the first error stands."""
    assert apart.lists(body, NAMES) is None


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b"[1", b"[1]x", b"1", b'["'])
def test_what_is_no_list_has_no_elements(body: bytes) -> None:
    """The whole body has to be the list."""
    assert apart.elements(body) is None


@given(st.binary(max_size=60).map(lambda some: b'{"memories":[' + some))
def test_no_bytes_raise(body: bytes) -> None:
    """It answers with lists or with nothing."""
    apart.lists(body, NAMES)
    apart.elements(body[12:])


def test_a_body_of_too_many_pieces_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work that a hostile body can cause is bounded."""
    body = b'{"memories":[%b1]}' % (b"1," * 100)
    assert apart.lists(body, NAMES) is not None
    monkeypatch.setattr(apart, "MOST_TOKENS", 50)
    assert apart.lists(body, NAMES) is None
    assert apart.elements(body[12:-1]) is None


def test_a_list_of_just_the_most_comes_apart() -> None:
    """One element more and it does not; a comma behind the last is one more that holds nothing."""
    assert apart.elements(b"[1,2,3]", 3) == [b"1", b"2", b"3"]
    assert apart.elements(b"[1,2,3]", 2) is None
    assert apart.elements(b"[1,2,]", 3) == [b"1", b"2", b""]
    assert apart.elements(b"[1,2,]", 2) is None
    assert apart.elements(b"[ ]", 0) == []
    assert apart.lists(b'{"memories":[1,2],"tombstones":[3]}', NAMES, 3) is not None
    assert apart.lists(b'{"memories":[1,2],"tombstones":[3]}', NAMES, 2) is None


def test_a_body_of_too_many_pieces_is_not_half_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies behind the last piece looked at may hold more of the same."""
    monkeypatch.setattr(apart, "MOST_TOKENS", 12)
    assert apart.lists(b'{"memories":[1],"a":1}', NAMES) is not None
    assert apart.lists(b'{"memories":[1],"a":1,"b":2,"c":3,"d":4,"e":5}', NAMES) is None
