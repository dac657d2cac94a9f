"""Links in the encrypted store: found from both ends, wherever their rows are registered, and shown once."""

from typing import Any

import msgspec
import pytest
import stores
from stamps import stamp
from stores import Keeper, raw

from node.store import linked, locator, rows
from node.store.locator import Locator, Run, id_key, rows_beginning
from node.store.schema import MIGRATIONS, migrate
from sync import moment
from sync.attest import Unsigned
from sync.ids import memory_id
from sync.link import link_version
from sync.ports import PageRequest
from sync.scope import Globs
from sync.version import Version

LATER = moment.text(stores.START)
X, Y, Z = (memory_id("a", title, 0) for title in "xyz")


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer merges no ids by itself."""
    monkeypatch.setattr(Locator, "is_due", False)
    monkeypatch.setattr(Locator, "is_pressing", False)


def shown(keeper: Keeper, record_id: str, limit: int = 100, offset: int = 0) -> list[tuple[str, str, str | None]]:
    """(source, target, which end is missing) of a memory's links."""
    now = moment.text(keeper.now)
    found = keeper.read(lambda reader: reader.links(record_id, now, limit, offset))
    documents = [(msgspec.json.decode(one.doc), one.missing) for one in found]
    return [(one["source_id"], one["target_id"], missing) for one, missing in documents]


def foreign_link(namespace: str, *, seconds: int = 0, actor: str = "e" * 16, **said: Any) -> Version:
    """A link from x to y, made elsewhere."""
    at = moment.text(stores.START + seconds * stores.SECOND)
    return link_version(
        namespace, X, Y, "related_to", LATER, Unsigned("agent:elsewhere"), stamp({actor: 1 << 20}), at=at, **said
    )


@pytest.mark.parametrize("is_merged", [False, True], ids=["in memory", "in the table"])
def test_links_are_found_from_both_ends_newest_first(keeper: Keeper, is_merged: bool, still: None) -> None:
    """From the run, from the table, and after an unlink not at all."""
    for title in "xyz":
        keeper.write(title)
    keeper.link("x", Y)
    keeper.link("y", Z)
    keeper.link("z", X)
    keeper.link("x", Z, relation="contradicts")
    keeper.unlink("x", Y)
    if is_merged:
        keeper.merge()
    assert shown(keeper, X) == [(X, Z, None), (Z, X, None)]
    assert shown(keeper, Y) == [(Y, Z, None)]
    assert shown(keeper, Z) == [(X, Z, None), (Z, X, None), (Y, Z, None)]
    assert [shown(keeper, Z, 1, offset) for offset in range(4)] == [[(X, Z, None)], [(Z, X, None)], [(Y, Z, None)], []]
    assert keeper.do(lambda ledger: ledger.links_from(X, "a", 9)) == [("a", f"{X}\x1f{Z}\x1fcontradicts")]


@pytest.mark.parametrize("is_merged", [False, True], ids=["in memory", "in the table"])
def test_a_link_whose_other_end_is_not_here_is_shown_and_says_so(keeper: Keeper, is_merged: bool, still: None) -> None:
    """Not yet come, deleted or expired: the end that is missing is named, from whichever end one asks."""
    keeper.write("x")
    keeper.write("y", tier="short")
    keeper.take(foreign_link("a"))
    keeper.link("x", Z)
    keeper.link("y", X)
    if is_merged:
        keeper.merge()
    assert shown(keeper, X) == [(Y, X, None), (X, Z, "target_id"), (X, Y, None)]
    assert shown(keeper, Z) == [(X, Z, None)]
    keeper.write("z")
    keeper.now += 7 * 3_600 * stores.SECOND
    assert shown(keeper, X) == [(Y, X, "source_id"), (X, Z, None), (X, Y, "target_id")]
    keeper.delete("x")
    assert shown(keeper, Z) == [(X, Z, "source_id")]


def test_ids_that_begin_alike_have_each_their_own_links(keeper: Keeper, still: None) -> None:
    """Of foreign ids one may be the beginning of another."""
    ids = ("memory", "memory-1", "memory-10", "memory-2")
    for number, source in enumerate(ids, 1):
        made = link_version(
            "a", source, "target", "related_to", LATER, Unsigned("agent:x"), stamp({"d" * 16: number << 20})
        )
        keeper.take(made)
    for _ in range(2):
        assert {source: shown(keeper, source) for source in ids} == {
            source: [(source, "target", "target_id")] for source in ids
        }
        assert len(keeper.do(lambda ledger: ledger.links_from("memory-1", "a", 9))) == 1
        keeper.merge()


def test_two_sources_that_share_a_digest_are_told_apart(
    keeper: Keeper, still: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key in the table only narrows: with one key for all, each memory still has its own links."""
    monkeypatch.setattr(locator, "_source_key", lambda source_id: b"\x1f" + bytes(7))
    for title in "xyz":
        keeper.write(title)
    keeper.link("x", Y)
    keeper.link("z", Y)
    keeper.merge()
    assert shown(keeper, X) == [(X, Y, None)]
    assert keeper.do(lambda ledger: ledger.links_from(Z, "a", 9)) == [("a", f"{Z}\x1f{Y}\x1frelated_to")]


LINK_KEY = f"{X}\x1f{Y}\x1frelated_to"


def looked(keeper: Keeper) -> list[Any]:
    return [msgspec.json.decode(one.doc) for one in keeper.read(lambda reader: reader.links(X, LATER, 10))]


def test_a_link_kept_in_two_namespaces_is_shown_for_each(keeper: Keeper) -> None:
    """Who may write in one of them says nothing in the other's place; both keys are told to who takes it back."""
    keeper.write("x")
    keeper.write("y")
    keeper.take(foreign_link("a", observed_by="ai:early"), foreign_link("b", seconds=5, observed_by="ai:late"))
    assert [(one["namespace"], one["observed_by"]) for one in looked(keeper)] == [("b", "ai:late"), ("a", "ai:early")]
    keys = keeper.read(lambda reader: reader.link_keys(LINK_KEY))
    assert sorted(namespace for namespace, _ in keys) == ["a", "b"]
    assert keeper.read(lambda reader: reader.link_keys(LINK_KEY, "a")) == [("a", LINK_KEY)]
    assert keeper.do(keeper.engine.unlink, keys, "agent:test", keeper.tick()) == 2
    assert (shown(keeper, X), keeper.read(lambda reader: reader.link_keys(keys[0][1]))) == ([], [])


def test_however_often_a_link_is_said_elsewhere_it_is_shown_and_taken_back(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page has as many as it says, so the older are found by going on; those of this node are taken back first."""
    monkeypatch.setattr(linked, "MOST_TAKEN", 3)
    keeper.write("x")
    keeper.write("y")
    keeper.link("x", Y)
    keeper.take(*(foreign_link(f"strange{number}") for number in range(9)))
    pages = [keeper.read(lambda reader, n=n: reader.links(X, LATER, 5, n)) for n in (0, 5)]
    found = [msgspec.json.decode(one.doc)["namespace"] for page in pages for one in page]
    assert (len(pages[0]), sorted(found)) == (5, ["a", *(f"strange{number}" for number in range(9))])
    keys = keeper.read(lambda reader: reader.link_keys(LINK_KEY))
    assert (keys[0], len(keys)) == (("a", LINK_KEY), 4)


def test_without_a_bound_all_of_them_would_be_taken_back(keeper: Keeper) -> None:
    """Control: in one transaction, while everybody else waits to write."""
    keeper.take(*(foreign_link(f"strange{number}") for number in range(9)))
    assert len(keeper.read(lambda reader: reader.link_keys(LINK_KEY))) == 9


def test_counts_know_links_from_memories(keeper: Keeper) -> None:
    """Links are counted as such; totals, lists, look-ups by id and searches know memories alone."""
    keeper.write("x")
    keeper.write("y")
    keeper.link("x", Y)
    keeper.link("y", X)
    keeper.unlink("y", X)
    keeper.delete("y")
    keeper.index()
    found = keeper.read(lambda reader: reader.stats(LATER, LATER))
    assert (found.total, found.links, found.tombstones) == (1, 1, 1)
    assert found.by_namespace == [("a", 1)]
    assert keeper.search("text") == ["x"]
    assert [one.version.id for one in keeper.read(lambda reader: reader.by_id(X, LATER))] == [X]
    assert keeper.read(lambda reader: reader.ids_beginning(X[:5], LATER)) == [X]


def test_a_look_up_of_a_memory_reads_none_of_its_links(keeper: Keeper, still: None) -> None:
    """They lie apart from it: a memory that thousands of links begin at is found as fast as any other."""
    keeper.write("x")
    for number in range(40):
        keeper.link("x", f"target {number}")
    for run in (keeper.store.writer.locator.run, Run(0, ())):
        condition, values = rows_beginning(run, X[:10])
        assert len(keeper.rows(f"SELECT number FROM memory WHERE {condition}", *values)) == 1
        keeper.merge()
    assert keeper.read(lambda reader: len(reader.links(X, LATER, 100))) == 40


def test_ids_of_links_begin_with_their_source_in_the_table_and_with_no_id_of_a_memory() -> None:
    """8 bytes stand for the source, 5 for the whole."""
    one, two, other = (id_key(f"{ends}\x1frelated_to") for ends in (f"{X}\x1f{Y}", f"{X}\x1f{Z}", f"{Y}\x1f{Z}"))
    assert len({len(one), len(two), len(id_key(X))}) == 1
    assert one[:8] == two[:8] != other[:8]
    assert one != two
    assert one[:1] == b"\x1f" != id_key(X)[:1]


def test_a_memory_writes_nothing_into_the_index_of_links(keeper: Keeper) -> None:
    """So memories are stored as fast as before there were links."""
    for number in range(20):
        keeper.write(f"t{number}")

    def entries() -> list[tuple[Any, ...]]:
        return keeper.rows("SELECT title FROM memory INDEXED BY memory_link WHERE kind = 'l'")

    assert entries() == []
    keeper.link("t1", Y)
    assert entries() == [(Y,)]


def test_a_store_without_the_index_of_links_gets_it(keeper: Keeper) -> None:
    """A store of the schema before is brought over when it is opened, with what it holds."""
    keeper.write("x")
    keeper.link("x", Y)
    keeper.close()
    with raw(keeper.path) as connection:
        connection.execute("DROP INDEX memory_link")
        connection.execute("DROP TABLE key_secret")
        connection.execute("DROP TABLE agent_key")
        connection.execute("ALTER TABLE head RENAME COLUMN total TO digest")
        connection.execute("DELETE FROM migration WHERE version > 2")
        assert migrate(connection, keeper.path, MIGRATIONS[:2]) == 2
    opened = Keeper(keeper.path, create=False)
    assert shown(opened, Y) == [(X, Y, None)]
    opened.close()


def test_many_other_ends_are_looked_up_in_parts(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, each link says rightly whether its other end is here."""
    monkeypatch.setattr(rows, "MOST_AT_ONCE", 2)
    keeper.write("x")
    for number in range(8):
        keeper.write(f"t{number}")
        keeper.link("x", memory_id("a", f"t{number}", 0))
    keeper.delete("t3")
    gone = memory_id("a", "t3", 0)
    assert [target for _, target, missing in shown(keeper, X) if missing] == [gone]
    assert len(shown(keeper, X)) == 8


def test_a_page_in_scope_has_the_links_of_its_namespaces(keeper: Keeper) -> None:
    """From the database, where the newest changes are not in memory any more."""
    keeper.write("x")
    keeper.write("x", namespace="b")
    keeper.link("x", Y)
    keeper.link("x", Z, "b")
    keeper.unlink("x", Z, "b")
    for namespace, member in (("a", b"created_at"), ("b", b"deleted_at")):
        page = keeper.read(lambda reader, n=namespace: reader.page(PageRequest(0, 100, 10**6, Globs((n,)))))  # type: ignore[misc]
        (link,) = msgspec.json.decode(b"[%b]" % page.links)
        assert (link["namespace"], member.decode() in link) == (namespace, True)
