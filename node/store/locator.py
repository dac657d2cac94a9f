"""Where the rows of an id lie: the newest in memory, all others in a B-tree that is written in sorted runs.

Ids are random. A B-tree that takes in each one at once is written at another place for every row, and each of those
pages is encrypted and checksummed anew: half the cost of a push at 200,000 memories (docs/decisions/0028). So the rows
written last are found in memory, in a `Run`. When it is long enough it is sorted and merged into the table `locator`,
in short transactions of its own; then the next run begins. A start reads the rows that are in no run yet.

Whoever reads another state of the store than the writer's takes the run that was there both before and after its state
was fixed: so each row that it can see is in that run, or in its state of the table.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from node.store.connection import FAULTS, Connection
from node.store.rows import placeholders
from sync.version import LINK_SEPARATOR, Key

SHORTEST, LONGEST = 8_192, 32_768
"""Bounds of a run's length; in between a sixteenth of the store, so that a merge writes each page for many rows."""
STEP = 512
"""Rows of one step of a merge: about 2 ms."""
_PREFIX = 8
FEW = 8
"""Rows of the run that stand in a statement one by one."""

Entry = tuple[bytes, int, Key]
"""The key in the table, the row's number, the memory's key."""


def id_key(record_id: str) -> bytes:
    """What an id is found under: its first bytes, for those who know only these, and a digest of all of it.

    A link's begins with what stands for its source: so those of one memory lie together, and apart from the memories.
    """
    raw = record_id.encode(errors="replace")
    source, separator, _ = record_id.partition(LINK_SEPARATOR)
    return (_source_key(source) if separator else raw[:_PREFIX]) + hashlib.blake2b(raw, digest_size=5).digest()


def _source_key(source_id: str) -> bytes:
    digest = hashlib.blake2b(source_id.encode(errors="replace"), digest_size=_PREFIX - 1)
    return LINK_SEPARATOR.encode() + digest.digest()


def _beginning(record_id: str) -> str:
    source, separator, _ = record_id.partition(LINK_SEPARATOR)
    return source + separator if separator else record_id[:_PREFIX]


class Run:
    """The rows after number `after`."""

    __slots__ = ("after", "beginnings", "changes", "entries", "numbers", "places")

    def __init__(self, after: int, entries: Iterable[Entry]) -> None:
        self.after = after
        self.changes = 0
        """Grows with everything that happens to the run."""
        self.entries: list[Entry] = []
        """All that was added, in the order of their numbers; of an overwritten row too."""
        self.places: dict[Key, int] = {}
        """For the writer: what it has put last."""
        self.numbers: dict[str, list[int]] = {}
        """For readers of whatever state: every number that an id was given."""
        self.beginnings: dict[str, list[str]] = {}
        """Ids by their first characters; those of links by their source."""
        for entry in entries:
            self.add(entry)

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entry: Entry) -> None:
        _, number, key = entry
        record_id = key[1]
        self.changes += 1
        numbers = self.numbers.get(record_id)
        if numbers is None:
            numbers = self.numbers[record_id] = []
            self.beginnings.setdefault(_beginning(record_id), []).append(record_id)
        numbers.append(number)
        self.entries.append(entry)
        self.places[key] = number

    def take_back(self, before: int | None) -> None:
        """Undo the last `add`; `before`: the number that its key had."""
        self.changes += 1
        _, _, key = self.entries.pop()
        self.numbers[key[1]].pop()
        if before is None:
            del self.places[key]
        else:
            self.places[key] = before

    def beginning_with(self, prefix: str) -> list[int]:
        """The numbers of all ids that begin so."""
        known = self.beginnings.get(prefix[:_PREFIX], ()) if len(prefix) >= _PREFIX else list(self.numbers)
        return [number for one in list(known) if one.startswith(prefix) for number in list(self.numbers[one])]

    def links_from(self, source_id: str) -> list[int]:
        """The numbers of all links that begin at this id."""
        known = self.beginnings.get(source_id + LINK_SEPARATOR, ())
        return [number for one in list(known) for number in list(self.numbers[one])]

    def is_live(self, entry: Entry) -> bool:
        return self.places.get(entry[2]) == entry[1]


class Locator:
    """The writer's side. Its changes belong to the transaction that is open; `undo` takes them back with it."""

    def __init__(self, connection: Connection) -> None:
        self._execute = connection.execute
        self._connection = connection
        after, self._upto = self._execute("SELECT number, upto FROM located").fetchone()
        rows = self._execute("SELECT number, namespace, id FROM memory WHERE number > ? ORDER BY number", (after,))
        self.run = Run(after, ((id_key(id_), number, (namespace, id_)) for number, namespace, id_ in rows))
        self._undo: list[int | None] = []
        self._merging: list[Entry] | None = None
        self._done = 0
        self._bound = after
        self._hindered = False

    # --- inside a transaction

    def begin(self) -> None:
        self._undo.clear()

    def mark(self) -> int:
        """A place to come back to by `undo`."""
        return len(self._undo)

    def undo(self, mark: int) -> None:
        """Take back what was put since."""
        while len(self._undo) > mark:
            self.run.take_back(self._undo.pop())

    def find(self, keys: Sequence[Key]) -> tuple[list[int], list[Key]]:
        """The numbers of those that are in the run, and the keys that only the table can know."""
        places = self.run.places
        numbers = [places[key] for key in keys if key in places]
        return numbers, [key for key in keys if key not in places] if self._upto else []

    def put(self, moves: Iterable[tuple[Key, int, int | None]]) -> None:
        """(key, its new number, the number that it had)."""
        gone: list[bytes | int] = []
        for key, number, old in moves:
            name = id_key(key[1])
            if old is not None and old <= self._upto:
                gone += (name, old)
            self._undo.append(self.run.places.get(key))
            self.run.add((name, number, key))
        if gone:
            self._execute(
                f"DELETE FROM locator WHERE (key, number) IN (VALUES {placeholders(2, len(gone) // 2)})", gone
            )

    # --- between transactions

    def committed(self) -> None:
        """A transaction reached the disk, so the disk takes writes."""
        self._hindered = False

    @property
    def is_due(self) -> bool:
        """True where the run is long enough, or its merge is under way."""
        return (self._merging is not None or len(self.run) > self._length) and not self._hindered

    @property
    def is_pressing(self) -> bool:
        """True where it has grown so long that whoever adds many rows has to wait."""
        return len(self.run) > 2 * self._length and not self._hindered

    @property
    def _length(self) -> int:
        return max(SHORTEST, min(LONGEST, self.run.after // 16))

    def step(self) -> bool:
        """Merge a part of the run, in a transaction of its own. False where the disk did not let it."""
        if self._merging is None:
            self._merging, self._done = sorted(self.run.entries), 0
            self._bound = self.run.entries[-1][1]
        upto = max(self._upto, self._bound)
        some = [entry for entry in self._merging[self._done : self._done + STEP] if self.run.is_live(entry)]
        is_last = self._done + STEP >= len(self._merging)
        try:
            with self._connection:
                self._execute("BEGIN IMMEDIATE")
                if some:
                    self._execute(
                        f"INSERT OR IGNORE INTO locator(key, number) VALUES {placeholders(2, len(some))}",
                        [value for name, number, _ in some for value in (name, number)],
                    )
                if is_last:
                    self._execute("UPDATE located SET number = ?, upto = ?", (self._bound, upto))
                elif not self._done:
                    self._execute("UPDATE located SET upto = ?", (upto,))
        except FAULTS as error:
            self._connection.undo(error)
            self._hindered = True
            return False
        self._upto = upto
        self._done += STEP
        if is_last:
            later = self.run.entries[len(self._merging) :]
            self._merging = None
            self.run = Run(self._bound, (entry for entry in later if self.run.is_live(entry)))
        return True


def rows_with(run: Run, *record_ids: str) -> tuple[str, list[Any]]:
    """A condition that the rows of these ids meet, and hardly any other; its values."""
    numbers = [number for record_id in record_ids for number in list(run.numbers.get(record_id, ()))]
    keys = [id_key(record_id) for record_id in record_ids]
    return _among(numbers, f"key IN ({','.join('?' * len(keys))})", keys)


def rows_beginning(run: Run, prefix: str) -> tuple[str, list[Any]]:
    """A condition that the rows of all ids with this beginning meet, and others; its values."""
    raw = prefix.encode(errors="replace")[:_PREFIX]
    return _among(run.beginning_with(prefix), "key >= ? AND key < ?", [raw, raw + b"\xff" * (_PREFIX + 1)])


def links_beginning(run: Run, source_id: str) -> tuple[str, list[Any]]:
    """A condition that the rows of all links that begin at this id meet, and hardly any other; its values."""
    key = _source_key(source_id)
    return _among(run.links_from(source_id), "key >= ? AND key < ?", [key, key + b"\xff" * (_PREFIX + 1)])


def _among(numbers: Sequence[int], condition: str, values: Sequence[Any]) -> tuple[str, list[Any]]:
    beside = ""
    told: list[Any] = list(numbers)
    if len(numbers) > FEW:  # one statement for however many: a page can bring more than a statement may have values
        beside, told = " UNION ALL SELECT value FROM json_each(?)", [json.dumps(numbers)]
    elif numbers:
        beside = f" UNION ALL VALUES {placeholders(1, len(numbers))}"
    return f"number IN (SELECT number FROM locator WHERE {condition}{beside})", [*values, *told]
