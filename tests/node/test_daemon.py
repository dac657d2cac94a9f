"""The running node: what it does when its files are edited, and when it is taken down."""

import asyncio
import gc
import os
import shutil
import signal
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from certs import Mesh, Visitor
from knocking import knock, plain_client, until
from lines import Line, port_of, request
from nodes import BRISK, PASSPHRASE, Place, events, eventually, has, pair, serving, write

from node import config as configuration
from node.config import ConfigError
from node.daemon import Daemon
from node.process import serve
from tls.fingerprint import Fingerprint

HELLO = request("GET", "/api/v1/health")


async def connect(place: Place, mesh: Mesh, visitor: Visitor) -> Line:
    """A connection of this certificate that has had an answer."""
    line = await Line.open(place.port, plain_client(mesh, visitor))
    await line.send(HELLO)
    assert (await line.reply()).status == 200
    return line


async def presented(place: Place, mesh: Mesh, visitor: Visitor) -> str:
    """The fingerprint of the certificate that a new connection is shown."""
    line = await connect(place, mesh, visitor)
    shown = line.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    await line.close()
    return Fingerprint.of_der(shown).text


def listens(place: Place) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", place.port)) == 0


# --- the allowlist


async def test_nothing_listens_for_peers_while_the_allowlist_is_empty(mesh: Mesh, logs: list[Any]) -> None:
    """With nobody listed the federation port is closed and the node says so; a first entry opens it."""
    place = Place(mesh, "a", {})
    async with serving(place) as [(daemon, client)]:
        assert not listens(place)
        assert (await client("GET", "/health")).json["federation_enabled"] is False
        assert "allowlist is empty" in events(logs, "federation.closed")[0]["reason"]
        place.list(mesh.friend.fingerprint)
        await until(lambda: daemon.federation_url is not None)
        await (await connect(place, mesh, mesh.friend)).close()
        assert (await client("GET", "/health")).json["federation_enabled"] is True
        place.unlist(mesh.friend.fingerprint)
        await until(lambda: not listens(place))
        assert (await client("GET", "/sync/status")).json["federation_url"] is None


async def test_a_broken_edit_keeps_the_last_good_list(mesh: Mesh, logs: list[Any]) -> None:
    """A wrong line changes nothing for anybody and is told with its place; mended, the whole edit takes effect."""
    place = Place(mesh, "a", {})
    place.list(mesh.friend.fingerprint)
    other = mesh.issue("other")
    async with serving(place) as [(daemon, _)]:
        line = await connect(place, mesh, mesh.friend)
        path = place.home.path / "allowlist"
        good = path.read_text()
        path.write_text(f"{other.fingerprint.text}\nsha256:no fingerprint\n")
        await until(lambda: bool(events(logs, "allowlist.broken")))
        assert f"{path}:2:" in events(logs, "allowlist.broken")[0]["reason"]
        await line.send(HELLO)
        assert (await line.reply()).status == 200
        _, alert = await knock(place.port, plain_client(mesh, other))
        assert alert is not None
        path.write_text(f"{good}{other.fingerprint.text}\n")
        await until(lambda: len(daemon.gate.allowlist) == 2)
        await (await connect(place, mesh, other)).close()
        await line.close()


async def test_removal_closes_live_connections_of_that_peer_alone(mesh: Mesh) -> None:
    """Taken off the list, a certificate's open connections are cut; those of others go on."""
    place = Place(mesh, "a", {})
    other = mesh.issue("other")
    place.list(mesh.friend.fingerprint, other.fingerprint)
    async with serving(place) as [(daemon, _)]:
        gone, stays = await connect(place, mesh, mesh.friend), await connect(place, mesh, other)
        assert daemon.door.connections == 2
        place.unlist(mesh.friend.fingerprint)
        assert await gone.is_over()
        await stays.send(HELLO)
        assert (await stays.reply()).status == 200
        assert daemon.door.connections == 1
        _, alert = await knock(place.port, plain_client(mesh, mesh.friend))
        assert alert is not None
        await stays.close()


async def test_without_dropping_a_removed_peer_would_stay_connected(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    """Negative control: the reload alone does not close what is open."""
    monkeypatch.setattr("node.door.Door.drop_unlisted", lambda self: 0)
    place = Place(mesh, "a", {})
    other = mesh.issue("other")
    place.list(mesh.friend.fingerprint, other.fingerprint)
    async with serving(place) as [(daemon, _)]:
        line = await connect(place, mesh, mesh.friend)
        place.unlist(mesh.friend.fingerprint)
        await until(lambda: len(daemon.gate.allowlist) == 1)
        await line.send(HELLO)
        assert (await line.reply()).status == 200
        await line.close()


async def test_a_hangup_signal_reads_everything_again(mesh: Mesh, logs: list[Any]) -> None:
    """SIGHUP takes in allowlist, identity and peers at once, changed or not; SIGTERM ends the node in good order."""
    place = Place(mesh, "a", {})
    place.list(mesh.friend.fingerprint)
    ready: asyncio.Future[Daemon] = asyncio.get_running_loop().create_future()
    config = configuration.load(place.home.config, {})
    task = asyncio.create_task(serve(place.home, config, PASSPHRASE, ready=ready.set_result))
    try:
        daemon = await asyncio.wait_for(ready, 10)
        await until(lambda: bool(events(logs, "allowlist.loaded")))  # the look that follows the start
        logs.clear()
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: bool(events(logs, "allowlist.loaded")))
        assert events(logs, "allowlist.loaded")[0]["entries"] == 1
        assert daemon.federation_url is not None
        assert place.home.running() is not None
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 10)
        assert place.home.running() is None
    finally:
        gc.unfreeze()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# --- identity


async def test_a_rotated_certificate_is_presented_at_once(mesh: Mesh, logs: list[Any]) -> None:
    """New handshakes get the new certificate; who is connected is not disturbed; half a rotation changes nothing."""
    place = Place(mesh, "a", {})
    place.list(mesh.friend.fingerprint)
    fresh = mesh.issue("fresh")
    async with serving(place) as [(_, _)]:
        line = await connect(place, mesh, mesh.friend)
        assert await presented(place, mesh, mesh.friend) == place.fingerprint.text
        shutil.copy(fresh.files.cert, place.home.path / "node.pem")
        await until(lambda: bool(events(logs, "identity.broken")))  # a certificate without its key
        assert await presented(place, mesh, mesh.friend) == place.fingerprint.text
        shutil.copy(fresh.files.key, place.home.path / "node.key")
        await until(lambda: bool(events(logs, "identity.loaded")))
        assert await presented(place, mesh, mesh.friend) == fresh.fingerprint.text
        await line.send(HELLO)
        assert (await line.reply()).status == 200
        await line.close()


async def test_a_port_that_is_taken_is_told_and_nothing_is_left_behind(mesh: Mesh) -> None:
    """The node does not start, names the setting, and lets go of its store: the next start succeeds."""
    place = Place(mesh, "a", {})
    place.list(mesh.friend.fingerprint)
    with socket.create_server(("127.0.0.1", place.port)), pytest.raises(ConfigError, match=r"\[federation\] listen"):
        await anext(aiter(_started(place)))
    async with place.serving() as daemon:
        assert daemon.federation_url == place.url
    assert place.home.running() is None


async def _started(place: Place) -> AsyncIterator[Daemon]:
    async with place.serving() as daemon:
        yield daemon


# --- the end


async def test_fd_leak(mesh: Mesh) -> None:
    """Nodes that ran, spoke to each other and to clients leave no descriptor, thread or task behind."""

    async def live(name: str) -> None:
        async with serving(*pair(mesh, BRISK, (f"a{name}", f"b{name}"))) as [(one, a), (other, b)]:
            await write(a, "something")
            await eventually(has(b, "something"))
            assert (await a("GET", "/search?q=something")).json["count"] == 1
            rude = await Line.open(port_of(one.local_url))
            await rude.send(b"POST /api/v1/memories HTTP/1.1\r\n")
            await rude.close()
            assert other.federation_url is not None
            await knock(port_of(other.federation_url), plain_client(mesh, mesh.stranger))

    await live("0")  # what is made once for the process exists from here on
    before = await settled()
    for number in range(1, 4):
        await live(str(number))
    assert await settled() == before
    async with Place(mesh, "held", {}).serving():  # negative control: a node that is not taken down is seen
        held = await settled()
        assert all(now > then for now, then in zip(held, before, strict=True))


async def settled() -> tuple[int, int, int]:
    """Descriptors, threads and tasks, once they do not change any more."""
    last: tuple[int, int, int] | None = None
    for _ in range(100):
        gc.collect()
        counts = (len(_descriptors()), _threads(), len(asyncio.all_tasks()))
        if counts == last:
            return counts
        last = counts
        await asyncio.sleep(0.02)
    raise AssertionError(f"never at rest: {last}")


def _threads() -> int:
    """Without those of the loop's own pool, which are as many as ever worked at once."""
    return sum(not one.name.startswith("asyncio_") for one in threading.enumerate())


def _descriptors() -> list[Path]:
    return list(Path("/proc/self/fd").iterdir())
