"""Who wrote what is stored, proven anew: each kept version's document, digest and signature, and how it came here."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from node.conflicts import KINDS
from node.inputs import whole
from node.memories import MIN_PREFIX
from node.rights import OWNER, Rights
from node.store import Store, evidence
from node.store.evidence import KeptRows, Row
from node.store.reader import Reader
from node.verifier import Verify, each_genuine
from node.verifying import Claim
from sync import ed25519
from sync.attest import writer_of
from sync.errors import RemoteError
from sync.keyline import key_text
from sync.keyring import Keyring
from sync.link import RELATIONS, link_id
from sync.recheck import Broken, recheck
from sync.record import Refused
from sync.scope import Globs
from sync.trust import Trust, judge
from sync.version import Version

DEFAULT_PAGE = 100
MAX_PAGE = 1_000
STEP = 100
"""Claims of one request to whoever verifies."""

NameOf = Callable[[str], str | None]
"""What the operator calls a certificate, given its fingerprint's text."""


@dataclass(frozen=True, slots=True)
class Level:
    """How far it is proven who wrote a version."""

    name: str
    """`unsigned`, `self_signed`, `attested`, `refused` or `broken`."""
    reason: str | None = None
    detail: str | None = None


Judge = Callable[[Version], Level]
"""The level of a version whose signature, if it has one, is its key's."""


def judged_by(keyring: Keyring) -> Judge:
    """Levels by the table of protocol section 5.

    What may come in unsigned, or from agents that are not enrolled, is a rule for peers; here it has a level.
    """
    trust = Trust(keyring, "any", allow_unsigned=True)

    def level(version: Version) -> Level:
        found = judge(trust, version)
        return Level("refused", found.reason, found.detail) if isinstance(found, Refused) else Level(found)

    return level


async def verify_in_thread(claims: list[Claim]) -> bytes:
    """For a process that does nothing else meanwhile."""
    return await asyncio.to_thread(lambda: bytes(ed25519.verifies(*claim) for claim in claims))


class Proofs:
    """What is stored, verified again for local clients."""

    def __init__(
        self,
        store: Store,
        verify: Verify,
        name_of: NameOf,
        keyring: Callable[[], Keyring],
        rights: Rights = OWNER,
    ) -> None:
        self._store, self._verify, self._name_of, self._keyring = store, verify, name_of, keyring
        self._rights = rights

    def under(self, rights: Rights) -> "Proofs":
        """The same, for a client with these rights: it is told of memories that it sees, one at a time."""
        return Proofs(self._store, self._verify, self._name_of, self._keyring, rights)

    async def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """What is kept of the next keys of the feed: `after` a number, at most `limit` of them.

        `next` is the number to go on after; null at the end. `feed`: the feed's last number.
        """
        after, limit = whole(query, "after", 0, 10**10), whole(query, "limit", DEFAULT_PAGE, MAX_PAGE)
        feed = self._store.position.number
        found = await self._store.reader.run(
            lambda reader: _with_givers(reader, evidence.page(reader.execute, after, limit))
        )
        records = await self._proven(found)
        rows = found[0]
        more = limit > 0 and len(rows) == limit
        return {"records": records, **counted(records), "next": rows[-1].number if more else None, "feed": feed}

    async def one(self, record_id: str, namespace: str | None) -> dict[str, Any]:
        """What is kept under one id: of a memory, a link (`source relation target`) or a deleted one.

        The id may be shortened as long as only one memory's begins so. Raises RemoteError `not_found`, `ambiguous_id`.
        """
        scope = self._rights.scope
        found = await self._store.reader.run(
            lambda reader: _with_givers(reader, _found(reader, record_id, namespace, scope))
        )
        records = await self._proven(found)
        return {"records": records, **counted(records)}

    async def _proven(self, found: tuple[Sequence[KeptRows], Mapping[int, str]]) -> list[dict[str, Any]]:
        kept, givers = found
        looks = await asyncio.to_thread(lambda: [[recheck(row.stored) for row in one.rows] for one in kept])
        signed = [look for some in looks for look in some if isinstance(look, Version) and look.signature]
        genuine: list[bool] = []
        for start in range(0, len(signed), STEP):
            genuine += await each_genuine(signed[start : start + STEP], self._verify)
        results, level_of = iter(genuine), judged_by(self._keyring())
        return [
            self._record(one, [(look, _level(look, results, level_of)) for look in some], givers)
            for one, some in zip(kept, looks, strict=True)
        ]

    def _record(
        self, kept: KeptRows, looks: Sequence[tuple[Version | Broken, Level]], givers: Mapping[int, str]
    ) -> dict[str, Any]:
        first = kept.rows[0].stored
        versions = [
            {**_described(row, look, level), "wins": row is kept.rows[0], "came": self._way(row, givers)}
            for row, (look, level) in zip(kept.rows, looks, strict=True)
        ]
        told = {"namespace": _text(first.namespace), "id": _text(first.id), "versions": versions, "fault": None}
        if kept.others + 1 != len(versions):
            told["fault"] = f"{len(versions)} versions of it are here, {kept.others + 1} expected"
        return told

    def _way(self, row: Row, givers: Mapping[int, str]) -> dict[str, Any]:
        if row.giver is None:
            return {"by": "own", "peer": None, "fingerprint": None}
        fingerprint = givers.get(row.giver)
        if fingerprint is None:
            return {"by": "elsewhere", "peer": None, "fingerprint": None}
        return {"by": "peer", "peer": self._name_of(fingerprint), "fingerprint": fingerprint}


def counted(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """How many versions there are at each level, and how many keys of which not all versions are here."""
    levels: dict[str, int] = {}
    faults = 0
    for one in records:
        faults += one["fault"] is not None
        for version in one["versions"]:
            levels[version["level"]] = levels.get(version["level"], 0) + 1
    return {"levels": levels, "faults": faults}


def _level(look: Version | Broken, genuine: Iterator[bool], level_of: Judge) -> Level:
    if isinstance(look, Broken):
        return Level("broken", look.reason, look.detail)
    if look.signature and not next(genuine):
        return Level("broken", "bad_signature", "its signature is not over this record by the key that it names")
    return level_of(look)


def _described(row: Row, look: Version | Broken, level: Level) -> dict[str, Any]:
    stored = row.stored
    agent, key = writer_of(look) if isinstance(look, Version) else _claimed(stored.doc)
    return {
        "kind": KINDS.get(_text(stored.kind), "unknown"),
        "level": level.name,
        "reason": level.reason,
        "detail": level.detail,
        "agent": agent,
        "key": key_text(key) if key else None,
        "at": _text(stored.at),
        "tag": bytes(stored.tag).hex(),
    }


def _claimed(doc: bytes) -> tuple[str | None, bytes]:
    """Whom an altered document names as its writer, as far as that can be read."""
    try:
        found = msgspec.json.decode(doc)
        said = found.get("attestation") or found["metadata"]["attestation"]
        return str(said["agent"]), b""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError, KeyError, TypeError):
        return None, b""


def _with_givers(reader: Reader, kept: Sequence[KeptRows]) -> tuple[Sequence[KeptRows], Mapping[int, str]]:
    numbers = {row.giver for one in kept for row in one.rows if row.giver}
    return kept, evidence.brought_by(reader.execute, numbers)


def _found(reader: Reader, record_id: str, namespace: str | None, scope: Globs | None) -> list[KeptRows]:
    def of_id(name: str) -> list[KeptRows]:
        return evidence.of_id(reader.execute, reader.run, name, scope, namespace)

    def ids_beginning() -> list[str]:
        return evidence.ids_beginning(reader.execute, reader.run, record_id, scope, namespace)

    for name in (record_id, _as_link(record_id)):
        if name and (found := of_id(name)):
            return found
    ids = ids_beginning() if len(record_id) >= MIN_PREFIX else []
    if len(ids) > 1:
        raise RemoteError("ambiguous_id", f"{record_id!r} begins more than one id; give more of it")
    if ids and (found := of_id(ids[0])):
        return found
    raise RemoteError("not_found", "not found")


def _as_link(record_id: str) -> str:
    source_id, _, rest = record_id.partition(" ")
    relation, _, target_id = rest.partition(" ")
    return link_id(source_id, target_id, relation) if relation in RELATIONS and target_id else ""


def _text(raw: bytes) -> str:
    return bytes(raw).decode(errors="replace")
