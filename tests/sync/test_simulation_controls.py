"""Negative controls: take one rule away, and the simulator finds what it was for.

Each rule has the shortest history that needs it, found by search and then made small. With the rule the oracle finds
nothing in it; without, it finds the named fault. For most rules the random campaign must stumble on one as well, which
shows that its histories reach that far.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import ANY

import pytest
import simulation
from histories import play
from simulation import Op, World

from sync import engine, feed, receive, serve
from sync.engine import Engine
from sync.merge import Added
from sync.ports import Giver, Kept
from sync.receive import Page, Receiver

Patch = pytest.MonkeyPatch
MOST = 3_000
"""Histories in which a campaign must have found the fault; on average it takes a tenth of them."""
SEEDS = range(6)
"""A history leaves some things to chance, such as when a clock is looked at: one of these must show the fault."""


def merge_newest_wins(patch: Patch) -> None:
    """Keep only the greatest by time, whatever it had seen."""

    def merge(kept: Sequence[Kept], incoming: Kept) -> Any:
        if any(one.version.tag == incoming.version.tag for one in kept):
            return "same"
        if any(one.version.rank > incoming.version.rank for one in kept):
            return "stale"
        return Added((incoming,), tuple(kept))

    patch.setattr(receive, "merge", merge)


def pages_taken_as(patch: Patch, **fields: Any) -> None:
    """Let the receiver see each page with these fields; `ANY` equals whatever it is compared with."""
    take = Receiver.take

    def taking(self: Receiver, page: Page, *rest: Any) -> Any:
        return take(self, replace(page, **fields), *rest)

    patch.setattr(Receiver, "take", taking)


def cursor_moves_wherever_the_page_began(patch: Patch) -> None:
    """The receiver takes each page's cursor, whether or not it goes on from its own."""
    pages_taken_as(patch, after=ANY)


def cursor_moves_whoever_the_page_was_made_for(patch: Patch) -> None:
    """The receiver takes the cursor of a page that was made for an earlier life of it."""
    pages_taken_as(patch, made_for=ANY)


def cursor_passes_what_is_wanted(patch: Patch) -> None:
    """The cursor moves although offered versions are still lacking."""
    finished = Receiver._finished

    def finishing(self: Any, page: Any, state: Any, policy: Any, step: int, hindered: bool, expected: bool) -> Any:
        return finished(self, page, state, policy, step, False, expected)

    patch.setattr(Receiver, "_finished", finishing)


def cursor_is_only_a_number(patch: Patch) -> None:
    """No life, no head: any cursor is believed."""

    def resolve(cursor: Any, lives: Any, position: Any, head_at: Any, tag: str) -> feed.Resolved:
        return feed.Resolved(cursor.number if cursor else 0, cursor is None, rolled_back=False)

    patch.setattr(serve, "resolve", resolve)


def cursor_holds_for_any_filter(patch: Patch) -> None:
    """A cursor served under another scope is served on under today's."""
    resolve = serve.resolve

    def resolving(cursor: Any, lives: Any, position: Any, head_at: Any, tag: str) -> feed.Resolved:
        return resolve(cursor, lives, position, head_at, cursor.filter if cursor else tag)

    patch.setattr(serve, "resolve", resolving)


def scope_changes_go_unnoticed(patch: Patch) -> None:
    """A cursor reached under other rules of ours counts as if it had been reached under today's."""

    def current_cursor(state: Any, life: str, _policy: Any) -> str | None:
        return next((held.cursor for held in state.held if held.life == life), None) or (
            state.held[0].cursor if state.held else None
        )

    patch.setattr(receive, "current_cursor", current_cursor)
    patch.setattr(simulation, "current_cursor", current_cursor)


def one_life_for_ever(patch: Patch) -> None:
    """A restarted or rolled-back node goes on with the life it had."""
    begin_life = Engine.begin_life

    def beginning(self: Engine, ledger: Any, now: int, reason: str) -> int:
        return 0 if ledger.lives() else begin_life(self, ledger, now, reason)

    def rolled_back(self: Engine, _ledger: Any, peer: str, now: int) -> tuple[()]:
        self._believed[peer] = now
        return ()

    patch.setattr(Engine, "begin_life", beginning)
    patch.setattr(Engine, "rolled_back", rolled_back)


def clocks_are_not_looked_at_before_a_write(patch: Patch) -> None:
    """A machine that was rolled back goes on writing in the life that it had."""
    patch.setattr(World, "before_write", lambda *_: None)


def cursors_survive_a_rollback(patch: Patch) -> None:
    """What was received between a rollback and its discovery is trusted."""
    patch.setattr(engine, "forget_cursors", lambda _ledger: None)
    patch.setattr(receive, "forget_cursors", lambda _ledger: None)


def forged_claims_are_believed(patch: Patch) -> None:
    """Nobody checks the counters that a version claims of our own lives."""
    patch.setattr(Receiver, "_check_claims", lambda *_: None)


def forged_claims_are_checked_once(patch: Patch) -> None:
    """A lie that is kept already is not looked at again when somebody builds on it."""
    check = Receiver._check_claims

    def checking(self: Any, peer: str, version: Any, hidden: Sequence[Kept], allowed: bool) -> None:
        known = {claim for one in self._batch.kept(version.key) for claim in one.version.clock.items()}
        ours = {claim for claim in version.clock.items() if claim[0] in self._own}
        if not ours <= known:
            check(self, peer, version, hidden, allowed)

    patch.setattr(Receiver, "_check_claims", checking)


def givers_known_by(patch: Patch, *, life: bool, generation: bool, confirmed: bool) -> None:
    """Take away some of the conditions under which a version is not sent back to its giver."""

    def giver(peer: str, of_life: str, of_generation: int) -> Giver:
        return Giver(peer, of_life if life else "", of_generation if generation else 0)

    patch.setattr(receive, "Giver", giver)
    patch.setattr(serve, "Giver", giver)
    if not confirmed:
        patch.setattr(serve, "_is_confirmed", lambda *_: True)


def never_back_to_where_it_came_from(patch: Patch) -> None:
    """A version is left out for the certificate that it came from, unconditionally."""
    givers_known_by(patch, life=False, generation=False, confirmed=False)


def givers_without_life_and_generation(patch: Patch) -> None:
    """Neither a restart nor a reset of the cursor voids a giver; only the confirmation is asked for."""
    givers_known_by(patch, life=False, generation=False, confirmed=True)


def givers_without_life_and_confirmation(patch: Patch) -> None:
    """Nobody asks whether the giver still holds what it gave, as long as its cursor was not reset."""
    givers_known_by(patch, life=False, generation=True, confirmed=False)


def full_waiting_table_is_ignored(patch: Patch) -> None:
    """What finds no room to wait is dropped, and the cursor moves on."""
    set_aside = Receiver._set_aside

    def setting_aside(self: Any, peer: str, version: Any, _room: int, full: bool) -> tuple[int, bool]:
        return set_aside(self, peer, version, 0, full)[0], False

    patch.setattr(Receiver, "_set_aside", setting_aside)


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
        merge_newest_wins, PAIR, [("write", "A", "b", "x"), ("write", "B", "b", "x")]
    ),
    "a page moves only the cursor that it goes on from": Control(
        cursor_moves_wherever_the_page_began,
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
        cursor_moves_whoever_the_page_was_made_for,
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
        cursor_passes_what_is_wanted, "chain", [("write", "A", "b", "y")]
    ),
    "a cursor proves which feed it belongs to": Control(
        cursor_is_only_a_number,
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
        cursor_holds_for_any_filter,
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
        scope_changes_go_unnoticed,
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
        one_life_for_ever,
        PAIR,
        [("backup", "B"), ("write", "B", "b", "x"), ("pull", "B", "A", "ok"), ("restore", "B", "warm", 0)],
        RESTORES,
    ),
    "clocks are looked at before each write": Control(
        clocks_are_not_looked_at_before_a_write,
        PAIR,
        [
            ("backup", "B"),
            ("write", "B", "a", "y"),
            ("write", "B", "a", "x"),
            ("pull", "B", "A", "ok"),
            ("pull", "B", "A", "ok"),
            ("restore", "B", "machine", 0),
            ("write", "B", "b", "y"),
            ("write", "B", "b", "z"),
            ("write", "B", "a", "x"),
        ],
        None,
    ),
    "a rollback ends trust in all cursors": Control(
        cursors_survive_a_rollback,
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
        forged_claims_are_believed,
        PAIR,
        [("forge", "A", "B", "b", "x", 1), ("write", "B", "b", "x")],
        ("forge", "forge"),
    ),
    "a lie that others build on is still a lie": Control(
        forged_claims_are_checked_once,
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
        never_back_to_where_it_came_from,
        PAIR,
        [("backup", "B"), ("write", "B", "a", "x"), ("pull", "B", "A", "ok"), ("restore", "B", "cold", 0)],
        RESTORES,
    ),
    "life or generation void a giver": Control(
        givers_without_life_and_generation,
        PAIR,
        [("backup", "A"), ("write", "A", "b", "x"), ("push", "A", "B", "ok"), ("restore", "A", "cold", 0)],
        RESTORES,
    ),
    "life or confirmation void a giver": Control(
        givers_without_life_and_confirmation,
        PAIR,
        [("backup", "B"), ("write", "B", "a", "x"), ("pull", "B", "A", "ok"), ("restore", "B", "cold", 0)],
        None,
    ),
    "a full waiting table stops the cursor": Control(
        full_waiting_table_is_ignored,
        PAIR,
        [("skew", "A", 400), ("write", "A", "a", "x"), ("push", "A", "B", "hello")],
        ("skew", "skew"),
    ),
}


def found(control: Control) -> set[str]:
    """The kinds of fault that the control's history shows, whatever is left to chance in it."""
    options = {"page_limit": control.page_limit, "slice_size": 2}
    runs = (simulation.run(control.topology, control.history, seed=seed, **options) for seed in SEEDS)
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
    for number in range(MOST):
        faults, _ = play(f"control/{rule}/{number}", control.faults or (), (control.topology,))
        if any(fault.kind == control.kind for fault in faults):
            return
    pytest.fail(f"{MOST} histories without the rule, and nothing was lost")
