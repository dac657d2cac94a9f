"""The links of a memory, in both directions.

Those that begin at it lie together in the index of ids; those that lead to it have an index of their own. The
namespace of a link says who may read it, not which memory it means: so links are found by id alone, and one that is
kept in two namespaces (its memory moved while somebody linked it) is shown once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from node.store.locator import Run, links_beginning, rows_with
from sync.link import ends
from sync.version import LINK_SEPARATOR, Key

CHUNK = 500
"""Ids of one statement."""
_COLUMNS = "number, id, at, signature, content, tag, doc"
_BEGINNING = f"SELECT {_COLUMNS} FROM memory WHERE {{condition}} AND kind = 'l' ORDER BY number DESC LIMIT {{most:d}}"
_LEADING = (
    f"SELECT {_COLUMNS} FROM memory INDEXED BY memory_link WHERE kind = 'l' AND title = ?"
    " ORDER BY number DESC LIMIT {most:d}"
)


@dataclass(frozen=True, slots=True)
class Linked:
    """One link of a memory."""

    doc: bytes
    missing: str | None
    """`source_id` or `target_id`, where the memory at the other end is not here: deleted, expired, or not yet come."""


def links_of(execute: Any, run: Run, record_id: str, now: str, limit: int, offset: int) -> list[Linked]:
    """The links that begin at this id or lead to it, newest change first. `now`: canonical time."""
    condition, values = links_beginning(run, record_id)
    # An id may begin as another does, and a digest stand for two: the comparison of the text decides.
    condition += " AND id >= ? AND id < ?"
    values += [record_id + LINK_SEPARATOR, record_id + chr(ord(LINK_SEPARATOR) + 1)]
    # Two statements, each cut for itself: one of both would sort all that it finds. The limit is written into them: a
    # statement whose limit is bound is prepared anew each time, which costs more than all the rest of it.
    most = limit + offset
    beginning = execute(_BEGINNING.format(condition=condition, most=most), values).fetchall()
    leading = execute(_LEADING.format(most=most), (record_id,)).fetchall()
    found = sorted((*beginning, *leading), key=itemgetter(0), reverse=True)[offset:most]
    winners: dict[str, tuple[Any, ...]] = {}
    for _, link_id, *version in found:
        winners[link_id] = max(winners.get(link_id, ()), tuple(version))
    others = {link_id: _other_end(link_id, record_id) for link_id in winners}
    here = present(execute, run, list({other for _, other in others.values()}), now)
    return [
        Linked(version[-1], None if others[link_id][1] in here else others[link_id][0])
        for link_id, version in winners.items()
    ]


def link_keys(execute: Any, run: Run, link_id: str) -> list[Key]:
    """Where this link is kept: in one namespace, or in more where its memory moved."""
    condition, values = rows_with(run, link_id)
    found = execute(f"SELECT namespace, id FROM memory WHERE {condition} AND id = ? AND kind = 'l'", (*values, link_id))
    return [(namespace, record_id) for namespace, record_id in found]


def link_count(execute: Any) -> int:
    """How many links the store holds; from their index alone."""
    return int(execute("SELECT count(*) FROM memory INDEXED BY memory_link WHERE kind = 'l'").fetchone()[0])


def present(execute: Any, run: Run, ids: Sequence[str], now: str) -> set[str]:
    """Those of these ids that a memory has which readers see."""
    found: set[str] = set()
    for start in range(0, len(ids), CHUNK):
        condition, values = rows_with(run, *ids[start : start + CHUNK])
        rows = execute(
            f"SELECT id FROM memory WHERE {condition} AND kind = 'm' AND (expires_at IS NULL OR expires_at > ?)",
            (*values, now),
        )
        found.update(record_id for (record_id,) in rows)
    return found


def _other_end(link_id: str, record_id: str) -> tuple[str, str]:
    source_id, target_id, _ = ends(link_id)
    return ("source_id", source_id) if target_id == record_id else ("target_id", target_id)
