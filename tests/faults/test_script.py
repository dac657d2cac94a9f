"""The script of a round comes from its seed alone, and the rounds together strike with everything."""

import random
from collections import Counter

from switch import Fabric, Weather

from tests.faults.misfortunes import MISFORTUNES
from tests.faults.script import BETWEEN_TWO, DISKS_LOST, KINDS, ONSET, TOPOLOGIES, Round, script

SEEDS = range(300)


def test_a_seed_always_makes_the_same_round() -> None:
    """Nothing but the seed decides: no clock, no order of other rounds."""
    random.seed(1)
    first = [script(seed) for seed in SEEDS]
    random.seed(2)
    assert [script(seed) for seed in reversed(SEEDS)] == first[::-1]
    assert len({str(one) for one in first}) == len(first)


def test_all_kinds_in_all_topologies_come_up() -> None:
    """200 rounds strike with each kind of fault at least ten times, and every topology is seen."""
    rounds = [script(seed) for seed in range(200)]
    found = Counter(fault.kind for one in rounds for fault in one.faults)
    assert set(found) == set(KINDS) == set(MISFORTUNES)
    assert min(found.values()) >= 10
    assert {one.topology for one in rounds} == set(TOPOLOGIES)
    assert {one.weather.loss for one in rounds} >= {0.0, 0.1}
    assert {len(one.faults) for one in rounds} == {1, 2, 3}


def test_a_round_can_be_played() -> None:
    """No node is struck twice, no two disks are lost, links exist, all begins in time, every node is written on."""
    for seed in SEEDS:
        playable(script(seed))


def playable(one: Round) -> None:
    struck = [node for f in one.faults for node in ((f.target, f.other) if f.kind in BETWEEN_TWO else (f.target,))]
    assert len(struck) == len(set(struck))
    assert sum(fault.kind in DISKS_LOST for fault in one.faults) <= 1
    assert all((min(f.target, f.other), max(f.target, f.other)) in one.topology.edges for f in one.faults)
    assert all(0 <= fault.at <= ONSET for fault in one.faults)
    assert {write.node for write in one.writes} == set(range(one.topology.nodes))
    assert [write.at for write in one.writes] == sorted(write.at for write in one.writes)


# --- the switch's rules


def test_a_frame_arrives_late_and_in_order() -> None:
    """Delay and jitter never let one frame overtake another of its link, as long as nothing may be reordered."""
    fabric = Fabric(Weather(0.02, 0.01))
    due = [fabric.due(0, 1, now / 1_000) for now in range(200)]
    assert None not in due
    assert due == sorted(due)  # type: ignore[type-var]
    assert all(now / 1_000 + 0.02 <= at <= now / 1_000 + 0.031 for now, at in enumerate(due) if at is not None)


def test_with_reordering_frames_overtake() -> None:
    """Control for the order above."""
    fabric = Fabric(Weather(0.02, 0.01, reorder=0.5))
    due = [at for now in range(200) if (at := fabric.due(0, 1, now / 1_000)) is not None]
    assert due != sorted(due)


def test_loss_takes_its_share_and_a_cut_takes_all() -> None:
    """A cut has a direction."""
    fabric = Fabric(Weather(loss=0.1), frozenset(((0, 1),)))
    assert all(fabric.due(0, 1, 0.0) is None for _ in range(1_000))
    assert 50 < sum(fabric.due(1, 0, 0.0) is None for _ in range(1_000)) < 150
