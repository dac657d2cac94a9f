"""Sentences of SECURITY.md that no other test holds (docs/security-proofs.md): what is kept, and what is not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from certs import Mesh
from nodes import BRISK, PASSPHRASE, Place, eventually, has, pair, serving, write

from node import door
from node.cli import main
from node.exchange import new_engine
from node.store import Store
from sync import lives, moment
from sync.draft import Fields
from tls.errors import GateBrokenError
from tls.watch import Watcher


async def test_a_gate_that_does_not_gate_stays_shut(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens where the self-test fails, and the node does not start. Control: where it passes, it does."""
    place = Place(mesh, "a", {})
    place.list(mesh.friend.fingerprint)

    def lets_everybody_in() -> None:
        raise GateBrokenError("the gate let a stranger in", "leave it shut")

    listened: list[Any] = []
    listen = door.Door._listen

    async def noted(self: door.Door) -> Any:
        listened.append(self)
        return await listen(self)

    monkeypatch.setattr(door.Door, "_listen", noted)
    with monkeypatch.context() as patch:
        patch.setattr(door, "self_test", lets_everybody_in)
        with pytest.raises(GateBrokenError, match="let a stranger in"):
            async with serving(place):
                raise AssertionError("it was started")
        assert not listened
    async with serving(place) as [(daemon, _)]:
        assert daemon.federation_url is not None and len(listened) == 1


def test_an_edit_is_looked_for_within_a_second() -> None:
    """Two looks that agree make a change: as it is built, a node sees one within half a second."""
    interval = Watcher.__init__.__defaults__
    assert interval is not None and 2 * interval[-1] <= 0.5


async def test_who_was_taken_off_the_list_keeps_what_it_had(mesh: Mesh) -> None:
    """And gets nothing new. Control: while it was listed it had what was written then."""
    a, b = pair(mesh, BRISK)
    async with serving(a, b) as [(daemon, at_a), (_, at_b)]:
        await write(at_a, "before")
        await eventually(has(at_b, "before"))
        a.unlist(b.fingerprint)

        async def is_out() -> bool:
            return not daemon.gate.allowlist.entries

        await eventually(is_out)
        await write(at_a, "after")
        assert await has(at_b, "before")()
        assert not await has(at_b, "after")()


def test_a_store_alone_does_not_know_that_it_is_an_older_copy(tmp_path: Path) -> None:
    """It opens, is whole, and what it lacks is gone. What was there is (control)."""
    path, copy = tmp_path / "store.db", tmp_path / "copy"

    def titles(title: str | None) -> int:
        store = Store.open(path, PASSPHRASE, create=True, readers=1)
        try:
            engine = new_engine("host:test", store)
            now = 1_800_000_000 * moment.SECOND
            store.writer.call(lambda ledger: engine.begin_life(ledger, now, lives.START))
            if title is not None:
                fields = Fields(namespace="a", title=title, content="text")
                store.writer.call(lambda ledger: engine.store(ledger, fields, "ai:one", now))
            found = store.reader.call(lambda reader: reader.execute("SELECT count(*) FROM memory").fetchone())
            return int(found[0])
        finally:
            store.close()

    assert titles("one") == 1
    shutil.copy(path, copy)
    assert titles("two") == 2
    for beside in tmp_path.glob("store.db-*"):
        beside.unlink()
    shutil.copy(copy, path)
    assert titles(None) == 1


async def test_what_has_expired_is_hidden_and_still_there(mesh: Mesh) -> None:
    """In the store, and not in a list. Control: one that has not is in both."""
    place = Place(mesh, "a", {})
    async with serving(place) as [(daemon, client)]:
        for title in ("over", "not yet"):
            body = {"title": title, "content": "text", "expires_at": "2999-01-01T00:00:00+00:00"}
            assert (await client("POST", "/memories", body)).status == 201
        await daemon.store.writer.run(lambda ledger: _end(ledger, "over"))
        shown = {one["title"] for one in (await client("GET", "/memories?limit=10")).json["memories"]}
        kept = await daemon.store.reader.run(lambda reader: reader.execute("SELECT title FROM memory").fetchall())
        assert shown == {"not yet"} and {title for (title,) in kept} == {"over", "not yet"}


def _end(ledger: Any, title: str) -> None:
    statement = "UPDATE memory SET expires_at = '2020-01-01T00:00:00.000000+00:00' WHERE title = ?"
    assert ledger.execute(statement, (title,)).rowcount == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is of Linux")
def test_the_environment_that_a_process_began_with_stays_in_proc() -> None:
    """Whatever it removes: that is why there are other sources. Control: what it was not given is not there."""
    code = "import os, sys; del os.environ['AI_MEMORY_DB_KEY']; print(flush=True); sys.stdin.read()"
    environment = os.environ | {"AI_MEMORY_DB_KEY": "for everybody to read"}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        shown = Path(f"/proc/{process.pid}/environ").read_bytes()
        process.stdin.close()
    assert b"AI_MEMORY_DB_KEY=for everybody to read" in shown
    assert b"for nobody to read" not in shown


def test_no_command_changes_a_passphrase() -> None:
    """The one that does has to say what becomes of older backups, and SECURITY.md with it."""

    def names(command: click.Command) -> list[str]:
        below = command.commands if isinstance(command, click.Group) else {}
        return [*below, *(name for one in below.values() for name in names(one))]

    found = names(main)
    assert len(found) > 30  # control: the walk reaches the commands
    assert not [name for name in found if "pass" in name or "rekey" in name]
