"""One node for each test module of this folder, with both of its listeners and an API key."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import structlog
from certs import Mesh
from nodes import API_KEY, MAX_BODY, Place, Served, federation, local, peer

BUGS = ("http.bug", "store.error", "sync.bug")
"""Events that no input of a stranger may bring about."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    mesh = Mesh(tmp_path_factory.mktemp("mesh"))
    place = Place(mesh, "node", {("local", "api_key_file"): "api-key", ("local", "max_body"): MAX_BODY})
    place.write_secret("api-key", API_KEY)
    place.configure(peer("friend", mesh.friend.fingerprint))
    place.list(mesh.friend.fingerprint)
    async with (
        place.serving() as daemon,
        local(daemon, X_Api_Key=API_KEY) as client,
        federation(daemon, mesh, mesh.friend) as friend,
    ):
        yield Served(mesh, place, daemon, client, friend)


@pytest.fixture(autouse=True)
def no_bugs() -> Any:
    """No test of this folder may make the node log a mistake of its own."""
    with structlog.testing.capture_logs() as logs:
        yield logs
    assert [entry for entry in logs if entry["event"] in BUGS] == []
