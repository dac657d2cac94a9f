"""Local writes: what create, update, delete, move, link and re-write make of the feed (protocol sections 3 and 4).

Each takes an open `Batch` and the time, and answers with a value. A write's clock is the join of all that is kept of
its key plus its own counter, so it settles whatever was in conflict.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sync import clock as clocks
from sync import link as links
from sync import moment
from sync.attest import Author, Keychain, writer_of
from sync.batch import Batch
from sync.clock import Clock
from sync.draft import Fields, edited, new_memory, says_the_same
from sync.errors import RemoteError
from sync.ids import memory_id
from sync.merge import Added, merge
from sync.ports import Kept
from sync.record import load, memory_version, tombstone_version
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


def store(batch: Batch, fields: Fields, author: Author, now: int) -> Written:
    """Store under a title: update the memory that has it, or make one. Raises RemoteError `invalid`."""
    draft = new_memory(fields, "00000000-0000-0000-0000-000000000000", now)
    existing = titled(batch, draft.namespace, draft.title)
    if existing is not None:
        return _rewrite(batch, existing.version, fields, author, now, renewed=True)
    draft.id = _free_id(batch, draft.namespace, draft.title)
    at, clock = _stamp(batch, (draft.namespace, draft.id), now)
    draft.updated_at = at
    draft.created_at = at
    version = memory_version(draft, author, clock)
    _put(batch, version)
    return Written(version, created=True)


def update(batch: Batch, key: Key, fields: Fields, author: Author, now: int) -> Written | Missing | TitleTaken:
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
    return _rewrite(batch, before, fields, author, now)


def delete(batch: Batch, key: Key, author: Author, now: int) -> Written | Missing:
    """Put a tombstone in a memory's place."""
    if not _is_memory(batch, key):
        return Missing()
    return Written(_bury(batch, key, author, now))


def link(batch: Batch, namespace: str, fields: links.LinkFields, author: Author, now: int) -> Written | Missing:
    """Link two memories, or change what is said of the link. Raises RemoteError `invalid`.

    `namespace`: of the memory that it begins at. The one that it leads to may not be here: it may come later.
    """
    source_id, target_id, relation = fields.source_id, fields.target_id, fields.relation
    if fault := links.triple_fault(source_id, target_id, relation):
        raise RemoteError("invalid", fault)
    if not _is_memory(batch, (namespace, source_id)):
        return Missing()
    key = (namespace, links.link_id(source_id, target_id, relation))
    kept = batch.kept(key)
    before = links.load(kept[0].version.doc) if kept and kept[0].version.kind == "l" else None
    at, clock = _stamp(batch, key, now)
    created_at = before.created_at if before is not None else at
    observed_by = links.text_of(before.observed_by) if before is not None else author.agent
    times = {name: _valid(fields, before, name) for name in ("valid_from", "valid_until")}
    version = links.link_version(
        namespace, source_id, target_id, relation, created_at, author, clock, at=at, observed_by=observed_by, **times
    )
    if before is not None and len(kept) == 1 and version.content == kept[0].version.content:
        return Written(kept[0].version, changed=False)
    _put(batch, version)
    return Written(version, created=before is None)


def unlink(batch: Batch, keys: Sequence[Key], author: Author, now: int) -> int:
    """Take these links back; returns how many of them there were."""
    batch.load(keys)
    found = [key for key in keys if (kept := batch.kept(key)) and kept[0].version.kind == "l"]
    for key in found:
        _bury(batch, key, author, now)
    return len(found)


def restate(batch: Batch, key: Key, author: Author, now: int, version: Version | None = None) -> Version:
    """Write a kept version's content again, the winner's if none is named, having seen all: settles a key."""
    at, clock = _stamp(batch, key, now)
    again = _again(version or batch.kept(key)[0].version, author, at, clock)
    _put(batch, again)
    return again


def restate_future(batch: Batch, key: Key, keys: Keychain, horizon: str, now: int) -> None:
    """Write again, for now, what is ours of a key and lies beyond `horizon`.

    Each version for itself, under its own clock and one more counter: what its author had not seen stays beside it as a
    conflict. Nobody decided anything here, so nothing is settled.
    """
    for one in sorted(batch.kept(key), key=lambda kept: kept.version.rank):
        if one.giver is not None or one.version.at <= horizon:
            continue
        counter = clocks.counter(batch.life.secret, *key, batch.next_number)
        at = moment.text(_write_time(batch.kept(key), now))
        clock = {**one.version.clock, batch.life.actor: counter}
        again = _again(one.version, _same_author(keys, one.version), at, clock)
        result = merge(tuple(other for other in batch.kept(key) if other is not one), Kept(again, None))
        assert isinstance(result, Added), "a new counter of the live life is covered by nothing"
        batch.put(key, result.kept)


def restate_as_was(batch: Batch, one: Kept, keys: Keychain) -> Kept:
    """Write one of our own kept versions again, with its content and time, under the live life's counter.

    For what a forged claim would hide (protocol section 4, *Counter*). The caller puts it into the feed.
    """
    version = one.version
    counter = clocks.counter(batch.life.secret, *version.key, batch.next_number)
    again = _again(version, _same_author(keys, version), version.at, {**version.clock, batch.life.actor: counter})
    return Kept(again, None)


def sign(batch: Batch, key: Key, keys: Keychain) -> int:
    """Write again what is ours of a key and bears no signature, each version for itself; returns how many.

    A microsecond later, as a daemon of the older protocol takes nothing else, and would carry it on unsigned. An agent
    that has no key here cannot sign: what it wrote stays as it is.
    """
    written = 0
    for one in batch.kept(key):
        version = one.version
        author = _same_author(keys, version)
        if one.giver is not None or version.signature or not author.key:
            continue
        counter = clocks.counter(batch.life.secret, *key, batch.next_number)
        at = moment.text(moment.microseconds(version.at) + moment.MICROSECOND)
        again = _again(version, author, at, {**version.clock, batch.life.actor: counter})
        result = merge(tuple(other for other in batch.kept(key) if other is not one), Kept(again, None))
        assert isinstance(result, Added), "a new counter of the live life is covered by nothing"
        batch.put(key, result.kept)
        written += 1
    return written


def titled(batch: Batch, namespace: str, title: str) -> Kept | None:
    """The memory that a look-up by title answers: the winner among those that have it."""
    found = [one for one in batch.ledger.titled(namespace, title) if not batch.was_changed(one.version.key)]
    found.extend(batch.changed_with_title(namespace, title))
    return max(found, key=lambda one: one.version.rank, default=None)


def _rewrite(
    batch: Batch, before: Version, fields: Fields, author: Author, now: int, *, renewed: bool = False
) -> Written:
    memory = load(before.doc)
    after = edited(memory, fields, now, renewed=renewed)
    moved = after.namespace != memory.namespace
    if not moved and says_the_same(memory, after) and len(batch.kept(before.key)) == 1:
        return Written(before, changed=False)
    taken_along: list[links.Link] = []
    if moved:
        taken_along = _take_up_links(batch, before.key, author, now)
        _bury(batch, before.key, author, now)
        if _is_memory(batch, (after.namespace, after.id)):  # under another title, or it would have been found
            after.id = _free_id(batch, after.namespace, after.title)
    after.updated_at, clock = _stamp(batch, (after.namespace, after.id), now)
    version = memory_version(after, author, clock)
    _put(batch, version)
    _set_down_links(batch, version.key, taken_along, author, now)
    return Written(version)


def _take_up_links(batch: Batch, key: Key, author: Author, now: int) -> list[links.Link]:
    """Unlink what begins at a memory that moves: who may not read its new place shall not read its links either."""
    keys = [link_key for link_key in batch.ledger.links_from(key[1]) if link_key[0] == key[0]]
    batch.load(keys)
    found = [links.load(batch.kept(link_key)[0].version.doc) for link_key in keys]
    unlink(batch, keys, author, now)
    return found


def _set_down_links(batch: Batch, key: Key, some: Iterable[links.Link], author: Author, now: int) -> None:
    """Link again what was taken up. The memory may have got another id, which one of them may have led to."""
    namespace, source_id = key
    by_key = {
        (namespace, links.link_id(source_id, one.target_id, one.relation)): one
        for one in some
        if one.target_id != source_id
    }
    batch.load(by_key)
    for link_key, one in by_key.items():
        at, clock = _stamp(batch, link_key, now)
        _put(batch, links.renewed(one, link_key, at, author, clock))


def _valid(fields: links.LinkFields, before: links.Link | None, name: str) -> str | None:
    given = getattr(fields, name)
    if given is links.UNSET:
        return links.text_of(getattr(before, name)) if before is not None else None
    if given is None:
        return None
    at = moment.canonical(given)
    if at is None:
        raise RemoteError("invalid", f"{name}: {given[:40]!r}, an RFC 3339 time expected")
    return at


def _is_memory(batch: Batch, key: Key) -> bool:
    kept = batch.kept(key)
    return bool(kept) and kept[0].version.kind == "m"


def _free_id(batch: Batch, namespace: str, title: str) -> str:
    """The first id of this title that no memory has; a memory that has one of them had this title once."""
    ids = (memory_id(namespace, title, k) for k in itertools.count())
    return next(record_id for record_id in ids if not _is_memory(batch, (namespace, record_id)))


def _bury(batch: Batch, key: Key, author: Author, now: int) -> Version:
    at, clock = _stamp(batch, key, now)
    stone = _stone(key, at, author, clock)
    _put(batch, stone)
    return stone


def _stone(key: Key, at: str, author: Author, clock: Clock) -> Version:
    """What a delete leaves under a key, of a memory or of a link."""
    if links.is_link(key):
        return links.unlink_version(key[0], *links.ends(key[1]), at, author, clock)
    return tombstone_version(*key, at, author, clock)


def _again(version: Version, author: Author, at: str, clock: Clock) -> Version:
    if version.kind in ("t", "u"):
        return _stone(version.key, at, author, clock)
    if version.kind == "l":
        return links.renewed(links.load(version.doc), version.key, at, author, clock)
    memory = load(version.doc)
    memory.updated_at = at
    return memory_version(memory, author, clock)


def _same_author(keys: Keychain, version: Version) -> Author:
    agent, _ = writer_of(version)
    return keys.author(agent)


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
