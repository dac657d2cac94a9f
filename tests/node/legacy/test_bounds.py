"""What a daemon can make this node remember of it has a bound."""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from node.legacy import tables
from node.legacy.tables import Archived

Execute = Callable[..., Any]


@pytest.fixture
def execute() -> Iterator[Execute]:
    connection = sqlite3.connect(":memory:")
    for statement in tables.STATEMENTS:
        if statement.startswith("CREATE TABLE"):
            connection.execute(statement)
    yield connection.execute
    connection.close()


def filled(execute: Execute, name: str, count: int) -> tuple[int, int]:
    """How many orphans and archived memories are kept of a daemon that tells of so many."""
    tables.put_orphans(execute, name, [f"{name} {number}" for number in range(count)])
    for number in range(count):
        tables.archive(execute, name, f"{name} {number}", Archived(("a", f"{number}"), b"tag", b"doc"))
    return tables._count(execute, "legacy_orphan", name), tables._count(execute, "legacy_archive", name)


def test_of_each_daemon_so_many_are_kept(execute: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others have as many of their own, and what is archived already can be archived anew."""
    monkeypatch.setattr(tables, "MAX_ORPHANS", 10)
    monkeypatch.setattr(tables, "MAX_ARCHIVED", 10)
    assert filled(execute, "one", 30) == (10, 10)
    assert filled(execute, "other", 5) == (5, 5)
    tables.archive(execute, "one", "one 3", Archived(("a", "3"), b"tag", b"another"))
    found = tables.archived(execute, "one", "one 3")
    assert found is not None
    assert found.doc == b"another"


def test_without_a_bound_all_of_them_are(execute: Execute) -> None:
    """Control: as many as it tells of."""
    assert filled(execute, "one", 300) == (300, 300)
