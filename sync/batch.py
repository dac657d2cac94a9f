"""A batch of changes to the feed inside one write transaction: numbers, lives, head and digest, all kept in step."""

from collections.abc import Iterable, Mapping, Sequence, Set

from sync import digest, feed
from sync.lives import Mint
from sync.ports import Change, Kept, Ledger, Life, Position
from sync.version import Key


class Batch:
    """Working state over an open `Ledger`: read once, change in memory, hand back everything at the end.

    Nothing reaches the ledger's records before `commit`, which is called exactly once.
    """

    def __init__(self, ledger: Ledger, mint: Mint) -> None:
        self.ledger = ledger
        self._mint = mint
        position = ledger.position()
        self._number = position.number
        self._head = position.head
        self._total = position.total
        self._lives = list(ledger.lives())
        self._kept: dict[Key, tuple[Kept, ...]] = {}
        self._changed: dict[Key, int] = {}

    @property
    def lives(self) -> Sequence[Life]:
        return self._lives

    @property
    def life(self) -> Life:
        """The live one."""
        return self._lives[-1]

    @property
    def next_number(self) -> int:
        """The number that the next change takes."""
        return self._number + 1

    @property
    def issued(self) -> int:
        """The last number taken, by this batch included."""
        return self._number

    def one_off(self) -> str:
        """An actor that writes once: for a write that could not be told from others under the live one."""
        return self._mint(self._number, "").actor

    @property
    def has_changes(self) -> bool:
        return bool(self._changed)

    def load(self, keys: Iterable[Key]) -> None:
        """Read what is kept of these keys, in one look-up."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._kept]
        if not missing:
            return
        found = self.ledger.kept(missing)
        for key in missing:
            self._kept[key] = tuple(found.get(key, ()))

    def tags(self, keys: Iterable[Key]) -> Mapping[Key, Set[bytes]]:
        """The tags of what is kept of these keys, the changes of this batch included; no document is read for it."""
        wanted = set(keys)
        known = {key: {one.version.tag for one in self._kept[key]} for key in wanted & self._kept.keys()}
        return {**self.ledger.tags(wanted - known.keys()), **known}

    def kept(self, key: Key) -> tuple[Kept, ...]:
        """What is kept of a key, the changes of this batch included; the winner first."""
        if key not in self._kept:
            self.load((key,))
        return self._kept[key]

    def changed_with_title(self, namespace: str, title: str) -> Iterable[Kept]:
        """Winners changed in this batch, which the ledger cannot know yet, that have this title."""
        for key in self._changed:
            winner = self._kept[key][0]
            if key[0] == namespace and winner.version.kind == "m" and winner.version.title == title:
                yield winner

    def was_changed(self, key: Key) -> bool:
        return key in self._changed

    def put(self, key: Key, kept: tuple[Kept, ...]) -> int:
        """Take the next number for a key's new state and return it."""
        before = self.kept(key)
        self._number += 1
        tags = [one.version.tag for one in kept]
        self._head = feed.advanced(self._head, self._number, tags)
        self._total = digest.changed(self._total, [one.version.tag for one in before], tags)
        self._kept[key] = kept
        self._changed.pop(key, None)  # so that the order of the changes is the order of their numbers
        self._changed[key] = self._number
        return self._number

    def begin_life(self, reason: str) -> Life:
        life = self._mint(self._number, reason)
        self._lives.append(life)
        self.ledger.begin_life(life)
        return life

    def commit(self) -> None:
        """Hand everything that changed to the ledger."""
        if not self._changed:
            return
        self.ledger.put([Change(key, number, self._kept[key]) for key, number in self._changed.items()])
        # What is only superseded goes on waiting: what it is superseded by may itself be, before it is due.
        kept = {one.version.tag for key in self._changed for one in self._kept[key]}
        come = set(self.ledger.waits(kept))
        if come:
            waiting = self.ledger.waiting(self._changed)
            self.ledger.drop_waiting([one for one in waiting if one.version.tag in come])
        self.ledger.advance(Position(self._number, self._head, self._total))
