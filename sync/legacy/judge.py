"""What a row of the older daemon is to us: a version, an echo of one, or an edit (protocol section 8, four cases).

The daemon keeps one row a title, merges by the text of `updated_at`, and carries `metadata`, our attestation in it,
through untouched, together with title, content, tags and source. What else it does to a row (it only ever raises
priority and tier, and mixes expiry times) is no edit by anybody.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from sync import moment
from sync.attest import Unsigned
from sync.canonical import content_digest
from sync.dot import Dot, fault, seen_until
from sync.legacy.past import Past, altered, written
from sync.legacy.row import Claim, Row, claim_in, essence
from sync.memory import Memory
from sync.record import Refused, load, memory_version, read, tombstone_version
from sync.version import Key, Version

NOBODY = "anonymous:legacy"
"""The writer of a row that names none."""
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Echo:
    """Nothing new: the row says what `of` says, as far as the daemon can."""

    of: Version


def judge(row: Row, key: Key, kept: Sequence[Version], exchanged: Past | None = None) -> Version | Echo | Refused:
    """The version that a row is, under our key for it. `kept`: what we keep of that key.

    `exchanged`: for a row that came there from another key, what the daemon last had under this one.
    """
    memory = msgspec.structs.replace(row.memory, namespace=key[0], id=key[1], metadata=dict(row.memory.metadata))
    claim = claim_in(memory.metadata, key)
    if claim is not None and claim.at == row.at and (whole := _unaltered(memory, claim)) is not None:
        return whole
    if claim is not None and not claim.is_bound and not any(_has(one, claim.past.dot) for one in kept):
        claim = None  # the row may have been another record's
    if claim is not None and claim.at == row.at and (found := _altered(memory, claim, kept)) is not None:
        return found
    for one in kept:
        if one.kind == "m" and memory.updated_at <= one.at and essence(load(one.doc)) == essence(memory):
            return Echo(one)
    return _edit(memory, row, claim, kept, exchanged)


def removed(key: Key, exchanged: Past | None, now: int) -> Version:
    """The tombstone for a delete that the daemon tells. `exchanged`: what it last had, if anything; `now`: µs."""
    seen = () if exchanged is None else (exchanged,)
    return tombstone_version(*key, moment.text(now), Unsigned(NOBODY), written(seen, now))


def left(key: Key, exchanged: Past | None, row: Row) -> Version:
    """The tombstone under the old key of a memory that the daemon moved to another namespace."""
    return removed(key, exchanged, moment.microseconds(row.memory.updated_at))


def brought_back(key: Key, memory: Memory, known: Sequence[Version], now: int) -> Version:
    """The version that the daemon's restore of an archived memory makes. `known`: all that is kept of the key."""
    again = msgspec.structs.replace(memory, updated_at=moment.text(now), metadata=dict(memory.metadata))
    return memory_version(again, Unsigned(_writer(again)), written(map(Past.of, known), now))


def _unaltered(memory: Memory, claim: Claim) -> Version | None:
    """Case 1: the row is the version that its attestation names."""
    for one in (memory, _with_agent(memory, claim.agent)):
        if content_digest(one).hex() == claim.content:
            version = read(_encode(one), "m")
            assert isinstance(version, Version), version  # its limits, its attestation and its digest were looked at
            return version
    return None


def _altered(memory: Memory, claim: Claim, kept: Sequence[Version]) -> Version | Echo | None:
    """Case 2: nobody has edited the row since that version, though it says something else."""
    dot = claim.past.dot
    same = next((one for one in kept if one.dot == dot), None)
    if same is not None and essence(load(same.doc)) != essence(memory):
        return None
    cover = same or next((one for one in kept if one.context.covers(dot)), None)
    if cover is not None:
        return Echo(cover)
    stamp = altered(claim.past, moment.microseconds(memory.updated_at))
    return memory_version(memory, Unsigned(claim.agent), stamp)


def _with_agent(memory: Memory, agent: str) -> Memory:
    """Who first wrote a memory is part of it; the daemon overwrites that with whoever wrote its row last."""
    return msgspec.structs.replace(memory, metadata={**memory.metadata, "agent_id": agent})


def _edit(
    memory: Memory, row: Row, claim: Claim | None, kept: Sequence[Version], exchanged: Past | None
) -> Version | Refused:
    """Case 4. The attestation still names what the editor had seen, where the row is newer than it."""
    at = moment.microseconds(memory.updated_at)
    if wrong := fault(seen_until(at)):
        return Refused(memory.id, "m", "limits", f"updated_at: {memory.updated_at}; {wrong}")
    before = () if exchanged is None else (exchanged,)
    writer = _writer(memory)
    if claim is None or (memory.updated_at, row.at) <= (claim.at, claim.at):
        return memory_version(memory, Unsigned(writer), written(before, at))
    seen = next((one for one in kept if one.kind == "m" and _has(one, claim.past.dot)), None)
    if seen is not None and isinstance(first := load(seen.doc).metadata.get("agent_id"), str):
        memory = _with_agent(memory, first)
    return memory_version(memory, Unsigned(writer), written((*before, claim.past), at))


def _has(kept: Version, dot: Dot) -> bool:
    """True where this is that version, or has seen it."""
    return kept.dot == dot or kept.context.covers(dot)


def _writer(memory: Memory) -> str:
    agent = memory.metadata.get("agent_id")
    return agent if isinstance(agent, str) else NOBODY
