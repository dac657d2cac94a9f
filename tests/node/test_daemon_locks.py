"""A node at work: nothing in it opens the store's files but their owner, and SQLite's locks are there all the time."""

import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certs import Mesh
from knocking import until
from locks import holders
from nodes import BRISK, PASSPHRASE, eventually, has, local, pair, serving, write

from node import config as configuration
from node.daemon import Daemon
from node.store.backup import back_up
from node.store.file import StoreFile, is_in_use
from node.store.keys import beside

OWNER = str(Path("node", "store", "file.py"))
SCRATCH = re.compile(r"/\.[^/]+\.[0-9a-f]{16}\.new/[^/]+\.db$")
"""A database that is being made in a folder of its own; while no connection has it open, there are no locks to lose."""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks for locks in Linux's own layout")


class Watch:
    """Notes who opens a file of a store (PEP 578); there is no way to take a hook away, so it is switched off."""

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.found: list[str] = []
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not self.folders:
            return
        path = arguments[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return
        name = os.fsdecode(path)
        if name.endswith((".db", ".db-wal", ".db-shm")) and name.startswith(tuple(self.folders)):
            callers = [frame.filename for frame in traceback.extract_stack()[:-1]]
            if callers[-1].endswith(OWNER):  # which holds the turn that `is_in_use` would wait for
                return
            if not SCRATCH.search(name) or is_in_use(Path(name)):
                self.found.append(f"{name} by {callers[-1]}")


WATCH = Watch()


@pytest.fixture
def watched(mesh: Mesh) -> Iterator[list[str]]:
    WATCH.found.clear()
    WATCH.folders.append(str(mesh.folder))
    yield WATCH.found
    WATCH.folders.clear()


def is_held(node: Daemon) -> bool:
    return set(holders(node.store.path).values()) == {os.getpid()}


async def work(mesh: Mesh, held: list[tuple[str, bool]]) -> None:
    """Two nodes through a day: what happens after each step, whether the locks of both are there."""
    places = pair(mesh, BRISK)
    async with serving(*places) as [(a, client), (b, far)]:

        def note(what: str) -> None:
            held.append((what, is_held(a) and is_held(b)))

        note("start")
        await write(client, "one", "two")
        await eventually(has(far, "one", "two"))
        note("pages sent and received")
        await client("GET", "/search?query=content")
        assert (await client("GET", "/verify")).status == 200
        note("proofs anew")
        assert (await client("GET", "/health")).status == 200
        await client("GET", "/sync/status")
        note("health and status")
        assert (await client("POST", "/identities/rotate", {"agent_id": "host:a"})).status == 200
        note("another key")
        with beside(a.store.path, PASSPHRASE) as (execute, _):
            execute("SELECT 1")
        note("keys read beside the node")
        back_up(a.store.path, PASSPHRASE, mesh.folder / "copy.db")
        note("a backup")
        a.store.writer._connection.undo(MemoryError())
        await write(client, "three")
        note("an error of the disk")
        places[0].list(mesh.friend.fingerprint)
        await until(lambda: len(a.gate.allowlist) == 2)
        note("an edited allowlist")
        fresh, files = mesh.issue("a"), places[0].home.identity(configuration.load(places[0].home.config, {}))
        before = a.gate.own_fingerprint
        files.key.write_bytes(fresh.files.key.read_bytes())
        files.cert.write_bytes(fresh.files.cert.read_bytes())
        a.poke()
        await until(lambda: a.gate.own_fingerprint != before)
        note("another certificate")
        async with local(b) as other:
            await other("GET", "/memories")
        await until(lambda: not a.store.writer._log.is_due)
        note("rest")


async def test_a_node_holds_its_locks_all_day(mesh: Mesh, watched: list[str]) -> None:
    """After a start, pages, proofs, edits, rotation, a backup and an error: both files are locked, and nobody but their
    owner ever opened one."""
    held: list[tuple[str, bool]] = []
    await work(mesh, held)
    assert len(held) == 11
    assert [what for what, is_so in held if not is_so] == []
    assert watched == []


async def test_one_careless_look_is_seen_by_both(
    mesh: Mesh, watched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: a look at the first bytes by a file of its own is named, and the locks are gone after it."""

    def careless(self: StoreFile, count: int) -> bytes:
        with self.path.open("rb") as opened:
            return opened.read(count)

    monkeypatch.setattr(StoreFile, "head", careless)
    held: list[tuple[str, bool]] = []
    await work(mesh, held)
    assert not any(is_so for _, is_so in held)
    assert watched
