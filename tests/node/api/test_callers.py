"""Keys and tokens while the node runs: what is made, changed or revoked counts from the next request on."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from certs import Mesh
from lines import Caller
from nodes import API_KEY, Place, events, local

from node import setup, tokens
from node.api import callers
from node.config import ConfigError

pytestmark = pytest.mark.asyncio


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(Mesh(tmp_path), "node", {("local", "api_key_file"): "api-key"})
    made.write_secret("api-key", API_KEY)
    return made


@pytest_asyncio.fixture
async def caller(place: Place) -> AsyncIterator[Caller]:
    async with place.serving() as daemon, local(daemon) as one:
        yield one


async def status(caller: Caller, key: str | None, header: str = "X-Api-Key", path: str = "/namespaces") -> int:
    return (await caller("GET", path, None, {header: key})).status


def made(place: Place, *read: str) -> str:
    return tokens.add(place.home.tokens, "ai:helper", read, (), 0)[0]


async def test_a_token_opens_at_once_and_is_revoked_at_once(place: Place, caller: Caller) -> None:
    """No restart, and no time in which a revoked one still opens: the same connection is refused its next request."""
    one, other = made(place), made(place, "a/**")
    assert [await status(caller, token) for token in (one, other)] == [200, 200]
    (first, _) = tokens.load(place.home.tokens)
    assert tokens.revoke(place.home.tokens, first.id) == (first,)
    assert [await status(caller, token) for token in (one, other)] == [401, 200]
    assert len(tokens.revoke(place.home.tokens, "ai:helper")) == 1
    assert await status(caller, other) == 401
    assert await status(caller, API_KEY) == 200


async def test_without_looking_again_a_revoked_token_would_open(
    place: Place, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: with the file as it was at first."""
    token = made(place)
    assert await status(caller, token) == 200
    monkeypatch.setattr(callers._Fresh, "now", lambda self: self._value)
    tokens.revoke(place.home.tokens, "ai:helper")
    assert await status(caller, token) == 200


async def test_a_changed_key_counts_at_once(place: Place, caller: Caller) -> None:
    """As `api-key rotate` changes it: the old one is refused from then on, tokens go on."""
    token = made(place)
    path, is_first = setup.require_api_key(place.home)
    assert (path, is_first) == (place.home.api_key, False)
    new = path.read_text().strip()
    assert [await status(caller, key) for key in (API_KEY, new, token)] == [401, 200, 200]


def removed(path: Path) -> None:
    path.unlink()


def opened(path: Path) -> None:
    path.chmod(0o644)


def spoiled(path: Path) -> None:
    path.write_bytes(b"\xff{")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("fault", [removed, opened, spoiled, emptied])
async def test_a_file_that_cannot_be_used_lets_nobody_in(
    place: Place, caller: Caller, fault: Callable[[Path], None], logs: list[Any]
) -> None:
    """Neither by the key nor without one, and by no token; the log says why."""
    token = made(place)
    assert await status(caller, token) == 200
    fault(place.home.api_key)
    assert [await status(caller, key) for key in (API_KEY, None, "", token)] == [401, 401, 401, 200]
    fault(place.home.tokens)
    assert [await status(caller, key) for key in (API_KEY, None, "", token)] == [401, 401, 401, 401]
    assert len(events(logs, "access.broken")) == (1 if fault is removed else 2)
    assert token not in repr(logs)


async def _for_a_moment(place: Place, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    token = made(place)
    true, failures = tokens.load, [ConfigError(["no descriptor is left"])]

    def load(path: Path) -> tuple[tokens.Token, ...]:
        if failures:
            raise failures.pop()
        return true(path)

    monkeypatch.setattr(tokens, "load", load)
    assert [await status(caller, token) for _ in range(2)] == [401, 200]


async def test_a_file_that_could_not_be_read_for_a_moment_is_read_again(
    place: Place, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although nothing about it has changed: a fault of the machine ends, and so does what came of it."""
    monkeypatch.setattr(callers, "READ_AGAIN", 0.0)
    await _for_a_moment(place, caller, monkeypatch)


async def test_without_reading_it_again_nobody_would_be_let_in_any_more(
    place: Place, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control."""
    monkeypatch.setattr(callers, "READ_AGAIN", 3_600.0)
    with pytest.raises(AssertionError):
        await _for_a_moment(place, caller, monkeypatch)


@pytest.mark.parametrize("kept", [False, True], ids=["nothing is kept", "control: what was read before is kept"])
async def test_a_fault_that_nobody_foresaw_lets_nobody_in(tmp_path: Path, kept: bool) -> None:
    """Whatever is raised while a changed file is read: what was read before does not go on to count."""
    path = tmp_path / "file"
    path.write_text("first")
    fresh = callers._Fresh(path, lambda path: {"first": "let in"}[path.read_text()], "nobody")
    assert fresh.now() == "let in"
    if kept:
        fresh._nothing = fresh._value
    path.write_text("second one")
    with pytest.raises(KeyError):
        fresh.now()
    assert fresh.now() == ("let in" if kept else "nobody")


async def test_one_that_was_revoked_is_no_more_than_nobody(tmp_path: Path) -> None:
    """Where no key is asked for, who sends none may do everything; but a wrong one is refused, not ignored."""
    place = Place(Mesh(tmp_path), "open", {})
    token = tokens.add(place.home.tokens, "ai:helper", ["a/**"], [], 0)[0]
    async with place.serving() as daemon, local(daemon) as caller:
        assert await status(caller, None, path="/sync/status") == 200
        assert await status(caller, token, path="/sync/status") == 403
        tokens.revoke(place.home.tokens, "ai:helper")
        assert await status(caller, token, path="/sync/status") == 401


async def test_it_may_come_as_a_bearer(place: Place, caller: Caller) -> None:
    """Clients that know no `X-Api-Key` send it as `Authorization`; two that differ are none."""
    token = made(place)
    for key in (API_KEY, token):
        assert await status(caller, f"Bearer {key}", "Authorization") == 200
        assert await status(caller, f"bearer {key}", "Authorization") == 200
        assert await status(caller, f"Basic {key}", "Authorization") == 401
        assert await status(caller, key, "Authorization") == 401
    proxied = {"X-Api-Key": API_KEY, "Authorization": "Basic Zm9yIGEgcHJveHk="}  # which is not ours
    assert (await caller("GET", "/namespaces", None, proxied)).status == 200
    both = {"X-Api-Key": API_KEY, "Authorization": f"Bearer {token}"}
    assert (await caller("GET", "/namespaces", None, both)).status == 401
    assert (await caller("GET", "/namespaces", None, both | {"Authorization": f"Bearer {API_KEY}"})).status == 200


async def test_nothing_like_a_token_opens(place: Place, caller: Caller) -> None:
    """Neither what is kept of it, nor its id, nor a part of it."""
    token = made(place)
    (kept,) = tokens.load(place.home.tokens)
    for wrong in (kept.hash, kept.id, token[:-1], token + "x", token.upper(), tokens.PREFIX, tokens.PREFIX + kept.hash):
        assert await status(caller, wrong) == 401


async def test_a_token_is_kept_as_a_hash(place: Place, caller: Caller) -> None:
    """Nobody who reads the folder, a copy of it or the log has the token; and the file is its owner's."""
    token = made(place)
    assert await status(caller, token) == 200
    files = [path for path in place.home.path.rglob("*") if path.is_file()]
    assert [path for path in files if token.encode() in path.read_bytes()] == []
    assert place.home.tokens.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", [b"", b"[]", b'{"tokens":[{}]}', b'{"tokens":[],"x":1}', b'{"tokens":[{"hash":1}]}'])
async def test_a_node_does_not_start_with_tokens_that_it_cannot_read(place: Place, text: bytes) -> None:
    """Its operator is told now, not the first client."""
    place.write_secret("tokens.json", text.decode())
    with pytest.raises(ConfigError, match=r"tokens.json: not what `ai-memory token add` wrote"):
        async with place.serving():
            pass
