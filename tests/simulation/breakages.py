"""The rules of `sync`, each taken away by a monkeypatch: what the simulator has to notice."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import ANY

import pytest

from sync import claims, engine, feed, receive, serve
from sync.engine import Engine
from sync.merge import Added
from sync.ports import Giver, Kept
from sync.receive import Page, Receiver
from tests.simulation import network
from tests.simulation.world import World

Patch = pytest.MonkeyPatch


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
    patch.setattr(network, "current_cursor", current_cursor)


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
    patch.setattr(claims, "is_seen", lambda *_: True)


def only_the_live_life_is_looked_after(patch: Patch) -> None:
    """What a lie about an ended life of ours hides is not written again."""
    true = claims.is_seen

    def is_seen(version: Any, ours: Any, own: Any) -> bool:
        return bool(ours.dot.actor != own.lives[-1].actor or true(version, ours, own))

    patch.setattr(claims, "is_seen", is_seen)


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


def what_was_refused_when_due_is_not_asked_for_again(patch: Patch) -> None:
    """What waited and is refused when it is due leaves the cursors where they are: behind it."""
    true = Receiver.due

    def due(self: Any, policy_of: Any, limit: int) -> Any:
        with pytest.MonkeyPatch.context() as meanwhile:
            meanwhile.setattr(receive, "forget_cursors", lambda _ledger: None)
            return true(self, policy_of, limit)

    patch.setattr(Receiver, "due", due)
