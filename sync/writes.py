"""Local writes: what create, update, delete, move, link and re-write make of the feed (protocol sections 3 and 4).

Each takes an open `Batch` and the time, and answers with a value. A write's context is the join of all that is kept of
its key, so it settles whatever was in conflict.

Some writes nobody decided: of what lies in our future, of what a lie would hide, of a key with too many versions. They
are written on in the name of whoever wrote them first (`attest.First`), and the first two each for itself: such a
version has seen its predecessor and nothing else, so its actor writes once (`Batch.one_off`). Under a life of ours, who
saw only the second of two of them would seem to have seen the first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sync import dot as dots
from sync import link as links
from sync import moment
from sync.attest import MAX_DEPTH, Author, First, Keychain, Stamp, first_of, is_carried, signer_of, writer_of
from sync.batch import Batch
from sync.context import Context, join
from sync.dot import Dot
from sync.draft import Fields, edited, new_memory, says_the_same
from sync.errors import RemoteError
from sync.ids import memory_id
from sync.merge import Added, merge
from sync.ports import Kept, Life
from sync.record import load, memory_version, tombstone_version
from sync.version import Key, Version

MAX_TRIED = 32
"""Ids of a title that are looked at for one that is free."""
MAX_TAKEN_ALONG = 256
"""Links that a memory takes along when it moves: so many that were made here, and of those made elsewhere so many."""
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


def store(batch: Batch, fields: Fields, author: Author, now: int, *, blind: bool = False) -> Written:
    """Store under a title: update the memory that has it, or make one. Raises RemoteError `invalid`.

    `blind`: for a writer that may see none of the memories there: it changes none but what it wrote itself, and what
    others have under the title stays as it is, beside a memory of its own.
    """
    draft = new_memory(fields, "00000000-0000-0000-0000-000000000000", now)
    existing = titled(batch, draft.namespace, draft.title, author if blind else None)
    if existing is not None:
        return _rewrite(batch, existing.version, fields, author, now, renewed=True)
    draft.id = _free_id(batch, draft.namespace, draft.title)
    at, stamp = _stamp(batch, (draft.namespace, draft.id), now)
    draft.updated_at = at
    draft.created_at = at
    version = memory_version(draft, author, stamp)
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
        if other is not None:  # not this one: it has another title, or another namespace
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
    at, stamp = _stamp(batch, key, now)
    created_at = before.created_at if before is not None else at
    observed_by = links.text_of(before.observed_by) if before is not None else author.agent
    times = {name: _valid(fields, before, name) for name in ("valid_from", "valid_until")}
    version = links.link_version(
        namespace, source_id, target_id, relation, created_at, author, stamp, at=at, observed_by=observed_by, **times
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
    """Write a kept version's content again as this author, the winner's if none is named, having seen all."""
    at, stamp = _stamp(batch, key, now)
    again = _again(version or batch.kept(key)[0].version, author, at, stamp)
    _put(batch, again)
    return again


def carry(batch: Batch, key: Key, author: Author, now: int) -> Version:
    """Settle a key by its winner, in the name of whoever wrote that: no act of a node makes anybody's word greater."""
    winner = batch.kept(key)[0].version
    at, stamp = _stamp(batch, key, now, first_of(winner))
    again = _again(winner, author, at, stamp)
    _put(batch, again)
    return again


def restate_future(batch: Batch, key: Key, keys: Keychain, horizon: str, now: int) -> None:
    """Write again, for now, what is ours of a key and lies beyond `horizon`, each version for itself.

    What its author had not seen stays beside it as a conflict: nobody decided anything here, so nothing is settled.
    """
    for one in sorted(batch.kept(key), key=lambda kept: kept.version.rank):
        if one.giver is None and one.version.at > horizon:
            _write_apart(batch, one, keys, moment.text(_write_time(batch.kept(key), now)))


def restate_as_was(batch: Batch, one: Kept, keys: Keychain) -> None:
    """Write one of our own kept versions again for itself, with its content and time: a lie would hide it."""
    _write_apart(batch, one, keys, one.version.at)


def _write_apart(batch: Batch, one: Kept, keys: Keychain, at: str) -> None:
    version = one.version
    actor = batch.one_off()
    first = first_of(version) if is_carried(version) else None
    stamp = Stamp(*_past((version,), at), lambda check: Dot(actor, 1, check), first)
    again = _again(version, keys.author(signer_of(version)), at, stamp)
    rest = tuple(other for other in batch.kept(version.key) if other is not one)
    result = merge(rest, Kept(again, None))
    assert isinstance(result, Added), "an actor that is new to everybody is covered by nothing"
    batch.put(version.key, result.kept)


def titled(batch: Batch, namespace: str, title: str, by: Author | None = None) -> Kept | None:
    """The memory that a look-up by title answers: the winner among those that have it, or that this author wrote."""
    found = [one for one in batch.ledger.titled(namespace, title) if not batch.was_changed(one.version.key)]
    found.extend(batch.changed_with_title(namespace, title))
    if by is not None:
        found = [one for one in found if writer_of(one.version) == (by.agent, by.key)]
    return max(found, key=lambda one: one.version.rank, default=None)


def _rewrite(
    batch: Batch, before: Version, fields: Fields, author: Author, now: int, *, renewed: bool = False
) -> Written:
    memory = load(before.doc)
    after = edited(memory, fields, now, renewed=renewed)
    moved = after.namespace != memory.namespace
    if says_the_same(memory, after) and len(batch.kept(before.key)) == 1:
        return Written(before, changed=False)
    taken_along: list[links.Link] = []
    if moved:
        taken_along = _take_up_links(batch, before.key, author, now)
        _bury(batch, before.key, author, now)
        if _is_memory(batch, (after.namespace, after.id)):  # under another title, or it would have been found
            after.id = _free_id(batch, after.namespace, after.title)
    after.updated_at, stamp = _stamp(batch, (after.namespace, after.id), now)
    version = memory_version(after, author, stamp)
    _put(batch, version)
    _set_down_links(batch, version.key, taken_along, author, now)
    return Written(version)


def _take_up_links(batch: Batch, key: Key, author: Author, now: int) -> list[links.Link]:
    """Unlink what this node, or the mover elsewhere, said of a memory that moves: it is said again in the new place.

    What others said stays where they said it, under their signatures: in another namespace it would be the mover's
    word, whatever it says; and a peer may have said any number of things.
    """
    keys = batch.ledger.links_from(key[1], key[0], MAX_TAKEN_ALONG)
    batch.load(keys)
    own = [link_key for link_key in keys if _is_said_by(author, batch.kept(link_key)[0])]
    found = [links.load(batch.kept(link_key)[0].version.doc) for link_key in own]
    unlink(batch, own, author, now)
    return found


def _is_said_by(author: Author, one: Kept) -> bool:
    """True where it was said on this node, or elsewhere by this agent with this key."""
    return one.giver is None or writer_of(one.version) == (author.agent, author.key)


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
        at, stamp = _stamp(batch, link_key, now)
        _put(batch, links.renewed(one, link_key, at, author, stamp))


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
    """The first id of this title that no memory has; a memory that has one of them had this title once.

    Whoever wants to can take as many of them as it likes, so that not all are looked at: an id that nobody can know
    before is free.
    """
    for k in range(MAX_TRIED):
        record_id = memory_id(namespace, title, k)
        if not _is_memory(batch, (namespace, record_id)):
            return record_id
    return memory_id(namespace, title, int(batch.one_off(), 16))


def _bury(batch: Batch, key: Key, author: Author, now: int) -> Version:
    at, stamp = _stamp(batch, key, now)
    stone = _stone(key, at, author, stamp)
    _put(batch, stone)
    return stone


def _stone(key: Key, at: str, author: Author, stamp: Stamp) -> Version:
    """What a delete leaves under a key, of a memory or of a link."""
    if links.is_link(key):
        return links.unlink_version(key[0], *links.ends(key[1]), at, author, stamp)
    return tombstone_version(*key, at, author, stamp)


def _again(version: Version, author: Author, at: str, stamp: Stamp) -> Version:
    if version.kind in ("t", "u"):
        return _stone(version.key, at, author, stamp)
    if version.kind == "l":
        return links.renewed(links.load(version.doc), version.key, at, author, stamp)
    memory = load(version.doc)
    memory.updated_at = at
    return memory_version(memory, author, stamp)


def _stamp(batch: Batch, key: Key, now: int, first: First | None = None) -> tuple[str, Stamp]:
    """Time and stamp of a write that has seen all that is kept of a key. It is put next, under the next number."""
    kept = batch.kept(key)
    at = moment.text(_write_time(kept, now))
    context, depth = _past([one.version for one in reversed(kept)], at)
    life, number = batch.life, batch.next_number
    if _is_lied_about(context, life, number):
        actor = batch.one_off()
        return at, Stamp(context, depth, lambda check: Dot(actor, 1, check), first)
    return at, Stamp(
        context, depth, lambda check: Dot(life.actor, dots.counter(life.secret, *key, check, number), check), first
    )


def _is_lied_about(context: Context, life: Life, number: int) -> bool:
    """True where somebody says that we wrote more than we did. Of this key only: a counter holds for one key."""
    return context.number(life.actor) >= number


def _past(seen: Sequence[Version], at: str) -> tuple[Context, int]:
    """Context and depth of a write that has seen these, the most important last."""
    context = join([(one.context, one.dot) for one in seen], moment.microseconds(at))
    return context, min(MAX_DEPTH, 1 + max((one.depth for one in seen), default=0))


def _write_time(kept: Sequence[Kept], now: int) -> int:
    times = (moment.microseconds(one.version.at) for one in kept)
    newest = max((at for at in times if at <= now + SKEW_BOUND), default=0)
    return max(now, newest + 1)


def _put(batch: Batch, version: Version) -> None:
    batch.put(version.key, (Kept(version, None),))
