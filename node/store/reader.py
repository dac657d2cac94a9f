"""The read side: connections of their own beside the writer, each used by one thread at a time.

A function run here sees one state of the store from beginning to end (one read transaction).
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from node.store import lookups
from node.store.answer import Answer, OnLoop
from node.store.connection import FAULTS, Connection, explained
from node.store.errors import StoreError
from node.store.locator import Locator
from node.store.pages import cut_page
from node.store.queries import Queries
from sync.ports import FeedPage, Giver, Life, PageRequest, PeerState, Position

T = TypeVar("T")


class Reader(Queries):
    """One consistent read: `sync.ports.FeedReader`, and the look-ups of `Queries`."""

    def __init__(self, connection: Connection, locator: Locator) -> None:
        super().__init__(connection, locator)
        self._execute = connection.execute
        self._openings = connection.openings

    def renew(self) -> None:
        """Begin anew where an error closed the connection: what it had of its own went with it."""
        if self._openings != self._connection.openings or not self._connection.is_open:
            self.equip()
            self._openings = self._connection.openings

    def undo(self, error: BaseException) -> bool:
        """As `Connection.undo`."""
        return self._connection.undo(error)

    def execute(self, text: str, values: Sequence[Any] = ()) -> Any:
        """A statement of the caller's own; it may only read."""
        return self._execute(text, values)

    def lives(self) -> Sequence[Life]:
        return lookups.lives(self._execute)

    def position(self) -> Position:
        return lookups.position(self._execute)

    def head_at(self, number: int) -> bytes | None:
        return lookups.head_at(self._execute, number)

    def peer(self, peer: str) -> PeerState:
        return lookups.peer(self._execute, peer)

    def find_giver(self, giver: Giver) -> int:
        return lookups.find_giver(self._execute, giver)

    def page(self, request: PageRequest) -> FeedPage:
        return cut_page(self._execute, self.position(), request)


def _in_snapshot(reader: Reader, task: Callable[[Reader], T]) -> T:
    with reader.snapshot():
        return task(reader)


def _over(reader: Reader, task: Callable[[Reader], T]) -> T:
    reader.renew()
    return task(reader)


@dataclass(frozen=True, slots=True)
class _Task:
    how: Callable[[Any], Any]
    what: Callable[[Reader], Any]
    answer: Answer


class Readers:
    """A pool. `run` awaits a free connection; no reader ever waits for the writer."""

    def __init__(self, connections: Sequence[Connection], locator: Locator, path: Path) -> None:
        self._connections = list(connections)
        self._path = path
        self._free: SimpleQueue[Reader] = SimpleQueue()
        for connection in connections:
            self._free.put(Reader(connection, locator))
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"store-reader_{number}", daemon=True)
            for number in range(len(connections))
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, task: Callable[[Reader], T]) -> T:
        """Run `task` over one state of the store, on a thread. Raises what it raises, or StoreError."""
        return await self._on_a_thread(self.call, task)

    def call(self, task: Callable[[Reader], T]) -> T:
        """As `run`, on the calling thread."""
        return self._twice(lambda reader: _in_snapshot(reader, task))

    async def look_up(self, task: Callable[[Reader], T]) -> T:
        """As `run`, without a transaction: each statement of the task sees one state of the store, not all the same."""
        return await self._on_a_thread(self._one_statement, task)

    def _one_statement(self, task: Callable[[Reader], T]) -> T:
        return self._twice(lambda reader: reader.in_one_statement(task))

    def _twice(self, task: Callable[[Reader], T]) -> T:
        """Read with a free one; once more where an error closed its connection, for the disk may have failed once only.

        Raises StoreError for what the database raises.
        """
        reader = self._free.get()
        try:
            try:
                return _over(reader, task)
            except FAULTS as error:
                if not reader.undo(error):
                    raise
                return _over(reader, task)
        except FAULTS as error:
            reader.undo(error)
            raise explained(error, self._path) from error
        finally:
            self._free.put(reader)

    async def _on_a_thread(self, how: Callable[[Callable[[Reader], T]], T], task: Callable[[Reader], T]) -> T:
        answer = OnLoop()
        with self._lock:  # what came after the end of the queue would never be answered
            if self._closing:
                raise StoreError("the store is closing.", "Ask again once the node runs.")
            self._tasks.put(_Task(how, task, answer))
        result: T = await answer.future
        return result

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                result, error = task.how(task.what), None
            except BaseException as raised:
                result, error = None, raised
            task.answer.settle(result, error)
            del task, result, error  # nothing of it is held until the next one comes

    def close(self) -> None:
        """Answer what was asked for, then end."""
        with self._lock:
            self._closing = True
            for _ in self._threads:
                self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        for connection in self._connections:
            connection.close()
