"""The one writer: a thread, two queues, and after each answer the housekeeping.

Small tasks go first, up to 64 of them in one transaction, each in a savepoint (group commit); a bulk task is a
transaction of its own. A task is answered right after its COMMIT reached the disk. Only then the index of the text and
the write-ahead log are looked after, in steps so short that a waiting task hardly notices.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from node.store import lookups
from node.store.answer import Answer, Blocking, OnLoop
from node.store.connection import FAULTS, Connection, explained, replaced
from node.store.errors import StoreError
from node.store.file import file_at
from node.store.ledger import Snapshot, SqlLedger
from node.store.tail import Tail
from node.store.textindex import SHARED_STEP, STEP, TextIndex
from node.store.wal import WriteAheadLog
from sync.ports import Ledger, Position

T = TypeVar("T")

GROUP = 64
MOST_IN_A_ROW = 4
"""Groups of small tasks before an index that presses gets its turn."""
SHARED = 1.0
"""Seconds after a small task in which more are expected, so that nothing long is begun."""
LOOK_EVERY = 0.25
"""Seconds after which the writer looks again whether the file that it has open is still the one at its path."""
PROBE_EVERY = 1.0
"""Seconds between attempts to write after one has failed: so it is known when the disk is well again."""
IDLE = 0.02
"""Seconds without a task after which the index of the text catches up."""


@dataclass(slots=True)
class _Task:
    run: Callable[[Ledger], Any]
    bulk: bool
    answer: Answer


class Writer:
    """Runs functions over the ledger, one after the other, each acknowledged once it is on disk."""

    def __init__(self, connection: Connection, copier: Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._file, self._looked_at = file_at(path), time.monotonic()
        self._openings = connection.openings
        self._probe_at = 0.0
        self.trouble: StoreError | None = None
        """Why the last attempt to write failed; None after one that did not."""
        self._ledger = SqlLedger(connection)
        self.locator = self._ledger.locator
        self._text = TextIndex(connection)
        self._log = WriteAheadLog(connection, copier, path)
        self._in_a_row = 0
        self._shared_until = 0.0
        self._small: deque[_Task] = deque()
        self._bulk: deque[_Task] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._listeners: list[Callable[[Position], None]] = []
        self._mourners: list[Callable[[], None]] = []
        self.tail = Tail(self._ledger.state)
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    async def run(self, task: Callable[[Ledger], T], *, bulk: bool = False) -> T:
        """Run `task` in a transaction and return its result once that is on disk.

        Raises what the task raised (then nothing of it remains), or StoreError. A cancelled waiter does not undo it.
        """
        answer = OnLoop()
        self._enqueue(_Task(task, bulk, answer))
        result: T = await answer.future
        return result

    def call(self, task: Callable[[Ledger], T], *, bulk: bool = False) -> T:
        """As `run`, for callers without an event loop."""
        return self._submit(task, bulk).result()

    @property
    def is_shared(self) -> bool:
        """True where small tasks come in, which should wait for short transactions only."""
        return time.monotonic() < self._shared_until

    def on_commit(self, listener: Callable[[Position], None]) -> None:
        """Call `listener` from the writer's thread after each commit that moved the feed. It must not raise."""
        self._listeners.append(listener)

    def on_end(self, listener: Callable[[], None]) -> None:
        """Call `listener` from the writer's thread where that ends without having been closed. It must not raise."""
        self._mourners.append(listener)

    @property
    def is_running(self) -> bool:
        """False once nothing is written any more, whatever the disk says."""
        return self._thread.is_alive()

    @property
    def is_displaced(self) -> bool:
        """True where the file that is open is not the one at its path."""
        return file_at(self._path) != self._file

    def _submit(self, run: Callable[[Ledger], T], bulk: bool) -> Future[T]:
        answer = Blocking()
        self._enqueue(_Task(run, bulk, answer))
        return answer.future

    def _enqueue(self, task: _Task) -> None:
        with self._wake:
            if self._closing:
                raise StoreError("the store is closing.", "Ask again once the node runs.")
            (self._bulk if task.bulk else self._small).append(task)
            if not task.bulk:
                self._shared_until = time.monotonic() + SHARED
            self._wake.notify()

    def close(self) -> None:
        """Finish what was asked for, empty the write-ahead log, and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    # --- the thread

    def _work(self) -> None:
        try:
            self._until_closed()
        except BaseException:
            # A bug, or a disk that does not even let a transaction be undone. Nobody may wait for ever for an answer.
            with self._wake:
                self._closing = True
                waiting = [*self._small, *self._bulk]
            stopped = StoreError("the store has stopped working.", "Restart the node; see its log.")
            for task in waiting:
                task.answer.settle(None, stopped)
            for listener in self._mourners:
                listener()
            raise  # to the thread's hook, which shows the trace

    def _until_closed(self) -> None:
        """Small tasks, then an index that lags too far, then bulk; housekeeping when nobody waits."""
        while True:
            group = self._next_group()
            if group:
                self._commit(group)
                self._log.written()
            elif self._text.is_pressing:
                self._index(SHARED_STEP if self.is_shared else STEP)
            elif self.locator.is_pressing:
                self._merge()
            elif self._closing and not self._has_tasks():
                break
            elif self.trouble is not None and time.monotonic() >= self._probe_at:
                self._probe()
            elif self.locator.is_due:
                self._merge()
            elif self._text.is_behind:
                self._index(SHARED_STEP if self.is_shared else STEP)
            elif self._text.is_untidy:
                self._text.tidy()
            else:
                self._log.settle()
        self._log.close()

    def _has_tasks(self) -> bool:
        with self._wake:
            return bool(self._small or self._bulk)

    def _next_group(self) -> list[_Task]:
        with self._wake:
            is_busy = self._text.is_long or self.locator.is_due
            if not self._small and not self._bulk and not self._closing and not is_busy:
                is_behind = self._text.is_behind or self._text.is_untidy or self._log.is_due
                self._wake.wait(IDLE if is_behind else PROBE_EVERY if self.trouble is not None else None)
            # A small task waits for one step of whatever is under way, never for two; but a stream of them must not
            # starve an index that lags too far.
            is_pressed = self._text.is_pressing or self.locator.is_pressing
            if self._small and not (is_pressed and self._in_a_row >= MOST_IN_A_ROW):
                self._in_a_row += 1
                return [self._small.popleft() for _ in range(min(GROUP, len(self._small)))]
            self._in_a_row = 0
            if self._bulk and not is_pressed:
                return [self._bulk.popleft()]
            return []

    def _index(self, rows: int) -> None:
        if not self._text.step(rows):
            time.sleep(IDLE)  # a full disk: do not spin until there is space

    def _merge(self) -> None:
        if not self.locator.step():
            time.sleep(IDLE)

    def _commit(self, group: list[_Task]) -> None:
        before, written = self._ledger.begin(), self._connection.total_changes
        outcomes: list[tuple[_Task, Any, BaseException | None]] = []
        try:
            self._check_file()
            self._connection.execute("BEGIN IMMEDIATE")
            self._check_state()
            for task in group:
                outcomes.append((task, *self._run_one(task, alone=len(group) == 1)))
            self._connection.execute("COMMIT")
        except BaseException as error:
            self._abandon(group, before, error)
            if isinstance(error, _StateLost):
                raise
            return
        if self._connection.total_changes != written:
            self.trouble = None
        self.locator.committed()
        state = self._ledger.state
        self.tail.committed(state)  # before the answers: who has one may count on it
        for task, result, failure in outcomes:
            task.answer.settle(result, failure)
        if state.changes:
            self._text.committed(state.position.number)
            for listener in self._listeners:
                listener(state.position)

    def _check_file(self) -> None:
        """What is written into a file that nobody can find any more is lost at the next start: refuse it."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY:
            return
        if self.is_displaced:
            raise replaced(self._path)
        self._looked_at = now

    def _check_state(self) -> None:
        """What the ledger has in memory is what the store says; asked where the connection is another than before."""
        if self._connection.openings == self._openings:
            return
        if lookups.position(self._connection.execute) != self._ledger.state.position:
            raise _StateLost(
                "after an error of the disk the store is not as this node knew it.", "Restart the node; see its log."
            )
        self._openings = self._connection.openings

    def _probe(self) -> None:
        """Write something that changes nothing: is the trouble over?"""
        self._probe_at = time.monotonic() + PROBE_EVERY
        try:
            self._check_file()
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("UPDATE located SET number = number")
            self._connection.execute("COMMIT")
            self.trouble = None
            self._log.written()
        except StoreError as error:
            self.trouble = error
        except FAULTS as error:
            self._connection.undo(error)
            self.trouble = explained(error, self._path)

    def _run_one(self, task: _Task, *, alone: bool) -> tuple[Any, BaseException | None]:
        if alone:
            return task.run(self._ledger), None  # what it raises rolls the whole transaction back
        before = self._ledger.snapshot()
        execute = self._connection.execute
        execute("SAVEPOINT task")
        try:
            result = task.run(self._ledger)
        except FAULTS:
            raise  # the whole transaction is in doubt
        except Exception as error:
            execute("ROLLBACK TO task")
            execute("RELEASE task")
            self._ledger.restore(before)
            return None, error
        execute("RELEASE task")
        return result, None

    def _abandon(self, group: list[_Task], before: Snapshot, error: BaseException) -> None:
        cause = explained(error, self._path) if isinstance(error, FAULTS) else error
        try:
            self._connection.undo(error)
            self._ledger.restore(before)
        finally:
            if isinstance(cause, StoreError):
                self.trouble = cause
            for task in group:
                task.answer.settle(None, cause)


class _StateLost(StoreError):
    """Nothing may be written any more by this process."""
