"""The bench can begin: what it measures with is what a node takes."""

from importlib import import_module

import pytest

from sync.record import read
from tests.bench import corpus


@pytest.mark.parametrize("module", ["__main__", "load", "machine", "parts", "wire"])
def test_every_part_of_it_can_be_loaded(module: str) -> None:
    """A bench runs seldom, and names that the product has no more are seen here."""
    assert import_module(f"tests.bench.{module}")


def test_its_records_are_taken_as_they_are() -> None:
    made = corpus.versions(corpus.records(), 20, 1, 10**15, corpus.SIGNER)
    assert [read(one.doc, "m") for one in made] == made
