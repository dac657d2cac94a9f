"""Nothing acknowledged is lost, and all converge: properties of generated histories, with every fault the network has.

`SIMULATE_HISTORIES` scales the seeded campaigns.
"""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.ids import memory_id
from tests.simulation import mutations
from tests.simulation.nodes import CHOICES
from tests.simulation.shapes import SHAPES, drawn, play, replay, verified_once
from tests.simulation.topologies import TOPOLOGIES, links
from tests.simulation.world import TABLE, Op, World, run

HISTORIES = int(os.environ.get("SIMULATE_HISTORIES", "60"))
"""Of each shape."""


@pytest.mark.parametrize("name", SHAPES)
def test_no_history_loses_a_write_or_leaves_two_nodes_apart(name: str) -> None:
    """After healing, each node keeps exactly the maximal versions of all that reached it, and none that is forged."""
    with verified_once():
        for number in range(HISTORIES):
            seed = f"test/{number}"
            faults = play(SHAPES[name], seed)
            assert not faults, f"{faults[0]}\n{replay(name, seed)}\n{drawn(SHAPES[name], seed)}"


NAMES = st.sampled_from("AB")
PLACES = st.tuples(st.sampled_from("ab"), st.just("x"))
HOW = st.sampled_from(("ok", "lost", "noack", "delay", "dup", "hello", "torn"))
OPERATIONS: st.SearchStrategy[Op] = st.one_of(
    st.tuples(st.just("write"), NAMES, st.sampled_from("ab"), st.just("x")),
    st.tuples(st.just("delete"), NAMES, st.sampled_from("ab"), st.just("x")),
    st.tuples(st.just("move"), NAMES, st.sampled_from("ab"), st.just("x"), st.sampled_from("ab")),
    st.tuples(st.just("link"), NAMES, PLACES, PLACES, st.booleans()),
    st.tuples(st.just("unlink"), NAMES, st.integers(0, 3)),
    st.tuples(st.just("resolve"), NAMES, st.integers(0, 1), st.sampled_from(list(CHOICES)), st.booleans()),
    st.tuples(st.just("push"), st.just("A"), st.just("B"), HOW),
    st.tuples(st.just("push"), st.just("B"), st.just("A"), HOW),
    st.tuples(st.just("pull"), st.just("A"), st.just("B"), HOW.filter(lambda how: how not in ("noack", "hello"))),
    st.tuples(st.just("pull"), st.just("B"), st.just("A"), HOW.filter(lambda how: how not in ("noack", "hello"))),
    st.tuples(st.just("deliver"), st.integers(0, 5)),
    st.tuples(st.just("restart"), NAMES),
    st.tuples(st.just("backup"), NAMES),
    st.tuples(st.just("restore"), NAMES, st.sampled_from(("warm", "cold", "machine")), st.integers(0, 2)),
    st.tuples(st.just("skew"), NAMES, st.sampled_from((-250, 299, 400, 0))),
    st.tuples(st.just("wait"), st.sampled_from((10, 400))),
)


@settings(max_examples=150)
@given(st.lists(OPERATIONS, min_size=4, max_size=24))
def test_two_nodes_survive_any_history(ops: list[Op]) -> None:
    """The same promise for histories that hypothesis looks for, and makes small when it breaks."""
    assert run("pair", ops) == []


def test_a_cloned_node_is_named_and_its_writes_are_kept() -> None:
    """Two lives that take turns behind one certificate raise an alarm at their peer, and all of them converge."""
    world = World("pair", seed=3)
    turns = [("write", name, "a", title) for name, title in (("A", "x"), ("A2", "y"))]
    for op in (("clone", "A"), *turns, *[("push", name, "B", "ok") for name in ("A", "A2") * 5]):
        kind, *rest = op
        with world.oracle.watching():
            TABLE[kind](world, *rest)
    assert "duplicate_identity" in world.alarms
    assert world.heal()
    assert world.faults() == []
    assert len(world.nodes["A2"].store.everything()) == 2


def test_links_made_moved_and_taken_back_apart_come_to_rest_alike() -> None:
    """One node moves a memory while another links it and a third takes a link of it back."""
    world = World("triangle", seed=5)
    everywhere = [("push", p, q, "ok") for p in "ABC" for q in "ABC" if p != q]
    ops = [("write", "A", "a", "x"), ("write", "A", "a", "y"), ("link", "A", ("a", "x"), ("a", "y"), False)]
    ops += [*everywhere, ("move", "A", "a", "x", "b"), ("link", "B", ("a", "x"), ("b", "z"), True), ("unlink", "C", 0)]
    for op in ops:
        world.do(op)
    assert world.heal()
    assert world.faults() == []
    kept = world.nodes["C"].store.everything()
    kinds = {
        (namespace, id_.split("\x1f")[1]): some[0].version.kind
        for (namespace, id_), some in kept.items()
        if "\x1f" in id_
    }
    y, z = memory_id("a", "y", 0), memory_id("b", "z", 0)
    assert kinds == {("a", y): "u", ("b", y): "l", ("a", z): "l"}


def test_a_full_mesh_sends_each_body_hardly_more_often_than_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight nodes, eight writes: each takes some eight bodies (seven are needed) and not one for each of 56 links."""
    names = "ABCDEFGH"
    pairs = [p + q for p in names for q in names if p != q]
    monkeypatch.setitem(TOPOLOGIES, "mesh of eight", (names, links(*pairs, by=("push",))))
    world = World("mesh of eight", page_limit=100, slice_size=100)
    for name in names:
        world.do(("write", name, "a", name))
        for p, q, _ in world.links:
            world.do(("push", p, q, "ok"))
    assert world.heal()
    assert world.faults() == []
    assert 7 * 8 <= world.bodies_sent <= 9 * 8


def looked_at_and_settled() -> tuple[set[bytes], set[bytes], World]:
    """Two nodes write, somebody looks, a third version comes, and the conflict is settled by what was seen."""
    world = World("triangle", seed=2, page_limit=20)
    look = ("resolve", "A", 0, "winner", False)
    for op in (
        *[("write", name, "a", "x") for name in "ABC"],
        ("push", "B", "A", "ok"),
        look,
        ("push", "C", "A", "ok"),
    ):
        world.do(op)
    (before,) = world.nodes["A"].store.everything().values()
    world.do(look)
    (after,) = world.nodes["A"].store.everything().values()
    return {one.version.tag for one in before}, {one.version.tag for one in after}, world


def test_a_conflict_that_grew_since_it_was_looked_at_is_not_settled() -> None:
    """And by what is kept now it is; then one version is left everywhere."""
    before, after, world = looked_at_and_settled()
    assert (len(before), after) == (3, before)
    world.do(("resolve", "A", 0, "other", True))
    assert world.heal()
    assert world.faults() == []
    assert [len(some) for node in world.nodes.values() for some in node.store.everything().values()] == [1, 1, 1]


def test_without_the_look_at_what_was_seen_it_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the oracle calls it unseen."""
    mutations.what_was_not_seen_is_settled_too(monkeypatch)
    before, after, world = looked_at_and_settled()
    assert after != before
    assert [fault.kind for fault in world.oracle.at_once] == ["unseen"]
