"""Search finds what was acknowledged before it, and nothing else, however far the index of the text lags behind."""

import itertools
import random
from collections.abc import Callable, Iterator

import msgspec
import pytest
from stores import Keeper, foreign, raw, until

from node.store import Reader, search
from node.store.errors import StoreError
from node.store.search import TextSearch, expression
from node.store.textindex import TextIndex
from sync import moment
from sync.moment import SECOND

LAGS = ("index in step", "index lags", "index lags by half")


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """Stops the index of the text (True), and lets it go on (False)."""
    stopped = {"value": False}
    true = TextIndex.is_behind.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(TextIndex, "is_behind", property(lambda index: not stopped["value"] and true(index)))

    def freeze(value: bool) -> None:
        stopped["value"] = value

    yield freeze
    stopped["value"] = False


def lagging(keeper: Keeper, frozen: Callable[[bool], None], lag: str) -> Callable[[], None]:
    """What a test calls after each of its writes, for the index to be where `lag` says."""
    calls = itertools.count()

    def after_write() -> None:
        if lag == "index in step" or (lag == "index lags by half" and next(calls) % 2 == 0):
            frozen(False)
            keeper.index()
            frozen(True)

    frozen(True)
    return after_write


@pytest.mark.parametrize("lag", LAGS)
def test_a_search_finds_every_change_that_came_before_it(
    lag: str, keeper: Keeper, frozen: Callable[[bool], None]
) -> None:
    """Insert, update, delete, rename, move, a peer's page: found at once, and what was overwritten is found no more."""
    written = lagging(keeper, frozen, lag)
    keeper.write("first title", "apple pear", tags=["fruit"])
    written()
    assert keeper.search("apple") == keeper.search("title") == keeper.search("fruit") == ["first title"]
    keeper.change("first title", content="plum", tags=["stone"])
    written()
    assert keeper.search("apple") == keeper.search("fruit") == []
    assert keeper.search("plum") == keeper.search("stone") == ["first title"]
    keeper.change("first title", title="second name")
    written()
    assert keeper.search("first") == []
    assert keeper.search("plum") == keeper.search("name") == ["second name"]
    keeper.change("second name", namespace="b")
    written()
    assert keeper.search("plum") == keeper.search("plum", namespace="b") == ["second name"]
    assert keeper.search("plum", namespace="a") == []
    keeper.take(foreign("from elsewhere", "plum quince"))
    written()
    assert set(keeper.search("plum")) == {"second name", "from elsewhere"}
    keeper.delete("second name", "b")
    written()
    assert keeper.search("plum") == ["from elsewhere"]
    assert keeper.search("name") == []


WORDS = ["ash", "birch", "cedar", "elm", "fir", "hazel", "oak", "pine"]


@pytest.mark.parametrize("seed", range(4))
def test_search_agrees_with_reading_everything(seed: int, keeper: Keeper, frozen: Callable[[bool], None]) -> None:
    """After random writes, with the index now here, now there: each query finds what reading all memories finds."""
    rng = random.Random(seed)
    written = lagging(keeper, frozen, LAGS[seed % 3])
    for step in range(60):
        title, namespace = rng.choice("pqrstu"), rng.choice("ab")
        known = {(row[0], row[1]) for row in keeper.rows("SELECT namespace, title FROM memory WHERE kind = 'm'")}
        text = " ".join(rng.choices(WORDS, k=5))
        if (namespace, title) not in known or rng.random() < 0.5:
            keeper.write(title, text, namespace)
        elif rng.random() < 0.4:
            keeper.delete(title, namespace)
        elif ("ab".replace(namespace, ""), title) not in known:
            keeper.change(title, namespace, namespace="ab".replace(namespace, ""))
        written()
        if step % 3 == 0:
            agree(keeper, rng)
    frozen(False)
    keeper.index()
    agree(keeper, rng)
    with raw(keeper.path) as beside:
        beside.execute("INSERT INTO text(text) VALUES('integrity-check')")
    assert keeper.rows("SELECT count(*) FROM text_docsize") == [(len(keeper.titles()),)]


def agree(keeper: Keeper, rng: random.Random) -> None:
    """Some words and some phrases, searched and looked for in every memory."""
    memories = [msgspec.json.decode(doc) for (doc,) in keeper.rows("SELECT doc FROM memory WHERE kind = 'm'")]
    for _ in range(4):
        first, second = rng.sample(WORDS, 2)
        both = [one["title"] for one in memories if {first, second} <= set(one["content"].split())]
        phrase = [one["title"] for one in memories if f"{first} {second}" in one["content"]]
        assert sorted(keeper.search(f"{first} {second}", limit=100)) == sorted(both)
        assert sorted(keeper.search(f'"{first} {second}"', limit=100)) == sorted(phrase)


def test_overwritten_text_is_not_found_though_the_index_still_holds_it(
    keeper: Keeper, frozen: Callable[[bool], None]
) -> None:
    """Between the write and the next step of the index, its rows lead nowhere."""
    keeper.write("one", "apple")
    keeper.index()
    frozen(True)
    keeper.write("one", "pear")
    assert keeper.rows("SELECT count(*) FROM text WHERE text MATCH 'apple'") == [(1,)]
    assert keeper.search("apple") == []
    assert keeper.search("pear") == ["one"]


def test_without_the_tail_a_search_would_miss_what_is_new(
    keeper: Keeper, frozen: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: it is the tail that finds what the index does not hold yet."""
    frozen(True)
    keeper.write("one", "apple")
    monkeypatch.setattr(TextSearch, "_refresh_tail", lambda opened: False)
    assert keeper.search("apple") == []


HOSTILE = [
    '"', '""', '"""', "'", "a'b", "NEAR(", "NEAR(apple pear, 2)", "apple AND", "OR", "NOT apple", "apple*", "*",
    "^apple", "title:apple", "{title content}:apple", "-apple", "+apple", "(apple", "apple)", "apple\0pear", "\0",
    "apple\npear",
    "🍎", "apple 🍎", "apple\ud800", "\ud800", "%", "_", "apple;--", "'; DROP TABLE memory;--", "\\", "a" * 2_000,
    "a " * 1_000, '"a ' * 600, "²", "Ꞷ", "Ꞷ apple", "ａｐｐｌｅ", "apple" + "\u0301" * 200, "\u202eapple", "١٢٣",
    "apple\x07",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:30])
@pytest.mark.parametrize("lag", LAGS[:2])
def test_no_query_is_an_error(text: str, lag: str, keeper: Keeper, frozen: Callable[[bool], None]) -> None:
    """Whatever a query holds, it means words: no operator, no syntax error, no other table."""
    written = lagging(keeper, frozen, lag)
    keeper.write("one", "apple and pear near the tree; not or")
    written()
    found = keeper.search(text)
    assert found in ([], ["one"])
    assert keeper.search("apple pear") == ["one"]


def test_raw_text_would_be_an_error(keeper: Keeper) -> None:
    """Control: handed to the full-text engine as they are, many of these queries are errors."""
    errors = 0
    for text in HOSTILE:
        try:
            keeper.rows("SELECT rowid FROM text WHERE text MATCH ?", text.encode(errors="replace").decode())
        except StoreError:
            errors += 1
    assert errors > 10


EXPRESSIONS = {
    "apple pear": '"apple" "pear"',
    '"apple pear" plum': '"apple pear" "plum"',
    "apple* OR NEAR(pear)": '"apple*" "OR" "NEAR(pear)"',
    'odd "quotes': '"odd" " quotes"',
    "🍎 -- !": "",
    "": "",
}


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_a_query_is_its_words(text: str) -> None:
    """Every word is quoted, phrases stay phrases, and what has no letter or digit is left out."""
    assert expression(text) == EXPRESSIONS[text]


FILTERS = {
    "namespace": ({"namespace": "a"}, ["one", "three"]),
    "tier": ({"tier": "short"}, ["two"]),
    "tag": ({"tag": "red"}, ["three"]),
    "agent": ({"agent_id": "agent:elsewhere"}, ["four"]),
    "nothing that has it": ({"tag": "re"}, []),
    "two at once": ({"namespace": "a", "tag": "red"}, ["three"]),
}


@pytest.mark.parametrize("what", FILTERS)
@pytest.mark.parametrize("lag", LAGS[:2])
def test_filters_leave_out_the_rest(what: str, lag: str, keeper: Keeper, frozen: Callable[[bool], None]) -> None:
    """Namespace, tier, tag and agent narrow a search, whole values only."""
    written = lagging(keeper, frozen, lag)
    keeper.write("one", "apple")
    keeper.write("two", "apple", "b", tier="short")
    keeper.write("three", "apple", tags=["red", "round"])
    keeper.take(foreign("four", "apple", "b"))
    written()
    filters, titles = FILTERS[what]
    assert sorted(keeper.search("apple", **filters)) == sorted(titles)


@pytest.mark.parametrize("lag", LAGS[:2])
def test_what_has_expired_is_not_shown(lag: str, keeper: Keeper, frozen: Callable[[bool], None]) -> None:
    """A memory is found until its time, and not after, though it is kept."""
    written = lagging(keeper, frozen, lag)
    keeper.write("brief", "apple", expires_at=moment.text(keeper.now + 100 * SECOND))
    keeper.write("lasting", "apple", tier="long")
    written()
    assert sorted(keeper.search("apple")) == ["brief", "lasting"]
    keeper.now += 200 * SECOND
    assert keeper.search("apple") == ["lasting"]
    assert keeper.titles() == ["brief", "lasting"]


def test_many_matches_that_drop_out_do_not_hide_the_one_that_stays(keeper: Keeper) -> None:
    """However many better matches are filtered away, a match is found."""
    for number in range(120):
        keeper.write(f"loud {number}", "apple apple apple", "b")
    keeper.write("quiet", f"apple {'and other words ' * 30}", "a")
    keeper.index()
    assert keeper.search("apple", 1, namespace="a") == ["quiet"]


def test_of_a_very_common_word_the_newest_are_ranked_and_the_others_still_found(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the ranked ones older matches follow, newest first; a filter reaches the oldest."""
    monkeypatch.setattr(search, "MOST_RANKED", 10)
    for number in range(30):
        keeper.write(f"title {number}", "apple" if number != 25 else "apple apple apple", "ab"[number % 2])
    keeper.write("title 4", "apple again", "a")
    keeper.index()
    found = keeper.search("apple", 100)
    assert found[0] == "title 25"
    assert set(found[:10]) == {*(f"title {number}" for number in range(21, 30)), "title 4"}
    assert found[10:] == [f"title {number}" for number in range(20, -1, -1) if number != 4]
    assert keeper.search("apple", 3, namespace="b")[0] == "title 25"
    assert len(keeper.search("apple", 100, namespace="b")) == 15
    assert keeper.search("title", 5, namespace="a") != []


def test_without_the_older_ones_a_filter_would_find_nothing(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: ranking the newest alone, matches in a quiet namespace are lost."""
    monkeypatch.setattr(search, "MOST_RANKED", 10)
    keeper.write("quiet", "apple", "a")
    for number in range(20):
        keeper.write(f"loud {number}", "apple", "b")
    keeper.index()
    assert keeper.search("apple", namespace="a") == ["quiet"]
    monkeypatch.setattr(TextSearch, "_older", lambda *_: [])
    assert keeper.search("apple", namespace="a") == []


def test_a_read_that_fails_leaves_the_next_search_right(keeper: Keeper, frozen: Callable[[bool], None]) -> None:
    """What a search had read into its own table is taken back with the read that failed, and read again."""
    frozen(True)
    keeper.write("one", "apple")

    def read(reader: Reader) -> None:
        assert reader.search(search.SearchFilter("apple", moment.text(keeper.now), 5)).documents
        raise LookupError

    for _ in range(3):
        with pytest.raises(LookupError):
            keeper.read(read)
    assert keeper.search("apple") == ["one"]
    keeper.write("two", "apple")
    assert sorted(keeper.search("apple")) == ["one", "two"]


@pytest.mark.parametrize("counts", [True, False], ids=["", "uncounted"])
def test_few_matches_are_ranked_once(counts: bool, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a word that nothing has not at all. Control: where they are not counted, more are looked for in vain."""
    if not counts:
        monkeypatch.setattr(TextSearch, "_newest", lambda *_: search._Hits(search.MOST_RANKED, 0))
    keeper.write("one", "apple")
    until(lambda: keeper.store.writer._text._indexed == keeper.store.position.number)
    asked: list[str] = []

    def ranked(word: str) -> int:
        asked.clear()
        keeper.search(word)
        return sum("ORDER BY rank" in one for one in asked)

    for reader in list(keeper.store.reader._connections):
        reader.set_trace_callback(asked.append)
    assert [ranked("apple") == 1, ranked("plum") == 0] == [counts, counts]
