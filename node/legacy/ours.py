"""Our own records, read as no other reader does: by time, by shared titles and ids, many keys in one statement."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from node.legacy.tables import Execute
from node.store import rows
from node.store.locator import Run, rows_with
from node.store.rows import chunks
from sync.version import Key, Version


class Records(Protocol):
    """A state of the store's records: a reader, or the ledger of an open transaction."""

    @property
    def run(self) -> Run: ...

    def execute(self, text: str, values: Sequence[Any] = ()) -> Any: ...


def live_with_id(records: Records, record_id: str) -> list[Key]:
    """Keys of the memories that have this id; more than one only where it exists in several namespaces."""
    condition, values = rows_with(records.run, record_id)
    found = records.execute(
        f"SELECT namespace FROM memory WHERE {condition} AND id = ? AND kind = 'm' ORDER BY at DESC LIMIT 8",
        [*values, record_id],
    )
    return [(namespace, record_id) for (namespace,) in found]


def winners(records: Records, keys: Iterable[Key]) -> dict[Key, Version]:
    """What readers see of these keys, tombstones included."""
    wanted = set(keys)
    found: dict[Key, Version] = {}
    for some in chunks({record_id for _, record_id in wanted}):
        condition, values = rows_with(records.run, *some)
        for row in records.execute(f"SELECT {rows.VERSION_COLUMNS} FROM memory WHERE {condition}", values):
            version = rows.version(row)
            if version.key in wanted:
                found[version.key] = version
    return found


def shared_ids(records: Records, ids: Iterable[str]) -> set[str]:
    """Of these ids, those that memories in several namespaces have: one was moved away, and its id given anew."""
    found: set[str] = set()
    for some in chunks(ids):
        condition, values = rows_with(records.run, *some)
        counted = records.execute(
            f"SELECT id FROM memory WHERE {condition} AND kind = 'm' GROUP BY id HAVING count(*) > 1", values
        )
        found.update({record_id for (record_id,) in counted}.intersection(some))
    return found


def oddly_titled(execute: Execute, titles: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Of these (namespace, title), those that a memory has whose id is not the title's: only they can have two."""
    found: set[tuple[str, str]] = set()
    for some in chunks(titles):
        listed = ",".join(["(?,?)"] * len(some))
        statement = (
            f"WITH k(namespace, title) AS (VALUES {listed}) SELECT k.namespace, k.title FROM k CROSS JOIN memory m"
            " ON m.title = k.title AND m.namespace = k.namespace AND m.aliased = 1"
        )
        found.update(execute(statement, list(itertools.chain.from_iterable(some))).fetchall())
    return found


def changed_after(execute: Execute, number: int, limit: int) -> list[tuple[int, Key]]:
    """(number, key) of the feed after a number."""
    found = execute(
        "SELECT number, namespace, id FROM memory WHERE number > ? ORDER BY number LIMIT ?", (number, limit)
    )
    return [(at, (namespace, record_id)) for at, namespace, record_id in found]


def later_than(execute: Execute, since: str, start: int, limit: int) -> list[tuple[str, int, Key]]:
    """(time, number, key) of memories with a time greater than `since` as text, oldest first; from the start-th on."""
    found = execute(
        "SELECT at, number, namespace, id FROM memory INDEXED BY legacy_at WHERE kind = 'm' AND at > ?"
        " ORDER BY at, number LIMIT ? OFFSET ?",
        (since, limit, start),
    )
    return [(at, number, (namespace, record_id)) for at, number, namespace, record_id in found]


def behind(execute: Execute, name: str, since: str, number: int) -> int:
    """How many memories changed after `number` of our feed with a time not after `since`, and are not its own."""
    found = execute(
        "SELECT count(*) FROM memory m WHERE number > ? AND kind = 'm' AND at <= ? AND NOT EXISTS(SELECT 1"
        " FROM legacy_record r WHERE r.peer = ? AND r.id = m.id AND r.namespace = m.namespace AND r.tag = m.tag)",
        (number, since, name),
    )
    return int(found.fetchone()[0])
