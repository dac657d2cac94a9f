"""Parts for set-wise statements: few lengths, and little in each."""

from collections.abc import Iterator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from node.store.rows import MOST_AT_ONCE, MOST_BYTES, chunks

SIZES = st.lists(st.sampled_from((1, 700, 60_000, MOST_BYTES - 1, MOST_BYTES + 1, 2**20)), max_size=1_200)


@given(SIZES)
def test_all_come_in_their_order_and_no_part_is_large(sizes: Sequence[int]) -> None:
    """One that is large by itself comes alone."""
    parts = list(chunks(sizes, lambda size: size))
    assert [size for part in parts for size in part] == list(sizes)
    assert all(len(part) == 1 or sum(part) <= MOST_BYTES for part in parts)


def lengths() -> set[int]:
    """How many statements a connection comes to keep that takes in pages of every length."""
    return {len(part) for length in range(1_200) for part in chunks(range(length))}


def test_whatever_the_pages_are_the_statements_are_few() -> None:
    """A connection keeps each of them, with what was bound to it last."""
    assert (
        lengths() == {2**power for power in range(10)} == {2**power for power in range(10) if 2**power <= MOST_AT_ONCE}
    )


def test_without_the_powers_each_length_would_be_kept() -> None:
    """Control: parts of any length, as `itertools.batched` makes them."""

    def batched(items: Sequence[int]) -> Iterator[Sequence[int]]:
        for start in range(0, len(items), MOST_AT_ONCE):
            yield items[start : start + MOST_AT_ONCE]

    assert len({len(part) for length in range(1_200) for part in batched(range(length))}) == MOST_AT_ONCE
