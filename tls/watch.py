"""Notices that a file changed, by looking at it: works on every file system, for edits, renames and mounts alike."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Look = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Watched:
    """Some files that belong together, and what to do when any of them changed."""

    paths: Sequence[Path]
    on_change: Callable[[], None]
    """Must not raise: it keeps the last good state and logs what is wrong."""


class Watcher:
    """Looks every `interval` seconds. A change counts when two looks in a row agree: not in the middle of a write."""

    def __init__(self, watched: Sequence[Watched], interval: float = 0.25) -> None:
        self._watched = watched
        self._interval = interval
        self._poked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="watch")

    def poke(self) -> None:
        """Act on every file now, changed or not (SIGHUP)."""
        self._poked.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        acted = [_look(one.paths) for one in self._watched]
        before = acted[:]
        while True:
            poked = await self._pause()
            for index, one in enumerate(self._watched):
                now = _look(one.paths)
                settled, before[index] = now == before[index], now
                if poked or (settled and now != acted[index]):
                    acted[index] = now
                    one.on_change()

    async def _pause(self) -> bool:
        try:
            await asyncio.wait_for(self._poked.wait(), self._interval)
        except TimeoutError:
            return False
        self._poked.clear()
        return True


def _look(paths: Sequence[Path]) -> Mapping[Path, Look | None]:
    return {path: _state(path) for path in paths}


def _state(path: Path) -> Look | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino
