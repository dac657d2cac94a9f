"""What `sync` asks of the node around it: a store, as Protocols. `sync` decides; the store performs.

A `Ledger` is ONE open write transaction over the store. Its verbs are set-wise: the engine asks once for everything it
needs to know about a batch, decides, and hands back everything that changes. If the transaction rolls back, nothing of
it may remain, in memory either.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from sync import digest
from sync.version import Key, Version


@dataclass(frozen=True, slots=True)
class Life:
    """One life of a store: an actor, and from where in the feed it writes (protocol section 4, *Actor*)."""

    actor: str
    """16 hex digits."""
    began_after: int
    """The feed's last number when the life began."""
    secret: bytes
    """32 bytes, key of the MACs in this life's counters; never leaves the store."""
    reason: str


@dataclass(frozen=True, slots=True)
class Position:
    """Where the feed stands after a commit."""

    number: int
    """The last number taken; 0 for an empty store."""
    head: bytes
    """8 bytes: running hash over all changes up to `number`."""
    total: int
    """Sum of the tags of all kept versions, as `sync.digest` makes it."""

    @property
    def digest(self) -> str:
        """Equal on two nodes that keep the same: 32 hex digits."""
        return digest.text(self.total)


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept version and how it came here."""

    version: Version
    giver: int | None
    """None: written here. 0: came from elsewhere, no giver to speak of. Else the id of a `Giver`."""


@dataclass(frozen=True, slots=True)
class Giver:
    """The page that brought a version: which certificate, which life of it, which generation of our cursor on it."""

    peer: str
    life: str
    generation: int


@dataclass(frozen=True, slots=True)
class Change:
    """A key's new state, at its new number in the feed."""

    key: Key
    number: int
    kept: tuple[Kept, ...]
    """All kept versions, the winner first. Never empty."""


@dataclass(frozen=True, slots=True)
class Held:
    """Our cursor on one life of a peer."""

    life: str
    cursor: str
    scope: str
    """Tag of our own inbound rules under which the cursor was reached; under other rules it counts as none."""


@dataclass(frozen=True, slots=True)
class PeerState:
    """What the store remembers of one certificate (`peer`: its fingerprint's text)."""

    peer: str
    generation: int = 0
    held: tuple[Held, ...] = ()
    """At most 8, the last moved first."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A version from too far in the future, kept aside until it is due (protocol section 4, *Time*)."""

    peer: str
    version: Version


class Ledger(Protocol):
    """One open write transaction."""

    def lives(self) -> Sequence[Life]:
        """All lives, oldest first; the last is the live one."""

    def begin_life(self, life: Life) -> None: ...

    def position(self) -> Position: ...

    def advance(self, position: Position) -> None:
        """Record where the feed stands now; its head is kept for `position.number`. At most once a batch."""

    def head_at(self, number: int) -> bytes | None:
        """The head kept for a number at which a commit ended (8 zero bytes for 0), None for any other number."""

    def kept(self, keys: Iterable[Key]) -> Mapping[Key, Sequence[Kept]]:
        """The kept versions of these keys in one look-up, winner first; a key that is not there is left out."""

    def tags(self, keys: Iterable[Key]) -> Mapping[Key, Set[bytes]]:
        """The tags of the kept versions of these keys; a key that is not there is left out. No document is read."""

    def titled(self, namespace: str, title: str) -> Sequence[Kept]:
        """The winners that are memories with this title in this namespace."""

    def links_from(self, source_id: str, namespace: str, most: int) -> Sequence[Key]:
        """Keys of links of this namespace that begin at this id; none where the winner is an unlink.

        The newest `most` of those that were written here, and as many of the others.
        """

    def own_after(self, at: str) -> Sequence[Key]:
        """Keys of kept versions written here whose time is greater than `at` (there are hardly ever any)."""

    def kept_after(self, at: str) -> Sequence[Key]:
        """Keys of all kept versions whose time is greater than `at`. May read the whole store: for an operator."""

    def put(self, changes: Sequence[Change]) -> None:
        """Replace what is kept of these keys. No key twice in one call."""

    def giver_id(self, giver: Giver) -> int:
        """The number (1 or more) under which this giver is known; a new one is made where it is not."""

    def peer(self, peer: str) -> PeerState: ...

    def peers(self) -> Sequence[PeerState]: ...

    def put_peer(self, state: PeerState) -> None: ...

    def waiting(self, keys: Iterable[Key]) -> Sequence[Waiting]:
        """What waits for these keys."""

    def waits(self, tags: Iterable[bytes]) -> Set[bytes]:
        """Those of these tags whose version waits, for whichever peer. An index has them: no version is read."""

    def waiting_bytes(self, peer: str) -> int:
        """How many bytes of documents wait for one peer."""

    def waiting_due(self, at: str, limit: int) -> Sequence[Waiting]:
        """What waits with a time not after `at`."""

    def put_waiting(self, waiting: Sequence[Waiting]) -> None: ...

    def drop_waiting(self, waiting: Sequence[Waiting]) -> None: ...


class Scope(Protocol):
    """Which namespaces a peer may read, or write."""

    @property
    def tag(self) -> str:
        """8 hex digits that differ where the rules differ."""

    def allows(self, namespace: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which part of the feed to cut."""

    after: int
    limit: int
    """Numbers (keys) at most."""
    max_bytes: int
    """Documents' bytes at most; one key is always sent whole, even over it."""
    scope: Scope | None = None
    """None: everything."""
    skip_giver: int = 0
    """Leave out keys whose single kept version has this giver; 0: none."""
    offer: bool = False
    """True: versions not written here go as offers, unless their tag is in `wanted`."""
    wanted: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class FeedPage:
    """A part of the feed, ready to be sent: documents joined by commas, without brackets."""

    memories: bytes
    tombstones: bytes
    links: bytes
    """Links and unlinks."""
    count: int
    """Versions in `memories`, `tombstones` and `links`."""
    offers: bytes
    """`["namespace","id","<tag hex>"]` arrays joined by commas."""
    last: int
    """The number up to which the feed is covered: `top` on the last page, though the rest be filtered out."""
    top: int
    head: bytes
    """Of `top`."""
    earliest: str | None
    latest: str | None

    @property
    def more(self) -> bool:
        return self.last < self.top

    @property
    def is_empty(self) -> bool:
        return not self.count and not self.offers


class FeedReader(Protocol):
    """One consistent read of the store."""

    def lives(self) -> Sequence[Life]: ...

    def position(self) -> Position: ...

    def head_at(self, number: int) -> bytes | None: ...

    def peer(self, peer: str) -> PeerState: ...

    def find_giver(self, giver: Giver) -> int:
        """The number of a giver, 0 where it never gave anything."""

    def page(self, request: PageRequest) -> FeedPage: ...
