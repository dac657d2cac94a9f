"""What does not grow: tables under what a peer sends again, and the past of a feed that only goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import stores
from stores import Keeper, foreign

from node.store import lookups, queries
from node.store.ledger import SqlLedger
from sync import feed, serve
from sync.ports import Giver
from sync.receive import Page, Part, Taken
from sync.record import load
from sync.serve import Ask, Cut


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    made = Keeper(tmp_path / "memories.db")
    yield made
    made.close()


def rows_of(keeper: Keeper) -> dict[str, int]:
    """How many rows each table has; those of the text index follow from the others."""

    def count(opened: SqlLedger) -> dict[str, int]:
        names = opened.execute("SELECT name FROM pragma_table_list WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        tables = [name for (name,) in names.fetchall()]
        return {name: opened.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}

    return keeper.do(count)


def send_under_lives(keeper: Keeper, count: int, first: int = 0) -> None:
    """Pages of one certificate with the same versions, each of which moves its cursor."""
    late = foreign("two", now=stores.START + 10**12)
    for number in range(first, first + count):
        after = None if not number else "cursor"
        life = keeper.do(lambda opened: opened.lives())[-1].actor
        page = Page(stores.PEER, f"{number:016x}", after, "cursor", life, False)
        taken = keeper.do(
            keeper.engine.receive, page, Part((foreign("one"), late)), stores.POLICY, Taken(), keeper.tick()
        )
        assert taken.moved


def cut(keeper: Keeper, cursor: str | None) -> Cut:
    """A page of the feed for a peer that comes with this cursor."""
    ask = Ask(stores.PEER, cursor, None, stores.EVERYTHING, stores.POLICY, limit=100, max_bytes=2**20)
    found = keeper.read(lambda reader: serve.cut(reader, ask, {}))
    assert isinstance(found, Cut)
    return found


def test_what_comes_again_under_new_lives_fills_nothing(keeper: Keeper) -> None:
    send_under_lives(keeper, 1)
    before = rows_of(keeper)
    assert before["certificate"] == before["waiting"] == 1
    send_under_lives(keeper, 40, first=1)
    assert rows_of(keeper) == before


def test_a_row_for_each_giver_would(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: were each page's giver written down, the disk would be theirs to fill."""
    true = SqlLedger.giver_id

    def written_down(self: SqlLedger, giver: Giver) -> int:
        self.execute("INSERT OR IGNORE INTO certificate(peer) VALUES(?)", (f"{giver.peer} {giver.life}",))
        return true(self, giver)

    monkeypatch.setattr(SqlLedger, "giver_id", written_down)
    send_under_lives(keeper, 40)
    assert rows_of(keeper)["certificate"] >= 40


def titled(keeper: Keeper) -> tuple[int, set[str]]:
    """How many memories a look-up by the title reads, and their texts."""
    key = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(100)]
    some = [foreign("one", f"text {n}", now=stores.START + n, id=one, actor=f"{n:016x}") for n, one in enumerate(key)]
    keeper.take(*some)
    found = keeper.do(lambda opened: opened.titled("a", "one"))
    return len(found), {load(one.version.doc).content for one in found}


def test_of_very_many_with_one_title_the_latest_are_read(keeper: Keeper) -> None:
    """Whoever may write may give as many memories as it likes one title, under ids of its own."""
    count, texts = titled(keeper)
    assert count == lookups.MOST_ALIASES == 64
    assert texts == {f"text {number}" for number in range(36, 100)}


def test_without_a_bound_a_store_would_read_all_of_them(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    monkeypatch.setattr(lookups, "MOST_ALIASES", 1_000)
    assert titled(keeper)[0] == 100


def shared(keeper: Keeper) -> list[str]:
    """Titles that are found to be shared, of four of which two memories have each."""
    some = [
        foreign(title, "text", now=stores.START, id=f"{title}-{n}", actor=f"{n:016x}")
        for title in "efgh"
        for n in (1, 2)
    ]
    keeper.take(*some)
    found: list[str] = [one.title for one in keeper.read(lambda reader: reader.twins(20))]
    return found


def test_titles_that_are_shared_are_looked_for_among_so_many(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs a look-up, and a peer may give as many as it likes."""
    monkeypatch.setattr(queries, "MOST_TITLES", 3)
    assert shared(keeper) == ["e", "f", "g"]


def test_without_a_bound_all_of_them_are_looked_at(keeper: Keeper) -> None:
    """Control."""
    assert shared(keeper) == ["e", "f", "g", "h"]


def change_often(keeper: Keeper, count: int) -> None:
    keeper.write("one")
    for number in range(count):
        keeper.change("one", content=f"text {number}")


def test_heads_are_kept_of_the_last_numbers_alone(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """One memory that is changed for ever; a peer that comes with an old cursor is answered from the start."""
    monkeypatch.setattr(feed, "HEADS_KEPT", 10)
    change_often(keeper, 2)
    old = cut(keeper, None)
    change_often(keeper, 30)
    assert rows_of(keeper)["head"] == 11
    again = cut(keeper, old.to)
    assert again.reset
    assert again.page.memories
    newest = cut(keeper, again.to)
    assert not newest.reset


def test_without_a_bound_each_change_would_leave_one(keeper: Keeper) -> None:
    """Control."""
    change_often(keeper, 30)
    assert rows_of(keeper)["head"] == 32
