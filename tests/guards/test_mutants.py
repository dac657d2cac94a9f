"""The mutants are what they are called, and the list of those that were looked at names ones that exist."""

import ast
import tomllib

import pytest

from tests.guards.__main__ import REVIEWED, ROOT, all_mutants
from tests.guards.mutants import mutants

TEXT = """
def f(a, b):
    if a < b and a:
        return "ä" if a else b
    while a >= b or not b or a:
        raise ValueError(a)
    if b:
        raise KeyError
    if a:
        b = 1
"""


@pytest.mark.parametrize(
    ("kind", "guard", "line"),
    [
        ("never", "if a < b and a", "    if False:"),
        ("bound", "a < b", "    if (a <= b) and a:"),
        ("operand", "a < b in a < b and a", "    if ((a)):"),
        ("operand", "a in a < b and a", "    if ((a < b)):"),
        ("bound", "a >= b", "    while (a > b) or not b or a:"),
        ("operand", "not b in a >= b or not b or a", "    while ((a >= b) or (a)):"),
        ("raise", "raise ValueError(a)", "        pass"),
        ("never", "if b", "    if False:"),
    ],
)
def test_each_guard_is_taken_away(kind: str, guard: str, line: str) -> None:
    """Its line says so, every other line is as it was, and it is still Python."""
    (one,) = [one for one in mutants("m.py", TEXT) if (one.kind, one.guard) == (kind, guard)]
    before, after = TEXT.splitlines(), one.text.splitlines()
    assert [new for old, new in zip(before, after, strict=True) if old != new] == [line]
    ast.parse(one.text)


def test_what_is_no_guard_is_left_alone() -> None:
    """An `if` that goes on is none, and a `raise` that is all of one is that guard already."""
    found = {(one.kind, one.guard) for one in mutants("m.py", TEXT)}
    assert ("never", "if a") not in found
    assert ("raise", "raise KeyError") not in found


def test_every_mutant_of_the_rooms_is_python() -> None:
    """Several hundred, each another text than the module's own."""
    found = all_mutants("")
    assert len({one.key for one in found}) == len(found) > 500
    for one in found:
        ast.parse(one.text)
        assert one.text != (ROOT / one.file).read_text()


def test_what_was_reviewed_exists_and_has_a_reason() -> None:
    """A guard that was edited has to be looked at again."""
    keys = {one.key for one in all_mutants("")}
    for one in tomllib.loads(REVIEWED.read_text())["mutant"]:
        assert (one["file"], one["kind"], one["guard"], one.get("which", 0)) in keys
        assert one["reason"]
