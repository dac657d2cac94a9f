"""More rules taken away: of merge, contexts, signatures, lives, waiting and the feed, each by one monkeypatch.

`breakages` has those of cursors and givers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from sync import attest, context, digest, feed, merge, receive, serve, settle, writes
from sync import dot as dots
from sync.asked import Asked
from sync.batch import Batch
from sync.context import Context
from sync.merge import Added
from sync.ports import Kept, Life
from sync.receive import Receiver
from sync.version import Version
from tests.simulation.breakages import Patch
from tests.simulation.oracle import SimStore


def _supersede(patch: Patch, rule: Any) -> None:
    patch.setattr(merge, "supersedes", rule)


def _merged(patch: Patch, change: Any) -> None:
    """Let the receiver see what a merge added through `change`."""
    true = receive.merge

    def merging(kept: Sequence[Kept], incoming: Kept) -> Any:
        result = true(kept, incoming)
        return change(result, incoming) if isinstance(result, Added) else result

    patch.setattr(receive, "merge", merging)


def the_order_is_not_asked(patch: Patch) -> None:
    """Whoever says that it has seen a version takes its place, though that one says the same of it."""
    patch.setattr(merge, "is_after", lambda _a, _b: True)


def depth_is_not_in_the_order(patch: Patch) -> None:
    """A version comes after another by its time alone, whoever's clock was wrong."""
    patch.setattr(merge, "is_after", lambda a, b: (a.at, a.tag) > (b.at, b.tag))


def an_entry_names_no_content(patch: Patch) -> None:
    """Whoever has seen a counter has seen whatever anybody signs under it."""
    patch.setattr(Context, "covers", lambda self, dot: self.number(dot.actor) >= dot.number)


def an_entry_is_that_write_alone(patch: Patch) -> None:
    """Of an actor only the very last write counts as seen, and not those before it."""
    patch.setattr(Context, "covers", Context.names)


def time_alone_orders_what_daemons_write(patch: Patch) -> None:
    """A later row of a daemon takes the place of one whose author had seen more."""
    patch.setattr(merge, "_has_seen_by_time", lambda a, b: a.context.legacy > b.context.legacy)


def stale_is_stale_for_ever(patch: Patch) -> None:
    """What is stale when it comes is not looked at again when what it was stale by goes."""
    patch.setattr(receive, "MAX_SECOND_LOOKS", 0)


def conflicts_are_dropped(patch: Patch) -> None:
    """Only the winner is kept."""
    _merged(patch, lambda added, _incoming: replace(added, kept=added.kept[:1]))


def the_superseded_stay(patch: Patch) -> None:
    """What a version supersedes is kept beside it."""
    _merged(patch, lambda added, _incoming: Added(merge.ordered((*added.kept, *added.dropped)), ()))


def the_winner_is_the_smallest(patch: Patch) -> None:
    """The tie-break the other way round."""
    patch.setattr(merge, "ordered", lambda kept: tuple(sorted(kept, key=lambda one: one.version.rank)))


def the_winner_came_last(patch: Patch) -> None:
    """No tie-break: the order of arrival."""
    patch.setattr(merge, "ordered", lambda kept: tuple(reversed(tuple(kept))))


def the_winner_ignores_signatures(patch: Patch) -> None:
    """Content before signature: not the order of the specification."""

    def rank(one: Kept) -> Any:
        return (one.version.at, one.version.content, one.version.signature)

    patch.setattr(merge, "ordered", lambda kept: tuple(sorted(kept, key=rank, reverse=True)))


def of_twins_one_is_dropped(patch: Patch) -> None:
    """The greater of two signed versions of one counter supersedes the other."""
    true = merge.supersedes

    def rule(a: Version, b: Version) -> bool:
        return true(a, b) or (a.dot[:2] == b.dot[:2] and bool(a.signature and b.signature) and a.rank > b.rank)

    _supersede(patch, rule)


def a_signature_is_worth_nothing(patch: Patch) -> None:
    """Of one write in two documents the signed one does not supersede the other."""
    true = merge.supersedes
    _supersede(patch, lambda a, b: a.dot != b.dot and true(a, b))


def a_newer_memory_beats_a_tombstone(patch: Patch) -> None:
    """By its time, whether or not its author had seen the delete."""
    true = merge.supersedes
    _supersede(patch, lambda a, b: true(a, b) or (b.kind == "t" and a.kind == "m" and a.at > b.at))


def a_newer_tombstone_beats_a_memory(patch: Patch) -> None:
    """By its time, whether or not whoever deleted had seen the memory's last version."""
    true = merge.supersedes
    _supersede(patch, lambda a, b: true(a, b) or (a.kind == "t" and b.kind == "m" and a.at > b.at))


def one_content_is_one_version(patch: Patch) -> None:
    """What says the same as a kept version is taken for it, whatever its author had seen."""
    true = receive.merge

    def merging(kept: Sequence[Kept], incoming: Kept) -> Any:
        if incoming.version.kind == "m" and any(one.version.content == incoming.version.content for one in kept):
            return "same"
        return true(kept, incoming)

    patch.setattr(receive, "merge", merging)


def the_greatest_are_kept(patch: Patch) -> None:
    """More than 32 versions of a key: the greatest stay, and nobody settles."""
    _merged(patch, lambda added, _incoming: replace(added, kept=added.kept[: merge.MAX_KEPT]))


def what_was_not_seen_is_settled_too(patch: Patch) -> None:
    """Whoever settles a conflict lets go of what arrived since they looked."""
    true = settle.settle

    def settling(some: Any, key: Any, choice: Any, _seen: Any, *rest: Any) -> Any:
        return true(some, key, choice, {one.version.tag for one in some.kept(key)}, *rest)

    patch.setattr(settle, "settle", settling)


def settling_keeps_what_it_lets_go_of(patch: Patch) -> None:
    """A word that settles a conflict has seen only what it chose."""
    true = settle.settle

    def settling(some: Any, *rest: Any) -> Any:
        with pytest.MonkeyPatch.context() as meanwhile:
            only_the_winner_is_seen(meanwhile)
            return true(some, *rest)

    patch.setattr(settle, "settle", settling)


def nothing_is_seen(patch: Patch) -> None:
    """A write's context is empty."""
    patch.setattr(writes, "join", lambda _pasts, _latest: context.NOTHING)


def only_the_winner_is_seen(patch: Patch) -> None:
    """A write has seen the winner, and settles nothing."""
    true = context.join
    patch.setattr(writes, "join", lambda pasts, latest: true(pasts[-1:], latest))


def contexts_have_no_bound(patch: Patch) -> None:
    """A write says all that it has seen, however much that is; readers have their limit."""
    true = context.join

    def join(pasts: Any, latest: int) -> Context:
        with pytest.MonkeyPatch.context() as meanwhile:
            meanwhile.setattr(context, "MAX_ENTRIES", 10**6)
            return true(pasts, latest)

    patch.setattr(writes, "join", join)


def what_is_replaced_may_be_pushed_out(patch: Patch) -> None:
    """Of a context that is full the last entries stay, whatever the others stand for."""
    true = context.join

    def join(pasts: Any, latest: int) -> Context:
        everything = true([(Context(), entry) for past, dot in pasts for entry in (dot, *past.entries)], latest)
        return Context(everything.entries[-context.MAX_ENTRIES :])

    patch.setattr(writes, "join", join)


def the_oldest_stay(patch: Patch) -> None:
    """Of a context that is full the entries that were joined last go."""
    true = context.join

    def join(pasts: Any, latest: int) -> Context:
        with pytest.MonkeyPatch.context() as meanwhile:
            meanwhile.setattr(context, "MAX_ENTRIES", 10**6)
            return Context(true(pasts, latest).entries[: context.MAX_ENTRIES])

    patch.setattr(writes, "join", join)


def daemons_are_seen_beyond_ones_own_time(patch: Patch) -> None:
    """A write claims to have seen rows of daemons that are dated after it."""
    true = context.join
    patch.setattr(writes, "join", lambda pasts, _latest: true(pasts, 2**53))


def a_life_that_is_lied_about_writes_on(patch: Patch) -> None:
    """A write under a counter beyond which somebody says that we wrote."""
    patch.setattr(writes, "_is_lied_about", lambda *_: False)


def counters_stand_still(patch: Patch) -> None:
    """Every write of a life has the number 1."""
    true = dots.counter
    patch.setattr(
        dots,
        "counter",
        lambda secret, namespace, record_id, check, _number: true(secret, namespace, record_id, check, 1),
    )


def signatures_are_not_checked(patch: Patch) -> None:
    """Whatever is signed is genuine."""
    patch.setattr(attest, "genuine", lambda some: frozenset(range(len(tuple(some)))))


def signatures_are_checked_by_tag(patch: Patch) -> None:
    """What has the tag of a genuine version is genuine."""
    seen: set[bytes] = set()

    def genuine(some: Iterable[Version]) -> frozenset[int]:
        found = list(some)
        seen.update(one.tag for one in found if one.signature and attest.is_genuine(one))
        return frozenset(place for place, one in enumerate(found) if one.tag in seen)

    patch.setattr(attest, "genuine", genuine)


def _unsaid(patch: Patch, begins: bytes) -> None:
    true = attest.Said.undotted.fget  # type: ignore[attr-defined]  # a property's function, which mypy does not know

    def undotted(said: attest.Said) -> bytes:
        return b"\n".join(line for line in true(said).split(b"\n") if not line.startswith(begins))

    patch.setattr(attest.Said, "undotted", property(undotted))


def contexts_are_not_signed(patch: Patch) -> None:
    """A signature says nothing of what its author had seen."""
    _unsaid(patch, b"context ")


def depth_is_not_signed(patch: Patch) -> None:
    """A signature says nothing of how deep a version lies."""
    _unsaid(patch, b"depth ")


def dots_are_not_signed(patch: Patch) -> None:
    """A signature says nothing of which write it is."""
    patch.setattr(attest, "dotted", lambda undotted, _dot: undotted)


def agents_are_not_signed(patch: Patch) -> None:
    """A signature says nothing of whose it is."""
    _unsaid(patch, b"agent ")


def content_is_not_signed(patch: Patch) -> None:
    """A signature says nothing of the text."""
    _unsaid(patch, b"content ")


def what_a_lie_hides_is_not_written_again(patch: Patch) -> None:
    """The lie is noticed, and what it hides is gone."""
    patch.setattr(receive, "restate_as_was", lambda _batch, _one, _keys: None)


def what_a_lie_hides_is_written_again_by_the_same_actor(patch: Patch) -> None:
    """Again under the life that the lie is about."""
    patch.setattr(Batch, "one_off", lambda self: self.life.actor)


def the_head_is_not_compared(patch: Patch) -> None:
    """A cursor names a number and a life; what the feed was up to there is not looked at."""
    true = serve.resolve

    def resolving(cursor: Any, some: Any, position: Any, _head_at: Any, tag: str) -> feed.Resolved:
        return true(cursor, some, position, lambda _number: cursor.head if cursor else None, tag)

    patch.setattr(serve, "resolve", resolving)


def an_unknown_life_is_believed(patch: Patch) -> None:
    """A cursor that names a life which this store never had is read on from its number."""
    true = serve.resolve

    def resolving(cursor: Any, some: Sequence[Life], position: Any, head_at: Any, tag: str) -> feed.Resolved:
        if cursor is not None and all(life.actor != cursor.life for life in some):
            return feed.Resolved(cursor.number, reset=False, rolled_back=False)
        return true(cursor, some, position, head_at, tag)

    patch.setattr(serve, "resolve", resolving)


def what_waited_is_forgotten(patch: Patch) -> None:
    """What is due leaves the waiting table, and is not merged."""
    true = Receiver.due

    def due(self: Any, scope_of: Any, limit: int) -> Any:
        self.accept = lambda *_rest, **_named: ()
        return true(self, scope_of, limit)

    patch.setattr(Receiver, "due", due)


def who_was_asked_is_waited_for_for_ever(patch: Patch) -> None:
    """A version that was asked of one peer is never asked of another."""
    true = Asked._left

    def left(self: Asked, tag: bytes, peer: str, now: int) -> int:
        request = self._requests.get(tag)
        return true(self, tag, peer, now) if request is None or request.peer == peer else 1

    patch.setattr(Asked, "_left", left)


def what_was_sent_just_now_is_forgotten(patch: Patch) -> None:
    """Only what the last answer names goes as a document: of two versions that are refused, each by turns."""
    patch.setattr(serve, "wanted_next", lambda cut, have, applied, wanted, before: wanted)


def the_future_is_not_kept_aside(patch: Patch) -> None:
    """A version from the future is refused, and the cursor moves past it."""
    patch.setattr(Receiver, "_set_aside", lambda _self, _peer, _version, room, full: (room, full))


def the_future_is_believed(patch: Patch) -> None:
    """A start writes nothing again that its own node dated into the future."""
    patch.setattr(writes, "restate_future", lambda *_: None)


def the_digest_forgets_nothing(patch: Patch) -> None:
    """What is dropped stays in the store's digest."""
    true = digest.changed
    patch.setattr(digest, "changed", lambda total, _gone, come: true(total, (), come))


def the_feed_sends_winners_only(patch: Patch) -> None:
    """Conflicts are kept and never sent."""
    true = SimStore.page

    def page(self: Any, request: Any) -> Any:
        everything = self._records
        self._records = {key: kept[:1] for key, kept in everything.items()}
        try:
            return true(self, request)
        finally:
            self._records = everything

    patch.setattr(SimStore, "page", page)


def siblings_are_not_sent_back(patch: Patch) -> None:
    """A version is left out for the certificate that it came from, beside others as well."""
    true = SimStore.page

    def page(self: Any, request: Any) -> Any:
        everything = self._records
        if request.skip_giver:
            self._records = {
                key: [one for one in kept if one.giver != request.skip_giver] for key, kept in everything.items()
            }
        try:
            return true(self, request)
        finally:
            self._records = everything

    patch.setattr(SimStore, "page", page)


def what_a_page_has_no_room_for_counts_as_sent(patch: Patch) -> None:
    """A page that is cut by its bytes covers the feed as far as its number of keys would have reached."""
    true = SimStore.page

    def page(self: Any, request: Any) -> Any:
        return replace(true(self, request), last=true(self, replace(request, max_bytes=2**40)).last)

    patch.setattr(SimStore, "page", page)


def what_is_larger_than_a_page_is_not_sent(patch: Patch) -> None:
    """A key of more bytes than a page may have waits for a page that has room."""
    true = SimStore.page

    def page(self: Any, request: Any) -> Any:
        found = true(self, request)
        if sum(map(len, (found.memories, found.tombstones, found.links))) <= request.max_bytes:
            return found
        return replace(found, memories=b"", tombstones=b"", links=b"", count=0, offers=b"", last=request.after)

    patch.setattr(SimStore, "page", page)


def a_key_keeps_its_first_number(patch: Patch) -> None:
    """A changed record stays where it was in the feed, behind cursors that have passed it."""
    true = SimStore.put

    def put(self: Any, changes: Any) -> None:
        true(self, [replace(one, number=self._numbers.get(one.key, one.number)) for one in changes])

    patch.setattr(SimStore, "put", put)


def one_that_is_wanted_is_forgotten(patch: Patch) -> None:
    """The first of the offered versions that are lacking is not asked for, and the cursor moves."""

    def wanted(self: Any, offers: Any, policy: Any) -> tuple[bytes, ...]:
        found = true(self, offers, policy)
        return found[1:]

    true = Receiver._wanted
    patch.setattr(Receiver, "_wanted", wanted)
