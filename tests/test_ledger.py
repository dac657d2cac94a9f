"""The ledger of the cluster tests notices what it is there to notice: no engine is needed for that."""

from typing import Any

import pytest
from ledger import Call, Ledger


def answering(status: int) -> Call:
    def call(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return status, {"id": "1"}

    return call


def silent(method: str, path: str, body: Any = None) -> tuple[int, Any]:
    raise ConnectionResetError


WRITES = {
    "acknowledged": (answering(201), [{"t": "new"}]),
    "refused": (answering(507), [{"t": "old"}]),
    "without an answer": (silent, [{"t": "old"}, {"t": "new"}]),
    "the node's own mistake": (answering(500), [{"t": "old"}, {"t": "new"}]),
}


@pytest.mark.parametrize("case", WRITES)
def test_only_what_an_answer_allows_is_right(case: str) -> None:
    """After a first write that was acknowledged: what a node may have, and that all else is seen, a loss above all."""
    call, right = WRITES[case]
    ledger = Ledger()
    assert ledger.store(answering(201), "t", "old")
    assert ledger.store(call, "t", "new") is (case == "acknowledged")
    for found in ({"t": "old"}, {"t": "new"}, {}, {"t": "else"}, {"t": "new", "u": "nobody wrote it"}):
        assert (ledger.wrong(found) == []) is (found in right), found


def test_a_delete_that_was_acknowledged_holds() -> None:
    """What is deleted may not come back."""
    ledger = Ledger()
    ledger.store(answering(201), "t", "old")
    assert ledger.delete(answering(200), "t")
    assert ledger.wrong({}) == []
    assert ledger.wrong({"t": "old"}) == ["t: found 'old', acknowledged {None}"]
