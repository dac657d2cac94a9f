"""Conflicts for local clients: what is kept of keys that were written apart, why one wins, and how to settle them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from node.inputs import decoded, whole
from node.memories import DEFAULT_LIST, MAX_LIST, MIN_PREFIX, Memories
from node.store import Reader
from sync import settle
from sync.attest import writer_of
from sync.errors import RemoteError
from sync.link import RELATIONS, link_id
from sync.scope import Globs
from sync.settle import Changed, Settled
from sync.version import TAG_BYTES, Key, Version

KINDS = {"m": "memory", "t": "tombstone", "l": "link", "u": "unlink"}
MOST_BYTES = 8 * 2**20
"""Documents of one list: whoever may write makes many versions of many keys."""
WINNER = "winner"
"""In the place of a tag: whichever version wins among those that are expected."""
_UNCOMPARED = ("access_count", "last_accessed_at", "updated_at", "deleted_at", "attestation")
"""Members that are local, or the version's own time, clock and signature."""

Unset = msgspec.UnsetType
UNSET = msgspec.UNSET


class Resolution(msgspec.Struct, kw_only=True, frozen=True):
    """How a client wants a conflict to end: exactly one of `keep`, `delete` and `content`."""

    expected: list[str]
    """The tags of all versions that it has seen; each may be shortened."""
    keep: str | Unset = UNSET
    """`winner`, or a tag, which may be shortened as long as only one of the expected begins so."""
    delete: bool | Unset = UNSET
    content: str | Unset = UNSET
    """A text merged by hand; the other fields are the winner's."""
    agent_id: str | Unset | None = UNSET
    """The writer; without it the caller's `X-Agent-Id`, or the node."""


_resolution = msgspec.json.Decoder(Resolution)


class Conflicts:
    """Reads and writes for local clients, beside those of `Memories`."""

    def __init__(self, memories: Memories) -> None:
        self._memories = memories

    async def listed(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Keys with more than one kept version, newest change first; and titles that memories share.

        `limit` and `offset` hold for either list; `count` is of all such keys. Of `conflicts` there may be fewer than
        `limit` where they are large: the next begins at `offset` and as many as came.
        """
        limit, offset = whole(query, "limit", DEFAULT_LIST, MAX_LIST), whole(query, "offset", 0, 10**9)

        scope = self._memories.rights.scope

        def read(reader: Reader) -> dict[str, Any]:
            return {
                "conflicts": list(_cut(reader, reader.conflicting(limit, offset, scope))),
                "count": reader.conflict_count(scope),
                "shared_titles": [
                    {"namespace": one.namespace, "title": one.title, "ids": list(one.ids)}
                    for one in reader.twins(limit, offset, scope)
                ],
            }

        return await self._memories.read(read)

    async def get(self, record_id: str, namespace: str | None) -> dict[str, Any]:
        """All kept versions of one key. Raises RemoteError `ambiguous_id`, and `not_found` where it has no conflict."""

        scope = self._memories.rights.scope

        def read(reader: Reader) -> dict[str, Any]:
            key = _found(reader, record_id, namespace, scope)
            return _described(key, _kept(reader, key))

        return await self._memories.read(read)

    async def resolve(self, record_id: str, body: bytes, agent: str | None, namespace: str | None) -> dict[str, Any]:
        """Settle a key, here and on every peer: what was expected to be kept is let go, and one version goes on.

        Raises RemoteError `conflict_changed` where other versions are kept, as `get` does, and `invalid`.
        """
        wanted = decoded(_resolution, body)
        writer = self._memories.writer(wanted.agent_id, agent)

        rights = self._memories.rights

        def read(reader: Reader) -> tuple[Key, list[Version]]:
            key = _found(reader, record_id, namespace, rights.scope)
            return key, _kept(reader, key)

        key, kept = await self._memories.read(read)
        rights.require_write(key[0])
        seen = _seen(wanted.expected, kept)
        choice = _choice(wanted, seen)
        # The transaction compares once more: what arrived since this look refuses it.
        result = await self._memories.write(
            lambda engine, ledger, now: engine.resolve(ledger, key, choice, frozenset(seen), writer, now)
        )
        if isinstance(result, Changed):
            raise _changed(result.kept)
        if not isinstance(result, Settled):
            raise RemoteError("not_found", _nothing(record_id))
        return {
            "resolved": True,
            "namespace": key[0],
            "id": key[1],
            **_version(result.version),
            "let_go": [one.tag.hex() for one in result.let_go],
        }


def _found(reader: Reader, record_id: str, namespace: str | None, scope: Globs | None) -> Key:
    """The key of a conflict: of a memory, a link or a deleted one. A link may be said as `source relation target`."""
    for name in (record_id, _as_link(record_id)):
        found = reader.conflicting_beginning(name, namespace, scope) if name else []
        exact = [key for key in found if key[1] == name]
        if not exact and len(name) < MIN_PREFIX:
            continue
        match exact or found:
            case [key]:
                return key
            case [key, *others]:
                what = "begins" if any(other[1] != key[1] for other in others) else "has, in several namespaces,"
                raise RemoteError("ambiguous_id", f"{record_id[:128]!r} {what} more than one conflict; say which")
    raise RemoteError("not_found", _nothing(record_id))


def _as_link(record_id: str) -> str:
    source_id, _, rest = record_id.partition(" ")
    relation, _, target_id = rest.partition(" ")
    return link_id(source_id, target_id, relation) if relation in RELATIONS and target_id else ""


def _nothing(record_id: str) -> str:
    return f"no conflict under {record_id[:128]!r}: at most one version of it is kept"


def _cut(reader: Reader, keys: Sequence[Key]) -> Iterator[dict[str, Any]]:
    """These keys with all their versions, as long as the documents come to less than MOST_BYTES; one at least."""
    size = 0
    for key in keys:
        kept = _kept(reader, key)
        yield _described(key, kept)
        size += sum(len(one.doc) for one in kept)
        if size >= MOST_BYTES:
            return


def _kept(reader: Reader, key: Key) -> list[Version]:
    return [one.version for one in reader.versions(key)]


def _seen(expected: Sequence[str], kept: Sequence[Version]) -> list[bytes]:
    """The kept tags, if exactly they are expected. Raises RemoteError `conflict_changed`, `invalid`."""
    tags = {one.tag.hex(): one.tag for one in kept}
    seen: set[str] = set()
    for text in expected:
        if not MIN_PREFIX <= len(text) <= 2 * TAG_BYTES or text.strip("0123456789abcdef"):
            raise RemoteError(
                "invalid", f"expected: {text[:40]!r}, a tag of {2 * TAG_BYTES} hex digits, or its beginning"
            )
        found = [tag for tag in tags if tag.startswith(text)]
        if len(found) > 1:
            raise RemoteError("invalid", f"expected: {text!r} begins more than one tag; give more of it")
        if not found:
            raise _changed(kept)
        seen.update(found)
    if seen != set(tags):
        raise _changed(kept)
    return list(tags.values())


def _changed(kept: Sequence[Version]) -> RemoteError:
    tags = ", ".join(one.tag.hex() for one in kept)
    return RemoteError("conflict_changed", f"other versions are kept than expected: {tags}; look again, then say which")


def _choice(wanted: Resolution, seen: Sequence[bytes]) -> settle.Choice:
    said = [name for name in ("keep", "delete", "content") if getattr(wanted, name) not in (UNSET, False)]
    if len(said) != 1:
        found = " and ".join(said) or "none of them"
        raise RemoteError("invalid", f"{found} given: exactly one of keep, delete and content expected")
    if isinstance(wanted.content, str):
        return settle.Replace(wanted.content)
    if not isinstance(wanted.keep, str):
        return settle.Delete()
    if wanted.keep == WINNER:
        return settle.Keep()
    tags = [tag for tag in seen if len(wanted.keep) >= MIN_PREFIX and tag.hex().startswith(wanted.keep)]
    if len(tags) != 1:
        fault = "begins more than one tag" if tags else "begins no tag of a kept version"
        expected = f"`winner` or {MIN_PREFIX} or more digits of one expected"
        raise RemoteError("invalid", f"keep: {wanted.keep[:40]!r} {fault}; {expected}")
    return settle.Keep(tags[0])


def _described(key: Key, kept: Sequence[Version]) -> dict[str, Any]:
    winner, *others = kept
    versions = [{**_version(winner), "wins": True, "lost_by": None, "differs": []}]
    versions += [
        {**_version(one), "wins": False, "lost_by": settle.lost_by(winner, one), "differs": _differing(winner, one)}
        for one in others
    ]
    return {"namespace": key[0], "id": key[1], "versions": versions}


def _version(one: Version) -> dict[str, Any]:
    return {
        "kind": KINDS[one.kind],
        "at": one.at,
        "tag": one.tag.hex(),
        "agent": writer_of(one)[0],
        "record": msgspec.json.decode(one.doc),
    }


def _differing(winner: Version, other: Version) -> list[str]:
    """The members in which two versions of a key differ; only `kind` where one is a delete and the other none."""
    if winner.kind != other.kind:
        return ["kind"]
    ours, theirs = _compared(winner), _compared(other)
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def _compared(version: Version) -> dict[str, Any]:
    record: dict[str, Any] = msgspec.json.decode(version.doc)
    if version.kind == "m":
        record["metadata"] = {name: value for name, value in record["metadata"].items() if name != "attestation"}
    return {name: value for name, value in record.items() if name not in _UNCOMPARED}
