"""From a row of the existing daemon to a version, the same on every node and at every time (decision 0032).

What a row is to us is said where such rows come over the wire (`sync.legacy`), so an import and a later exchange agree.
But nothing that this store keeps is looked at here: two nodes that import one file make the same versions of it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from node.legacy.importing.source import MEMORY, NotTaken
from sync import moment
from sync.ids import is_native, memory_id
from sync.legacy.judge import judge
from sync.legacy.row import read_row
from sync.record import Refused
from sync.version import Version
from sync.writes import SKEW_BOUND

_SHOWN = 200
"""Characters of a name in a report."""


def record_id(row_id: str, namespace: str, title: str) -> str:
    """The id that a memory of the file has here.

    The daemon's own are random (UUIDv4), and two of its nodes have two of them for one title: the id is computed, as
    for a memory that is created here (protocol section 3). One that is computed already came from a node like this one.
    """
    return row_id if is_native(row_id) else memory_id(namespace, title, 0)


def version(fields: Mapping[str, Any], now: int) -> Version | NotTaken:
    """A row's version. `now`: microseconds; what expired before it is not taken, nor what lies too far after it."""

    def not_taken(reason: str, detail: str) -> NotTaken:
        names = (fields.get(name) for name in ("id", "namespace", "title"))
        row_id, namespace, title = (name[:_SHOWN] if isinstance(name, str) else "" for name in names)
        return NotTaken(MEMORY, reason, detail, row_id, namespace, title)

    try:
        row = read_row(msgspec.json.encode(fields))
    except RecursionError:
        return not_taken("malformed", "it is nested too deeply")
    if isinstance(row, Refused):
        return not_taken(row.reason, row.detail)
    memory = row.memory
    if isinstance(memory.expires_at, str) and memory.expires_at <= moment.text(now):
        return not_taken("expired", f"it expired at {memory.expires_at}")
    if memory.updated_at > moment.text(now + SKEW_BOUND):
        return not_taken("clock_skew", f"its time, {memory.updated_at}, lies in the future: set it right there first")
    key = (memory.namespace, record_id(memory.id, memory.namespace, memory.title))
    found = judge(row, key, ())
    if isinstance(found, Refused):
        return not_taken(found.reason, f"updated_at: {memory.updated_at}; {found.detail}")
    assert isinstance(found, Version), "an echo is one of something that is kept"
    return found
