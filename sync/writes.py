"""Local writes: what create, update, delete, move and re-write make of the feed (protocol sections 3 and 4).

Each takes an open `Batch` and the time, and answers with a value. A write's clock is the join of all that is kept of
its key plus its own counter, so it settles whatever was in conflict.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from sync import clock as clocks
from sync import moment
from sync.batch import Batch
from sync.clock import Clock
from sync.draft import Fields, edited, new_memory, says_the_same
from sync.ids import memory_id
from sync.merge import Added, merge
from sync.ports import Kept
from sync.record import agent_of, load, memory_version, tombstone_version
from sync.version import Key, Version

SKEW_BOUND = 300 * moment.SECOND
"""How far in the future a time may lie before it is not believed."""


@dataclass(frozen=True, slots=True)
class Written:
    """A write that happened, or that found nothing to change."""

    version: Version
    created: bool = False
    changed: bool = True


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no memory under this key."""


@dataclass(frozen=True, slots=True)
class TitleTaken:
    """Another memory of this namespace has the title."""

    id: str


def store(batch: Batch, fields: Fields, agent: str, now: int) -> Written:
    """Store under a title: update the memory that has it, or make one. Raises RemoteError `invalid`."""
    draft = new_memory(fields, "00000000-0000-0000-0000-000000000000", now)
    existing = titled(batch, draft.namespace, draft.title)
    if existing is not None:
        return _rewrite(batch, existing.version, fields, agent, now, renewed=True)
    draft.id = _free_id(batch, draft.namespace, draft.title)
    at, clock = _stamp(batch, (draft.namespace, draft.id), now)
    draft.updated_at = at
    draft.created_at = at
    version = memory_version(draft, agent, clock)
    _put(batch, version)
    return Written(version, created=True)


def update(batch: Batch, key: Key, fields: Fields, agent: str, now: int) -> Written | Missing | TitleTaken:
    """Change some fields of a memory; a new namespace is a move. Raises RemoteError `invalid`.

    A memory that moves keeps its id, but where one that was renamed has it there.
    """
    if not _is_memory(batch, key):
        return Missing()
    before = batch.kept(key)[0].version
    namespace = fields.namespace if isinstance(fields.namespace, str) else before.namespace
    title = fields.title if isinstance(fields.title, str) else before.title
    if (namespace, title) != (before.namespace, before.title):
        other = titled(batch, namespace, title)
        if other is not None and other.version.key != key:
            return TitleTaken(other.version.id)
    return _rewrite(batch, before, fields, agent, now)


def delete(batch: Batch, key: Key, agent: str, now: int) -> Written | Missing:
    """Put a tombstone in a memory's place."""
    if not _is_memory(batch, key):
        return Missing()
    return Written(_bury(batch, key, agent, now))


def restate(batch: Batch, key: Key, agent: str, now: int) -> Version:
    """Write the winner's content again, seen by all: settles a key."""
    version = batch.kept(key)[0].version
    at, clock = _stamp(batch, key, now)
    again = _again(version, agent, at, clock)
    _put(batch, again)
    return again


def restate_future(batch: Batch, key: Key, horizon: str, now: int) -> None:
    """Write again, for now, what is ours of a key and lies beyond `horizon`.

    Each version for itself, under its own clock and one more counter: what its author had not seen stays beside it as a
    conflict. Nobody decided anything here, so nothing is settled.
    """
    for one in sorted(batch.kept(key), key=lambda kept: kept.version.rank):
        if one.giver is not None or one.version.at <= horizon:
            continue
        counter = clocks.counter(batch.life.secret, *key, batch.next_number)
        at = moment.text(_write_time(batch.kept(key), now))
        again = _again(one.version, agent_of(one.version), at, {**one.version.clock, batch.life.actor: counter})
        result = merge(tuple(other for other in batch.kept(key) if other is not one), Kept(again, None))
        assert isinstance(result, Added), "a new counter of the live life is covered by nothing"
        batch.put(key, result.kept)


def restate_as_was(batch: Batch, one: Kept) -> Kept:
    """Write one of our own kept versions again, with its content and time, under the live life's counter.

    For what a forged claim would hide (protocol section 4, *Counter*). The caller puts it into the feed.
    """
    version = one.version
    counter = clocks.counter(batch.life.secret, *version.key, batch.next_number)
    again = _again(version, agent_of(version), version.at, {**version.clock, batch.life.actor: counter})
    return Kept(again, None)


def titled(batch: Batch, namespace: str, title: str) -> Kept | None:
    """The memory that a look-up by title answers: the winner among those that have it."""
    found = [one for one in batch.ledger.titled(namespace, title) if not batch.was_changed(one.version.key)]
    found.extend(batch.changed_with_title(namespace, title))
    return max(found, key=lambda one: one.version.rank, default=None)


def _rewrite(batch: Batch, before: Version, fields: Fields, agent: str, now: int, *, renewed: bool = False) -> Written:
    memory = load(before.doc)
    after = edited(memory, fields, now, renewed=renewed)
    moved = after.namespace != memory.namespace
    if not moved and says_the_same(memory, after) and len(batch.kept(before.key)) == 1:
        return Written(before, changed=False)
    if moved:
        _bury(batch, before.key, agent, now)
        if _is_memory(batch, (after.namespace, after.id)):  # under another title, or it would have been found
            after.id = _free_id(batch, after.namespace, after.title)
    after.updated_at, clock = _stamp(batch, (after.namespace, after.id), now)
    version = memory_version(after, agent, clock)
    _put(batch, version)
    return Written(version)


def _is_memory(batch: Batch, key: Key) -> bool:
    kept = batch.kept(key)
    return bool(kept) and kept[0].version.kind == "m"


def _free_id(batch: Batch, namespace: str, title: str) -> str:
    """The first id of this title that no memory has; a memory that has one of them had this title once."""
    ids = (memory_id(namespace, title, k) for k in itertools.count())
    return next(record_id for record_id in ids if not _is_memory(batch, (namespace, record_id)))


def _bury(batch: Batch, key: Key, agent: str, now: int) -> Version:
    at, clock = _stamp(batch, key, now)
    stone = tombstone_version(*key, at, agent, clock)
    _put(batch, stone)
    return stone


def _again(version: Version, agent: str, at: str, clock: Clock) -> Version:
    if version.kind == "t":
        return tombstone_version(*version.key, at, agent, clock)
    memory = load(version.doc)
    memory.updated_at = at
    return memory_version(memory, agent, clock)


def _stamp(batch: Batch, key: Key, now: int) -> tuple[str, Clock]:
    kept = batch.kept(key)
    clock = clocks.join(one.version.clock for one in kept)
    clock[batch.life.actor] = clocks.counter(batch.life.secret, *key, batch.next_number)
    return moment.text(_write_time(kept, now)), clock


def _write_time(kept: Sequence[Kept], now: int) -> int:
    times = (moment.microseconds(one.version.at) for one in kept)
    newest = max((at for at in times if at <= now + SKEW_BOUND), default=0)
    return max(now, newest + 1)


def _put(batch: Batch, version: Version) -> None:
    batch.put(version.key, (Kept(version, None),))
