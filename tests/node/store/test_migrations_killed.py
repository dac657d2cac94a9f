"""A migration that is killed anywhere has not begun, or is done: the next start goes on, and all ends the same."""

import functools
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import stores
from stores import PASSPHRASE, Keeper, faults, raw

from node.store import schema
from node.store.connection import connect
from node.store.file import beside
from node.store.schema import MIGRATIONS

ROWS = 200
POINTS = 4
"""Kills in each migration."""
MIGRATING = """
import os, sys
from pathlib import Path
import stores
from node.store import connection, schema
from node.store.key import salt_of
path, statements, steps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
opened = connection.connect(path, stores.key_of(stores.PASSPHRASE, salt_of(path)), writer=True)
left, true = [statements], connection.Connection.execute
def execute(self, text, values=()):
    left[0] -= 1
    if left[0] == 0:  # somewhere in the middle of this statement, if it is long enough; else before the next one
        self._within.set_progress_handler(lambda: os.kill(os.getpid(), 9), steps)
    if left[0] < 0:
        os.kill(os.getpid(), 9)
    return true(self, text, values)
connection.Connection.execute = execute
schema.migrate(opened, path)
print("done")
"""


def older(path: Path, version: int) -> Path:
    """A store of an older schema, with rows in it, that nobody has open."""
    path.touch()
    connection = connect(path, stores.key_of(PASSPHRASE, bytes(range(16))), writer=True)
    schema.migrate(connection, path, MIGRATIONS[:version])
    if version:
        _fill(connection)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    return path


def _fill(connection: Any) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for number in range(1, ROWS + 1):
        values = (
            number,
            "a",
            f"id {number:06}",
            "m",
            f"2020-01-01T00:00:00.{number:06}+00:00",
            f"title {number}",
            0,
            None,
        )
        document = f'{{"content":"{"word " * 40}{number}","tags":["x"]}}'.encode()
        blobs = (None, 0, b"", bytes(32), b"", number.to_bytes(16, "big"), document)
        connection.execute(f"INSERT INTO memory VALUES({','.join('?' * 15)})", (*values, *blobs))
    connection.execute("INSERT INTO head VALUES(?, x'00', x'00')", (ROWS,))
    connection.execute("COMMIT")


def content(path: Path) -> dict[str, list[Any]]:
    """All tables and their rows, without what differs from run to run."""
    with raw(path) as connection:
        schema.migrate(connection, path)
        names = [n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        hidden = ("text", "vocabulary", "place", "sqlite_")
        plain = [name for name in names if not name.startswith(hidden)]
        found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in plain}
        found["migration"] = [version for version, _ in found["migration"]]
        found["all"] = names
        return found


def tables(connection: Any) -> int:
    return int(connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0])


@functools.cache
def tables_of(version: int) -> int:
    """How many tables a schema has."""
    with tempfile.TemporaryDirectory() as folder, raw(older(Path(folder) / "memories.db", version)) as connection:
        return tables(connection)


def killed(path: Path, statements: int, steps: int) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", MIGRATING, str(path), str(statements), str(steps)],
        capture_output=True,
        env={"PYTHONPATH": str(Path(stores.__file__).parent)},
        timeout=stores.PATIENCE * 3,
    )
    assert done.returncode in (0, -9), done.stderr.decode()
    return done.returncode == -9


@pytest.mark.parametrize("version", range(len(MIGRATIONS)))
def test_a_migration_killed_anywhere_ends_the_same(version: int, tmp_path: Path) -> None:
    """From each schema before this one, killed in the middle of a statement or between two; nothing is half there."""
    whole = content(older(tmp_path / "whole.db", version))
    assert whole["migration"] == list(range(1, len(MIGRATIONS) + 1))
    chosen, kills = random.Random(version), 0
    statements = len(MIGRATIONS[version]) + 5
    for point in range(POINTS):
        path = older(tmp_path / f"{point}.db", version)
        kills += killed(path, chosen.randrange(3, statements + 1), chosen.choice((1, 30, 300)))
        with raw(path) as connection:
            last = int(connection.execute("SELECT coalesce(max(version), 0) FROM migration").fetchone()[0])
            found = tables(connection)
        assert version <= last <= len(MIGRATIONS)
        assert found in (tables_of(last), 0 if last == 0 else -1)
        assert content(path) == whole
        assert faults(path) == []
    assert kills >= POINTS - 1


def test_a_migration_in_pieces_would_be_found_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: were each statement a transaction of its own, the next start would meet what the last one had made."""
    path = older(tmp_path / "memories.db", 0)
    with raw(path) as connection:
        for statement in MIGRATIONS[0][:4]:
            connection.execute(statement)
    with raw(path) as connection, pytest.raises(Exception, match="already exists"):
        schema.migrate(connection, path)


def test_a_store_of_an_older_schema_opens_after_a_kill(tmp_path: Path) -> None:
    """As a node opens it: with its rows, and a log that the killed process left."""
    path = older(tmp_path / "memories.db", 1)
    assert killed(path, 8, 300)
    assert beside(path, "-wal").exists()
    keeper = Keeper(path, create=False)
    assert len(keeper.titles()) == ROWS
    keeper.close()
    assert faults(path) == []
