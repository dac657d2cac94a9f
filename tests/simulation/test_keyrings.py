"""Keyrings in a mesh: what is refused for want of a key comes once it is listed, and what a revoked key signs never."""

from collections.abc import Sequence

import pytest
from keys import Signing

from sync import serve
from sync.keyring import parse
from sync.trust import judge
from tests.simulation import distrust
from tests.simulation.breakages import Patch
from tests.simulation.mutate import REFUSED
from tests.simulation.oracle import Fault
from tests.simulation.shapes import SHAPES, drawn
from tests.simulation.world import Op, World, run

ALL: Sequence[Op] = [("enrol", at, "AB", False) for at in "AB"]
EXCHANGE: Sequence[Op] = [(kind, p, q, "ok") for p, q in ("AB", "BA") for kind in ("push", "pull")] * 3
WRITE: Op = ("write", "A", "a", "x")


def played(*ops: Op, policy: str = "enrolled", seed: int = 1) -> World:
    mesh = World("pair", seed=seed, keys=Signing(), policy=policy)  # type: ignore[arg-type]  # one of two texts
    for op in ops:
        mesh.do(op)
    return mesh


def ended(mesh: World) -> list[Fault]:
    assert mesh.heal()
    return mesh.faults()


def titles(mesh: World, name: str) -> set[str]:
    return {some[0].version.title for some in mesh.nodes[name].store.everything().values()}


def test_what_was_refused_comes_once_its_agent_is_listed() -> None:
    """In the same process, by reading on from the start: nobody writes it again."""
    mesh = played(WRITE, *EXCHANGE)
    life = mesh.nodes["B"].life
    assert titles(mesh, "B") == set()
    for op in (("enrol", "B", "A", False), *EXCHANGE):
        mesh.do(op)
    assert titles(mesh, "B") == {"x"}
    assert mesh.nodes["B"].life == life
    assert ended(mesh) == []


def test_with_cursors_that_count_on_it_would_never_come(monkeypatch: Patch) -> None:
    """Control: the oracle calls it lost."""
    distrust.what_was_refused_is_not_asked_for_again(monkeypatch)
    mesh = played(WRITE, *EXCHANGE, ("enrol", "B", "A", False), *EXCHANGE)
    assert {fault.kind for fault in ended(mesh)} == {"lost", "diverged", "digests"}


def test_what_a_revoked_key_signs_stays_where_it_was_written() -> None:
    """What came before the revocation stays; a successor's words come."""
    later: Op = ("write", "A", "a", "y")
    mesh = played(*ALL, WRITE, *EXCHANGE, ("revoke", "B", "A", 0), later, *EXCHANGE)
    assert (titles(mesh, "A"), titles(mesh, "B")) == ({"x", "y"}, {"x"})
    for op in (("rotate", "A"), ("write", "A", "b", "z"), ("enrol", "B", "A", True), *EXCHANGE):
        mesh.do(op)
    assert titles(mesh, "B") == {"x", "z"}
    assert mesh.nodes["B"].the_ring.trust.keyring.entries[-1].succession is not None
    assert ended(mesh) == []


def test_a_revoked_write_that_is_taken_is_seen(monkeypatch: Patch) -> None:
    """Control: at once, and not only in the end."""
    distrust.revocation_is_not_looked_at(monkeypatch)
    mesh = played(*ALL, ("revoke", "B", "A", 0), WRITE, *EXCHANGE)
    assert {fault.kind for fault in mesh.oracle.at_once} == {"untrusted"}


def test_an_older_copy_signs_with_the_former_key() -> None:
    """It lacks the key that was made since; what it writes is refused where the former one is revoked."""
    back: Op = ("restore", "A", "cold", 0)
    mesh = played(*ALL, ("backup", "A"), ("rotate", "A"), back, ("revoke", "B", "A", 0), WRITE, *EXCHANGE)
    assert (titles(mesh, "A"), titles(mesh, "B")) == ({"x"}, set())
    assert ended(mesh) == []


@pytest.mark.parametrize("what", ["strip", "impersonate"])
def test_a_keyring_ends_what_no_signature_can(what: str) -> None:
    """The liar is listed as itself; what it stripped or says in another's name is nowhere for a moment."""
    listed: Sequence[Op] = [("enrol", at, "AB!", False) for at in "AB"]
    told: Sequence[Op] = [("lie", what, at, "A", "a", "x", ahead, False) for at in "AB" for ahead in (0, 1)]
    mesh = played(*listed, WRITE, *EXCHANGE, *told)
    assert mesh.oracle.lies
    assert ended(mesh) == []


@pytest.mark.parametrize(
    ("what", "break_it"),
    [("strip", distrust.the_unsigned_are_believed), ("impersonate", distrust.whose_a_key_is_is_not_looked_at)],
)
def test_without_the_rule_the_lie_is_seen(what: str, break_it: object, monkeypatch: Patch) -> None:
    """Control: a node that never had the true version keeps the lie, and both checks of the oracle see it."""
    assert callable(break_it)
    break_it(monkeypatch)
    listed: Sequence[Op] = [("enrol", at, "AB", False) for at in "AB"]
    mesh = played(*listed, WRITE, ("lie", what, "B", "A", "a", "x", 0, False))
    assert {fault.kind for fault in mesh.oracle.at_once} == {"untrusted", "forged"}


def test_the_oracles_own_judgement_is_that_of_the_rules() -> None:
    """Two readings of the same keyrings, the product's and that of whoever edited them, over what histories keep."""
    compared = refused = 0
    for number in range(80):
        one = drawn(SHAPES["keyrings with liars"], f"judged/{number}")
        mesh = World(one.topology, keys=one.keys, **one.options)
        for op in one.ops:
            mesh.do(op)
        for node in mesh.nodes.values():
            ring = node.the_ring
            assert {entry.key for entry in parse(ring.text, "here").entries} == {key for key, _, _ in ring.meant}
            for version in mesh.oracle.versions.values():
                is_refused = hasattr(judge(ring.trust, version), "reason")
                assert is_refused is not ring.admits(version)
                compared, refused = compared + 1, refused + is_refused
    assert compared > 1_000
    assert refused > 100


@pytest.mark.parametrize("remembers", [True, False], ids=["", "forgetful"])
def test_two_versions_that_are_refused_are_not_asked_for_by_turns(
    remembers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor passes them. Control: by a sender that forgets what it sent just now, each is wanted while the other
    comes, and the two nodes talk for ever."""
    if not remembers:
        monkeypatch.setattr(serve, "wanted_next", lambda cut, have, applied, wanted, before: wanted)
    found = run("mesh of four", REFUSED.begin, keys=Signing(), policy="any", page_limit=3, slice_size=1, seed=63)
    assert [one.kind for one in found] == ([] if remembers else ["restless"])
