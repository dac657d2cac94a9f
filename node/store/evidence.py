"""Rows as they lie in the store, for whoever doubts them: nothing is decoded that may have been altered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from node.store import rows
from node.store.keys import Execute
from node.store.locator import Run, rows_beginning, rows_with
from sync.recheck import Stored

_PREFIX_END = "\U0010ffff"
_TEXTS = ("namespace", "id", "kind", "at", "title")
# As blobs: a text that is no UTF-8 any more could not even be read.
_RAW = ", ".join(
    f"CAST({name} AS BLOB)" if name in _TEXTS else name for name in ("giver", *rows.VERSION_COLUMNS.split(", "))
)
_WRITER = "CASE kind WHEN 'm' THEN '$.metadata.attestation.' ELSE '$.attestation.' END"


@dataclass(frozen=True, slots=True)
class Row:
    """One kept version, and how it came here."""

    giver: int | None
    """As `sync.ports.Kept.giver`."""
    stored: Stored


@dataclass(frozen=True, slots=True)
class KeptRows:
    """All that is kept of one key."""

    number: int
    others: int
    """How many versions beside the winner there should be."""
    rows: tuple[Row, ...]
    """The winner first."""


@dataclass(frozen=True, slots=True)
class Signed:
    """How much of what was written here an agent signed with a key."""

    agent: str
    key: str
    """base64url."""
    versions: int


def page(execute: Execute, after: int, limit: int) -> list[KeptRows]:
    """What is kept of up to `limit` keys, in the order of the feed, from after this number."""
    return _whole(execute, "number > ? ORDER BY number LIMIT ?", (after, limit))


def of_id(execute: Execute, run: Run, record_id: str) -> list[KeptRows]:
    """What is kept under exactly this id, of memories, links and deleted ones, in any namespace."""
    condition, values = rows_with(run, record_id)
    return _whole(execute, f"{condition} AND id = ? ORDER BY namespace LIMIT 64", (*values, record_id))


def beginning(execute: Execute, run: Run, prefix: str) -> list[KeptRows]:
    """What is kept of memories, and deleted ones, whose id begins so; the smallest ids where there are very many."""
    condition, values = rows_beginning(run, prefix)
    where = f"{condition} AND id >= ? AND id < ? AND kind IN ('m', 't') ORDER BY id, namespace LIMIT 64"
    return _whole(execute, where, (*values, prefix, prefix + _PREFIX_END))


def givers(execute: Execute, numbers: Iterable[int]) -> dict[int, str]:
    """The certificates (fingerprints' texts) behind these givers; those that are known."""
    wanted = sorted(set(numbers))
    found = execute(f"SELECT number, peer FROM giver WHERE number IN ({','.join('?' * len(wanted))})", wanted)
    return dict(found.fetchall())


def signed_here(execute: Execute) -> list[Signed]:
    """Agents and keys of all kept versions that were written here. Reads each of them: for people, no polling."""
    one = f"""SELECT CAST(doc AS TEXT) ->> ({_WRITER} || 'agent') AS agent,
                     CAST(doc AS TEXT) ->> ({_WRITER} || 'key') AS key
              FROM %s WHERE giver IS NULL AND json_valid(CAST(doc AS TEXT))"""
    statement = f"""SELECT agent, key, count(*) FROM ({one % "memory"} UNION ALL {one % "conflict"})
                    WHERE agent IS NOT NULL AND key IS NOT NULL GROUP BY agent, key ORDER BY agent, key"""
    return [Signed(*row) for row in execute(statement)]


def _whole(execute: Execute, where: str, values: Sequence[Any]) -> list[KeptRows]:
    found = execute(f"SELECT number, others, {_RAW} FROM memory WHERE {where}", values).fetchall()
    return [_kept(execute, *row) for row in found]


def _kept(execute: Execute, number: int, others: int, *winner: Any) -> KeptRows:
    kept = [_row(*winner)]
    if others:
        namespace, record_id = winner[1], winner[2]
        beside = execute(
            f"SELECT {_RAW} FROM conflict WHERE id = CAST(? AS TEXT) AND namespace = CAST(? AS TEXT)"
            " ORDER BY at DESC, signature DESC, content DESC, tag DESC",
            (record_id, namespace),
        )
        kept += [_row(*row) for row in beside]
    return KeptRows(number, others, tuple(kept))


def _row(giver: int | None, *columns: Any) -> Row:
    return Row(giver, Stored(*columns))
