"""Links in the feed beside a daemon of the older protocol: they are passed over, and hold nothing up."""

import json
from pathlib import Path

import pytest
from bridged import Bridged
from rust_daemon import V063

from node.legacy import outbox
from node.linking import Linking


async def linked(path: Path) -> list[str]:
    """The titles at the daemon, after a link, an unlink and a memory that came after both."""
    world = Bridged(path / "store.db", V063, 1)
    try:
        await world.start()
        for title in ("one", "two"):
            await world.write(title, "a", "text")
        linking = Linking(world.memories)
        ids = [one["id"] for one in await world.ours()]
        for relation in ("supersedes", "related_to"):
            body = {"source_id": ids[0], "target_id": ids[1], "relation": relation}
            await linking.create(json.dumps(body).encode(), None, None)
        await linking.delete(json.dumps(body).encode(), {}, None)
        await world.write("three", "a", "text")
        await world.send()
        page = json.loads(await world.endpoint.since(world.peer, {}))
        assert [one["title"] for one in page["memories"]] == ["one", "two", "three"]
        return sorted(one["title"] for one in world.theirs())
    finally:
        world.close()


async def test_links_hold_nothing_up(tmp_path: Path) -> None:
    """The memories before and after them are sent, and shown to one that asks."""
    assert await linked(tmp_path) == ["one", "three", "two"]


async def test_a_link_that_is_taken_for_a_memory_would_hold_everything_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: without looking at the key, the first link ends the sending."""
    monkeypatch.setattr(outbox, "is_link", lambda key: False)
    with pytest.raises(Exception, match="missing required field"):
        await linked(tmp_path)
