"""A bulk of several transactions whose store fails in a later one: the answer says what is stored, and what is not."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import stores
from certs import Mesh
from lines import Caller
from nodes import Place, local

from node.daemon import Daemon
from node.store.errors import StoreError, StoreFull

FAILURES = {"store_full": (StoreFull("no space.", "Free some."), 507), "store": (StoreError("odd.", "Look."), 500)}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[tuple[Daemon, Caller]]:
    place = Place(Mesh(tmp_path), "node", {})
    async with place.serving() as daemon, local(daemon) as caller:
        yield daemon, caller


def failing(daemon: Daemon, error: StoreError, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store takes so many bulk transactions, and then none."""
    true, done = daemon.store.writer.run, [0]

    async def run(task: Any, *, bulk: bool = False) -> Any:
        done[0] += bulk
        if bulk and done[0] > after:
            raise error
        return await true(task, bulk=bulk)

    monkeypatch.setattr(daemon.store.writer, "run", run)


async def held(caller: Caller) -> set[str]:
    return {one["title"] for one in (await caller("GET", "/memories?limit=1000")).json["memories"]}


@pytest.mark.parametrize("code", FAILURES)
async def test_what_is_stored_of_a_bulk_is_told(
    node: tuple[Daemon, Caller], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many of how many, the ids of those that are, the places of those that are not; and it is so."""
    daemon, caller = node
    error, status = FAILURES[code]
    failing(daemon, error, 2, monkeypatch)
    bodies = [{"title": f"{number}", "content": "c"} for number in range(250)]
    bodies[3] = {"title": "no content"}
    reply = await caller("POST", "/memories/bulk", bodies)
    told = reply.json
    assert (reply.status, told["code"], told["created"]) == (status, code, 199)
    assert told["error"].startswith("199 of 250 were stored, and the others were not: ")
    not_stored = {int(one.partition(":")[0]) for one in told["errors"]}
    assert not_stored == {3, *range(200, 250)}
    assert await held(caller) == {str(number) for number in range(250)} - {str(number) for number in not_stored}
    assert len(set(told["ids"])) == 199


async def test_a_bulk_of_which_nothing_is_stored_says_so(
    node: tuple[Daemon, Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: where the first transaction fails the answer is the plain error, and nothing is there."""
    daemon, caller = node
    failing(daemon, FAILURES["store_full"][0], 0, monkeypatch)
    reply = await caller("POST", "/memories/bulk", [{"title": f"{number}", "content": "c"} for number in range(250)])
    assert (reply.status, reply.code) == (507, "store_full")
    assert await held(caller) == set()


async def test_what_was_taken_of_brought_versions_is_told(
    node: tuple[Daemon, Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outcome for each, in their order; those that were not looked at any more have failed."""
    daemon, caller = node
    failing(daemon, FAILURES["store_full"][0], 1, monkeypatch)
    brought = [msgspec.Raw(stores.foreign(f"{number}", now=daemon.clock.now()).doc) for number in range(250)]
    reply = await caller("POST", "/sync/versions", msgspec.json.encode({"memories": brought}))
    told = reply.json
    assert (reply.status, told["code"]) == (507, "store_full")
    assert [one["outcome"] for one in told["outcomes"]] == ["taken"] * 100 + ["failed"] * 150
    assert len(await held(caller)) == 100
