"""The links of a memory, in both directions.

Those that begin at it lie together in the index of ids; those that lead to it have an index of their own. The
namespace of a link says who may read it, not which memory it means: so links are found by id alone. One that is kept
in two namespaces is shown twice, each with its own: whoever may write in one of them has no say in the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from node.store.locator import Run, links_beginning, rows_with
from node.store.rows import chunks
from node.store.scoping import within
from sync.link import ends
from sync.scope import Globs
from sync.version import LINK_SEPARATOR, Key

MOST_TAKEN = 256
"""Namespaces in which a link is taken back at one time, of those where it was said here and of the others."""
MOST_WITHIN = 10_000
"""Links in each direction, the newest, among which those within a scope are looked for."""
_COLUMNS = "number, id, doc"
_BEGINNING = (
    f"SELECT {_COLUMNS} FROM memory WHERE {{condition}}{{visible}} AND kind = 'l' ORDER BY number DESC LIMIT {{most:d}}"
)
_LEADING = (
    f"SELECT {_COLUMNS} FROM memory INDEXED BY memory_link WHERE kind = 'l' AND title = ?{{visible}}"
    " ORDER BY number DESC LIMIT {most:d}"
)


@dataclass(frozen=True, slots=True)
class Linked:
    """One link of a memory."""

    doc: bytes
    missing: str | None
    """`source_id` or `target_id`, where the memory at the other end is not here: deleted, expired, or not yet come."""


def links_within(
    execute: Any, run: Run, record_id: str, now: str, limit: int, offset: int, scope: Globs
) -> list[Linked]:
    """As `links_of`, of links that are within the scope, and of which both ends are memories that are here within it.

    A link names the memory that it leads to by its id, which is computed from its title. So whoever may not see that
    memory is not told of the link, and cannot tell it from one that leads to nothing.
    """
    if not present(execute, run, [record_id], now, scope):
        return []
    found = links_of(execute, run, record_id, now, MOST_WITHIN, 0, scope)
    return [one for one in found if one.missing is None][offset : offset + limit]


def links_of(
    execute: Any, run: Run, record_id: str, now: str, limit: int, offset: int, scope: Globs | None = None
) -> list[Linked]:
    """The links that begin at this id or lead to it, newest change first. `now`: canonical time."""
    condition, values = links_beginning(run, record_id)
    # An id may begin as another does, and a digest stand for two: the comparison of the text decides.
    condition += " AND id >= ? AND id < ?"
    values += [record_id + LINK_SEPARATOR, record_id + chr(ord(LINK_SEPARATOR) + 1)]
    # Two statements, each cut for itself: one of both would sort all that it finds. The limit is written into them: a
    # statement whose limit is bound is prepared anew each time, which costs more than all the rest of it.
    most = limit + offset
    visible, scopes = within(scope)
    asked = _BEGINNING.format(condition=condition, visible=visible, most=most)
    beginning = execute(asked, [*values, *scopes]).fetchall()
    leading = execute(_LEADING.format(visible=visible, most=most), (record_id, *scopes)).fetchall()
    found = sorted((*beginning, *leading), key=itemgetter(0), reverse=True)[offset:most]
    others = {link_id: _other_end(link_id, record_id) for _, link_id, _ in found}
    here = present(execute, run, list({other for _, other in others.values()}), now, scope)
    return [Linked(doc, None if others[link_id][1] in here else others[link_id][0]) for _, link_id, doc in found]


def link_keys(execute: Any, run: Run, link_id: str, namespace: str | None = None) -> list[Key]:
    """Where this link is kept: in one namespace, or in more where its memory moved, or somebody said it elsewhere.

    The newest MOST_TAKEN of those that were said here, and as many of the others.
    """
    condition, values = rows_with(run, link_id)
    placed, places = ("", ()) if namespace is None else (" AND namespace = ?", (namespace,))
    newest = f"{placed} ORDER BY number DESC LIMIT {MOST_TAKEN}"
    own = execute(
        "SELECT namespace FROM memory INDEXED BY memory_link_own"
        f" WHERE kind = 'l' AND giver IS NULL AND id = ?{newest}",
        (link_id, *places),
    ).fetchall()
    others = execute(
        f"SELECT namespace FROM memory WHERE {condition} AND id = ? AND kind = 'l' AND giver IS NOT NULL{newest}",
        (*values, link_id, *places),
    ).fetchall()
    return [(found, link_id) for (found,) in (*own, *others)]


def link_count(execute: Any) -> int:
    """How many links the store holds; from their index alone."""
    return int(execute("SELECT count(*) FROM memory INDEXED BY memory_link WHERE kind = 'l'").fetchone()[0])


def present(execute: Any, run: Run, ids: Sequence[str], now: str, scope: Globs | None = None) -> set[str]:
    """Those of these ids that a memory has which readers see."""
    found: set[str] = set()
    visible, scopes = within(scope)
    for some in chunks(ids):
        condition, values = rows_with(run, *some)
        rows = execute(
            f"SELECT id FROM memory WHERE {condition}{visible} AND kind = 'm'"
            " AND (expires_at IS NULL OR expires_at > ?)",
            (*values, *scopes, now),
        )
        found.update(record_id for (record_id,) in rows)
    return found


def _other_end(link_id: str, record_id: str) -> tuple[str, str]:
    source_id, target_id, _ = ends(link_id)
    return ("source_id", source_id) if target_id == record_id else ("target_id", target_id)
