"""What the write side and the readers both look up: each is a function over the connection's `execute`."""

from collections.abc import Mapping
from typing import Any

from node.store import rows
from node.store.locator import Run, links_beginning, rows_with
from sync import digest, givers
from sync.ids import memory_id
from sync.ports import Giver, Kept, Life, PeerState, Position
from sync.version import LINK_SEPARATOR, Key

MOST_ALIASES = 64
"""Memories with one title that a look-up by title reads: anybody who may write can make as many as it likes."""


def position(execute: Any) -> Position:
    number, head, total = execute("SELECT number, head, total FROM head ORDER BY number DESC LIMIT 1").fetchone()
    return Position(number, head, digest.loaded(total))


def lives(execute: Any) -> tuple[Life, ...]:
    found = execute("SELECT actor, began_after, secret, reason FROM life ORDER BY ordinal")
    return tuple(Life(*row) for row in found)


def peers(execute: Any) -> dict[str, PeerState]:
    found = execute("SELECT peer, generation, held FROM peer")
    return {peer: PeerState(peer, generation, rows.decode_held(held)) for peer, generation, held in found}


def waiting_bytes(execute: Any) -> Mapping[str, int]:
    """How many bytes of documents wait, by peer; read once, and then counted."""
    return dict(execute("SELECT peer, sum(length(doc)) FROM waiting GROUP BY peer").fetchall())


def head_at(execute: Any, number: int) -> bytes | None:
    found = execute("SELECT head FROM head WHERE number = ?", (number,)).fetchone()
    return None if found is None else bytes(found[0])


def certificates(execute: Any) -> dict[str, int]:
    return dict(execute("SELECT peer, number FROM certificate").fetchall())


def find_giver(execute: Any, giver: Giver) -> int:
    found = execute("SELECT number FROM certificate WHERE peer = ?", (giver.peer,)).fetchone()
    return 0 if found is None else givers.number_of(int(found[0]), giver)


def peer(execute: Any, peer: str) -> PeerState:
    found = execute("SELECT generation, held FROM peer WHERE peer = ?", (peer,)).fetchone()
    return PeerState(peer) if found is None else PeerState(peer, found[0], rows.decode_held(found[1]))


def titled(execute: Any, run: Run, namespace: str, title: str) -> list[Kept]:
    """The winners with this title: the one whose id the title gives, and those that the alias index knows."""
    record_id = memory_id(namespace, title, 0)
    condition, values = rows_with(run, record_id)
    by_id = execute(
        f"SELECT {rows.KEPT_COLUMNS} FROM memory WHERE {condition} AND id = ? AND namespace = ? AND kind = 'm'"
        " AND title = ?",
        (*values, record_id, namespace, title),
    ).fetchall()
    return [*(rows.kept(row) for row in by_id), *aliased(execute, namespace, title)]


def aliased(execute: Any, namespace: str, title: str) -> list[Kept]:
    """The winners with this title whose id is another than the one that the title gives: of very many, the latest."""
    found = execute(
        f"SELECT {rows.KEPT_COLUMNS} FROM memory INDEXED BY memory_alias"
        f" WHERE title = ? AND namespace = ? AND aliased = 1 ORDER BY at DESC LIMIT {MOST_ALIASES}",
        (title, namespace),
    )
    return [rows.kept(row) for row in found]


def linked_from(execute: Any, run: Run, source_id: str, namespace: str, most: int) -> list[Key]:
    """Keys of links of a namespace that begin at this id: the newest that were made here, then those of others."""
    condition, values = links_beginning(run, source_id)
    # An id may begin as another does, and a digest stand for two: the comparison of the text decides.
    exact = (
        "id >= ? AND id < ? AND namespace = ?",
        source_id + LINK_SEPARATOR,
        source_id + chr(ord(LINK_SEPARATOR) + 1),
    )
    newest = f"ORDER BY number DESC LIMIT {most:d}"
    own = execute(
        f"SELECT id FROM memory INDEXED BY memory_link_own WHERE kind = 'l' AND giver IS NULL AND {exact[0]} {newest}",
        (*exact[1:], namespace),
    ).fetchall()
    others = execute(
        f"SELECT id FROM memory WHERE {condition} AND {exact[0]} AND kind = 'l' AND giver IS NOT NULL {newest}",
        (*values, *exact[1:], namespace),
    ).fetchall()
    return [(namespace, record_id) for (record_id,) in (*own, *others)]
