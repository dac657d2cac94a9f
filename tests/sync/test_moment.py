"""Times and ids as they are written: one text for each instant, one id for each title, on every node."""

import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync import moment
from sync.ids import memory_id
from sync.memory import namespace_fault, title_fault

INSTANTS = st.integers(
    moment.microseconds("0001-01-01T00:00:00.000000+00:00"), moment.microseconds("9999-12-31T23:59:59.999999+00:00")
)


@given(INSTANTS, INSTANTS)
def test_the_order_of_texts_is_the_order_of_time(a: int, b: int) -> None:
    """Every instant has one canonical text, which reads back as itself and sorts as itself."""
    first, second = moment.text(a), moment.text(b)
    assert moment.microseconds(first) == a
    assert moment.is_canonical(first)
    assert moment.canonical(first) == first
    assert (first < second) == (a < b)


READ = {
    "2026-01-31T12:00:00Z": "2026-01-31T12:00:00.000000+00:00",
    "2026-01-31t12:00:00z": "2026-01-31T12:00:00.000000+00:00",
    "2026-01-31 12:00:00+00:00": "2026-01-31T12:00:00.000000+00:00",
    "2026-01-31T12:00:00-00:00": "2026-01-31T12:00:00.000000+00:00",
    "2026-01-31T12:00:00.5+01:30": "2026-01-31T10:30:00.500000+00:00",
    "2026-01-01T00:30:00+01:00": "2025-12-31T23:30:00.000000+00:00",
    "2026-01-31T12:00:00.123456789Z": "2026-01-31T12:00:00.123456+00:00",
    "2026-01-31T12:00:00.999999999Z": "2026-01-31T12:00:00.999999+00:00",
    "2024-02-29T23:59:59.1Z": "2024-02-29T23:59:59.100000+00:00",
}


@pytest.mark.parametrize("text", READ)
def test_any_rfc_3339_time_has_a_canonical_text(text: str) -> None:
    """Zulu, offsets, small letters, a blank for the T; a fraction finer than a microsecond is cut, not rounded."""
    assert moment.canonical(text) == READ[text]
    assert not moment.is_canonical(text)


NOT_A_TIME = {
    "nothing": "",
    "a date": "2026-01-31",
    "no offset": "2026-01-31T12:00:00",
    "a day that does not exist": "2026-02-30T12:00:00.000000+00:00",
    "a month that does not exist": "2026-13-01T12:00:00.000000+00:00",
    "year zero": "0000-01-01T00:00:00.000000+00:00",
    "24 o'clock": "2026-01-31T24:00:00.000000+00:00",
    "a leap second": "2026-01-31T23:59:60.000000+00:00",
    "other digits": "٢٠٢٦-01-31T12:00:00.000000+00:00",
    "a newline after it": "2026-01-31T12:00:00.000000+00:00\n",
    "a blank before it": " 2026-01-31T12:00:00.000000+00:00",
    "a comma": "2026-01-31T12:00:00,000000+00:00",
    "ten digits of a fraction": "2026-01-31T12:00:00.0000000000Z",
    "an offset of a day": "2026-01-31T12:00:00.000000+24:00",
    "before the first year, by its offset": "0001-01-01T00:00:00.000000+00:01",
    "after the last year, by its offset": "9999-12-31T23:59:59.999999-00:01",
    "five digits of a year": "12026-01-31T12:00:00.000000+00:00",
}


@pytest.mark.parametrize("case", NOT_A_TIME)
def test_what_is_no_time_is_told_from_one(case: str) -> None:
    """No exception, no guess: it is not canonical, and has no canonical text."""
    assert not moment.is_canonical(NOT_A_TIME[case])
    assert moment.canonical(NOT_A_TIME[case]) is None


def test_microseconds_count_from_1970() -> None:
    """The integer form is that of every other program."""
    assert moment.text(0) == "1970-01-01T00:00:00.000000+00:00"
    assert moment.microseconds("2026-01-31T12:00:00.000001+00:00") == (
        int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()) * moment.SECOND + 1
    )


# --- ids

NAMESPACE = uuid.UUID("6f1d4c1e-2f0a-5b7e-9a53-0b6c1f2f9d41")


@given(st.text(), st.text(), st.integers(0, 10**6))
def test_an_id_is_the_uuid5_of_namespace_title_and_k(namespace: str, title: str, k: int) -> None:
    """Under one fixed namespace, as RFC 9562 defines it, so two nodes that never met agree."""
    assert memory_id(namespace, title, k) == str(uuid.uuid5(NAMESPACE, f"{namespace}\0{title}\0{k}"))


def test_ids_are_for_ever_the_same() -> None:
    """Other nodes have stored these: they can never change."""
    assert memory_id("global", "a title", 0) == KNOWN_IDS[0]
    assert memory_id("global", "a title", 1) == KNOWN_IDS[1]
    assert memory_id("a/b", "größer 😀", 0) == KNOWN_IDS[2]


KNOWN_IDS = (
    "8f0806a7-2337-5602-be90-4001f7d98726",
    "159a9f57-7f8e-5fa9-951d-8441cccc987c",
    "b41b73ac-fc4b-5a81-b641-3a838dcafabb",
)


def test_the_separator_can_stand_in_no_namespace_and_no_title() -> None:
    """Otherwise two different titles could be made to share an id."""
    assert memory_id("a", "b\0c", 0) == memory_id("a\0b", "c", 0)
    assert namespace_fault("a\0b") is not None
    assert title_fault("b\0c") is not None
