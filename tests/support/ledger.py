"""What a cluster acknowledged: written down as it was answered, and looked for on every node afterwards."""

import http.client
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

Call = Callable[..., tuple[int, Any]]
"""Method, path and perhaps a body to status and answer. Raises OSError or HTTPException where no answer came."""
NAMESPACE = "ledger"
PACE = 0.05
"""Seconds between two writes of one writer."""


class Ledger:
    """For each title the contents that it may have: one where its last write was acknowledged; None: deleted.

    A write that was refused changes nothing. One without an answer may have been done, or not: then both are right.
    """

    def __init__(self) -> None:
        self._may_be: dict[str, set[str | None]] = {}
        self._ids: dict[str, str] = {}
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        """`acknowledged`, `refused`, `unanswered`."""

    def store(self, call: Call, title: str, content: str) -> bool:
        """Create or update; True where it was acknowledged."""
        body = {"title": title, "content": content, "namespace": NAMESPACE, "tier": "long"}
        answer = self._done(title, content, lambda: call("POST", "/memories", body))
        if answer is None:
            return False
        self._ids[title] = answer["id"]
        return True

    def delete(self, call: Call, title: str) -> bool:
        """Delete what was stored; True where it was acknowledged."""
        return self._done(title, None, lambda: call("DELETE", f"/memories/{self._ids[title]}")) is not None

    def _done(self, title: str, content: str | None, write: Callable[[], tuple[int, Any]]) -> Any:
        try:
            status, answer = write()
        except (OSError, http.client.HTTPException):
            status, answer = 0, None
        with self._lock:
            before = self._may_be.setdefault(title, {None})
            if status in (0, 500):
                self.counts["unanswered"] += 1
                before.add(content)
                return None
            if status >= 400:
                self.counts["refused"] += 1
                return None
            self.counts["acknowledged"] += 1
            self._may_be[title] = {content}
        return answer

    def wrong(self, found: Mapping[str, str]) -> list[str]:
        """What a node has otherwise than it was acknowledged. `found`: its titles and contents."""
        with self._lock:
            return [
                f"{title}: found {found.get(title)!r}, acknowledged {self._may_be.get(title, {None})}"
                for title in sorted(self._may_be.keys() | found.keys())
                if found.get(title) not in self._may_be.get(title, {None})
            ]

    @contextmanager
    def traffic(self, calls: Mapping[str, Call]) -> Iterator[None]:
        """A writer for each of these nodes while the block runs: it creates, updates and deletes titles of its own."""
        end = threading.Event()
        with ExitStack() as stack:
            for name, call in calls.items():
                thread = threading.Thread(target=self._write_on, args=(name, call, end), name=f"writer {name}")
                thread.start()
                stack.callback(thread.join)
            stack.callback(end.set)
            yield

    def _write_on(self, name: str, call: Call, end: threading.Event) -> None:
        mine: list[str] = []
        for step in itertools.count():
            if end.wait(PACE):
                return
            with self._lock:
                self.counts[name] += 1
                title = f"{name} {self.counts[name]}"
            if step % 4 == 2 and mine:
                self.store(call, mine[-1], f"changed in step {step}")
            elif step % 8 == 7 and mine:
                self.delete(call, mine.pop(0))
            elif self.store(call, title, f"made in step {step}"):
                mine.append(title)
