"""The encrypted store and the store in memory that the rules are tested with do the same, step by step.

Every transaction of a simulated mesh runs in both, over the same randomness. After each, all that either port can tell
is compared; and each page is cut three ways: in memory, from the database, and from the tail.
"""

import copy
import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import stores
from keys import Nobody

from node.store import Store, locator
from node.store.errors import StoreError
from node.store.ledger import SqlLedger
from node.store.tail import NotInTail, Tail
from sync import moment
from sync.batch import Batch
from sync.engine import Engine
from sync.link import ends
from sync.ports import FeedPage, FeedReader, Giver, Kept, Ledger, PageRequest, Waiting
from sync.version import LINK_SEPARATOR, Version
from tests.simulation import histories
from tests.simulation.nodes import START as BEGINNING
from tests.simulation.nodes import Node
from tests.simulation.oracle import SimStore
from tests.simulation.topologies import TOPOLOGIES
from tests.simulation.world import World

HISTORIES = 24
TITLES, NAMESPACES = ("x", "y"), ("a", "b")
FAULTS = (
    "restart",
    "restart",
    "skew",
    "skew",
    "skew",
    "cut",
    "mend",
    "scope",
    "forge",
    "wait",
    "link",
    "unlink",
    "unlink",
)
START = moment.text(BEGINNING)
TRUE_PUT = Batch.put


@pytest.fixture(autouse=True)
def _short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids move from memory to their index all the time."""
    monkeypatch.setattr(locator, "SHORTEST", 3)
    monkeypatch.setattr(locator, "STEP", 2)


class ChangedMind(Exception):
    """Raised by a task that has done all its work, to have it undone."""


class Tape:
    """Randomness that can be rewound, so that both stores draw the same."""

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source = source
        self._drawn: list[bytes] = []
        self._at = 0

    def __call__(self, size: int) -> bytes:
        if self._at == len(self._drawn):
            self._drawn.append(self._source(size))
        self._at += 1
        return self._drawn[self._at - 1]

    def rewind(self) -> None:
        self._at = 0

    def begin(self) -> None:
        self._drawn, self._at = [], 0


class Mirror(SimStore):
    """A store in memory that has everything done once more by an encrypted one, and compares."""

    path: Path
    sql: Store
    random: random.Random
    seen: set[str]

    def beside(self, path: Path) -> "Mirror":
        """Begin the encrypted store that does everything once more."""
        self.path = path
        path.write_bytes(stores.empty())
        self.sql = Store.open(path, stores.PASSPHRASE, readers=1)
        self.random = random.Random(path.name)
        self.seen = set()
        return self

    def copy(self) -> SimStore:
        twin = SimStore()
        shared = ("path", "sql", "random", "seen")
        twin.__dict__ = {n: value if n in shared else copy.copy(value) for n, value in self.__dict__.items()}
        return twin

    def reopen(self) -> None:
        self.sql.close()
        self.sql = Store.open(self.path, stores.PASSPHRASE, readers=1)
        self.compare()

    # Where the port promises no order, both take the database's, so that decisions come in one order.

    def own_after(self, at: str) -> Sequence[Any]:
        return sorted(super().own_after(at))

    def kept_after(self, at: str) -> Sequence[Any]:
        return sorted(super().kept_after(at))

    def waiting_due(self, at: str, limit: int) -> Sequence[Waiting]:
        due = [one for one in self._waiting if one.version.at <= at]
        return sorted(due, key=lambda one: one.version.at)[:limit]

    def transaction(self, body: Any, *args: Any) -> Any:
        engine: Engine = body.__self__
        tape: Tape = engine.tape  # type: ignore[attr-defined]
        before = memory_of(engine)
        tape.begin()
        expected = super().transaction(body, *args)
        after = memory_of(engine)

        def task(ledger: Ledger) -> Any:
            forget(engine, before)
            tape.rewind()
            return body(ledger, *args)

        def undone(ledger: Ledger) -> Any:
            task(ledger)
            raise ChangedMind

        found = self._run(undone, task)
        assert plain(found) == plain(expected)
        assert memory_of(engine) == after
        self.compare()
        return expected

    def _run(self, undone: Callable[[Ledger], Any], task: Callable[[Ledger], Any]) -> Any:
        """Run the task, now and then together with one that fails after it did the same."""
        watched, Batch.put = Batch.put, TRUE_PUT  # type: ignore[method-assign]
        try:
            choice = self.random.randrange(4)
            if choice == 0:
                with suppress(ChangedMind):
                    self.sql.writer.call(undone)
            if choice == 1:
                failed, result = stores.together(self.sql, [undone, task])
                assert isinstance(failed, ChangedMind)
                if isinstance(result, Exception):
                    raise result
                return result
            return self.sql.writer.call(task)
        finally:
            Batch.put = watched  # type: ignore[method-assign]

    # --- comparing

    def compare(self) -> None:
        """All that the ports can tell is the same."""
        everything = self.everything()
        absent = [("a", "no such id"), ("no such namespace", next(iter(everything), ("", "x"))[1])]

        def told(ledger: Ledger) -> dict[str, Any]:
            return ledger_tells(ledger, [*everything, *absent])

        assert self.sql.writer.call(told) == ledger_tells(self, [*everything, *absent])
        rows, shown, tells = self.sql.reader.call(
            lambda reader: (numbers(reader), [reader.versions(key) for key in everything], self._reader_tells(reader))
        )
        assert rows == self.numbers()
        ranked = [sorted(kept, key=lambda one: one.version.rank, reverse=True) for kept in everything.values()]
        assert plain(shown) == plain(ranked)
        assert tells == self._reader_tells(self)
        ids = sorted({one for _, record_id in everything for one in record_id.split(LINK_SEPARATOR)[:2]})
        linked = self.sql.reader.call(lambda reader: {one: reader.links(one, "", 1_000) for one in ids})
        assert {one: {link.doc: link.missing for link in some} for one, some in linked.items()} == {
            one: self._links_of(one) for one in ids
        }
        assert (self.sql.position, list(self.sql.lives)) == (self.position(), self.lives())
        occurring = {
            "conflict": any(len(kept) > 1 for kept in everything.values()),
            **{
                name: any(kept[0].version.kind == kind for kept in everything.values())
                for name, kind in (("tombstone", "t"), ("link", "l"), ("unlink", "u"))
            },
            "waiting": bool(self.waiting_all()),
            "between two parts": any(state.generation % 2 for state in self.peers()),
            "many lives": len(self.lives()) > 3,
        }
        self.seen |= {name for name, occurs in occurring.items() if occurs}

    def _links_of(self, record_id: str) -> dict[bytes, str | None]:
        """The documents of a memory's links, and which end is not here."""
        winners = [kept[0].version for kept in self.everything().values()]
        here = {one.id for one in winners if one.kind == "m"}
        found: dict[str, Version] = {}
        for one in sorted((one for one in winners if one.kind == "l"), key=lambda one: one.rank):
            if record_id in ends(one.id)[:2]:
                found[one.id] = one
        names = ("source_id", "target_id")
        lacking = {
            one.id: [name for name, end in zip(names, ends(one.id), strict=False) if end not in {*here, record_id}]
            for one in found.values()
        }
        return {one.doc: next(iter(lacking[one.id]), None) for one in found.values()}

    def _reader_tells(self, reader: FeedReader) -> dict[str, Any]:
        some = [Giver(peer, life, 2) for peer in [*self._certificates, "nobody"] for life in ("0" * 16, "1" * 16)]
        return {
            "lives": list(reader.lives()),
            "position": reader.position(),
            "heads": [reader.head_at(number) for number in range(self.position().number + 2)],
            "peers": {peer: reader.peer(peer) for peer in [*self._peers, "nobody"]},
            "givers": {giver: reader.find_giver(giver) for giver in some},
        }

    def page(self, request: PageRequest) -> FeedPage:
        expected = super().page(request)
        wanted = told_by(expected)
        assert told_by(self.sql.reader.call(lambda reader: reader.page(request))) == wanted
        with suppress(NotInTail), self.sql.tail.reading() as tail:
            assert told_by(tail.page(request)) == wanted
            self.seen.add("tail")
        self.seen |= {"offers"} if expected.offers else {"nothing"} if expected.is_empty else set()
        return expected


def ledger_tells(ledger: Any, keys: Sequence[Any]) -> dict[str, Any]:
    """What a ledger says, in a form in which order that means nothing is gone."""
    peers = {state.peer: state for state in ledger.peers()}
    kept = ledger.kept(keys)
    return {
        "lives": list(ledger.lives()),
        "position": ledger.position(),
        "own": [sorted(ledger.own_after(at)) for at in ("", START, "9999")],
        "of the future": [sorted(ledger.kept_after(at)) for at in ("", START, "9999")],
        "kept": {key: ([one.version.tag for one in some], by_tag(some)) for key, some in kept.items()},
        "titled": {
            (namespace, title): by_tag(ledger.titled(namespace, title))
            for namespace, title in itertools.product(NAMESPACES, (*TITLES, "no such title"))
        },
        "links": {
            source: list(ledger.links_from(*source, most))
            for source in sorted({(record_id.partition(LINK_SEPARATOR)[0], namespace) for namespace, record_id in keys})
            for most in (1, 9)
        },
        "peers": peers,
        "peer": {peer: ledger.peer(peer) for peer in [*peers, "nobody"]},
        "waiting": sorted((one.peer, one.version.tag) for one in ledger.waiting(keys)),
        "waits": sorted(ledger.waits([one.version.tag for one in ledger.waiting(keys)] + [bytes(16)])),
        "tags": {key: sorted(tags) for key, tags in ledger.tags(keys).items()},
        "waiting bytes": {peer: ledger.waiting_bytes(peer) for peer in [*peers, "cert-liar", "nobody"]},
        "due": [
            [one.version.tag for one in ledger.waiting_due(at, limit)]
            for at, limit in (("9999", 100), ("9999", 1), (START, 100))
        ],
    }


def by_tag(some: Sequence[Kept]) -> dict[bytes, Any]:
    return {one.version.tag: plain(one) for one in some}


def plain(value: Any) -> Any:
    """A value in which documents are what they say: the order of a clock's entries in one says nothing."""
    match value:
        case bytes() if value.startswith(b'{"'):
            return msgspec.json.decode(value)
        case list() | tuple():
            return [plain(one) for one in value]
        case _ if dataclasses.is_dataclass(value):
            return {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
        case _:
            return value


def numbers(reader: Any) -> dict[Any, int]:
    rows = reader._execute("SELECT namespace, id, number FROM memory")
    return {(namespace, record_id): number for namespace, record_id, number in rows}


def told_by(page: FeedPage) -> dict[str, Any]:
    """A page without the order of its parts, which says nothing."""

    def parts(joined: bytes) -> list[bytes]:
        return sorted(msgspec.json.encode(part, order="sorted") for part in msgspec.json.decode(b"[%b]" % joined))

    return {
        "memories": parts(page.memories), "tombstones": parts(page.tombstones), "links": parts(page.links),
        "offers": parts(page.offers),
        "count": page.count, "last": page.last, "top": page.top, "head": page.head, "more": page.more,
        "earliest": page.earliest, "latest": page.latest,
    }  # fmt: skip


def memory_of(engine: Engine) -> dict[str, Any]:
    """What an engine remembers outside the store."""
    return {name: copy.deepcopy(value) for name, value in vars(engine).items() if isinstance(value, dict)}


def forget(engine: Engine, to: dict[str, Any]) -> None:
    vars(engine).update(copy.deepcopy(to))


class MirroredWorld(World):
    """A simulated mesh in which every node has both stores."""

    def __init__(self, topology: str, folder: Path, **options: Any) -> None:
        self.folder = folder
        super().__init__(topology, **options)

    def new_engine(self, name: str) -> Engine:
        tape = Tape(self.random.randbytes)
        engine = Engine(f"node:{name}", tape, Nobody())
        engine.tape = tape  # type: ignore[attr-defined]
        return engine

    def _born(self, name: str) -> Node:
        node = Node(name, f"cert-{name}", Mirror().beside(self.folder / f"{name}.db"), self.new_engine(name))
        self.begin(node, "start")
        return node

    def die_in(self, node: Node, body: Callable[..., Any], *args: Any) -> None:
        """Here the tasks that come to nothing are the mirror's own (`_run`)."""
        self.restart(node)

    def restart(self, node: Node) -> None:
        mirror = node.store
        assert isinstance(mirror, Mirror)
        mirror.reopen()
        super().restart(node)

    def close(self) -> None:
        for node in self.nodes.values():
            assert isinstance(node.store, Mirror)
            node.store.sql.close()


def play(number: int, folder: Path) -> Iterator[MirroredWorld]:
    """One history, from its number; yields the world at its end."""
    rng = random.Random(f"store/{number}")
    topology = rng.choice(list(TOPOLOGIES))
    ops = histories.history(rng, topology, 45, FAULTS)
    options = {"page_limit": rng.choice((1, 2, 3, 500)), "slice_size": rng.choice((1, 2, 100))}
    world = MirroredWorld(topology, folder, **options)
    try:
        for op in ops:
            world.do(op)
        world.heal(12)
        yield world
    finally:
        world.close()


def play_all(folder: Path) -> set[str]:
    """All histories, one after the other. Returns what occurred in them."""
    seen: set[str] = set()
    for number in range(HISTORIES):
        place = folder / str(number)
        place.mkdir()
        for world in play(number, place):
            for node in world.nodes.values():
                assert isinstance(node.store, Mirror)
                seen |= node.store.seen
    return seen


def test_both_stores_do_the_same_through_any_history(tmp_path: Path) -> None:
    """Writes, pages, restarts, forgeries, clock jumps, tasks that fail: position, versions, pages, peers are equal."""
    seen = play_all(tmp_path)
    assert seen >= {
        "conflict",
        "tombstone",
        "link",
        "unlink",
        "waiting",
        "between two parts",
        "many lives",
        "tail",
        "offers",
        "nothing",
    }


def _forgets_conflicts(ledger: SqlLedger, changes: Any) -> None:
    TRUE["put"](ledger, [dataclasses.replace(change, kept=change.kept[:1]) for change in changes])


def _forgets_to_restore(ledger: SqlLedger, snapshot: Any) -> None:
    ledger._read.clear()
    ledger._places.clear()


def _disorders(ledger: SqlLedger, keys: Any) -> Any:
    return {key: [*some[:1], *some[:0:-1]] for key, some in TRUE["kept"](ledger, keys).items()}


TRUE = {name: getattr(SqlLedger, name) for name in ("put", "kept")}
SABOTAGE: dict[str, tuple[type, str, Any]] = {
    "conflicts are not written": (SqlLedger, "put", _forgets_conflicts),
    "conflicts have no order": (SqlLedger, "kept", _disorders),
    "a failed task leaves its position": (SqlLedger, "restore", _forgets_to_restore),
    "nothing waits": (SqlLedger, "waiting", lambda ledger, keys: []),
    "what waited stays": (SqlLedger, "drop_waiting", lambda ledger, waiting: None),
    "renamed memories are not found": (SqlLedger, "titled", lambda ledger, namespace, title: []),
    "links are not found": (SqlLedger, "links_from", lambda ledger, *_: []),
    "givers are mixed up": (SqlLedger, "giver_id", lambda ledger, giver: 1),
    "the tail forgets nothing that was replaced": (Tail, "_forget", lambda tail, number: None),
}


@pytest.mark.parametrize("what", SABOTAGE)
def test_a_broken_store_is_found_out(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: each of these mistakes in the encrypted store makes the same histories fail."""
    monkeypatch.setattr(*SABOTAGE[what])

    with pytest.raises((AssertionError, StoreError)):
        play_all(tmp_path)
