"""What waits in the future: found without reading it, and counted as it changes, also where a task is undone."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest
import stores
from stores import Keeper, foreign

from node.store import ledger as ledgers
from node.store import lookups, queries
from node.store.ledger import SqlLedger
from sync.batch import Batch
from sync.ports import Kept
from sync.receive import Offer, Page, Part, Taken
from sync.version import Key, Version

LATE = 9_000_000_000
OTHER = "sha256:" + "7" * 64


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    made = Keeper(tmp_path / "memories.db")
    yield made
    made.close()


def late(keeper: Keeper, count: int, first: int = 0) -> list[Version]:
    """Versions of one memory, all from the future."""
    return [foreign("late", f"text {first + n}", now=keeper.now + LATE + first + n) for n in range(count)]


def counted(keeper: Keeper) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """What the ledger says waits for each peer, and what lies in the table."""
    return keeper.do(lambda opened: (opened._waiting_bytes, lookups.waiting_bytes(opened._execute)))


def test_the_bytes_that_wait_are_those_in_the_table(keeper: Keeper) -> None:
    """Once each though they come twice, for each peer, less what became due; the same after a start."""
    some = late(keeper, 20)
    keeper.take(*some)
    keeper.take(*some)
    keeper.take(*late(keeper, 5, 100), peer=OTHER)
    told, true = counted(keeper)
    assert told == true
    assert told[stores.PEER] == sum(len(one.doc) for one in some)
    keeper.now += 2 * LATE
    keeper.do(keeper.engine.due, lambda peer: stores.POLICY, keeper.tick())
    assert counted(keeper) == ({}, {})


def test_what_is_undone_waits_for_nobody(keeper: Keeper) -> None:
    """A task that fails after it has set something aside leaves the count as it was."""
    keeper.take(*late(keeper, 3))
    before = counted(keeper)

    def failing(opened: SqlLedger) -> None:
        waiting = opened.waiting([late(keeper, 1)[0].key])
        opened.drop_waiting(waiting)
        assert opened._waiting_bytes == {}
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        keeper.do(failing)
    assert counted(keeper) == before


def set_right(keeper: Keeper, wrong: Version) -> Version:
    """What its author wrote over it after setting the clock right."""
    return foreign(wrong.title, "written again", counter=2 << 20, seen=(wrong,), now=keeper.now)


def lacked(keeper: Keeper) -> dict[str, int]:
    return {peer: count for peer, (count, _) in keeper.read(lambda reader: reader.lacked()).items()}


def test_nobody_lacks_what_something_kept_supersedes(keeper: Keeper) -> None:
    """Whoever dated memories into the future wrote them again: those from then still wait, and are no news."""
    first, second = foreign("one", now=keeper.now + LATE), foreign("two", now=keeper.now + LATE)
    keeper.take(first, second)
    assert lacked(keeper) == {stores.PEER: 2}
    keeper.take(set_right(keeper, first))
    assert lacked(keeper) == {stores.PEER: 1}
    assert keeper.do(lambda opened: set(opened.waits([first.tag, second.tag]))) == {first.tag, second.tag}


def test_without_the_comparison_all_that_waits_would_count(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: `sync status` would name a clock that was set right long ago."""
    wrong = foreign("one", now=keeper.now + LATE)
    keeper.take(wrong, set_right(keeper, wrong))
    assert lacked(keeper) == {}
    monkeypatch.setattr(queries, "supersedes", lambda kept, one: False)
    assert lacked(keeper) == {stores.PEER: 1}


def test_the_latest_of_what_is_lacked_is_told(keeper: Keeper) -> None:
    first, second = foreign("one", now=keeper.now + 2 * LATE), foreign("two", now=keeper.now + LATE)
    keeper.take(first, second, set_right(keeper, first))
    assert keeper.read(lambda reader: reader.lacked()) == {stores.PEER: (1, second.at)}


def test_no_more_than_so_many_are_judged(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look costs little whatever waits; beyond, all are counted, of each peer with their latest time."""
    some = [foreign(f"late {n}", now=keeper.now + LATE + n) for n in range(9)]
    another = foreign("another", now=keeper.now + LATE)
    keeper.take(*some)
    keeper.take(another, peer=OTHER)
    keeper.take(*(set_right(keeper, one) for one in some))
    assert lacked(keeper) == {OTHER: 1}
    monkeypatch.setattr(queries, "MAX_JUDGED", 4)
    assert keeper.read(lambda reader: reader.lacked()) == {
        stores.PEER: (5, some[-1].at),
        OTHER: (1, another.at),
    }


def rows_read(keeper: Keeper, versions: list[Version], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many versions are made of rows of the table while these are set aside."""
    made = [0]
    true = ledgers.rows.version

    def counting(row: object) -> Version:
        made[0] += 1
        return true(row)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(ledgers.rows, "version", counting)
        keeper.take(*versions)
    return made[0]


def test_what_waits_is_not_read_for_what_comes(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of one memory waits: whether a version does is asked of an index."""
    keeper.take(*late(keeper, 300))
    assert rows_read(keeper, late(keeper, 20, 1_000), monkeypatch) == 0


def test_read_by_key_all_of_it_would_be(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: looked for among what waits for its key, each would read all that does."""
    keeper.take(*late(keeper, 300))

    def by_key(self: SqlLedger, tags: object) -> set[bytes]:
        return {one.version.tag for one in self.waiting([late(keeper, 1)[0].key])} & set(tags)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(SqlLedger, "waits", by_key)
    assert rows_read(keeper, late(keeper, 20, 1_000), monkeypatch) >= 20 * 300


def texts_read(keeper: Keeper, titles: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many versions are read whole while a peer offers a version of each of these."""
    made = [0]
    true = ledgers.rows.version

    def counting(row: object) -> Version:
        made[0] += 1
        return true(row)  # type: ignore[arg-type]

    offers = tuple(Offer(foreign(title).key, bytes(16)) for title in titles)
    page = Page(stores.PEER, stores.LIFE, None, None, None, False, offers)
    with monkeypatch.context() as patch:
        patch.setattr(ledgers.rows, "version", counting)
        taken = keeper.do(keeper.engine.receive, page, Part(()), stores.POLICY, Taken(), keeper.tick())
    assert len(taken.wanted) == len(titles)
    return made[0]


def test_what_is_offered_is_not_read(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty thousand names of large memories are two megabytes: whether their versions are here is asked by tag."""
    titles = [str(number) for number in range(50)]
    keeper.take(*(foreign(title) for title in titles))
    assert texts_read(keeper, titles, monkeypatch) == 0


def test_loaded_by_key_all_of_them_would_be(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: each text that is offered would be read, and held until the page is done."""

    def loaded(self: Batch, keys: Iterable[Key]) -> dict[Key, set[bytes]]:
        return {key: {one.version.tag for one in self.kept(key)} for key in keys}

    titles = [str(number) for number in range(50)]
    keeper.take(*(foreign(title) for title in titles))
    monkeypatch.setattr(Batch, "tags", loaded)
    assert texts_read(keeper, titles, monkeypatch) == 50


def read_kept(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The columns of each look-up of kept versions that one question needs, of ten keys with thirty that wait."""
    true, asked = queries.Queries._versions, []

    def versions(self: queries.Queries, key: Key, columns: str) -> list[Kept]:
        asked.append(columns)
        return true(self, key, columns)

    monkeypatch.setattr(queries.Queries, "_versions", versions)
    for number in range(10):
        keeper.take(foreign(f"key {number}", now=keeper.now))
        keeper.take(*(foreign(f"key {number}", f"late {n}", now=keeper.now + LATE + n) for n in range(30)))
    assert lacked(keeper) == {stores.PEER: 300}
    return asked


def test_each_key_is_read_once_and_no_document(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait of it: the question is asked after each page with something from the future."""
    asked = read_kept(keeper, monkeypatch)
    assert len(asked) == 10
    assert all("x'' AS doc" in columns for columns in asked)


def test_so_many_kept_versions_are_read_and_no_more(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits beyond these counts as it is."""
    monkeypatch.setattr(queries, "MAX_COMPARED", 3)
    assert len(read_kept(keeper, monkeypatch)) == 3
