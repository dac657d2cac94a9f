"""A peer that lies: what it forges is refused, what it signs twice is named, and nobody loses a write."""

from typing import Any

import pytest
from keys import Signing

from sync import attest
from sync.receive import Receiver
from tests.simulation import byzantine, world
from tests.simulation.byzantine import AGENT
from tests.simulation.oracle import Fault
from tests.simulation.world import Op, World

FORGERIES = (
    "alter",
    "alter all",
    "forge signature",
    "later context",
    "deeper",
    "other dot",
    "swap agent",
    "transplant",
    "malformed",
)
"""Lies under a signature that is nobody's."""
SCENE: list[Op] = [("write", "A", "a", "x"), ("write", "A", "a", "y"), ("delete", "A", "a", "y")]


def told(what: str, *, at: str = "B", has_seen: bool = True, ops: list[Op] = SCENE) -> World:
    """A triangle in which A has written and somebody lies to B about it."""
    mesh = World("triangle", seed=1, slice_size=100, keys=Signing())
    for op in (*ops, ("lie", what, at, "A", "a", "x", 1, has_seen), ("lie", what, at, "A", "a", "x", 0, not has_seen)):
        mesh.do(op)
    return mesh


def ended(mesh: World) -> list[Fault]:
    assert mesh.heal()
    return mesh.faults()


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forgery_is_refused(what: str) -> None:
    """Whoever it is told to: one who has the true version, or one who never heard of it."""
    for at in "AB":
        mesh = told(what, at=at)
        if at == "B":
            assert not mesh.nodes["B"].store.everything()
        assert ended(mesh) == []


@pytest.mark.parametrize("what", [one for one in FORGERIES if one != "alter"])
def test_the_oracle_sees_a_forgery_that_is_accepted(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: where no signature is checked each of these is kept, and told. (`alter` fails before, at its digest.)"""
    monkeypatch.setattr(attest, "genuine", lambda some: frozenset(range(len(tuple(some)))))
    assert "forged" in {fault.kind for fault in ended(told(what))}


@pytest.mark.parametrize("may_be_right", [False, True], ids=["", "right"])
def test_a_guess_at_the_mac_is_never_right(may_be_right: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The liar draws the very bits. Control: a right guess hides the write, as docs/simulation.md says."""
    mesh = World("pair", seed=1, keys=Signing())
    mesh.do(("write", "A", "a", "x"))
    (written,) = mesh.nodes["A"].store.everything().values()
    dot = written[0].version.dot
    monkeypatch.setattr(byzantine, "_invented", lambda _: dot.check)
    monkeypatch.setattr(mesh.random, "getrandbits", lambda bits: dot.counter & ((1 << bits) - 1))
    if may_be_right:
        monkeypatch.setattr(byzantine.dots, "counter", lambda *_: 0)
    mesh.do(("forge", "B", "A", "a", "x", 0, False))
    monkeypatch.undo()
    assert [one.kind for one in ended(mesh)] == (["lost"] * 2 if may_be_right else [])


def test_one_counter_for_two_contents_is_kept_twice_and_named() -> None:
    """Each half is told to another node; once they meet all keep both, and the alarm says who signed them."""
    mesh = told("equivocate")
    assert ended(mesh) == []
    kept = [store.everything() for store in (node.store for node in mesh.nodes.values())]
    dots = [[v.version.dot for some in one.values() for v in some] for one in kept]
    assert all(len({dot[:2] for dot in some}) < len(set(some)) for some in dots)
    assert AGENT in named(mesh)


def named(mesh: World) -> str:
    return " ".join(alarm.detail for alarm in mesh.notes if alarm.kind == "equivocation")


def test_without_the_look_at_equal_counters_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: both are still kept, and no alarm names the liar."""
    monkeypatch.setattr(Receiver, "_check_twins", lambda *_: None)
    mesh = told("equivocate")
    assert ended(mesh) == []
    assert AGENT not in named(mesh)


def test_honest_nodes_accuse_nobody() -> None:
    """Conflicts, restores and clones are no equivocation: no counter is used twice in them."""
    ops: list[Op] = [("write", name, "a", "x") for name in "ABC"]
    ops += [("backup", "A"), ("write", "A", "a", "x"), ("push", "A", "B", "ok"), ("restore", "A", "cold", 0)]
    ops += [("write", "A", "a", "x"), ("clone", "B"), ("write", "B", "a", "x"), ("write", "B2", "a", "x")]
    mesh = World("triangle", seed=1, keys=Signing())
    for op in ops:
        mesh.do(op)
    assert ended(mesh) == []
    assert "equivocation" not in mesh.alarms


def test_a_flood_of_versions_of_one_key_is_settled() -> None:
    """More than are kept of one key: one local write settles them, and all end alike."""
    mesh = told("flood")
    assert ended(mesh) == []
    assert "settled" in mesh.alarms


@pytest.mark.parametrize("what", byzantine.LIES)
def test_no_lie_keeps_honest_nodes_apart(what: str) -> None:
    """Told several times, to each node, between writes, they leave all honest nodes alike and nothing lost."""
    ops: list[Any] = [*SCENE]
    for at in "ABC":
        ops += [("write", at, "a", "x"), ("push", at, "B" if at != "B" else "A", "ok")]
        ops += [("lie", what, at, "A", "a", "x", ahead, seen) for ahead in (-1, 2) for seen in (True, False)]
    for seed in range(3):
        assert world.run("triangle", ops, seed=seed, keys=Signing()) == []
