"""Negative controls: take one rule away, and the simulator finds what it was for.

Each rule has the shortest history that needs it, found by search and then made small. With the rule the oracle finds
nothing in it; without, it finds the named fault. For most rules the random campaign must stumble on one as well, which
shows that its histories reach that far.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from tests.simulation import breakages, world
from tests.simulation.breakages import Patch
from tests.simulation.shapes import Shape, play
from tests.simulation.world import Op

MOST = 3_000
"""Histories in which a campaign must have found the fault; on average it takes a tenth of them."""
SEEDS = range(6)
"""A history leaves some things to chance, such as when a clock is looked at: one of these must show the fault."""


@dataclass(frozen=True)
class Control:
    """One rule, and what shows that it is needed."""

    break_it: Callable[[Patch], None]
    topology: str
    history: Sequence[Op]
    faults: tuple[str, ...] | None = ()
    """With these the campaign finds it too; None where it would take too long."""
    kind: str = "lost"
    page_limit: int = 1


PAIR, PUSH, PULL = "pair", "pair, push only", "pair, pull only"
RESTORES = ("backup", "restore") * 2
CONTROLS = {
    "merge keeps what was not seen": Control(
        breakages.merge_newest_wins, PAIR, [("write", "A", "b", "x"), ("write", "B", "b", "x")]
    ),
    "a page moves only the cursor that it goes on from": Control(
        breakages.cursor_moves_wherever_the_page_began,
        PUSH,
        [
            ("scope", "in", "B", "A", ("a",)),
            ("write", "B", "b", "y"),
            ("push", "B", "A", "ok"),
            ("scope", "in", "B", "A", ("**",)),
        ],
        ("scope",) * 4,
    ),
    "a page moves the cursor only of the life that it was made for": Control(
        breakages.cursor_moves_whoever_the_page_was_made_for,
        PUSH,
        [
            ("push", "A", "B", "ok"),
            ("backup", "B"),
            ("write", "B", "b", "y"),
            ("push", "B", "A", "ok"),
            ("restore", "B", "cold", 0),
        ],
        None,
    ),
    "a cursor stays while offered versions are lacking": Control(
        breakages.cursor_passes_what_is_wanted, "chain", [("write", "A", "b", "y")]
    ),
    "a cursor proves which feed it belongs to": Control(
        breakages.cursor_is_only_a_number,
        PULL,
        [
            ("backup", "B"),
            ("write", "B", "b", "y"),
            ("pull", "B", "A", "ok"),
            ("restore", "B", "cold", 0),
            ("write", "B", "a", "x"),
        ],
        RESTORES,
    ),
    "a cursor holds for one filter of the sender": Control(
        breakages.cursor_holds_for_any_filter,
        PAIR,
        [
            ("scope", "out", "A", "B", ("b",)),
            ("write", "A", "a", "x"),
            ("pull", "A", "B", "ok"),
            ("scope", "out", "A", "B", ("**",)),
        ],
        ("scope",) * 4,
    ),
    "a cursor holds for one set of rules of the receiver": Control(
        breakages.scope_changes_go_unnoticed,
        PAIR,
        [
            ("scope", "in", "A", "B", ("b",)),
            ("write", "A", "a", "x"),
            ("pull", "A", "B", "ok"),
            ("scope", "in", "A", "B", ("**",)),
        ],
        ("scope",) * 4,
    ),
    "each start begins a life": Control(
        breakages.one_life_for_ever,
        PAIR,
        [("backup", "B"), ("write", "B", "b", "x"), ("pull", "B", "A", "ok"), ("restore", "B", "warm", 0)],
        RESTORES,
    ),
    "clocks are looked at before each write": Control(
        breakages.clocks_are_not_looked_at_before_a_write,
        PAIR,
        [
            ("backup", "B"),
            ("write", "B", "a", "y"),
            ("write", "B", "a", "y"),
            ("write", "B", "a", "y"),
            ("pull", "B", "A", "ok"),
            ("restore", "B", "machine", 0),
            ("write", "B", "a", "y"),
        ],
        None,
    ),
    "a rollback ends trust in all cursors": Control(
        breakages.cursors_survive_a_rollback,
        PUSH,
        [
            ("write", "A", "a", "x"),
            ("push", "A", "B", "ok"),
            ("backup", "B"),
            ("write", "B", "b", "y"),
            ("push", "B", "A", "ok"),
            ("push", "A", "B", "delay"),
            ("restore", "B", "machine", 0),
        ],
        None,
        page_limit=2,
    ),
    "a counter carries a MAC": Control(
        breakages.forged_claims_are_believed,
        PAIR,
        [("write", "B", "b", "x"), ("forge", "A", "B", "b", "x", 50)],
        ("forge", "forge"),
    ),
    "a lie that others build on is still a lie": Control(
        breakages.forged_claims_are_believed,
        PUSH,
        [
            ("write", "A", "b", "x"),
            ("push", "A", "B", "ok"),
            ("write", "B", "b", "x"),
            ("forge", "A", "B", "b", "x", 50),
            ("push", "A", "B", "ok"),
            ("push", "A", "B", "ok"),
            ("write", "A", "b", "x"),
        ],
        None,
        page_limit=2,
    ),
    "leaving a version out for its giver has conditions": Control(
        breakages.never_back_to_where_it_came_from,
        PAIR,
        [("backup", "B"), ("write", "B", "a", "x"), ("pull", "B", "A", "ok"), ("restore", "B", "cold", 0)],
        RESTORES,
    ),
    "life or generation void a giver": Control(
        breakages.givers_without_life_and_generation,
        PAIR,
        [("backup", "A"), ("write", "A", "b", "x"), ("push", "A", "B", "ok"), ("restore", "A", "cold", 0)],
        RESTORES,
    ),
    "life or confirmation void a giver": Control(
        breakages.givers_without_life_and_confirmation,
        PAIR,
        [("backup", "B"), ("write", "B", "a", "x"), ("pull", "B", "A", "ok"), ("restore", "B", "cold", 0)],
        None,
    ),
    "a full waiting table stops the cursor": Control(
        breakages.full_waiting_table_is_ignored,
        PAIR,
        [("skew", "A", 400), ("write", "A", "a", "x"), ("push", "A", "B", "hello")],
        ("skew", "skew"),
    ),
    "what is refused when it is due is asked for again": Control(
        breakages.what_was_refused_when_due_is_not_asked_for_again,
        PUSH,
        [
            ("skew", "A", 400),
            ("write", "A", "b", "x"),
            ("push", "A", "B", "ok"),
            ("skew", "A", 0),
            ("scope", "in", "A", "B", ("a",)),
            *[("wait", 400)] * 9,
            ("scope", "in", "A", "B", ("**",)),
        ],
        None,
    ),
}


def found(control: Control) -> set[str]:
    """The kinds of fault that the control's history shows, whatever is left to chance in it."""
    options = {"page_limit": control.page_limit, "slice_size": 2}
    runs = (world.run(control.topology, control.history, seed=seed, **options) for seed in SEEDS)
    return {fault.kind for faults in runs for fault in faults}


@pytest.mark.parametrize("rule", CONTROLS)
def test_a_short_history_is_harmless_with_the_rule_and_breaks_without_it(rule: str, monkeypatch: Patch) -> None:
    """The oracle finds the fault that the rule prevents, and nothing else makes it find one."""
    control = CONTROLS[rule]
    assert found(control) == set()
    control.break_it(monkeypatch)
    assert control.kind in found(control)


@pytest.mark.parametrize("rule", [rule for rule, control in CONTROLS.items() if control.faults is not None])
def test_without_the_rule_the_campaign_finds_a_fault(rule: str, monkeypatch: Patch) -> None:
    """Random histories over the control's topology come upon the same kind of fault within a bounded number."""
    control = CONTROLS[rule]
    control.break_it(monkeypatch)
    shape = Shape(control.faults or (), (control.topology,), signed=0)
    for number in range(MOST):
        faults = play(shape, f"control/{rule}/{number}")
        if any(fault.kind == control.kind for fault in faults):
            return
    pytest.fail(f"{MOST} histories without the rule, and nothing was lost")
