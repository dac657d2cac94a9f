"""What the older daemon is sent of a memory, given what it is known to have: a decision for each key, and its own rule.

It keeps one row a title, ours only where `updated_at` is greater as text, and knows no tombstone and no conflict. A row
costs a newer daemon 131 ms and one of its quota, a repeated one too, so what it has is not sent again.
"""

import hashlib
from dataclasses import dataclass

from sync.legacy.past import Past
from sync.legacy.row import Row, essence, unfit
from sync.memory import Memory
from sync.record import load
from sync.version import Key, Version

TWIN = "another memory has the same title here, and it keeps one for a title"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a record at one daemon."""

    theirs: str
    """Its id for the record; empty where it never had a row for it."""
    title: str
    """The title under which it has it."""
    at: str
    """`updated_at` of its row, as it writes it; empty where it has none."""
    tag: bytes
    """Of the version of ours that it has (or whose delete it was told); empty where it has something else."""
    past: Past | None
    """The version that was last exchanged, as something that was seen."""

    @property
    def is_there(self) -> bool:
        """True where it has a row."""
        return bool(self.at)


@dataclass(frozen=True, slots=True)
class Delete:
    """Its row goes."""

    theirs: str


@dataclass(frozen=True, slots=True)
class Put:
    """The memory is sent; `replaces`: the row that has to go in a request before, as it cannot be renamed."""

    theirs: str
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing is sent. `state` is empty where nothing is to be, else `refused` or `held`; `why` is for the operator."""

    state: str = ""
    why: str = ""


def decide(winner: Version, known: Known | None, twin: bool) -> Delete | Put | Keep:
    """What to send of a record. `twin`: another memory of ours is the one that its title leads to."""
    theirs = known.theirs if known is not None and known.theirs else winner.id
    if known is not None and known.tag == winner.tag:
        return Keep()
    if winner.kind == "t":
        return Keep() if known is not None and not known.is_there else Delete(theirs)
    if twin:
        return Keep("refused", TWIN)
    if fault := unfit(winner):
        return Keep("refused", f"it would skip it: {fault}")
    if known is None or not known.is_there:
        return Put(theirs)
    if known.title != winner.title:
        return Put(theirs, replaces=True)
    if not takes(winner.at, known.at):
        return Keep("held", f"it keeps a row of {known.at}, which is not older than ours of {winner.at}")
    return Put(theirs)


def other_name(key: Key) -> str:
    """The name of a record at a daemon where another one has its id: ids are unique there across namespaces.

    Of version 8 (RFC 9562 section 5.8), so no node takes it for an id that one of us gave.
    """
    digest = hashlib.sha256(f"{key[0]}\0{key[1]}".encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"


def takes(ours: str, its: str) -> bool:
    """True where the daemon overwrites its row of time `its` with one of the same id and time `ours` (both text)."""
    return ours > its


def holds(row: Row, winner: Version) -> str | None:
    """Whether a row says what our winner says: `same`; `altered` where it differs in what the daemon only ever raises
    or mixes; None where it says something else."""
    if winner.kind == "t":
        return None
    memory = load(winner.doc)
    if essence(row.memory) != essence(memory):
        return None
    if _rest(row.memory) == _rest(memory):
        return "same"
    # It took our write, or a later one, and made something else of it. A write that it lacks it can still take.
    return None if takes(winner.at, row.at) else "altered"


def _rest(memory: Memory) -> tuple[object, ...]:
    expires = memory.expires_at if isinstance(memory.expires_at, str) else None
    metadata = {name: value for name, value in memory.metadata.items() if name not in ("agent_id", "attestation")}
    return (memory.tier, memory.priority, memory.confidence, expires, metadata)
