"""The liar lies: what it sends is junk where it means to, and otherwise what a node reads as a version."""

import json

import pytest

from sync.record import read
from sync.version import Version
from tests.liar.liar import Liar


@pytest.fixture
def liar() -> Liar:
    made = Liar(seed=1)
    made.theirs = "a" * 16
    made.learn_of(b'{"memories":[{"namespace":"honest","title":"a true one"}]}')
    return made


@pytest.mark.parametrize("which", range(5))
def test_a_lie_is_a_version(liar: Liar, which: int) -> None:
    """One that was refused for its form would try nothing of what becomes of versions."""
    for _ in range(20):
        found = read(liar.lies()[which](), "m")
        assert isinstance(found, Version), found


def test_there_are_so_many_lies(liar: Liar) -> None:
    assert len(liar.lies()) == 5


def test_it_lies_about_what_it_was_shown(liar: Liar) -> None:
    titles = {json.loads(liar.lies()[-1]())["title"] for _ in range(40)}
    assert "a true one" in titles


@pytest.mark.parametrize("what", ["push", "answer", "since"])
def test_each_message_can_be_made(liar: Liar, what: str) -> None:
    for _ in range(25):
        assert getattr(liar, what)()
