"""Cutting pages of our own feed, for a peer that asks and for one that is pushed to (protocol sections 6, 7)."""

from collections.abc import Mapping
from dataclasses import dataclass

from sync.feed import Cursor, resolve
from sync.policy import Policy
from sync.ports import FeedPage, FeedReader, Giver, PageRequest, PeerState, Scope

MAX_BEFORE = 8_000
"""Tags that are remembered though an answer does not name them again: a receiver can invent as many as it likes."""

Confirmed = Mapping[tuple[str, str], str]
"""(peer, its life) to the cursor that this process last got from that life: proof that it still holds what it gave."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for a page: by whom, from where, and for which life of theirs."""

    peer: str
    cursor: str | None
    made_for: str | None
    """The asker's live life; None where it did not say, which only means that nothing is left out."""
    scope: Scope
    """What this peer may read."""
    policy: Policy
    """Our rules for what comes from it: a cursor reached under others confirms nothing."""
    limit: int
    max_bytes: int
    offer: bool = False
    """A push: what is merely relayed goes as offers."""
    wanted: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Cut:
    """A page of our feed, ready to be sent."""

    page: FeedPage
    life: str
    """Our live life."""
    after: str | None
    to: str
    made_for: str | None
    reset: bool
    number: int
    """The feed number that `to` goes on from."""
    span: int
    """How many numbers of the feed it covers."""


@dataclass(frozen=True, slots=True)
class RolledBack:
    """The peer's cursor proves that this store was rolled back: begin a life, then cut again."""


def cut(reader: FeedReader, ask: Ask, confirmed: Confirmed, *, judged: bool = False) -> Cut | RolledBack:
    """Cut the page. `judged`: a rollback was acted on already (or is not to be now)."""
    lives, position = reader.lives(), reader.position()
    cursor = Cursor.parse(ask.cursor) if ask.cursor is not None else None
    at = resolve(cursor, lives, position, reader.head_at, ask.scope.tag)
    if at.rolled_back and not judged:
        return RolledBack()
    request = PageRequest(
        at.after, ask.limit, ask.max_bytes, ask.scope, _skippable(reader, ask, confirmed), ask.offer, ask.wanted
    )
    page = reader.page(request)
    to = Cursor(lives[-1].actor, page.last, page.top, page.head, ask.scope.tag)
    return Cut(page, lives[-1].actor, ask.cursor, to.text, ask.made_for, at.reset, page.last, page.last - at.after)


def wanted_next(
    cut: Cut, have: str | None, applied: int, wanted: frozenset[bytes], before: frozenset[bytes]
) -> frozenset[bytes]:
    """Tags of what goes as documents with the next page, after an answer that names `wanted`.

    `before`: what went so with this page. `have`, `applied`: the receiver's cursor then, and how much was new to it.
    """
    if len(before) > MAX_BEFORE:
        before = frozenset()  # it is offered again where its page comes again
    if have == cut.to:
        # A page with documents holds fewer keys than one with offers: what it had no room for is wanted still.
        return wanted | before if cut.page.more else wanted
    if have == cut.after and not applied:
        # It refused what it had asked for, and as an offer asks for it again: of two such it would ask by turns for
        # ever, and its cursor would never pass them. All at once it passes.
        return wanted | before
    return wanted


def _skippable(reader: FeedReader, ask: Ask, confirmed: Confirmed) -> int:
    """The giver whose versions need not go back to this peer; 0 where that is not certain (protocol section 7)."""
    if ask.made_for is None:
        return 0
    state = reader.peer(ask.peer)
    if state.generation % 2 or not _is_confirmed(state, ask, confirmed):
        return 0
    return reader.find_giver(Giver(ask.peer, ask.made_for, state.generation))


def _is_confirmed(state: PeerState, ask: Ask, confirmed: Confirmed) -> bool:
    for held in state.held:
        if held.life == ask.made_for:
            return held.scope == ask.policy.tag and confirmed.get((ask.peer, held.life)) == held.cursor
    return False
