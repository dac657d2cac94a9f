"""Migrations: each runs once, in one transaction with its own record; one that fails leaves the state before it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import stores
from stores import Keeper, raw

from node.store import Store, making, schema
from node.store.connection import Connection, DatabaseError, connect
from node.store.errors import StoreError, StoreFull, StoreTooNew
from node.store.schema import MIGRATIONS, migrate
from sync import digest

FIRST = ("CREATE TABLE one(x)", "INSERT INTO one VALUES('first')")
SECOND = ("CREATE TABLE two(x)", "INSERT INTO one VALUES('second')", "UPDATE one SET x = x || '!'")
BROKEN = (*SECOND, "INSERT INTO no_such_table VALUES(1)")
PATH = Path("memories.db")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """A connection to an empty encrypted database."""
    path = tmp_path / "memories.db"
    path.touch()
    made = connect(path, stores.key_of(stores.PASSPHRASE, bytes(range(16))), writer=True)
    yield made
    made.close()


def state(connection: Connection) -> tuple[list[str], list[str], list[int]]:
    """Tables, rows and recorded migrations."""
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
    rows = [x for (x,) in connection.execute("SELECT x FROM one")] if "one" in tables else []
    return tables, rows, [v for (v,) in connection.execute("SELECT version FROM migration ORDER BY version")]


def test_each_migration_runs_once(connection: Connection) -> None:
    """Asked again and again, and with more migrations, a store gets each of them one time."""
    assert migrate(connection, PATH, [FIRST]) == 1
    assert migrate(connection, PATH, [FIRST]) == 1
    assert state(connection) == (["migration", "one"], ["first"], [1])
    assert migrate(connection, PATH, [FIRST, SECOND]) == 2
    assert migrate(connection, PATH, [FIRST, SECOND]) == 2
    assert state(connection) == (["migration", "one", "two"], ["first!", "second!"], [1, 2])


def test_a_migration_that_fails_midway_leaves_the_state_before_it(connection: Connection) -> None:
    """Nothing of it stays, the one before stays recorded, and the corrected one runs."""
    with pytest.raises(DatabaseError, match="no such table"):
        migrate(connection, PATH, [FIRST, BROKEN])
    assert not connection.in_transaction
    assert state(connection) == (["migration", "one"], ["first"], [1])
    assert migrate(connection, PATH, [FIRST, SECOND]) == 2
    assert state(connection) == (["migration", "one", "two"], ["first!", "second!"], [1, 2])


def test_without_a_transaction_half_a_migration_would_stay(connection: Connection) -> None:
    """Control: the same statements, each on its own, do leave something behind."""

    class Careless:
        """Passes everything on but transactions."""

        in_transaction = False
        create_function = connection.create_function
        create_aggregate = connection.create_aggregate

        def execute(self, statement: str, values: Sequence[object] = ()) -> object:
            word = statement.split()[0]
            return None if word in ("BEGIN", "COMMIT", "ROLLBACK") else connection.execute(statement, values)

    with pytest.raises(DatabaseError):
        migrate(Careless(), PATH, [FIRST, BROKEN])
    assert state(connection) == (["migration", "one", "two"], ["first!", "second!"], [1])


def test_a_store_of_a_later_version_is_not_touched(connection: Connection) -> None:
    """Fewer migrations than are recorded: StoreTooNew, naming both numbers, and nothing changed."""
    migrate(connection, PATH, [FIRST, SECOND])
    before = state(connection)
    with pytest.raises(StoreTooNew, match="schema 2, this program knows 1"):
        migrate(connection, PATH, [FIRST])
    assert state(connection) == before


def test_opening_migrates(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store with memories in it gets a new migration when it is opened, and keeps what it has."""
    keeper.write("before")
    keeper.close()
    monkeypatch.setattr(schema.migrate, "__defaults__", ([*MIGRATIONS, ("CREATE TABLE later(x)",)],))
    again = Keeper(keeper.path, create=False)
    assert again.titles() == ["before"]
    assert again.rows("SELECT max(version) FROM migration") == [(len(MIGRATIONS) + 1,)]
    assert again.rows("SELECT * FROM later") == []
    again.close()


def test_a_migration_that_fails_at_opening_is_a_store_error(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store stays as it was, closed, and the version before opens it."""
    keeper.write("before")
    keeper.close()
    with monkeypatch.context() as patched:
        patched.setattr(schema.migrate, "__defaults__", ([*MIGRATIONS, BROKEN],))
        with pytest.raises(StoreError, match="SQLITE_ERROR"):
            Store.open(keeper.path, stores.PASSPHRASE)
    again = Keeper(keeper.path, create=False)
    assert again.titles() == ["before"]
    again.close()


def test_a_new_store_has_every_migration_recorded(keeper: Keeper) -> None:
    """The record says which ones ran, and when."""
    rows = keeper.rows("SELECT version, applied_at FROM migration")
    assert [version for version, _ in rows] == list(range(1, len(MIGRATIONS) + 1))
    assert all(at.endswith("Z") for _, at in rows)


def test_a_store_whose_sum_was_as_wide_as_a_tag_gets_the_wide_one(keeper: Keeper) -> None:
    """Of all that it keeps, what lost a merge too; and only the last commit has one."""
    keeper.write("a", "b")
    kept = [tag for (tag,) in keeper.rows("SELECT tag FROM memory")]
    keeper.close()
    with raw(keeper.path) as connection:
        columns = "namespace, id, kind, at, title, giver, stamp, content, signature, tag, doc"
        other = columns.replace("tag", "x'77777777777777777777777777777777'")
        connection.execute(f"INSERT INTO conflict SELECT {other} FROM memory WHERE title = 'a'")
        connection.execute("ALTER TABLE head RENAME COLUMN total TO digest")
        connection.execute("UPDATE head SET digest = x'01010101010101010101010101010101'")
        connection.execute("DELETE FROM migration WHERE version = (SELECT max(version) FROM migration)")
    opened = Store.open(keeper.path, stores.PASSPHRASE)
    assert opened.position.total == digest.changed(0, (), [*kept, b"w" * 16])
    opened.close()
    with raw(keeper.path) as connection:
        sizes = [size for (size,) in connection.execute("SELECT length(total) FROM head ORDER BY number")]
    assert sizes == [0] * (len(sizes) - 1) + [digest.WIDTH]


def test_a_store_whose_making_failed_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new store that could not be made leaves no half of one behind; the next attempt makes it whole."""
    path = tmp_path / "memories.db"
    with monkeypatch.context() as patched:
        patched.setattr(making, "migrate", _failing)
        with pytest.raises(StoreFull):
            Store.open(path, stores.PASSPHRASE, create=True)
    assert [name.name for name in tmp_path.iterdir()] == ["memories.db.lock"]
    Keeper(path).close()
    with raw(path) as made:
        assert made.execute("SELECT max(version) FROM migration").fetchall() == [(len(MIGRATIONS),)]


def _failing(*_: object) -> None:
    raise DatabaseError("database or disk is full")
