"""A store in memory that keeps the promises of `sync.ports`: what the rules are tested against without SQL."""

import copy
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import msgspec

from sync import givers, link
from sync.feed import EMPTY, ZERO_HEAD
from sync.ports import Change, FeedPage, Giver, Kept, Life, PageRequest, PeerState, Position, Waiting
from sync.version import Key


class MemoryStore:
    """Both ports at once. `transaction` rolls back to a copy when the body raises."""

    def __init__(self) -> None:
        self._lives: list[Life] = []
        self._position = EMPTY
        self._heads: dict[int, bytes] = {0: ZERO_HEAD}
        self._records: dict[Key, tuple[Kept, ...]] = {}
        self._numbers: dict[Key, int] = {}
        self._certificates: list[str] = []
        self._peers: dict[str, PeerState] = {}
        self._waiting: list[Waiting] = []

    def copy(self) -> "MemoryStore":
        twin = type(self)()
        twin.__dict__ = {name: copy.copy(value) for name, value in self.__dict__.items()}
        return twin

    def restore(self, other: "MemoryStore") -> None:
        self.__dict__ = other.copy().__dict__

    # --- Ledger

    def lives(self) -> Sequence[Life]:
        return list(self._lives)

    def begin_life(self, life: Life) -> None:
        self._lives.append(life)

    def position(self) -> Position:
        return self._position

    def advance(self, position: Position) -> None:
        self._position = position
        self._heads[position.number] = position.head

    def head_at(self, number: int) -> bytes | None:
        return self._heads.get(number)

    def kept(self, keys: Iterable[Key]) -> Mapping[Key, Sequence[Kept]]:
        return {key: self._records[key] for key in keys if key in self._records}

    def tags(self, keys: Iterable[Key]) -> Mapping[Key, Set[bytes]]:
        return {key: {one.version.tag for one in kept} for key, kept in self.kept(keys).items()}

    def titled(self, namespace: str, title: str) -> Sequence[Kept]:
        return [
            kept[0]
            for key, kept in self._records.items()
            if key[0] == namespace and kept[0].version.kind == "m" and kept[0].version.title == title
        ]

    def links_from(self, source_id: str, namespace: str, most: int) -> Sequence[Key]:
        found = [
            key
            for key, kept in self._records.items()
            if key[0] == namespace and kept[0].version.kind == "l" and link.ends(key[1])[0] == source_id
        ]
        found.sort(key=lambda key: self._numbers[key], reverse=True)
        own = [key for key in found if self._records[key][0].giver is None]
        return [*own[:most], *[key for key in found if key not in own][:most]]

    def own_after(self, at: str) -> Sequence[Key]:
        return [
            key for key, kept in self._records.items() if any(one.giver is None and one.version.at > at for one in kept)
        ]

    def kept_after(self, at: str) -> Sequence[Key]:
        return [key for key, kept in self._records.items() if any(one.version.at > at for one in kept)]

    def put(self, changes: Sequence[Change]) -> None:
        assert len({change.key for change in changes}) == len(changes)
        for change in changes:
            assert change.kept
            self._records[change.key] = change.kept
            self._numbers[change.key] = change.number

    def giver_id(self, giver: Giver) -> int:
        if giver.peer not in self._certificates:
            self._certificates.append(giver.peer)
        return self.find_giver(giver)

    def peer(self, peer: str) -> PeerState:
        return self._peers.get(peer, PeerState(peer))

    def peers(self) -> Sequence[PeerState]:
        return list(self._peers.values())

    def put_peer(self, state: PeerState) -> None:
        self._peers[state.peer] = state

    def waiting(self, keys: Iterable[Key]) -> Sequence[Waiting]:
        wanted = set(keys)
        return [one for one in self._waiting if one.version.key in wanted]

    def waits(self, tags: Iterable[bytes]) -> Set[bytes]:
        return set(tags) & {one.version.tag for one in self._waiting}

    def waiting_bytes(self, peer: str) -> int:
        return sum(len(one.version.doc) for one in self._waiting if one.peer == peer)

    def waiting_due(self, at: str, limit: int) -> Sequence[Waiting]:
        return [one for one in self._waiting if one.version.at <= at][:limit]

    def put_waiting(self, waiting: Sequence[Waiting]) -> None:
        self._waiting = [*self._waiting, *waiting]

    def drop_waiting(self, waiting: Sequence[Waiting]) -> None:
        gone = {(one.peer, one.version.tag) for one in waiting}
        self._waiting = [one for one in self._waiting if (one.peer, one.version.tag) not in gone]

    # --- FeedReader

    def find_giver(self, giver: Giver) -> int:
        if giver.peer not in self._certificates:
            return 0
        return givers.number_of(self._certificates.index(giver.peer) + 1, giver)

    def page(self, request: PageRequest) -> FeedPage:
        rows = sorted((number, key) for key, number in self._numbers.items() if number > request.after)
        cut = rows[: request.limit]
        parts: dict[str, list[bytes]] = {"m": [], "t": [], "l": [], "u": []}
        offers, times, size, last = [], [], 0, request.after
        for number, key in cut:
            kept = self._records[key]
            docs = sum(len(one.version.doc) for one in kept)
            if size and size + docs > request.max_bytes:
                cut = cut[: cut.index((number, key))]
                break
            last = number
            if request.scope is not None and not request.scope.allows(key[0]):
                continue
            if len(kept) == 1 and request.skip_giver and kept[0].giver == request.skip_giver:
                continue
            for one in kept:
                version = one.version
                if request.offer and one.giver is not None and version.tag not in request.wanted:
                    offers.append(msgspec.json.encode([*key, version.tag.hex()]))
                else:
                    size += len(version.doc)
                    parts[version.kind].append(version.doc)
                    times.append(version.at)
        top = self._position.number
        if len(cut) == len(rows):
            last = top
        return FeedPage(
            b",".join(parts["m"]),
            b",".join(parts["t"]),
            b",".join(parts["l"] + parts["u"]),
            len(times),
            b",".join(offers),
            last,
            top,
            self._position.head,
            min(times, default=None),
            max(times, default=None),
        )

    # --- for tests

    def everything(self) -> dict[Key, tuple[Kept, ...]]:
        return dict(self._records)

    def numbers(self) -> dict[Key, int]:
        return dict(self._numbers)

    def waiting_all(self) -> list[Waiting]:
        return list(self._waiting)

    def transaction(self, body: Any, *args: Any) -> Any:
        before = self.copy()
        try:
            return body(self, *args)
        except BaseException:
            self.restore(before)
            raise
