"""Rows as they lie in the store, for whoever doubts them: nothing is decoded that may have been altered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from node.store import rows
from node.store.keys import Execute
from node.store.locator import Run, rows_beginning, rows_with
from node.store.scoping import MEMORIES, within
from sync import givers
from sync.recheck import Stored
from sync.scope import Globs

_PREFIX_END = "\U0010ffff"
_TEXTS = ("namespace", "id", "kind", "at", "title")
# As blobs: a text that is no UTF-8 any more could not even be read.
_RAW = ", ".join(
    f"CAST({name} AS BLOB)" if name in _TEXTS else name for name in ("giver", *rows.VERSION_COLUMNS.split(", "))
)
_NAMESPACE = "CAST(namespace AS BLOB)"
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


def of_id(
    execute: Execute, run: Run, record_id: str, scope: Globs | None = None, namespace: str | None = None
) -> list[KeptRows]:
    """What is kept under exactly this id, of memories, links and deleted ones, in one namespace or in any.

    Of more than 64 namespaces, those where it was written here and then those of the latest changes. With a scope: of
    memories, and deleted ones, within it.
    """
    condition, values = rows_with(run, record_id)
    visible, scopes = _visible(scope)
    placed, places = _placed(namespace)
    where = f"{condition} AND id = ?{placed}{visible} ORDER BY giver IS NOT NULL, at DESC LIMIT 64"
    # Within, so that nothing but the numbers of all these rows is sorted.
    return _whole(
        execute, f"number IN (SELECT number FROM memory WHERE {where})", (*values, record_id, *places, *scopes)
    )


def ids_beginning(
    execute: Execute, run: Run, prefix: str, scope: Globs | None = None, namespace: str | None = None
) -> list[str]:
    """The ids of memories, and deleted ones, that begin so, in one namespace or in any; two at most."""
    condition, values = rows_beginning(run, prefix)
    visible, scopes = _visible(scope)
    placed, places = _placed(namespace)
    where = f"{condition} AND id >= ? AND id < ? AND {MEMORIES}{placed}{visible}"
    found = execute(
        f"SELECT DISTINCT CAST(id AS BLOB) FROM memory WHERE {where} ORDER BY id LIMIT 2",
        (*values, prefix, prefix + _PREFIX_END, *places, *scopes),
    )
    return [record_id.decode(errors="replace") for (record_id,) in found]


def brought_by(execute: Execute, numbers: Iterable[int]) -> dict[int, str]:
    """The certificates (fingerprints' texts) behind these givers; those that are known."""
    certificates = {number: givers.certificate_of(number) for number in numbers}
    wanted = sorted(set(certificates.values()))
    statement = f"SELECT number, peer FROM certificate WHERE number IN ({','.join('?' * len(wanted))})"
    names = dict(execute(statement, wanted).fetchall())
    return {number: names[certificate] for number, certificate in certificates.items() if certificate in names}


def signed_here(execute: Execute, scope: Globs | None = None) -> list[Signed]:
    """Agents and keys of all kept versions that were written here. Reads each of them: for people, no polling."""
    visible, scopes = within(scope, _NAMESPACE)
    one = f"""SELECT CAST(doc AS TEXT) ->> ({_WRITER} || 'agent') AS agent,
                     CAST(doc AS TEXT) ->> ({_WRITER} || 'key') AS key
              FROM %s WHERE giver IS NULL AND json_valid(CAST(doc AS TEXT)){visible}"""
    statement = f"""SELECT agent, key, count(*) FROM ({one % "memory"} UNION ALL {one % "conflict"})
                    WHERE agent IS NOT NULL AND key IS NOT NULL GROUP BY agent, key ORDER BY agent, key"""
    return [Signed(*row) for row in execute(statement, 2 * scopes)]


def _visible(scope: Globs | None) -> tuple[str, list[Any]]:
    visible, scopes = within(scope, _NAMESPACE)
    return (f" AND {MEMORIES}{visible}", scopes) if scope is not None else ("", [])


def _placed(namespace: str | None) -> tuple[str, tuple[bytes, ...]]:
    return ("", ()) if namespace is None else (f" AND {_NAMESPACE} = ?", (namespace.encode(),))


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
