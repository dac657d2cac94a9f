"""Encrypted stores for tests: written to through the real engine, held still, and read back whole."""

import functools
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from keys import ANYBODY, Nobody
from marker import MARKER
from stamps import over, stamp

from node.store import Reader, Store
from node.store.connection import Connection, connect
from node.store.key import derive, salt_of
from node.store.search import SearchFilter
from sync import lives, moment
from sync.attest import Unsigned
from sync.draft import Fields, new_memory
from sync.engine import Engine
from sync.ids import memory_id
from sync.link import LinkFields, link_id
from sync.moment import SECOND
from sync.policy import Policy
from sync.ports import Ledger
from sync.receive import Page, Part, Taken
from sync.record import memory_version
from sync.scope import Globs
from sync.version import Key, Version
from sync.writes import Written

T = TypeVar("T")

PASSPHRASE = "correct horse battery staple"
START = 1_800_000_000 * SECOND
PATIENCE = 20.0
"""Seconds after which a wait that should end at once is given up."""
EVERYTHING = Globs.everything()
POLICY = Policy(EVERYTHING, ANYBODY)
PEER, LIFE = "sha256:peer", "f" * 16

key_of = functools.lru_cache(maxsize=512)(derive)
"""The key for a passphrase and a salt, derived once for all tests."""


@functools.cache
def empty() -> bytes:
    """The file of a new store; copies of it have one key, so that not every test waits for one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        Store.open(path, PASSPHRASE, create=True).close()
        return path.read_bytes()


class Keeper:
    """A store, an engine over it, and a clock that moves on with every write."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        self.store = Store.open(path, PASSPHRASE, create=create)
        self.engine = Engine("host:test", secrets.token_bytes, Nobody())
        self.now = START
        self.do(self.engine.begin_life, self.tick(), lives.START)

    def tick(self) -> int:
        self.now += SECOND
        return self.now

    def do(self, body: Callable[..., T], *args: Any) -> T:
        """One task of the writer."""
        return self.store.writer.call(lambda ledger: body(ledger, *args))

    def write(self, title: str, content: str = f"some text {MARKER}", namespace: str = "a", **fields: Any) -> Version:
        """Store under a title."""
        return self.do(self.writing(title, content, namespace, **fields)).version

    def writing(
        self, title: str, content: str = "some text", namespace: str = "a", **fields: Any
    ) -> Callable[[Ledger], Written]:
        """The task that stores under a title."""
        wanted, now = Fields(namespace=namespace, title=title, content=content, **fields), self.tick()
        return lambda ledger: self.engine.store(ledger, wanted, "agent:test", now)

    def change(self, title: str, namespace: str = "a", /, **fields: Any) -> Version:
        """Change fields of the memory that has the title."""
        result = self.do(self.engine.update, self.key(title, namespace), Fields(**fields), "agent:test", self.tick())
        assert isinstance(result, Written), result
        return result.version

    def delete(self, title: str, namespace: str = "a") -> Version:
        result = self.do(self.engine.delete, self.key(title, namespace), "agent:test", self.tick())
        assert isinstance(result, Written), result
        return result.version

    def link(self, title: str, target_id: str, namespace: str = "a", **fields: Any) -> Version:
        """Link the memory that has the title to another one, which need not be here."""
        key = self.key(title, namespace)
        wanted = LinkFields(source_id=key[1], target_id=target_id, **fields)
        result = self.do(self.engine.link, namespace, wanted, "agent:test", self.tick())
        assert isinstance(result, Written), result
        return result.version

    def unlink(self, title: str, target_id: str, namespace: str = "a", relation: str = "related_to") -> int:
        key = (namespace, link_id(self.key(title, namespace)[1], target_id, relation))
        return self.do(self.engine.unlink, [key], "agent:test", self.tick())

    def key(self, title: str, namespace: str = "a") -> Key:
        return self.read(lambda reader: reader.by_title(namespace, title))[0].version.key

    def take(self, *versions: Version, peer: str = PEER, life: str = LIFE) -> Taken:
        """Receive a peer's page of these versions."""
        page = Page(peer, life, None, None, None, False)
        return self.do(self.engine.receive, page, Part(versions), POLICY, Taken(), self.tick())

    def read(self, task: Callable[[Reader], T]) -> T:
        return self.store.reader.call(task)

    def search(self, text: str, limit: int = 20, **filters: Any) -> list[str]:
        """Titles, the best match first."""
        wanted = SearchFilter(text, moment.text(self.now), limit, **filters)
        found = self.read(lambda reader: reader.search(wanted)).documents
        return [msgspec.json.decode(document)["title"] for document in found]

    def titles(self) -> list[str]:
        """Titles of all memories."""
        return sorted(title for (title,) in self.rows("SELECT title FROM memory WHERE kind = 'm'"))

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a statement, from a reader's connection."""
        found: list[tuple[Any, ...]] = self.read(lambda reader: reader._execute(statement, values).fetchall())
        return found

    def index(self) -> None:
        """Return once the text index holds everything and nothing that is dead."""

        def is_in_step() -> bool:
            last = self.store.position.number
            return self.rows("SELECT number FROM indexed") == [(last,)] and not self.rows("SELECT 1 FROM dead")

        self.do(lambda ledger: None)  # wakes the writer, which looks after the index once nobody asks for anything
        until(is_in_step)

    def merge(self) -> None:
        """Have all rows in the index of ids, and none in memory."""

        def task(ledger: Any) -> None:
            ledger._execute("COMMIT")
            locator = self.store.writer.locator
            while locator.run.entries:
                assert locator.step()
            ledger._execute("BEGIN IMMEDIATE")

        self.do(task)

    def close(self) -> None:
        self.store.close()


def foreign(title: str, content: str = "theirs", namespace: str = "a", **how: Any) -> Version:
    """A version written elsewhere: `actor`, `counter`, `now`, `seen` (what it replaces), `id`, and its fields."""
    actor, counter, now = how.pop("actor", "e" * 16), how.pop("counter", 1 << 20), how.pop("now", START)
    seen, record_id = how.pop("seen", ()), how.pop("id", memory_id(namespace, title, 0))
    memory = new_memory(Fields(namespace=namespace, title=title, content=content, **how), record_id, now)
    placed = over(*seen, actor=actor, counter=counter) if seen else stamp({actor: counter})
    return memory_version(memory, Unsigned("agent:elsewhere"), placed)


def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fail where it does not for too long."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "nothing happened for too long"
        time.sleep(0.002)


@contextmanager
def held(store: Store) -> Iterator[None]:
    """Keep the writer busy, so that all tasks given inside queue up and run together afterwards."""
    began, release = threading.Event(), threading.Event()
    blocker = store.writer._submit(lambda ledger: (began.set(), release.wait(PATIENCE)), False)
    assert began.wait(PATIENCE)
    try:
        yield
    finally:
        release.set()
        blocker.result(PATIENCE)


def together(store: Store, tasks: Sequence[Callable[[Ledger], Any]], *, bulk: bool = False) -> list[Any]:
    """Run tasks as one group of the writer; an exception takes the place of a result."""
    with held(store):
        futures = [store.writer._submit(task, bulk) for task in tasks]
    return [future.exception(PATIENCE) or future.result() for future in futures]


@contextmanager
def raw(path: Path, passphrase: str = PASSPHRASE) -> Iterator[Connection]:
    """A connection beside the store's own."""
    connection = connect(path, key_of(passphrase, salt_of(path)), writer=False)
    try:
        yield connection
    finally:
        connection.close()


def faults(path: Path) -> list[str]:
    """What SQLCipher's and SQLite's own checks find, page by page and row by row; empty where all is well."""
    with raw(path) as connection:
        found = [text for (text,) in connection.execute("PRAGMA cipher_integrity_check")]
        return found + [text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]


def files_of(path: Path) -> list[Path]:
    """Every file that belongs to a store."""
    return sorted(path.parent.glob(path.name + "*"))


def holding(marker: str, paths: Sequence[Path]) -> list[str]:
    """Names of the files that hold the marker as plain text, in any common encoding."""
    forms = [marker.encode(), marker.encode("utf-16-le"), marker.encode("utf-16-be")]
    return [path.name for path in paths if any(form in path.read_bytes() for form in forms)]
