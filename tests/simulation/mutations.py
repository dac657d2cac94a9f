"""More rules taken away: of merge, clocks, signatures, lives, waiting and the feed, each by one monkeypatch.

`breakages` has those of cursors and givers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from sync import attest, batch, feed, lives, merge, receive, serve, settle, writes
from sync import clock as clocks
from sync.asked import Asked
from sync.merge import Added
from sync.ports import Kept, Life
from sync.receive import Receiver
from sync.version import Version
from tests.simulation.breakages import Patch
from tests.simulation.oracle import SimStore


def _supersede(patch: Patch, rule: Any) -> None:
    for module in (merge, receive, batch):
        patch.setattr(module, "supersedes", rule)


def _merged(patch: Patch, change: Any) -> None:
    """Let the receiver see what a merge added through `change`."""
    true = receive.merge

    def merging(kept: Sequence[Kept], incoming: Kept) -> Any:
        result = true(kept, incoming)
        return change(result, incoming) if isinstance(result, Added) else result

    patch.setattr(receive, "merge", merging)


def dominance_is_no_longer_strict(patch: Patch) -> None:
    """`>=` for `>`: of two versions with equal clocks each supersedes the other."""
    _supersede(patch, lambda a, b: a.tag != b.tag and clocks.covers(a.clock, b.clock))


def dominance_looks_at_shared_actors_only(patch: Patch) -> None:
    """What one clock says of an actor that the other does not know counts for nothing."""

    def covers(a: clocks.Clock, b: clocks.Clock) -> bool:
        return all(a[actor] >= counter for actor, counter in b.items() if actor in a)

    patch.setattr(clocks, "covers", covers)


def dominance_by_any_greater_counter(patch: Patch) -> None:
    """One greater counter is enough."""
    patch.setattr(merge, "dominates", lambda a, b: any(a.get(actor, 0) > counter for actor, counter in b.items()))


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


def of_equal_clocks_one_is_dropped(patch: Patch) -> None:
    """The greater of two signed versions with equal clocks supersedes the other."""
    true = merge.supersedes

    def rule(a: Version, b: Version) -> bool:
        return true(a, b) or (a.clock == b.clock and bool(a.signature and b.signature) and a.rank > b.rank)

    _supersede(patch, rule)


def a_signature_is_worth_nothing(patch: Patch) -> None:
    """Of equal clocks the signed one does not supersede the unsigned one."""
    _supersede(patch, lambda a, b: a.clock != b.clock and clocks.dominates(a.clock, b.clock))


def a_newer_memory_beats_a_tombstone(patch: Patch) -> None:
    """By its time, whether or not its author had seen the delete."""
    true = merge.supersedes
    _supersede(patch, lambda a, b: true(a, b) or (b.kind == "t" and a.kind == "m" and a.at > b.at))


def a_newer_tombstone_beats_a_memory(patch: Patch) -> None:
    """By its time, whether or not whoever deleted had seen the memory's last version."""
    true = merge.supersedes
    _supersede(patch, lambda a, b: true(a, b) or (a.kind == "t" and b.kind == "m" and a.at > b.at))


def one_content_is_one_version(patch: Patch) -> None:
    """What says the same as a kept version is taken for it, whatever its clock."""
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
            only_the_winners_clock_is_joined(meanwhile)
            return true(some, *rest)

    patch.setattr(settle, "settle", settling)


def no_clocks_are_joined(patch: Patch) -> None:
    """A write's clock is its own counter alone."""
    patch.setattr(clocks, "join", lambda _clocks: {})


def only_the_winners_clock_is_joined(patch: Patch) -> None:
    """A write has seen the winner, and settles nothing."""

    def join(some: Iterable[clocks.Clock]) -> dict[str, int]:
        return dict(next(iter(some), {}))

    patch.setattr(clocks, "join", join)


def counters_stand_still(patch: Patch) -> None:
    """Every write of a life has the number 1."""
    true = clocks.counter
    patch.setattr(
        clocks, "counter", lambda secret, namespace, record_id, _number: true(secret, namespace, record_id, 1)
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
    true = attest.Said.text.fget  # type: ignore[attr-defined]

    def text(said: attest.Said) -> bytes:
        return b"\n".join(line for line in true(said).split(b"\n") if not line.startswith(begins))

    patch.setattr(attest.Said, "text", property(text))


def clocks_are_not_signed(patch: Patch) -> None:
    """A signature says nothing of what its author had seen."""
    _unsaid(patch, b"clock ")


def agents_are_not_signed(patch: Patch) -> None:
    """A signature says nothing of whose it is."""
    _unsaid(patch, b"agent ")


def content_is_not_signed(patch: Patch) -> None:
    """A signature says nothing of the text."""
    _unsaid(patch, b"content ")


def what_a_lie_hides_is_not_written_again(patch: Patch) -> None:
    """The lie is noticed, and what it hides is gone."""
    patch.setattr(receive, "restate_as_was", lambda _batch, one, _keys: one)


def no_life_begins_at_a_lie(patch: Patch) -> None:
    """What a lie would hide is written again in the life that the lie is about."""
    true = Receiver._begin_life

    def beginning(self: Receiver, reason: str) -> None:
        if reason != lives.FORGED_CLAIM:
            true(self, reason)

    patch.setattr(Receiver, "_begin_life", beginning)


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
        self.accept = lambda *_rest, **_named: False
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
    true = feed.digest_change
    patch.setattr(feed, "digest_change", lambda digest, _gone, come: true(digest, (), come))


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
