"""Licences: what may be chosen from an expression, and what may not be shipped."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from node.release.licences import allow_list, allowed, refused
from node.release.locks import ReleaseError
from node.release.sbom import bill

ROOT = Path(__file__).parent.parent.parent
LIST = ("MIT", "Apache-2.0", "GPL-2.0-only WITH Classpath-exception-2.0")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT AND (Apache-2.0 OR GPL-3.0-only)", True),
        ("(MIT AND GPL-3.0-only) OR LGPL-2.1-only", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", True),
        ("GPL-3.0-only WITH Classpath-exception-2.0", False),
        ("Apache-2.0 WITH LLVM-exception", False),
    ],
)
def test_one_may_choose_but_not_leave_out(expression: str, expected: bool) -> None:
    """OR needs one that is on the list, AND all; an exception makes another licence."""
    assert allowed(expression, LIST) is expected


@pytest.mark.parametrize("text", ["NOASSERTION", "Nobodys-Licence", "MIT AND"])
def test_what_is_no_expression_is_no_pass(text: str) -> None:
    """It was not checked, and says so."""
    with pytest.raises(ReleaseError):
        allowed(text, LIST)
    assert not allowed("", LIST)


@pytest.fixture
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bill(ROOT))
    return found


def test_everything_in_the_bill_may_be_shipped(document: dict[str, Any]) -> None:
    """By the list of this tree."""
    assert refused(document, allow_list(ROOT)) == []
    assert refused(document, allow_list(ROOT) - {"MIT"})


def test_a_planted_licence_is_found(document: dict[str, Any]) -> None:
    """In a package, in an expression, in a library inside a wheel; and so is none at all."""
    (sqlcipher3,) = (one for one in document["components"] if one["name"] == "sqlcipher3")
    for stated, says in (
        ([{"license": {"id": "GPL-3.0-only"}}], "GPL-3.0-only is not on the list"),
        ([{"expression": "MIT AND GPL-3.0-or-later"}], "MIT AND GPL-3.0-or-later is not on the list"),
        ([], "no licence is stated"),
    ):
        for place in (sqlcipher3, sqlcipher3["components"][0]):
            before = copy.deepcopy(place["licenses"])
            place["licenses"] = stated
            (line,) = refused(document, allow_list(ROOT))
            assert line.startswith("sqlcipher3 ") and line.endswith(says)
            assert (" / openssl " in line) is (place is not sqlcipher3)
            place["licenses"] = before
