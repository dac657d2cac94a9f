"""Lists are counted before anything of them is made, and what is said of them stays short."""

from typing import Any

import msgspec
import pytest

from sync import counted
from sync.counted import MAX_DETAIL, MAX_RECORD, cut, decoded, elements, raws, size_fault
from sync.errors import RemoteError


class Untouched:
    """A decoder that is not to be asked."""

    def decode(self, _: Any) -> Any:
        raise AssertionError("the list was taken apart before it was counted")


def listed(element: str, count: int) -> msgspec.Raw:
    return msgspec.Raw(f"[{','.join([element] * count)}]".encode())


@pytest.mark.parametrize("element", ["{}", '{"a":[1]}', "[]", "7", '"x"'])
@pytest.mark.parametrize(("count", "most"), [(17, 2), (1_000, 2), (9, 1), (9, 0)])
def test_a_list_of_far_too_many_is_refused_before_it_is_made(element: str, count: int, most: int) -> None:
    """Eight times as many as are taken, or more: by what it holds, whatever that is."""
    with pytest.raises(RemoteError, match=f"offers: more than {most} found, at most {most}") as caught:
        elements("offers", listed(element, count), most, Untouched())  # type: ignore[arg-type]  # it stands in for a decoder
    assert caught.value.code == "limits"


def test_without_the_count_it_would_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    monkeypatch.setattr(counted, "_is_short", lambda *_: True)
    with pytest.raises(AssertionError, match="before it was counted"):
        elements("offers", listed("{}", 1_000), 2, Untouched())  # type: ignore[arg-type]  # it stands in for a decoder


@pytest.mark.parametrize(("count", "is_taken"), [(0, True), (1, True), (2, True), (3, False), (16, False)])
def test_a_list_of_a_few_too_many_is_refused_by_their_number(count: int, *, is_taken: bool) -> None:
    """So many are made and no more."""
    if is_taken:
        assert len(raws("offers", listed("{}", count), 2)) == count
    else:
        with pytest.raises(RemoteError, match=f"offers: {count} found, at most 2"):
            raws("offers", listed("{}", count), 2)


@pytest.mark.parametrize("element", ['{"a":"' + "," * 99 + '"}', '"' + "," * 99 + '"', "{" + '"a":1,' * 99 + '"a":1}'])
def test_commas_within_an_element_are_none_between_two(element: str) -> None:
    """A list of as many as are taken is taken, however many it seems to hold."""
    assert len(raws("offers", listed(element, 2), 2)) == 2


def test_a_record_of_just_the_most_bytes_is_read() -> None:
    """One more is refused unread."""
    assert size_fault(bytes(MAX_RECORD)) is None
    assert size_fault(bytes(MAX_RECORD + 1)) == f"a record of {MAX_RECORD + 1} bytes, at most {MAX_RECORD}"


def test_a_sentence_is_cut_where_it_is_longer_than_the_most() -> None:
    """And nowhere else."""
    assert cut("x" * MAX_DETAIL) == "x" * MAX_DETAIL
    assert cut("x" * (MAX_DETAIL + 1)) == "x" * (MAX_DETAIL - 1) + "…"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'["\xff"]', "is not UTF-8"),
        (b"[", "is not what is expected here"),
    ],
    ids=["deep", "no UTF-8", "no JSON"],
)
def test_what_cannot_be_decoded_is_malformed(body: bytes, words: str) -> None:
    """In a sentence that names it."""
    with pytest.raises(RemoteError, match=f"^the list .*{words}") as caught:
        decoded(msgspec.json.Decoder(list[Any]), body, "the list")
    assert caught.value.code == "malformed"
