"""Our answer to an older daemon's `since`: cut as it cuts its own, but for runs of equal times."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from bridged import Bridged
from rust_daemon import V063

from node.legacy import endpoint
from sync.errors import RemoteError


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[Bridged]:
    """A store with five memories of five seconds, and three of one."""
    made = Bridged(tmp_path / "store.db", V063, 1)
    await made.start()
    for n in range(5):
        await made.write(f"m {n}", "a", "text")
    made.tick()
    bodies = [{"title": f"same {n}", "content": "text", "namespace": "b", "tier": "long"} for n in range(3)]
    await made.memories.create_many(json.dumps(bodies).encode(), None)
    yield made
    made.close()


async def since(world: Bridged, **query: str) -> Any:
    return json.loads(await world.endpoint.since(world.peer, query))


def titles(page: Any) -> list[str]:
    return [one["title"] for one in page["memories"]]


async def test_a_page_is_ascending_exclusive_and_says_its_ends(world: Bridged) -> None:
    """The members that its clients need, the limit that was taken, and the text that was asked with."""
    page = await since(world, limit="3")
    assert titles(page) == ["m 0", "m 1", "m 2"]
    assert (page["count"], page["limit"], page["updated_since"]) == (3, 3, None)
    ends = (page["earliest_updated_at"], page["latest_updated_at"])
    assert ends == (page["memories"][0]["updated_at"], page["memories"][-1]["updated_at"])
    after = await since(world, limit="2", since=ends[1])
    assert titles(after) == ["m 3", "m 4"]
    assert after["updated_since"] == ends[1]
    empty = await since(world, limit="0")
    assert (empty["count"], empty["limit"], empty["latest_updated_at"]) == (0, 0, None)
    assert (await since(world, limit="99999"))["limit"] == 10_000
    assert (await since(world, since=""))["updated_since"] == ""


async def test_a_page_goes_on_to_the_end_of_a_run(world: Bridged) -> None:
    """Its client asks on from the last time, so the rest of a run would never be seen."""
    page = await since(world, limit="6")
    assert len(titles(page)) == 8
    assert (await since(world, since=page["latest_updated_at"]))["count"] == 0


async def test_a_page_is_cut_by_bytes_at_the_end_of_a_run(world: Bridged, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows were asked for."""
    monkeypatch.setattr(endpoint, "MAX_PAGE_BYTES", 1_000)
    assert titles(await since(world)) == ["m 0", "m 1"]


@pytest.mark.parametrize(
    ("query", "said"), [({"since": "yesterday"}, "since: 'yesterday'"), ({"limit": "-1"}, "limit")]
)
async def test_a_wrong_query_is_refused_in_words(world: Bridged, query: dict[str, str], said: str) -> None:
    """With what was found, and what is expected."""
    with pytest.raises(RemoteError) as found:
        await since(world, **query)
    assert (found.value.code, said in str(found.value)) == ("bad_query", True)


async def test_a_memory_goes_out_under_the_name_that_it_has_there(world: Bridged) -> None:
    """Whatever our id is; and two of ours that share an id have two names."""
    (row,) = [one for one in (await since(world))["memories"] if one["title"] == "m 0"]
    await world.push([{**row, "id": "theirs", "updated_at": "2026-01-01T00:00:00+00:00"}])
    assert [one["id"] for one in (await since(world))["memories"] if one["title"] == "m 0"] == ["theirs"]
    await world.change(row["id"], namespace="moved")
    await world.write("m 0", "a", "a new one with the old id")
    ids = [one["id"] for one in (await since(world))["memories"]]
    assert len(set(ids)) == len(ids) == 9
