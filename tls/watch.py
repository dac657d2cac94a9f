"""Notices that a file changed, by looking at it: works on every file system, for edits, renames and mounts alike."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Look = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Watched:
    """Some files that belong together, and what to do when any of them changed."""

    paths: Sequence[Path]
    on_change: Callable[[], None]
    """Keeps the last good state and logs what is wrong. Should it raise all the same, it is called again next time."""
    modes: Sequence[Path] = ()
    """Files and folders whose content may change at any time: only who they belong to and their mode count."""


class Watcher:
    """Looks every `interval` seconds. A change counts when two looks in a row agree: not in the middle of a write.

    It acts once on everything soon after its start: a file may have changed since its owner read it.
    """

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
        acted: list[Mapping[Path, Look | None] | None] = [None for _ in self._watched]
        before = [_look(one) for one in self._watched]
        while True:
            poked = await self._pause()
            for index, one in enumerate(self._watched):
                now = _look(one)
                settled, before[index] = now == before[index], now
                if poked or (settled and now != acted[index]):
                    acted[index] = now
                    _act(one)

    async def _pause(self) -> bool:
        try:
            await asyncio.wait_for(self._poked.wait(), self._interval)
        except TimeoutError:
            return False
        self._poked.clear()
        return True


def _act(watched: Watched) -> None:
    try:
        watched.on_change()
    except Exception as error:  # a watcher that has died silently would leave a removed peer connected for ever
        names = ", ".join(str(path) for path in (*watched.paths, *watched.modes))
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"the change of {names} could not be taken in", "exception": error}
        )


def _look(watched: Watched) -> Mapping[Path, Look | None]:
    return {path: _state(path) for path in watched.paths} | {path: _rights(path) for path in watched.modes}


def _state(path: Path) -> Look | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino


def _rights(path: Path) -> Look | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mode, state.st_uid, state.st_gid
