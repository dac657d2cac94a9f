"""What the store remembers of links at each daemon of the older protocol, and its links whose memories have not come.

The daemon's links go with a memory that goes, without a word, and come back only by being sent again: so what becomes
of a memory there decides about the links that end at it. Functions as in `tables`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from sync.legacy.link import TheirLink
from sync.link import ends
from sync.version import Key, Version

Execute = Callable[..., Any]
MAX_HELD = 1_000
"""Links of one daemon that wait for their memories."""

STATEMENTS = (
    # One row for each link that it has or is to have. `source`, `target`: our ids, also of those in other namespaces.
    """CREATE TABLE IF NOT EXISTS legacy_link(
        peer TEXT NOT NULL,
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        source TEXT NOT NULL,
        target TEXT NOT NULL,
        state TEXT NOT NULL,       -- due, waits (for a memory there), there, refused, unlinked (here, and still there)
        why TEXT NOT NULL,
        PRIMARY KEY(peer, id, namespace)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS legacy_link_state ON legacy_link(peer, state)",
    "CREATE INDEX IF NOT EXISTS legacy_link_source ON legacy_link(peer, source)",
    "CREATE INDEX IF NOT EXISTS legacy_link_target ON legacy_link(peer, target)",
    # Links that came before the memories at their ends; all ids are its own.
    """CREATE TABLE IF NOT EXISTS legacy_held(
        peer TEXT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL, relation TEXT NOT NULL,
        doc BLOB NOT NULL, PRIMARY KEY(peer, source, target, relation)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS legacy_held_target ON legacy_held(peer, target)",
)
TABLES = ("legacy_link", "legacy_held")
_theirs = msgspec.json.Decoder(TheirLink)
_encode = msgspec.json.Encoder().encode


# --- links of ours


def changed(execute: Execute, name: str, winners: Iterable[Version]) -> None:
    """The feed says these of links: each is to be sent, or was taken back."""
    for one in winners:
        row = (name, one.namespace, one.id)
        if one.kind == "u":
            execute(
                "UPDATE legacy_link SET state = 'unlinked' WHERE peer = ? AND namespace = ? AND id = ?"
                " AND state = 'there'",
                row,
            )
            execute("DELETE FROM legacy_link WHERE peer = ? AND namespace = ? AND id = ? AND state <> 'unlinked'", row)
        else:
            execute(
                "INSERT INTO legacy_link VALUES(?, ?, ?, ?, ?, 'due', '') ON CONFLICT DO UPDATE SET why = '',"
                " state = CASE WHEN state IN ('there', 'unlinked') THEN 'there' ELSE 'due' END",
                (*row, *ends(one.id)[:2]),
            )


def has(execute: Execute, name: str, winners: Iterable[Version]) -> None:
    """It has these links. What readers see of them here may be an unlink all the same."""
    for one in winners:
        state = "there" if one.kind == "l" else "unlinked"
        execute(
            "INSERT OR REPLACE INTO legacy_link VALUES(?, ?, ?, ?, ?, ?, '')",
            (name, one.namespace, one.id, *ends(one.id)[:2], state),
        )


def put_state(execute: Execute, name: str, keys: Iterable[Key], state: str, why: str = "") -> None:
    """What has become of due links. It knows no namespace of a link: what holds of one holds wherever it is kept."""
    for _, link_id in keys:
        execute(
            "UPDATE legacy_link SET state = ?, why = ? WHERE peer = ? AND id = ? AND state = 'due'",
            (state, why, name, link_id),
        )


def drop(execute: Execute, name: str, keys: Iterable[Key]) -> None:
    for namespace, link_id in keys:
        execute("DELETE FROM legacy_link WHERE peer = ? AND id = ? AND namespace = ?", (name, link_id, namespace))


def due(execute: Execute, name: str, limit: int) -> list[Key]:
    found = execute("SELECT namespace, id FROM legacy_link WHERE peer = ? AND state = 'due' LIMIT ?", (name, limit))
    return [(namespace, link_id) for namespace, link_id in found]


def look_again(execute: Execute, name: str) -> None:
    """It is found to take what it was thought to refuse."""
    execute("UPDATE legacy_link SET state = 'due', why = '' WHERE peer = ? AND state = 'refused'", (name,))


def came(execute: Execute, name: str, ids: Sequence[str]) -> None:
    """It has a row of these memories of ours: links that end at them may be sent."""
    if not ids:
        return
    for end in ("source", "target"):
        _update(execute, "SET state = 'due', why = ''", name, end, ids, "('waits', 'refused')")


def went(execute: Execute, name: str, ids: Sequence[str]) -> None:
    """It has no row of these any more, and so no link that ends at them."""
    if not ids:
        return
    for end in ("source", "target"):
        _update(execute, "SET state = 'due'", name, end, ids, "('there')")
        listed = ",".join("?" * len(ids))
        execute(f"DELETE FROM legacy_link WHERE peer = ? AND state = 'unlinked' AND {end} IN ({listed})", (name, *ids))


def _update(execute: Execute, change: str, name: str, end: str, ids: Sequence[str], states: str) -> None:
    listed = ",".join("?" * len(ids))
    execute(
        f"UPDATE legacy_link INDEXED BY legacy_link_{end} {change} WHERE peer = ? AND {end} IN ({listed})"
        f" AND state IN {states}",
        (name, *ids),
    )


def states(execute: Execute, name: str) -> list[tuple[str, int, str, str]]:
    """(`link ` and the state, how many, one of them, its reason) of what it lacks or has against us."""
    found = execute(
        "SELECT state, count(*), min(id), why FROM legacy_link INDEXED BY legacy_link_state"
        " WHERE peer = ? AND state IN ('refused', 'unlinked') GROUP BY state, why ORDER BY state",
        (name,),
    )
    return [(f"link {state}", count, "{0} {2} {1}".format(*ends(link_id)), why) for state, count, link_id, why in found]


# --- links of its own that wait


def hold(execute: Execute, name: str, links: Iterable[TheirLink]) -> list[TheirLink]:
    """Keep links for when their memories come; returns those for which there is no room."""
    room = MAX_HELD - held_count(execute, name)
    left = []
    for link in links:
        row = (name, link.source_id, link.target_id, link.relation)
        is_held = execute(
            "SELECT 1 FROM legacy_held WHERE peer = ? AND source = ? AND target = ? AND relation = ?", row
        ).fetchone()
        if is_held is None and room <= 0:
            left.append(link)
            continue
        room -= is_held is None
        execute("INSERT OR REPLACE INTO legacy_held VALUES(?, ?, ?, ?, ?)", (*row, _encode(link)))
    return left


def held(execute: Execute, name: str, ids: Sequence[str]) -> list[TheirLink]:
    """Those that wait for a memory with one of these ids of its."""
    listed = ",".join("?" * len(ids))
    found = execute(
        f"SELECT doc FROM legacy_held WHERE peer = ? AND source IN ({listed})"
        f" UNION SELECT doc FROM legacy_held WHERE peer = ? AND target IN ({listed})",
        (name, *ids, name, *ids),
    )
    return [_theirs.decode(doc) for (doc,) in found]


def drop_held(execute: Execute, name: str, links: Iterable[TheirLink]) -> None:
    for link in links:
        execute(
            "DELETE FROM legacy_held WHERE peer = ? AND source = ? AND target = ? AND relation = ?",
            (name, link.source_id, link.target_id, link.relation),
        )


def held_count(execute: Execute, name: str) -> int:
    return int(execute("SELECT count(*) FROM legacy_held WHERE peer = ?", (name,)).fetchone()[0])
