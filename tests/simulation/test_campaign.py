"""Campaigns: the same seed plays the same, what is broken is told with its seed, and no history is counted twice."""

import subprocess
import sys
from pathlib import Path

import pytest

from sync import ed25519, merge
from tests.simulation import campaign, mutate, shapes
from tests.simulation.__main__ import main
from tests.simulation.campaign import Chunk, Figures, Report
from tests.simulation.mutate import MUTATIONS
from tests.simulation.shapes import SHAPES, drawn, verified_once
from tests.simulation.world import World

ROOT = Path(__file__).parents[2]
FINGERPRINT = """
import sys
sys.path[:0] = [".", "tests/support"]
from tests.simulation.test_campaign import ends
print(ends())
"""


def ends() -> str:
    """What some histories end in, as one text."""
    found = []
    for name in SHAPES:
        one = drawn(SHAPES[name], "ends/1")
        world = World(one.topology, keys=one.keys, **one.options)
        for op in one.ops:
            world.do(op)
        world.heal()
        found += [node.store.position().head.hex() for node in world.nodes.values()]
    return " ".join(found)


def test_a_seed_plays_the_same_in_every_process() -> None:
    """No order of a set or a dictionary, and no clock, gets into a history."""
    for salt in ("1", "2"):
        again = subprocess.run(
            [sys.executable, "-c", FINGERPRINT], cwd=ROOT, env={"PYTHONHASHSEED": salt}, check=True, capture_output=True
        )
        assert again.stdout.decode().strip() == ends()


def test_what_breaks_is_told_with_the_way_to_play_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control and claim in one: with a rule broken a chunk names seeds, and each of them breaks when played again."""
    sound = campaign.work(Chunk("nothing", "s", 0, 10, float("inf")))
    assert (sound.histories, sound.broken) == (10, [])
    monkeypatch.setattr(merge, "ordered", lambda kept: tuple(sorted(kept, key=lambda one: one.version.rank)))
    broken = campaign.work(Chunk("nothing", "s", 0, 10, float("inf"))).broken
    assert broken
    for seed, fault in broken:
        assert campaign.again("nothing", seed) == 1
        assert fault.kind in capsys.readouterr().out
        assert f"nothing/{seed}" in shapes.replay("nothing", seed)


def test_a_signature_that_was_verified_is_remembered_only_inside() -> None:
    """The library itself is asked again afterwards."""
    before = ed25519.verifies
    with verified_once():
        assert ed25519.verifies is not before
    assert ed25519.verifies is before


def test_the_book_counts_no_history_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two runs over the same seed and code the longer counts; other seeds add up; a violation fails the sum."""
    book = tmp_path / "book.jsonl"
    for seed, count in (("a", 10), ("a", 30), ("b", 5)):
        campaign.enter(Report(seed, "code", {"nothing": Figures(count, 0, 1.0)}), book, "now")
    assert sum(line.histories for line in campaign.read([book])) == 35
    assert main(["sum", str(book)]) == 0
    assert "35 histories" in capsys.readouterr().out
    campaign.enter(Report("c", "code", {"nothing": Figures(5, 1, 1.0)}), book, "now")
    assert main(["sum", str(book)]) == 1


def test_a_mutation_that_nobody_finds_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control: what breaks nothing is not found; what breaks a rule is."""
    name = "conflicts_are_dropped"
    found = mutate.hunt(name, 50)
    assert found.kind and found.is_sound
    harmless = mutate.Mutation("merge", lambda _patch: None, SHAPES["nothing"])
    monkeypatch.setattr(mutate, "MUTATIONS", {**MUTATIONS, name: harmless})
    found = mutate.hunt(name, 5)
    assert (found.kind, found.histories) == ("", 5)
    assert mutate.verdict([found], 5) == 1
    assert "0 of 1" in capsys.readouterr().out


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_mutation_breaks_something_that_is_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its patch fits the code of today, and says in a sentence what it breaks."""
    MUTATIONS[name].break_it(monkeypatch)
    assert (MUTATIONS[name].break_it.__doc__ or "").strip().endswith(".")
