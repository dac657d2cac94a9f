"""An edited configuration: peers are taken in while the node runs, everything else at its next start."""

from typing import Any

import pytest
from certs import Mesh
from nodes import QUIET, Place, events, eventually, has, in_step, pair, serving, write

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


async def test_any_other_setting_waits_and_is_named(mesh: Mesh, logs: list[Any]) -> None:
    """An operator who edits one hears that it takes a restart."""
    a, _ = strangers(mesh)
    async with serving(a):
        text = a.home.config.read_text()
        a.home.config.write_text(text + '[log]\nlevel = "debug"\n')
        assert (await told(logs, "config.restart_needed"))["reason"].startswith("[log] level take")
