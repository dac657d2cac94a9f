"""A store whose file is taken away under it: nothing more is acknowledged, and the next start takes what lies there."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from stores import PASSPHRASE, Keeper

from node import health
from node.api.errors import guarded
from node.store import condition, writer
from node.store.backup import back_up
from node.store.errors import StoreReplaced


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keeper:
    monkeypatch.setattr(writer, "LOOK_EVERY", 0.0)
    made = Keeper(tmp_path / "store.db")
    made.write("one")
    return made


def titles(keeper: Keeper) -> set[str | None]:
    return {title for (title,) in keeper.rows("SELECT title FROM memory WHERE kind = 'm'")}


def exchange(keeper: Keeper) -> None:
    """An operator moves a copy over the file, as one does with a backup."""
    copy = keeper.path.with_name("copy.db")
    back_up(keeper.path, PASSPHRASE, copy)
    copy.replace(keeper.path)


@pytest.mark.parametrize("how", [exchange, lambda keeper: keeper.path.unlink()], ids=["exchanged", "removed"])
def test_nothing_is_acknowledged_into_a_file_that_nobody_finds(how: object, keeper: Keeper) -> None:
    """The error names the file and what to do; it stays so, and what is kept can still be read."""
    assert callable(how)
    how(keeper)
    for _ in range(2):
        with pytest.raises(StoreReplaced, match=r"store\.db was removed or exchanged .* Put the file back"):
            keeper.write("two")
    assert titles(keeper) == {"one"}
    keeper.close()


def test_the_node_goes_on_once_the_file_is_back(keeper: Keeper) -> None:
    """As the error says: without a restart. Control: another file in its place, though a copy of it, is none."""
    away = keeper.path.with_name("away.db")
    keeper.path.rename(away)
    with pytest.raises(StoreReplaced, match=r"Put the file back .* goes on by itself"):
        keeper.write("two")
    shutil.copy(away, keeper.path)
    with pytest.raises(StoreReplaced):
        keeper.write("two")
    away.replace(keeper.path)
    keeper.write("two")
    assert titles(keeper) == {"one", "two"}
    keeper.close()


def test_everybody_says_the_same_of_a_store_that_was_taken_away(keeper: Keeper) -> None:
    """The error, which the log and a peer's status repeat, the alarm, and the API, whose answer commands repeat."""
    keeper.path.unlink()
    with pytest.raises(StoreReplaced) as refused:
        keeper.write("two")
    (alarm,) = health.alarms({"reasons": [condition.REPLACED]})
    answer = asyncio.run(at_the_api(refused.value))
    for text in (str(refused.value), alarm.detail, answer):
        assert StoreReplaced.DO in text
    keeper.close()


async def at_the_api(error: StoreReplaced) -> str:
    async def refuses(_: web.BaseRequest) -> web.StreamResponse:
        raise error

    answered = await guarded(refuses)(make_mocked_request("GET", "/"))
    assert isinstance(answered, web.Response)
    return str(json.loads(answered.text or "")["error"])


def test_the_next_start_goes_on_with_the_file_that_is_there(keeper: Keeper) -> None:
    """It is a restored copy like any other."""
    exchange(keeper)
    with pytest.raises(StoreReplaced):
        keeper.write("two")
    keeper.close()
    again = Keeper(keeper.path, create=False)
    again.write("three")
    assert titles(again) == {"one", "three"}
    again.close()


def test_without_the_look_what_was_acknowledged_is_lost(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the write succeeds, and after the restart nobody has ever heard of it."""
    monkeypatch.setattr(writer, "file_at", lambda path: keeper.store.writer._file)
    exchange(keeper)
    keeper.write("two")
    assert titles(keeper) == {"one", "two"}
    keeper.close()
    again = Keeper(keeper.path, create=False)
    assert titles(again) == {"one"}
    again.close()


def test_a_file_that_cannot_be_looked_at_is_the_stores_trouble(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """An OSError as it is would be taken for one of the network."""

    stat = Path.stat

    def refused(path: Path, **options: bool) -> os.stat_result:
        if path == keeper.path:
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    keeper.write("two")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refused)
        with pytest.raises(StoreReplaced):
            keeper.write("three")
    keeper.write("four")
    assert titles(keeper) == {"one", "two", "four"}
    keeper.close()
