"""What stands for a giver: a number of its certificate's own, however many pages that certificate sends."""

import itertools

from sync import givers
from sync.ports import Giver

LIVES = [f"{number:016x}" for number in range(40)]


def test_each_page_of_each_certificate_has_a_number_of_its_own() -> None:
    pages = itertools.product((1, 2, 70_000), LIVES, range(0, 40, 2))
    numbers = [givers.number_of(certificate, Giver("any", life, at)) for certificate, life, at in pages]
    assert len(set(numbers)) == len(numbers) == 3 * 40 * 20


def test_a_number_names_its_certificate_and_fits_a_column() -> None:
    """SQLite's integers have 63 bits and a sign; 0 is no giver."""
    most = (1 << (63 - givers.TAG_BITS)) - 1
    for certificate in (1, 2, 4_711, most):
        number = givers.number_of(certificate, Giver("any", LIVES[1], 2))
        assert 0 < number < 2**63
        assert givers.certificate_of(number) == certificate


def test_one_giver_has_one_number() -> None:
    one = Giver("any", LIVES[3], 4)
    assert givers.number_of(1, one) == givers.number_of(1, Giver("any", LIVES[3], 4))
