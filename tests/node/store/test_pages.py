"""Pages of the feed, cut from the database: what is in them, and where they end."""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from typing import Any

import msgspec
import pytest
import stores
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keys import Nobody
from memory_store import MemoryStore
from stamps import stamp

from node.store import Store, pages
from node.store.tail import NotInTail
from sync import moment
from sync.attest import Unsigned
from sync.batch import Batch
from sync.engine import Engine
from sync.ids import memory_id
from sync.link import link_version, unlink_version
from sync.lives import minting
from sync.merge import ordered
from sync.ports import FeedPage, Giver, Kept, Ledger, PageRequest
from sync.record import tombstone_version
from sync.scope import Globs
from sync.version import Version

NAMESPACES = ("a", "b", "b/c", "d")
GIVERS = [Giver("sha256:one", "1" * 16, 0), Giver("sha256:two", "2" * 16, 2)]
KEYS = 150
NO_LIMIT = 10**9


@dataclass
class Pair:
    """The same feed in an encrypted store and in memory."""

    store: Store
    memory: MemoryStore

    def page(self, request: PageRequest) -> FeedPage:
        return self.store.reader.call(lambda reader: reader.page(request))

    @cached_property
    def kept(self) -> dict[int, tuple[Kept, ...]]:
        """What is kept of the key that has a number."""
        everything = self.memory.everything()
        return {number: everything[key] for key, number in sorted(self.memory.numbers().items(), key=itemgetter(1))}

    @cached_property
    def by_document(self) -> dict[bytes, Kept]:
        return {one.version.doc: one for kept in self.kept.values() for one in kept}

    def span(self, after: int, last: int) -> list[int]:
        return [number for number in self.kept if after < number <= last]

    def size(self, number: int) -> int:
        return sum(len(one.version.doc) for one in self.kept[number])


def feed() -> Iterator[Callable[[Ledger], None]]:
    """Tasks that make a feed with everything in it: given, deletes, links, conflicts, gaps, sizes, namespaces."""
    rng, engine, serial = random.Random(7), Engine("host:test", random.Random(8).randbytes, Nobody()), itertools.count()

    def version(index: int, actor: int) -> Version:
        namespace, by, now = (
            NAMESPACES[index % 4],
            stamp({f"{actor:016x}": 1 << 20}),
            stores.START + rng.randrange(10**12),
        )
        if index % 5 == 0:
            ids = (memory_id(namespace, f"title {index}", 0), f"target {index}", "related_to")
            agent = f"agent:{next(serial)}"
            if rng.random() < 0.3:
                return unlink_version(namespace, *ids, moment.text(now), Unsigned(agent), by)
            return link_version(namespace, *ids, moment.text(now), Unsigned(agent), by)
        if rng.random() < 0.25:
            id_ = memory_id(namespace, f"title {index}", 0)
            return tombstone_version(namespace, id_, moment.text(now), Unsigned(f"agent:{next(serial)}"), by)
        content = f"{next(serial)} {'x' * rng.choice((1, 200, 3_000))}"
        return stores.foreign(f"title {index}", content, namespace, actor=f"{actor:016x}", now=now)

    def put(index: int) -> Callable[[Ledger], None]:
        versions = rng.randrange(2, 6) if rng.random() < 0.3 else 1
        kept = [Kept(version(index, actor), rng.choice((None, None, 0, 1, 2))) for actor in range(versions)]

        def write(ledger: Ledger) -> None:
            for giver in GIVERS:
                ledger.giver_id(giver)
            batch = Batch(ledger, minting(random.Random(1).randbytes))
            batch.put(kept[0].version.key, ordered(kept))
            batch.commit()

        return write

    def begin(ledger: Ledger) -> None:
        engine.begin_life(ledger, stores.START, "start")

    yield begin
    for index in (*range(KEYS), *(rng.randrange(KEYS) for _ in range(60))):
        yield put(index)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    path = tmp_path_factory.mktemp("pages") / "memories.db"
    path.write_bytes(stores.empty())
    store, memory = Store.open(path, stores.PASSPHRASE), MemoryStore()
    for write in feed():
        store.writer.call(write)
        write(memory)
    assert store.position == memory.position()
    yield Pair(store, memory)
    store.close()


def told_by(page: FeedPage) -> dict[str, Any]:
    """What a page says; the order within its lists says nothing."""

    def parts(joined: bytes) -> list[bytes]:
        return sorted(bytes(part) for part in msgspec.json.decode(b"[%b]" % joined, type=list[msgspec.Raw]))

    lists = {name: parts(getattr(page, name)) for name in ("memories", "tombstones", "links", "offers")}
    names = ("count", "last", "top", "head", "earliest", "latest", "more", "is_empty")
    return lists | {name: getattr(page, name) for name in names}


PATTERNS: list[tuple[str, ...] | None] = [None, ("**",), (), ("a",), ("b/**",), ("*",), ("z",)]


def requests(pair: Pair, limit: st.SearchStrategy[int], most: st.SearchStrategy[int]) -> st.SearchStrategy[PageRequest]:
    tags = [one.version.tag for one in pair.by_document.values()]
    return st.builds(
        PageRequest,
        st.integers(0, pair.store.position.number + 1),
        limit,
        most,
        st.sampled_from([None if some is None else Globs(some) for some in PATTERNS]),
        st.sampled_from((0, 0, 1, 2, 9)),
        st.booleans(),
        st.one_of(st.just(frozenset[bytes]()), st.frozensets(st.sampled_from(tags), max_size=60)),
    )


ANY = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ANY
@given(st.data())
def test_a_page_holds_exactly_what_the_rules_say(pair: Pair, data: st.DataObject) -> None:
    """For any cursor, limit, scope, giver, offers and wishes the page is the one that the store in memory cuts."""
    request = data.draw(requests(pair, st.integers(1, KEYS + 20), st.just(NO_LIMIT)))
    assert told_by(pair.page(request)) == told_by(pair.memory.page(request))


@ANY
@given(st.data())
def test_the_tail_cuts_the_same_page_or_none(pair: Pair, data: st.DataObject) -> None:
    """What is cut from memory is what the database gives; a page that would not be the last is left to the database."""
    limits = st.sampled_from((1, 50, KEYS)), st.sampled_from((5_000, NO_LIMIT))
    request = data.draw(requests(pair, *limits))
    rest = pair.span(request.after, NO_LIMIT)
    fits = len(rest) <= request.limit and sum(map(pair.size, rest)) <= request.max_bytes
    with pair.store.tail.reading() as tail:
        if fits:
            assert told_by(tail.page(request)) == told_by(pair.page(request))
        else:
            with pytest.raises(NotInTail):
                tail.page(request)


@ANY
@given(st.data())
def test_a_page_that_is_cut_by_bytes_is_whole_up_to_its_end(pair: Pair, data: st.DataObject) -> None:
    """It ends early, moves on by one key at least, and up to its end it leaves out nothing that may be seen."""
    most = data.draw(st.sampled_from((1, 500, 5_000, 20_000, 100_000)))
    request = data.draw(requests(pair, st.integers(1, KEYS), st.just(most)))
    check_page(pair, request)


def check_page(pair: Pair, request: PageRequest) -> None:
    page = pair.page(request)
    span = pair.span(request.after, page.last)
    rest = pair.span(page.last, page.top)
    assert span or not rest
    if not span:
        return
    assert len(span) <= request.limit
    assert page.more == bool(rest)
    whole = pair.memory.page(replace(request, limit=len(span), max_bytes=NO_LIMIT))
    if not request.wanted:
        assert told_by(page) == told_by(whole)
    sizes = [pair.size(number) for number in span]
    if not request.offer:
        assert len(span) == 1 or sum(sizes) <= request.max_bytes
        assert not rest or len(span) == request.limit or sum(sizes) + pair.size(rest[0]) > request.max_bytes


@ANY
@given(st.data())
def test_what_is_wanted_and_has_no_room_is_offered_again(pair: Pair, data: st.DataObject) -> None:
    """Relayed versions come as documents or as offers, never as both; of those that are wanted, one at least comes."""
    most = data.draw(st.sampled_from((1, 5_000, 20_000)))
    request = replace(data.draw(requests(pair, st.integers(1, KEYS), st.just(most))), offer=True)
    page = pair.page(request)
    span = pair.span(request.after, page.last)
    visible = sent_in(pair, pair.memory.page(PageRequest(request.after, max(1, len(span)), NO_LIMIT, request.scope,
                                                         request.skip_giver))) if span else {}  # fmt: skip
    relayed = {tag for tag, one in visible.items() if one.giver is not None}
    sent, offered = sent_in(pair, page), offered_in(page)
    assert page.count == len(sent)
    assert sent.keys() | offered == visible.keys()
    assert not sent.keys() & offered
    assert offered <= relayed
    bodies = sent.keys() & relayed
    assert bodies <= request.wanted
    assert bool(bodies) == bool(request.wanted & relayed)
    assert len(bodies) == 1 or sum(len(sent[tag].version.doc) for tag in bodies) <= most


def sent_in(pair: Pair, page: FeedPage) -> dict[bytes, Kept]:
    """The versions whose documents are in a page, by tag."""
    documents = msgspec.json.decode(
        b"[%b]" % b",".join(part for part in (page.memories, page.tombstones, page.links) if part),
        type=list[msgspec.Raw],
    )
    sent = [pair.by_document[bytes(document)] for document in documents]
    assert len(sent) == len({one.version.tag for one in sent})
    return {one.version.tag: one for one in sent}


def offered_in(page: FeedPage) -> set[bytes]:
    offers = msgspec.json.decode(b"[%b]" % page.offers)
    assert len(offers) == len({tag for _, _, tag in offers})
    return {bytes.fromhex(tag) for _, _, tag in offers}


def test_page_after_page_covers_the_feed_once(pair: Pair) -> None:
    """Read to the end in small pages, every kept version comes exactly once, in the order of the numbers."""
    seen: list[bytes] = []
    after, more = 0, True
    while more:
        page = pair.page(PageRequest(after, 7, 4_000))
        seen += sent_in(pair, page)
        assert page.last > after
        after, more = page.last, page.more
    assert len(seen) == len(set(seen))
    assert set(seen) == {one.version.tag for kept in pair.kept.values() for one in kept}


def test_a_peer_that_may_see_nothing_is_led_to_the_end(pair: Pair) -> None:
    """Under a scope that allows nothing the pages are empty, and the cursor moves on all the same."""
    after, pages_read = 0, 0
    while after < pair.store.position.number:
        page = pair.page(PageRequest(after, 40, NO_LIMIT, Globs(())))
        assert page.is_empty
        after, pages_read = page.last, pages_read + 1
    assert pages_read > 1


BROKEN: dict[str, tuple[str, str]] = {
    "conflicts do not count as bytes": ("_SIZE", "length(doc)"),
    "conflicts are left out": ("_CONFLICTS", pages._CONFLICTS + " AND c.kind = 'm'"),
    "a page ends one key too late": ("_LAST_BY_BYTES", pages._LAST_BY_BYTES.replace("total <= ?", "total - 900 <= ?")),
    "unlinks are left out": ("_DOCUMENTS", pages._DOCUMENTS.replace("IN ('l', 'u')", "= 'l'")),
    "links go in one pass as nothing": ("_AT_ONCE", pages._AT_ONCE.replace("IN ('l', 'u')", "= 'x'")),
    "tombstones are left out": ("_DOCUMENTS", pages._DOCUMENTS.replace("kind = 't'", "kind = 'x'")),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_wrong_page_is_found_out(what: str, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with each of these mistakes in the statements the claims above fail."""
    monkeypatch.setattr(pages, *BROKEN[what])
    with pytest.raises(AssertionError):
        check_all(pair)


def check_all(pair: Pair) -> None:
    """The claims about whole pages, over a fixed sweep of requests."""
    for after, limit, most in itertools.product(range(0, 200, 7), (1, 5, 60), (500, 5_000, NO_LIMIT)):
        check_page(pair, PageRequest(after, limit, most))


def test_the_sweep_of_the_control_passes_on_the_real_statements(pair: Pair) -> None:
    """The sweep that finds the mistakes finds nothing where there are none."""
    check_all(pair)
