"""What a row of the older daemon is to us: a version, an echo of one, or an edit (protocol section 8, four cases).

The daemon keeps one row a title, merges by the text of `updated_at`, and carries `metadata`, our attestation in it,
through untouched, together with title, content, tags and source. What else it does to a row (it only ever raises
priority and tier, and mixes expiry times) is no edit by anybody.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from sync import clock as clocks
from sync import moment
from sync.attest import Unsigned
from sync.canonical import content_digest
from sync.legacy.row import Claim, Row, claim_in, essence
from sync.memory import Memory
from sync.record import Refused, load, memory_version, read, tombstone_version
from sync.version import Key, Version

ACTOR = "legacy"
"""The one actor of all that daemons write: its counter is a time in microseconds, as time is all that orders them."""
NOBODY = "anonymous:legacy"
"""The writer of a row that names none."""
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Echo:
    """Nothing new: the row says what `of` says, as far as the daemon can."""

    of: Version


def judge(row: Row, key: Key, kept: Sequence[Version]) -> Version | Echo | Refused:
    """The version that a row is, under our key for it. `kept`: what we keep of that key."""
    memory = msgspec.structs.replace(row.memory, namespace=key[0], id=key[1], metadata=dict(row.memory.metadata))
    claim = claim_in(memory.metadata, key[1])
    if claim is not None and claim.at == row.at:
        found = _attested(memory, claim, kept)
        if found is not None:
            return found
    for one in kept:
        if one.kind == "m" and memory.updated_at <= one.at and essence(load(one.doc)) == essence(memory):
            return Echo(one)
    return _edit(memory, row, claim)


def removed(key: Key, exchanged: clocks.Clock, now: int) -> Version:
    """The tombstone for a delete that the daemon tells. `exchanged`: the clock of what it last had; `now`: µs."""
    clock = clocks.join((exchanged, {ACTOR: now}))
    return tombstone_version(*key, moment.text(now), Unsigned(NOBODY), clock)


def left(key: Key, exchanged: clocks.Clock, row: Row) -> Version:
    """The tombstone under the old key of a memory that the daemon moved to another namespace."""
    return removed(key, exchanged, moment.microseconds(row.memory.updated_at))


def brought_back(key: Key, memory: Memory, known: clocks.Clock, now: int) -> Version:
    """The version that the daemon's restore of an archived memory makes. `known`: the join of all that is kept."""
    again = msgspec.structs.replace(memory, updated_at=moment.text(now), metadata=dict(memory.metadata))
    return memory_version(again, Unsigned(_writer(again)), clocks.join((known, {ACTOR: now})))


def _attested(memory: Memory, claim: Claim, kept: Sequence[Version]) -> Version | Echo | None:
    """Cases 1 and 2: nobody has edited the row since the version that its attestation names."""
    if content_digest(memory).hex() == claim.content:
        version = read(_encode(memory), "m")
        assert isinstance(version, Version), version  # its limits, its attestation and its digest were looked at
        return version
    same = next((one for one in kept if one.clock == claim.clock and one.kind == "m"), None)
    if same is not None and essence(load(same.doc)) != essence(memory):
        return None
    cover = same or next((one for one in kept if clocks.covers(one.clock, claim.clock)), None)
    if cover is not None:
        return Echo(cover)
    return memory_version(memory, Unsigned(claim.agent), claim.clock)


def _edit(memory: Memory, row: Row, claim: Claim | None) -> Version | Refused:
    """Case 4. The attestation still names what the editor had seen, where the row is newer than it."""
    at = moment.microseconds(memory.updated_at)
    clock = {ACTOR: at}
    if claim is not None and (memory.updated_at, row.at) > (claim.at, claim.at):
        clock = clocks.join((claim.clock, clock))
    if fault := clocks.fault(clock):
        return Refused(memory.id, "m", "limits", fault)
    return memory_version(memory, Unsigned(_writer(memory)), clock)


def _writer(memory: Memory) -> str:
    agent = memory.metadata.get("agent_id")
    return agent if isinstance(agent, str) else NOBODY
