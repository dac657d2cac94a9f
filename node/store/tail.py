"""The newest changes of the feed, in memory: what a peer in step is sent is cut from here, without one statement.

A peer that keeps up asks only for what has just been committed, and one node's commit is sent to each of its peers. So
the writer hands every commit to the tail before it answers for it; `sync`'s rules then read the tail as they read the
store (`sync.ports.FeedReader`). What lies before the tail, or does not fit one page, is `NotInTail`: read the store.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from sync import givers
from sync.ports import Change, FeedPage, Giver, Life, PageRequest, PeerState, Position
from sync.version import Key

MOST_CHANGES = 512
MOST_BYTES = 4 * 2**20


class NotInTail(Exception):
    """The answer needs more than the tail holds."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What one transaction did, and what the store's small tables say after it."""

    position: Position
    lives: tuple[Life, ...]
    peers: Mapping[str, PeerState]
    """All of them."""
    certificates: Mapping[str, int]
    """All of them, by fingerprint: what `givers` makes a giver's number of."""
    changes: Sequence[Change] = ()
    heads: Mapping[int, bytes] = field(default_factory=dict)
    """Kept by this transaction, by number."""


class Tail:
    """A `FeedReader` over the end of the feed. Everything is asked inside `reading`."""

    def __init__(self, state: Committed) -> None:
        self._lock = threading.Lock()
        self._state = state
        self._floor = state.position.number
        self._heads = {state.position.number: state.position.head}
        self._changes: dict[int, Change] = {}
        self._numbers: dict[Key, int] = {}
        self._bytes = 0

    def committed(self, state: Committed) -> None:
        """Take in what was committed. Called by the writer, once for each transaction, in their order."""
        with self._lock:
            self._state = state
            self._heads.update(state.heads)
            for change in state.changes:
                older = self._numbers.get(change.key)
                if older is not None:
                    self._forget(older)
                self._numbers[change.key] = change.number
                self._changes[change.number] = change
                self._bytes += _size(change)
            while len(self._changes) > MOST_CHANGES or self._bytes > MOST_BYTES:
                self._floor = next(iter(self._changes))
                self._forget(self._floor)
            if len(self._heads) > 2 * MOST_CHANGES:
                self._heads = {number: head for number, head in self._heads.items() if number >= self._floor}

    @property
    def state(self) -> Committed:
        """Where the store stands; one value, so it is consistent without a lock."""
        return self._state

    @contextmanager
    def reading(self) -> Iterator["Tail"]:
        """One state of the feed for everything inside. The writer waits meanwhile, so be short."""
        with self._lock:
            yield self

    # --- FeedReader

    def lives(self) -> Sequence[Life]:
        return self._state.lives

    def position(self) -> Position:
        return self._state.position

    def head_at(self, number: int) -> bytes | None:
        if number < self._floor:
            raise NotInTail
        return self._heads.get(number)

    def peer(self, peer: str) -> PeerState:
        return self._state.peers.get(peer) or PeerState(peer)

    @property
    def known(self) -> Set[str]:
        """Fingerprints of the certificates whose feed was read."""
        return self._state.peers.keys()

    def find_giver(self, giver: Giver) -> int:
        certificate = self._state.certificates.get(giver.peer)
        return 0 if certificate is None else givers.number_of(certificate, giver)

    def page(self, request: PageRequest) -> FeedPage:
        position, after = self._state.position, request.after
        if after < self._floor:
            raise NotInTail
        changes = self._since(after)
        if len(changes) > request.limit:
            raise NotInTail
        # Nearly always all that the tail holds is less than that.
        if self._bytes > request.max_bytes and sum(map(_size, changes)) > request.max_bytes:
            raise NotInTail
        links: list[bytes] = []
        parts: dict[str, list[bytes]] = {"m": [], "t": [], "l": links, "u": links}
        offers, times = [], []
        for change in changes:
            namespace, record_id = change.key
            # What came from this peer is looked at again until something else comes, so the cheaper question is first.
            if request.skip_giver and len(change.kept) == 1 and change.kept[0].giver == request.skip_giver:
                continue
            if request.scope is not None and not request.scope.allows(namespace):
                continue
            for one in change.kept:
                version = one.version
                if request.offer and one.giver is not None and version.tag not in request.wanted:
                    offers.append(msgspec.json.encode((namespace, record_id, version.tag.hex())))
                else:
                    parts[version.kind].append(version.doc)
                    times.append(version.at)
        return FeedPage(
            b",".join(parts["m"]), b",".join(parts["t"]), b",".join(links), len(times), b",".join(offers),
            position.number, position.number, position.head, min(times, default=None), max(times, default=None),
        )  # fmt: skip

    def _since(self, after: int) -> list[Change]:
        """What was changed after this number, in order; looked for from the end, as mostly little is new."""
        newest: list[Change] = []
        for change in reversed(self._changes.values()):
            if change.number <= after:
                break
            newest.append(change)
        newest.reverse()
        return newest

    def _forget(self, number: int) -> None:
        change = self._changes.pop(number)
        self._bytes -= _size(change)
        if self._numbers.get(change.key) == number:
            del self._numbers[change.key]


def _size(change: Change) -> int:
    size = 0
    for one in change.kept:  # nearly always one: a generator would take longer than the sum
        size += len(one.version.doc)
    return size
