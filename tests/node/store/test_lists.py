"""Lists of one namespace: from the index of namespaces, and from the tail that it does not hold yet."""

import msgspec
import pytest
from stores import Keeper

from node.store import textindex
from node.store.queries import ListFilter
from node.store.textindex import place_of
from sync import moment

HARD = ("a", "a/b", "A", "ä/ö", "61", "a-b", "a.b/c_d", "日本", "x" * 500)
"""Namespaces that a tokenizer or a prefix might take for one another."""


def listed(keeper: Keeper, namespace: str, limit: int = 100, offset: int = 0) -> list[str]:
    wanted = ListFilter(moment.text(keeper.now), limit, offset, namespace)
    documents = keeper.read(lambda reader: reader.listed(wanted))
    return [msgspec.json.decode(document)["title"] for document in documents]


@pytest.mark.parametrize("is_indexed", [True, False], ids=["index", "tail"])
def test_a_namespace_is_exactly_itself(keeper: Keeper, is_indexed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other namespace is listed with it, whatever its letters."""
    if not is_indexed:
        monkeypatch.setattr(textindex.TextIndex, "step", lambda self, rows: False)
    for namespace in HARD:
        keeper.write(f"in {namespace[:9]}", namespace=namespace)
    if is_indexed:
        keeper.index()
    assert {namespace: listed(keeper, namespace) for namespace in HARD} == {n: [f"in {n[:9]}"] for n in HARD}
    assert listed(keeper, "b") == []


def test_pages_of_a_list_join_where_tail_and_index_meet(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newest change first, each memory once, whatever part the index holds and wherever a page begins."""
    for number in range(12):
        keeper.write(f"t{number}", namespace="ab"[number % 2])
    keeper.index()
    monkeypatch.setattr(textindex.TextIndex, "step", lambda self, rows: False)
    for number in range(12, 18):
        keeper.write(f"t{number}", namespace="ab"[number % 2])
    keeper.change("t2", content="changed, and so the newest")
    keeper.delete("t4")
    keeper.change("t6", "a", namespace="b")
    whole = ["t2", "t16", "t14", "t12", "t10", "t8", "t0"]
    assert listed(keeper, "a") == whole
    for limit in (1, 2, 3, 100):
        for offset in range(len(whole) + 2):
            assert listed(keeper, "a", limit, offset) == whole[offset : offset + limit], (limit, offset)
    assert listed(keeper, "b")[0] == "t6"


def test_what_was_taken_out_of_the_store_is_taken_out_of_the_index(keeper: Keeper) -> None:
    """Overwritten rows leave nothing behind in the index of namespaces."""
    for number in range(6):
        keeper.write(f"t{number}")
    keeper.index()
    for number in range(6):
        keeper.change(f"t{number}", content="changed")
    keeper.index()
    held = keeper.rows("SELECT rowid FROM text WHERE text MATCH ?", place_of("a"))
    assert held == keeper.rows("SELECT number FROM memory ORDER BY number")
    assert len(held) == 6
