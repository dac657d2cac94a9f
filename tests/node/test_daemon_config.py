"""An edited configuration: peers are taken in while the node runs, everything else at its next start."""

from pathlib import Path
from typing import Any

import pytest
from certs import Mesh
from nodes import QUIET, Place, events, eventually, has, in_step, pair, serving, write

from node import config as configuration
from node import editing, setup
from node.edits import Edits


async def told(logs: list[Any], name: str) -> Any:
    """The first event of this name, once there is one."""

    async def look() -> Any:
        return events(logs, name)

    return (await eventually(look))[0]


def strangers(mesh: Mesh) -> tuple[Place, Place]:
    """Two nodes that let each other in, neither of which is configured to call the other."""
    a, b = pair(mesh, QUIET)
    a.configure()
    b.configure()
    return a, b


async def test_a_peer_is_added_and_removed_while_the_node_runs(mesh: Mesh, logs: list[Any]) -> None:
    """What was written before is sent as soon as the peer stands in the file; a removed peer gets nothing more."""
    a, b = strangers(mesh)
    b.configure(a.as_peer())
    async with serving(a, b) as [(daemon, at_a), (_, at_b)]:
        await write(at_a, "before")
        a.configure(b.as_peer())
        await eventually(has(at_b, "before"))
        await eventually(in_step(at_a, "b"))
        a.configure()
        await told(logs, "peer.ended")
        assert daemon.links.status(daemon.book, 0) == []


async def test_an_edit_whose_command_was_killed_is_finished_by_the_node(
    mesh: Mesh, logs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal has all of it: certificate and peer are taken in, though the command had written neither."""
    a, b = strangers(mesh)
    b.configure(a.as_peer())
    async with serving(a, b) as [(_, at_a), (_, at_b)]:
        await write(at_a, "before")
        killed_in_the_middle(a, b, monkeypatch)
        await eventually(has(at_b, "before"))
        assert events(logs, "edit.failed") == []
    assert not editing.is_unfinished(a.home.path)
    assert [one.name for one in configuration.load(a.home.config, {}).peers] == ["b"]


async def test_without_the_look_it_stays_half_done(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    looked: list[str] = []
    monkeypatch.setattr(Edits, "unfinished", lambda self: looked.append("look"))
    a, b = strangers(mesh)
    async with serving(a) as [(daemon, _)]:
        killed_in_the_middle(a, b, monkeypatch)
        looked.clear()
        daemon.poke()

        async def seen() -> list[str]:
            return looked

        await eventually(seen)
        assert editing.is_unfinished(a.home.path)


def killed_in_the_middle(a: Place, b: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """`peer add` on a, killed once its edit had been written down."""

    def killed(folder: Path) -> None:
        if editing.is_unfinished(folder):
            raise KeyboardInterrupt

    a.unlist(b.fingerprint)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(editing, "_carry_out", killed)
        setup.add_peer(a.home, b.as_peer(), None)


async def test_without_the_reload_a_new_peer_waits_for_the_next_start(
    mesh: Mesh, logs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: the edit is what begins with the peer."""
    looked: list[str] = []
    monkeypatch.setattr(Edits, "config", lambda self: looked.append("edit"))
    a, b = strangers(mesh)
    async with serving(a) as [(daemon, _)]:
        a.configure(b.as_peer())
        daemon.poke()

        async def seen() -> list[str]:
            return looked

        await eventually(seen)
        assert daemon.links.status(daemon.book, 0) == []
        assert events(logs, "peer.begun") == []


async def test_peers_that_did_not_change_are_not_disturbed(mesh: Mesh, logs: list[Any]) -> None:
    """Only the peer that is new begins; the link to the other is the same object as before."""
    a, b = pair(mesh, QUIET)
    c = Place(mesh, "c", QUIET)
    async with serving(a, b) as [(daemon, _), _]:
        before = dict(daemon.links._replicators)
        a.configure(b.as_peer(), c.as_peer())

        async def three() -> bool:
            return len(daemon.links._replicators) == 2

        await eventually(three)
        assert daemon.links._replicators[b.fingerprint.text] is before[b.fingerprint.text]
        assert events(logs, "peer.ended") == []


async def test_a_wrong_edit_keeps_the_peers_and_names_the_line(mesh: Mesh, logs: list[Any]) -> None:
    """The node goes on with what it had."""
    a, b = pair(mesh, QUIET)
    async with serving(a, b) as [(daemon, at_a), (_, at_b)]:
        await eventually(in_step(at_a, "b"))
        with a.home.config.open("a") as file:
            file.write('colour = "blue"\n')
        assert "colour is not known" in (await told(logs, "config.broken"))["reason"]
        await write(at_a, "still sent")
        await eventually(has(at_b, "still sent"))
        assert [peer.name for peer in daemon.book.peers] == ["b"]


async def test_what_others_could_have_edited_is_not_taken_in(mesh: Mesh, logs: list[Any]) -> None:
    """A configuration that every user may write: nobody in it becomes a peer. Control: once it is closed, they do."""
    a, b = strangers(mesh)
    b.configure(a.as_peer())
    async with serving(a, b) as [(daemon, at_a), (_, at_b)]:
        await write(at_a, "not for everybody")
        a.home.config.chmod(0o666)
        a.configure(b.as_peer())
        found = (await told(logs, "config.broken"))["reason"]
        assert "config.toml: mode is 0666, with which every user of this machine can change it, expected 0644" in found
        assert [alarm.kind for alarm in daemon.edits.alarms()] == ["not_in_force"]
        assert list(daemon.book.peers) == []
        a.home.config.chmod(0o644)
        await eventually(has(at_b, "not for everybody"))
        assert daemon.edits.alarms() == []


async def test_any_other_setting_waits_and_is_named(mesh: Mesh, logs: list[Any]) -> None:
    """An operator who edits one hears that it takes a restart."""
    a, _ = strangers(mesh)
    async with serving(a):
        text = a.home.config.read_text()
        a.home.config.write_text(text + '[log]\nlevel = "debug"\n')
        assert (await told(logs, "config.restart_needed"))["reason"].startswith("[log] level take")
