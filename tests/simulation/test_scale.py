"""Large meshes in virtual time: a change reaches everyone, and the figures are of what was really sent."""

from pathlib import Path

import pytest

from sync.engine import Engine
from sync.receive import Receiver
from tests.simulation import largemesh, scale
from tests.simulation.scale import measure, pairs_of_chain, pairs_of_mesh, pairs_of_regular, pairs_of_star

SMALL = {
    "mesh": pairs_of_mesh(8),
    "star": pairs_of_star(30),
    "regular": pairs_of_regular(40, 6),
    "chain": pairs_of_chain(12),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_change_reaches_everyone(name: str) -> None:
    """No body is sent too few: each node but the author needs one. And the same seed gives the same figures."""
    row = measure(name, SMALL[name], 3)
    assert row.bodies >= row.nodes - 1
    assert row == measure(name, SMALL[name], 3)


def test_of_several_peers_that_offer_a_body_one_sends_it() -> None:
    """In a graph where everybody hears of a change from six, each node gets it once."""
    row = measure("regular", SMALL["regular"], 3)
    assert row.bodies == row.nodes - 1


def test_without_the_memory_of_whom_was_asked_bodies_come_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: each who offers is asked."""
    monkeypatch.setattr(Engine, "asking", lambda _self, _page, _versions, taken, _now: taken)
    row = measure("regular", SMALL["regular"], 3)
    assert row.bodies > 1.3 * (row.nodes - 1)


def test_a_change_that_does_not_spread_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: where nothing that is offered is wanted, and pulls are far away, a chain does not end alike."""
    monkeypatch.setattr(Receiver, "_wanted", lambda *_: ())
    monkeypatch.setattr(largemesh, "LONGEST", 5.0)
    with pytest.raises(AssertionError, match="not everywhere"):
        measure("chain", SMALL["chain"], 1)


def test_a_regular_graph_has_so_many_peers_for_everyone() -> None:
    """No pair is twofold, nobody is its own peer."""
    pairs = pairs_of_regular(40, 6)
    assert len(set(pairs)) == len(pairs) == 40 * 6 / 2
    assert all(a < b for a, b in pairs)
    assert {sum(node in pair for pair in pairs) for node in range(40)} == {6}


def test_a_table_goes_where_its_place_is(tmp_path: Path) -> None:
    """A document without the place is refused rather than left as it was."""
    document = tmp_path / "scale.md"
    document.write_text("before\n<!-- measured: scale -->\nold\n<!-- /measured -->\nafter\n")
    scale.write(document, "scale", "new")
    assert document.read_text() == "before\n<!-- measured: scale -->\nnew\n<!-- /measured -->\nafter\n"
    document.write_text("nothing")
    with pytest.raises(AssertionError, match="no place"):
        scale.write(document, "scale", "new")
