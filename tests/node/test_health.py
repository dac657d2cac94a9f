"""`/health` says `ok` only while writer, disk and gate are; and a node whose writer has ended ends."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certs import Mesh
from commands import new_home
from knocking import until
from lines import Caller
from nodes import Place, federation, serving

from node import door as door_module
from node import health
from node.daemon import Daemon
from node.standing import exit_code, lines
from node.store import condition, file, writer
from node.store.connection import DatabaseError
from node.store.wal import WriteAheadLog
from tls.identity import Loaded
from tls.listener import HandshakeEvent, Listener

Undo = Callable[[], None]
BODY = {"title": "one", "content": "text"}


def statvfs_says(monkeypatch: pytest.MonkeyPatch, **changes: int) -> Undo:
    """The disk of the store as it is but for these fields."""
    names = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail", "f_flag")
    on, true = [True], os.statvfs

    def told(path: Any) -> os.statvfs_result:
        found = list(true(path))
        for name, value in changes.items() if on else ():
            found[names.index(name)] = value
        return os.statvfs_result(found)

    monkeypatch.setattr(file.os, "statvfs", told)
    return on.clear


async def full(node: Daemon, client: Caller, monkeypatch: pytest.MonkeyPatch) -> Undo:
    return statvfs_says(monkeypatch, f_bavail=1, f_bfree=1, f_frsize=4_096)


async def mounted_read_only(node: Daemon, client: Caller, monkeypatch: pytest.MonkeyPatch) -> Undo:
    return statvfs_says(monkeypatch, f_flag=os.ST_RDONLY)


class Hindered:
    """Stands in for what a connection has within: no write succeeds."""

    def __init__(self, within: Any, name: str) -> None:
        self.within, self.name = within, name

    def execute(self, statement: str, values: Any = ()) -> Any:
        if statement.startswith(("INSERT", "UPDATE")):
            error = DatabaseError("of a test")
            error.sqlite_errorname = self.name
            raise error
        return self.within.execute(statement, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.within, name)


def hindered(name: str) -> Callable[..., Any]:
    async def begin(node: Daemon, client: Caller, monkeypatch: pytest.MonkeyPatch) -> Undo:
        monkeypatch.setattr(writer, "PROBE_EVERY", 0.01)
        connection = node.store.writer._connection
        stand_in = connection._within = Hindered(connection._within, name)
        refused = BODY | {"content": "not written"}  # the same once more would be no write at all
        assert (await client("POST", "/memories", refused)).status in (503, 507)

        def end() -> None:
            connection._within = stand_in.within

        return end

    return begin


async def exchanged(node: Daemon, client: Caller, monkeypatch: pytest.MonkeyPatch) -> Undo:
    away = node.store.path.with_name("away.db")
    node.store.path.rename(away)

    def back() -> None:
        away.rename(node.store.path)

    return back


async def out_of_descriptors(node: Daemon, client: Caller, monkeypatch: pytest.MonkeyPatch) -> Undo:
    monkeypatch.setattr(door_module, "FRESH", 3_600.0)
    reason = f"no connection can be accepted: {os.strerror(errno.EMFILE)}"
    node.door._happened(HandshakeEvent("error", "", reason=reason))
    return lambda: monkeypatch.setattr(door_module, "FRESH", -1.0)


async def nobody_accepts(node: Daemon, client: Caller, monkeypatch: pytest.MonkeyPatch) -> Undo:
    on = [True]
    monkeypatch.setattr(Listener, "is_accepting", property(lambda self: not on))
    return on.clear


async def expired(node: Daemon, client: Caller, monkeypatch: pytest.MonkeyPatch) -> Undo:
    on = [True]
    monkeypatch.setattr(Loaded, "days_left", lambda self: -1 if on else 300)
    return on.clear


TROUBLES: dict[str, tuple[Callable[..., Any], str]] = {
    "a full disk": (full, condition.FULL),
    "a disk mounted read-only": (mounted_read_only, condition.READ_ONLY),
    "a write that met a full disk": (hindered("SQLITE_FULL"), condition.FULL),
    "a write that met a read-only disk": (hindered("SQLITE_READONLY"), condition.READ_ONLY),
    "a store that was moved away": (exchanged, condition.REPLACED),
    "no descriptors": (out_of_descriptors, "no connection can be accepted"),
    "nobody accepts": (nobody_accepts, "accepts nobody"),
    "an expired certificate": (expired, "certificate of this node has expired"),
}


async def asked(node: Daemon, client: Caller, mesh: Mesh) -> list[tuple[int, dict[str, Any]]]:
    """Status and body, on both listeners."""
    async with federation(node, mesh, mesh.friend) as peer:
        replies = [await client("GET", "/health"), await peer("GET", "/health")]
    return [(reply.status, reply.json) for reply in replies]


async def status_says(client: Caller) -> tuple[int, list[str], list[str]]:
    """Of `sync status`: the exit code, the details of its alarms about the health, and all its lines."""
    told = (await client("GET", "/sync/status")).json
    return exit_code(told), [one["detail"] for one in told["alarms"] if one["kind"] == "unwell"], list(lines(told))


async def _both_say_so(trouble: str, mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    begin, text = TROUBLES[trouble]
    place = Place(mesh, "a", {})
    place.list(mesh.friend.fingerprint)
    async with serving(place) as [(node, client)]:
        assert (await client("POST", "/memories", BODY)).status == 201
        assert (await status_says(client))[:2] == (0, [])
        end = await begin(node, client, monkeypatch)
        reasons = (await client("GET", "/health")).json["reasons"]
        code, details, shown = await status_says(client)
        assert code == 1
        assert [detail.partition(": ")[0] for detail in details] == [reason.partition(": ")[0] for reason in reasons]
        assert any(line.startswith("ALARM unwell") and text in line for line in shown)
        end()
        await until(lambda: node.health()[1] == 200)
        assert (await status_says(client))[:2] == (0, [])


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_whatever_makes_health_not_ok_is_an_alarm_of_the_status(
    trouble: str, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reason with what to do, exit code 1; and no alarm and exit code 0 before it began and once it is over."""
    await _both_say_so(trouble, mesh, monkeypatch)


async def test_without_its_alarms_a_node_that_stores_nothing_would_pass(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: where only `health` knows, `sync status` of a node whose store was taken away is exit code 0."""
    monkeypatch.setattr(health, "alarms", lambda told: [])
    with pytest.raises(AssertionError, match="assert 0 == 1"):
        await _both_say_so("a store that was moved away", mesh, monkeypatch)


def test_each_reason_of_the_store_that_is_known_has_a_next_step() -> None:
    """And every other one says where there is more: no alarm is without something to do."""
    for reason in (condition.ENDED, condition.REPLACED, condition.FULL, condition.READ_ONLY):
        assert health.NEXT_STEPS[reason] in health.alarms({"reasons": [reason]})[0].detail
    assert health.SEE_THE_LOG in health.alarms({"reasons": ["another"]})[0].detail
    assert health.alarms({"status": "ok"}) == []


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_trouble_is_told_while_it_lasts(trouble: str, mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 and why, on both listeners, without a path; 200 and `ok` before it began and once it is over (control)."""
    begin, text = TROUBLES[trouble]
    place = Place(mesh, "a", {})
    place.list(mesh.friend.fingerprint)
    async with serving(place) as [(node, client)]:
        assert (await client("POST", "/memories", BODY)).status == 201
        for status, body in await asked(node, client, mesh):
            assert (status, body["status"]) == (200, "ok")
            assert "reasons" not in body
        end = await begin(node, client, monkeypatch)
        for status, body in await asked(node, client, mesh):
            assert (status, body["status"], body["code"]) == (503, "failing", health.CODE)
            assert any(text in reason for reason in body["reasons"])
            assert body["error"] == "; ".join(body["reasons"])
            assert str(place.home.path) not in str(body)
            assert "/" not in body["error"]
        end()
        await until(lambda: node.store.troubles() == [])
        for status, body in await asked(node, client, mesh):
            assert (status, body["status"]) == (200, "ok")
        assert (await client("POST", "/memories", BODY | {"content": "another"})).status == 201


async def test_a_node_without_peers_is_well(mesh: Mesh) -> None:
    """An empty allowlist closes the federation listener on purpose: that is no trouble."""
    async with serving(Place(mesh, "a", {})) as [(_, client)]:
        reply = await client("GET", "/health")
        assert (reply.status, reply.json["status"], reply.json["federation_enabled"]) == (200, "ok", False)


async def test_a_listener_that_should_be_open_is_told(mesh: Mesh) -> None:
    """Somebody is listed, and nothing listens."""
    place = Place(mesh, "a", {})
    place.list(mesh.friend.fingerprint)
    async with serving(place) as [(node, client)]:
        await node.door.close()
        reply = await client("GET", "/health")
        assert reply.status == 503
        assert reply.json["reasons"] == ["the federation listener is not open"]
        code, _, shown = await status_says(client)
        assert code == 1
        assert not any("the allowlist is empty" in line for line in shown)
        place.unlist(mesh.friend.fingerprint)
        await until(lambda: node.health()[1] == 200)
        code, _, shown = await status_says(client)  # control: where it is empty, that is said, and is no alarm
        assert (code, "the federation listener is closed: the allowlist is empty" in shown) == (0, True)


def broken(log: WriteAheadLog) -> None:
    raise RuntimeError("a bug of a test")


async def test_a_writer_that_ended_is_told(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that somebody embeds does not end by itself; its health says what is the matter."""
    monkeypatch.setattr("threading.excepthook", lambda _: None)
    async with serving(Place(mesh, "a", {})) as [(node, client)]:
        assert (await client("POST", "/memories", BODY)).status == 201
        monkeypatch.setattr(WriteAheadLog, "written", broken)
        await client("POST", "/memories", BODY)
        await until(lambda: not node.store.writer.is_running)
        reply = await client("GET", "/health")
        assert reply.status == 503
        assert reply.json["reasons"] == [condition.ENDED]
        assert (await client("GET", "/memories")).json["memories"][0]["title"] == "one"
        assert (await client("POST", "/memories", BODY)).status == 500


# --- the process

NODE = """
import sys, time
from pathlib import Path
from node import process
from node.cli import main
from node.links import Links
from node.store.wal import WriteAheadLog
trigger, how = Path(sys.argv.pop(1)), sys.argv.pop(1)
true = WriteAheadLog.written
def written(log):
    if trigger.exists():
        raise RuntimeError("a bug of a test")
    true(log)
if how != "sound":
    WriteAheadLog.written = written
if how == "stuck":
    process.LAST_WORDS = 0.5
    async def close(self):
        import asyncio
        await asyncio.Event().wait()
    Links.close = close
main()
"""


@pytest.mark.parametrize("how", ["orderly", "stuck"])
def test_a_node_whose_writer_ended_ends(how: str, tmp_path: Path) -> None:
    """With an exit code that a supervisor takes for a failure, and a line in the log; also where something hangs."""
    node, home, trigger = started(tmp_path, how)
    try:
        before = store(home, "kept")
        trigger.touch()
        store(home, "the last one")
        _, err = node.communicate(timeout=60)
    finally:
        node.kill()
        node.wait()
    assert node.returncode == 4
    assert "store.lost" in err
    assert "the writer of the store has ended" in err
    assert before == 0
    listed = subprocess.run([*COMMAND, "list", "--home", str(home)], capture_output=True, text=True, timeout=60)
    assert "kept" in listed.stdout
    assert "the last one" in listed.stdout


def test_a_node_whose_writer_goes_on_goes_on(tmp_path: Path) -> None:
    """Control: the same node without the bug takes the second write too, and runs until it is told to end."""
    node, home, trigger = started(tmp_path, "sound")
    try:
        trigger.touch()
        assert store(home, "one") == store(home, "two") == 0
        assert node.poll() is None
        node.terminate()
        node.communicate(timeout=60)
    finally:
        node.kill()
        node.wait()
    assert node.returncode == 0


COMMAND = (sys.executable, "-m", "node")


def started(folder: Path, how: str) -> tuple["subprocess.Popen[str]", Path, Path]:
    """A node that serves, its folder, and the file whose making ends its writer at the next commit."""
    home, trigger = new_home(folder), folder / "trigger"
    arguments = [sys.executable, "-c", NODE, str(trigger), how, "serve", "--home", str(home.path)]
    node = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while home.running() is None:
        assert node.poll() is None, node.communicate()
        assert time.monotonic() < end, "the node did not start"
        time.sleep(0.05)
    return node, home.path, trigger


def store(home: Path, title: str) -> int:
    done = subprocess.run([*COMMAND, "store", title, "text", "--home", str(home)], capture_output=True, timeout=60)
    return done.returncode
