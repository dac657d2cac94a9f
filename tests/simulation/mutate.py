"""`make mutate`: each rule is broken by hand, and the simulator has to find it. The table says after how
many histories.

Each mutation is played in a process of its own, over histories of a shape in which its rule matters; the history that
finds it is then played without the mutation, and has to be sound.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest

from tests.simulation import breakages, distrust, mutations
from tests.simulation.breakages import Patch
from tests.simulation.limits import TINY, Limits
from tests.simulation.scale import write
from tests.simulation.shapes import BUSY, BYZANTINE, SHAPES, Shape, play, verified_once

MOST = 10_000
"""Histories within which each has to be found."""


@dataclass(frozen=True)
class Mutation:
    """One rule, how it is broken, and where that matters."""

    rule: str
    break_it: Callable[[Patch], None]
    shape: Shape


@dataclass(frozen=True)
class Found:
    """What came of one mutation. `kind`: of the fault; empty where none was found."""

    name: str
    histories: int
    kind: str
    seconds: float
    is_sound: bool
    """The same history, without the mutation."""


PLAIN = ("write",) * 4 + ("push",) * 4 + ("pull",) * 4 + ("delete",)
QUIET = Shape()
RESTORED = Shape(("backup", "restore") * 2, ("pair", "pair, push only", "pair, pull only"), usual=PLAIN)
ROLLED = Shape(("backup", "rollback") * 3, ("pair", "pair, push only", "pair, pull only"), usual=PLAIN)
SCOPED = Shape(("scope",) * 4, ("pair", "pair, push only", "pair, pull only"), signed=0)
SETTLED = Shape((), ("pair", "triangle"), signed=0, usual=("write", "push", "resolve", "resolve"))
SKEWED = Shape(("skew", "skew", "wait"), signed=0)
WAITED = Shape(
    ("scope",) * 4 + ("wait",) * 6, ("pair, push only",), signed=0, usual=("push",),
    begin=(("skew", "A", 400), ("write", "A", "b", "x"), ("push", "A", "B", "ok"), ("skew", "A", 0)),
)  # fmt: skip
FORGED = Shape(("forge", "forge"), signed=0)
OVERGROWN = Shape(
    ("rollback",), ("chain",), signed=0, shortest=0, longest=6, usual=PLAIN,
    begin=(
        ("backup", "B"), ("write", "B", "b", "y"), ("pull", "B", "A", "ok"), ("write", "C", "a", "x"),
        ("restore", "B", "machine", 0), ("push", "C", "B", "ok"),
    ),
)  # fmt: skip
"""A feed that grew again, to where it had been, after its machine was rolled back."""
FORGED_LIVES = Shape(("forge", "forge", "restart"), signed=0)
LIVES_OF_B = (("restart", "B"), ("write", "B", "a", "x"))
PUSHED_OUT = (
    ("write", "B", "a", "x"), ("push", "B", "C", "ok"), *LIVES_OF_B, ("push", "B", "A", "ok"), *LIVES_OF_B * 4,
    ("restart", "B"), ("delete", "B", "a", "x"), ("push", "B", "C", "ok"),
)  # fmt: skip
"""C has the first version, for which the context of the delete has no room; A has the second, which it covers."""
CHAINS = ("chain", "chain, push only")
SECOND_LOOK = Shape(
    (), CHAINS, limits=(Limits(5, 3),), shortest=0, longest=4, usual=("push", "pull"),
    begin=(*PUSHED_OUT, *(("push", "C", "B", "ok"),) * 2, ("pull", "B", "A", "ok")),
)  # fmt: skip
TIGHT = Shape(("restart",) * 6, limits=TINY[:1], signed=0, usual=BUSY, longest=60, one_key=True)
DAEMONS = Shape(("daemon",) * 6, signed=0, usual=PLAIN)
SKEWED_DAEMONS = Shape(("daemon", "daemon", "skew", "wait"), signed=0, usual=PLAIN)
OFFERING = Shape(("lie",) * 8, ("chain, push only",), signed=1.0)
LIARS = Shape(BYZANTINE * 2, signed=1.0)
LISTED = SHAPES["keyrings"]
LISTED_LIARS = SHAPES["keyrings with liars"]
REFUSED = Shape(
    (), ("mesh of four",), signed=1.0, shortest=0, longest=6, policies=("any",),
    begin=(
        ("enrol", "A", "ABCD", False), ("enrol", "B", "AB", False), ("enrol", "C", "ABD", False),
        ("enrol", "D", "ABCD", False), ("revoke", "A", "A", -20), ("push", "D", "C", "delay"),
        ("push", "B", "A", "torn"), ("rotate", "D"), ("push", "A", "B", "ok"), ("write", "C", "b", "x"),
        ("link", "C", ("a", "x"), ("a", "x"), False), ("rename", "C", "b", "x", "x"), ("write", "A", "b", "x"),
        ("write", "D", "a", "x"), ("push", "C", "A", "noack"), ("delete", "B", "a", "x"), ("push", "A", "D", "ok"),
        ("rotate", "B"), ("push", "A", "B", "delay"), ("rename", "A", "b", "x", "x"), ("deliver", 2),
        ("push", "A", "D", "ok"), ("write", "B", "a", "x"), ("delete", "B", "a", "x"), ("push", "D", "C", "dup"),
    ),
)  # fmt: skip
"""B relays two versions of one key, in conflict, both under a key that the others have revoked."""
WAITED_LISTED = Shape(
    ("skew", "wait", "revoke", "strike"), ("pair", "pair, push only"), signed=1.0, usual=PLAIN, policies=("enrolled",)
)
TABLE: Mapping[str, tuple[str, Sequence[tuple[Callable[[Patch], None], Shape]]]] = {
    "merge": (
        "what is kept, and which version wins",
        (
            (breakages.merge_newest_wins, QUIET),
            (mutations.the_order_is_not_asked, LIARS),
            (mutations.depth_is_not_in_the_order, SKEWED),
            (mutations.an_entry_names_no_content, LIARS),
            (mutations.an_entry_is_that_write_alone, QUIET),
            (mutations.time_alone_orders_what_daemons_write, DAEMONS),
            (mutations.stale_is_stale_for_ever, SECOND_LOOK),
            (mutations.conflicts_are_dropped, QUIET),
            (mutations.the_superseded_stay, QUIET),
            (mutations.the_winner_is_the_smallest, QUIET),
            (mutations.the_winner_came_last, QUIET),
            (mutations.the_winner_ignores_signatures, LIARS),
            (mutations.of_twins_one_is_dropped, LIARS),
            (mutations.a_signature_is_worth_nothing, LIARS),
            (mutations.a_newer_memory_beats_a_tombstone, QUIET),
            (mutations.a_newer_tombstone_beats_a_memory, QUIET),
            (mutations.one_content_is_one_version, SKEWED),
            (mutations.the_greatest_are_kept, LIARS),
        ),
    ),
    "settling": (
        "how a conflict ends",
        (
            (mutations.what_was_not_seen_is_settled_too, SETTLED),
            (mutations.settling_keeps_what_it_lets_go_of, QUIET),
        ),
    ),
    "context": (
        "what a write has seen, and what a life may issue",
        (
            (mutations.nothing_is_seen, QUIET),
            (mutations.only_the_winner_is_seen, QUIET),
            (mutations.contexts_have_no_bound, TIGHT),
            (mutations.what_is_replaced_may_be_pushed_out, TIGHT),
            (mutations.the_oldest_stay, TIGHT),
            (mutations.daemons_are_seen_beyond_ones_own_time, SKEWED_DAEMONS),
            (mutations.a_life_that_is_lied_about_writes_on, FORGED),
            (mutations.counters_stand_still, QUIET),
            (breakages.one_life_for_ever, RESTORED),
            (breakages.clocks_are_not_looked_at_before_a_write, ROLLED),
        ),
    ),
    "signature": (
        "who said so",
        (
            (mutations.signatures_are_not_checked, LIARS),
            (mutations.signatures_are_checked_by_tag, LIARS),
            (mutations.contexts_are_not_signed, LIARS),
            (mutations.depth_is_not_signed, LIARS),
            (mutations.dots_are_not_signed, LIARS),
            (mutations.agents_are_not_signed, LIARS),
            (mutations.content_is_not_signed, LIARS),
            (breakages.forged_claims_are_believed, FORGED),
            (breakages.only_the_live_life_is_looked_after, FORGED_LIVES),
            (mutations.what_a_lie_hides_is_not_written_again, FORGED),
            (mutations.what_a_lie_hides_is_written_again_by_the_same_actor, FORGED),
        ),
    ),
    "keyring": (
        "whose word is taken",
        (
            (distrust.the_keyring_is_not_asked, LISTED),
            (distrust.the_unsigned_are_believed, LISTED_LIARS),
            (distrust.whose_a_key_is_is_not_looked_at, LISTED_LIARS),
            (distrust.one_key_is_as_good_as_another, LISTED_LIARS),
            (distrust.the_unknown_are_believed, LISTED),
            (distrust.revocation_is_not_looked_at, LISTED),
            (distrust.revocation_begins_a_moment_late, LISTED),
            (distrust.a_revoked_key_signed_nothing, LISTED),
            (distrust.an_agent_has_one_key, LISTED),
            (distrust.what_was_refused_is_not_asked_for_again, LISTED),
            (distrust.a_keyring_is_told_by_its_keys, LISTED),
            (distrust.what_waited_is_believed, WAITED_LISTED),
        ),
    ),
    "cursor": (
        "what a receiver is known to have",
        (
            (breakages.cursor_moves_wherever_the_page_began, SCOPED),
            (breakages.cursor_moves_whoever_the_page_was_made_for, RESTORED),
            (breakages.cursor_passes_what_is_wanted, QUIET),
            (mutations.one_that_is_wanted_is_forgotten, QUIET),
            (mutations.who_was_asked_is_waited_for_for_ever, OFFERING),
            (mutations.what_was_sent_just_now_is_forgotten, REFUSED),
            (breakages.cursor_is_only_a_number, RESTORED),
            (mutations.the_head_is_not_compared, OVERGROWN),
            (mutations.an_unknown_life_is_believed, RESTORED),
            (breakages.cursor_holds_for_any_filter, SCOPED),
            (breakages.scope_changes_go_unnoticed, SCOPED),
            (breakages.cursors_survive_a_rollback, ROLLED),
        ),
    ),
    "giver": (
        "what need not be sent back",
        (
            (breakages.never_back_to_where_it_came_from, RESTORED),
            (breakages.givers_without_life_and_generation, RESTORED),
            (breakages.givers_without_life_and_confirmation, RESTORED),
            (mutations.siblings_are_not_sent_back, TIGHT),
        ),
    ),
    "waiting": (
        "what is dated into the future",
        (
            (breakages.full_waiting_table_is_ignored, SKEWED),
            (mutations.the_future_is_not_kept_aside, SKEWED),
            (mutations.the_future_is_believed, SKEWED),
            (mutations.what_waited_is_forgotten, SKEWED),
            (breakages.what_was_refused_when_due_is_not_asked_for_again, WAITED),
        ),
    ),
    "feed": (
        "what is sent",
        (
            (mutations.the_feed_sends_winners_only, QUIET),
            (mutations.a_key_keeps_its_first_number, QUIET),
            (mutations.what_a_page_has_no_room_for_counts_as_sent, QUIET),
            (mutations.what_is_larger_than_a_page_is_not_sent, QUIET),
            (mutations.the_digest_forgets_nothing, QUIET),
        ),
    ),
}
MUTATIONS: Mapping[str, Mutation] = {
    break_it.__name__: Mutation(rule, break_it, shape) for rule, (_, some) in TABLE.items() for break_it, shape in some
}


def hunt(name: str, most: int) -> Found:
    """Play histories with the mutation until one breaks."""
    mutation, began = MUTATIONS[name], time.process_time()
    for number in range(most):
        seed = f"mutate/{name}/{number}"
        with verified_once(), pytest.MonkeyPatch.context() as patch:
            mutation.break_it(patch)
            faults = play(mutation.shape, seed)
        if faults:
            with verified_once():
                sound = not play(mutation.shape, seed)
            return Found(name, number + 1, faults[0].kind, time.process_time() - began, sound)
    return Found(name, most, "", time.process_time() - began, is_sound=True)


def _hunt(task: tuple[str, int]) -> Found:
    return hunt(*task)


def run(options: argparse.Namespace) -> int:
    """Hunt them all; 1 where one is not found, or where a history breaks without it."""
    names = options.only or list(MUTATIONS)
    found: dict[str, Found] = {}
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for one in pool.imap_unordered(_hunt, [(name, options.most) for name in names]):
            found[one.name] = one
            said = f"{one.kind} after {one.histories}" if one.kind else f"NOT FOUND in {one.histories}"
            unsound = "" if one.is_sound else "  AND THE HISTORY IS BROKEN WITHOUT IT"
            print(f"{one.name:48} {said}  ({one.seconds:.1f} s){unsound}", flush=True)
    if options.table:
        write(options.table, "mutations", table(found))
    return verdict(list(found.values()), options.most)


def verdict(found: Sequence[Found], most: int) -> int:
    """1 where one was not found, or where the history that found it is broken without it."""
    bad = [one.name for one in found if not one.kind or not one.is_sound]
    print(f"{len(found) - len(bad)} of {len(found)} mutations found within {most:,} histories each")
    return 1 if bad else 0


def table(found: Mapping[str, Found]) -> str:
    """Markdown."""
    lines = ["| rule | broken so | found as | after histories |", "|---|---|---|---|"]
    for name, one in ((name, found[name]) for name in MUTATIONS if name in found):
        doc = " ".join((MUTATIONS[name].break_it.__doc__ or "").split())
        lines.append(f"| {MUTATIONS[name].rule} | {doc} | {one.kind or '**not found**'} | {one.histories:,} |")
    return "\n".join(lines)
