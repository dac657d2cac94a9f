"""The digest of all that a store keeps: of the set alone, and not to be forged by whoever chooses the tags."""

import random
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from sync import digest

TAGS = st.lists(st.binary(min_size=16, max_size=16), max_size=20)


@given(TAGS, TAGS)
def test_it_is_of_what_is_kept_and_not_of_how_it_came(gone: list[bytes], come: list[bytes]) -> None:
    """Dropping undoes keeping, in any order, and the sum stays within its width."""
    both = digest.changed(digest.changed(0, (), gone), gone, come)
    assert both == digest.changed(0, (), reversed(come))
    assert 0 <= both < 2 ** (8 * digest.WIDTH)
    assert digest.loaded(digest.stored(both)) == both
    assert digest.loaded(b"") == 0


def test_each_tag_counts() -> None:
    """One more, one less, one other, or one twice is another digest; 32 hex digits in any case."""
    tags = [bytes([number]) * 16 for number in range(4)]
    sets = [some for size in range(5) for some in combinations(tags, size)] + [(tags[0], tags[0])]
    told = {digest.text(digest.changed(0, (), some)) for some in sets}
    assert len(told) == len(sets)
    assert {len(one) for one in told} == {32}


def sums_of_two(narrow: bool) -> list[int]:
    """Of pairs whose second tag is what the first lacks to a fixed sum: what a liar looks for among many tags."""
    rng = random.Random(5)
    sums = []
    for _ in range(50):
        first = rng.getrandbits(128)
        pair = first.to_bytes(16, "big"), ((1 << 127) - first & (1 << 128) - 1).to_bytes(16, "big")
        sums.append(sum(int.from_bytes(tag, "big") for tag in pair) % 2**128 if narrow else digest.changed(0, (), pair))
    return sums


def test_tags_that_add_up_to_the_same_make_no_equal_digests() -> None:
    """A sum of the tags themselves is met by whoever has enough tags to choose from: the control."""
    assert len(set(sums_of_two(narrow=False))) == 50
    assert len(set(sums_of_two(narrow=True))) == 1
