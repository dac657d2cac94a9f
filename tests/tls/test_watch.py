"""The watcher: which changes of a file it notices, when it acts, and that it goes on."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tls import watch as watch_module
from tls.watch import Watched, Watcher

INTERVAL = 0.005


class Seen:
    """What was read each time the watcher said that something changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.contents: list[str | None] = []

    def __call__(self) -> None:
        self.contents.append(self.path.read_text() if self.path.exists() else None)

    async def reads(self, content: str | None) -> None:
        """Wait until this was read last."""
        async with asyncio.timeout(5):
            while self.contents[-1:] != [content]:
                await asyncio.sleep(INTERVAL)


@asynccontextmanager
async def watching(*paths: Path) -> AsyncIterator[tuple[Watcher, Seen]]:
    seen = Seen(paths[0])
    watcher = Watcher((Watched(paths, seen),), INTERVAL)
    watcher.start()
    try:
        yield watcher, seen
    finally:
        await watcher.close()


def _edit(path: Path) -> None:
    path.write_text("after")


def _rename_over(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("after")
    other.replace(path)


def _same_size_and_time(path: Path) -> None:
    before = path.stat()
    path.write_text("after!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _link_elsewhere(path: Path) -> None:
    other = path.with_name("elsewhere")
    other.write_text("after")
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize(
    ("change", "after"),
    [
        pytest.param(_edit, "after", id="edited in place"),
        pytest.param(_rename_over, "after", id="renamed over"),
        pytest.param(_same_size_and_time, "after!", id="same size, time put back"),
        pytest.param(_link_elsewhere, "after", id="a link to elsewhere"),
        pytest.param(lambda path: path.unlink(), None, id="deleted"),
    ],
)
async def test_a_change_is_noticed(tmp_path: Path, change: Callable[[Path], None], after: str | None) -> None:
    """However the file comes to say something else, it is read again."""
    path = tmp_path / "allowlist"
    path.write_text("before")
    async with watching(path) as (_, seen):
        await seen.reads("before")
        change(path)
        await seen.reads(after)


async def test_deleted_and_created_again(tmp_path: Path) -> None:
    """A file that goes away and comes back is taken in both times."""
    path = tmp_path / "allowlist"
    path.write_text("before")
    async with watching(path) as (_, seen):
        await seen.reads("before")
        path.unlink()
        await seen.reads(None)
        path.write_text("again")
        await seen.reads("again")


async def test_any_of_several_files_counts(tmp_path: Path) -> None:
    """Certificate, key and bundle belong together: a change of the last acts on all."""
    paths = [tmp_path / name for name in ("cert", "key", "ca")]
    for path in paths:
        path.write_text("before")
    async with watching(*paths) as (_, seen):
        await seen.reads("before")
        paths[2].write_text("another")
        async with asyncio.timeout(5):
            while len(seen.contents) < 2:
                await asyncio.sleep(INTERVAL)


class Script:
    """Stands for the file's state: one for each look; after the last a look waits for nothing, and repeats it."""

    def __init__(self, states: Iterable[int]) -> None:
        self.states = list(states)
        self.looks = 0

    def __call__(self, path: Path) -> watch_module.Look:
        state = self.states[min(self.looks, len(self.states) - 1)]
        self.looks += 1
        return state, 0, 0, 0


@pytest.mark.parametrize(
    ("states", "acted_after"),
    [
        pytest.param([1, 1, 1, 1, 1], [2], id="nothing happens: once, at the start"),
        pytest.param([1, 1, 2, 2, 2], [2, 4], id="a change, once it has settled"),
        pytest.param([1, 1, 2, 3, 4, 5, 5, 5], [2, 7], id="half-written is not taken"),
        pytest.param([1, 2, 2, 2], [3], id="changed while the watcher started"),
        pytest.param([1, 1, 2, 1, 1, 1], [2], id="there and back"),
    ],
)
async def test_it_acts_when_two_looks_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: list[int], acted_after: list[int]
) -> None:
    """A file that is still being written looks different each time, and is left alone until it does not."""
    script = Script(states)
    monkeypatch.setattr(watch_module, "_state", script)
    acted: list[int] = []
    watcher = Watcher((Watched((tmp_path,), lambda: acted.append(script.looks)),), INTERVAL)
    watcher.start()
    async with asyncio.timeout(5):
        while script.looks < len(states) + 3:
            await asyncio.sleep(INTERVAL)
    await watcher.close()
    assert acted == acted_after


async def test_a_poke_acts_on_everything_at_once(tmp_path: Path) -> None:
    """SIGHUP: every file is taken in, changed or not, without waiting for the next look."""
    path = tmp_path / "allowlist"
    path.write_text("same")
    seen, other = Seen(path), Seen(path)
    watcher = Watcher((Watched((path,), seen), Watched((path,), other)), interval=3600)
    watcher.start()
    for count in (1, 2):
        watcher.poke()
        async with asyncio.timeout(5):
            while len(other.contents) < count:
                await asyncio.sleep(INTERVAL)
        assert seen.contents == other.contents == ["same"] * count
    await watcher.close()


async def test_what_goes_wrong_is_reported_and_the_watch_goes_on(tmp_path: Path) -> None:
    """A change that cannot be taken in is told to the loop's handler; the next change is noticed all the same."""
    path = tmp_path / "allowlist"
    path.write_text("one")
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["message"]))
    seen = Seen(path)

    def stumble() -> None:
        seen()
        if seen.contents[-1] == "bad":
            raise ValueError("cannot take this in")

    watcher = Watcher((Watched((path,), stumble),), INTERVAL)
    watcher.start()
    await seen.reads("one")
    path.write_text("bad")
    await seen.reads("bad")
    path.write_text("good")
    await seen.reads("good")
    await watcher.close()
    assert told == [f"the change of {path} could not be taken in"]


async def test_it_ends_when_it_is_closed(tmp_path: Path) -> None:
    """No task is left, also where it never started."""
    before = asyncio.all_tasks()
    watcher = Watcher((Watched((tmp_path,), lambda: None),), INTERVAL)
    await watcher.close()
    watcher.start()
    assert asyncio.all_tasks() > before
    await watcher.close()
    assert asyncio.all_tasks() == before
