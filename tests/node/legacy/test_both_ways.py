"""A node and a daemon of the older protocol: what is written on either side is on both, under whatever id."""

import time
from typing import Any

import pytest
from certs import Mesh
from nodes import eventually
from older import couple
from rust_daemon import V063, V070, Release

from node.legacy.desk import Desk
from node.store.errors import StoreFull
from sync import moment

RELEASES = pytest.mark.parametrize("release", [V063, V070], ids=["0.6.3", "0.7.0"])


@RELEASES
async def test_what_is_written_on_either_side_is_on_both(mesh: Mesh, release: Release) -> None:
    """Create, change and delete, here and there; no request of ours is one that a good peer does not make."""
    async with couple(mesh, release) as both:
        ours, theirs = await both.write("ours"), await both.write_there("theirs")
        await both.same("ours", "theirs")
        assert both.theirs()["ours"]["id"] == ours
        await both.change(ours, content="changed here")
        await both.change_there(theirs, content="changed there")
        await both.same("ours", "theirs")
        here = await both.ours()
        assert (here["ours"]["content"], here["theirs"]["content"]) == ("changed here", "changed there")
        await both.change_there(ours, content="ours, changed there")
        await both.change(here["theirs"]["id"], content="theirs, changed here")
        await both.same("ours", "theirs")
        assert both.theirs()["theirs"]["content"] == "theirs, changed here"
        await both.delete(here["theirs"]["id"])
        await both.there("DELETE", f"/memories/{ours}")
        await both.same()
        await both.settled()
        assert (await both.status())["notes"] == []
        assert both.old.complaints == []


@RELEASES
async def test_links_made_on_either_side_are_on_both(mesh: Mesh, release: Release) -> None:
    """Over its fan-out, whose key of a link holds an arrow, and back to a row that has an id of the daemon's."""
    async with couple(mesh, release, before=_with_rows("one")) as both:
        theirs = "id-of-one"
        ours = await both.write("two")
        await both.same("one", "two")
        one = (await both.ours())["one"]["id"]
        assert one != theirs
        await both.there("POST", "/links", {"source_id": theirs, "target_id": ours, "relation": "supersedes"})
        body = {"source_id": ours, "target_id": one, "relation": "contradicts"}
        assert (await both.local("POST", "/links", body)).status == 201
        expected = {(one, ours, "supersedes"), (ours, one, "contradicts")}
        here = (await both.local("GET", f"/links/{ours}")).json["links"]
        assert {(link["source_id"], link["target_id"], link["relation"]) for link in here} == expected

        async def are_there() -> bool:
            links = both.old.store.links(theirs)
            found = {(link["source_id"], link["target_id"], link["relation"]) for link in links}
            return found == {(theirs, ours, "supersedes"), (ours, theirs, "contradicts")}

        await eventually(are_there)
        await both.settled()
        assert (both.old.complaints, await both.notes()) == ([], "")


@RELEASES
async def test_one_title_with_two_ids_is_one_memory(mesh: Mesh, release: Release) -> None:
    """The daemon keeps its own id for a title that it has; updates and deletes reach each other all the same."""
    async with couple(mesh, release, before=_with_rows("one", "two")) as both:
        ours = await both.write("one", "written here")
        await both.same("one", "two")
        assert both.theirs()["one"]["id"] == "id-of-one" != ours
        await both.change_there("id-of-one", content="changed there")
        await both.same("one", "two")
        await both.there("DELETE", "/memories/id-of-two")
        await both.same("one")
        await both.delete(ours)
        await both.same()
        assert both.old.complaints == []


def _with_rows(*titles: str) -> Any:
    def before(old: Any) -> None:
        for title in titles:
            at = "2026-01-01T00:00:00.123456789+00:00"
            row = {
                "id": f"id-of-{title}",
                "tier": "mid",
                "namespace": "team",
                "title": title,
                "content": "old",
                "tags": [],
            }
            row |= {"priority": 5, "confidence": 1.0, "source": "api", "access_count": 0, "created_at": at}
            row |= {"updated_at": at, "metadata": {}, "last_accessed_at": None, "expires_at": None}
            assert old.store.merge(row)

    return before


@RELEASES
async def test_a_rename_and_a_move_arrive_in_both_directions(mesh: Mesh, release: Release) -> None:
    """The daemon refuses a row whose id it has under another title: it is told the delete first, alone."""
    async with couple(mesh, release) as both:
        ours, theirs = await both.write("ours"), await both.write_there("theirs")
        await both.same("ours", "theirs")
        await both.change(ours, title="renamed here")
        await both.change_there(theirs, title="renamed there")
        await both.same("renamed here", "renamed there")
        await both.change(ours, namespace="elsewhere")
        await both.change_there(theirs, namespace="far")
        await both.same("renamed here", "renamed there")

        async def moved() -> bool:
            here, there = await both.ours(), both.theirs()
            if not {"renamed here", "renamed there"} <= here.keys() & there.keys():
                return False  # between the delete and the memory
            places = [one["renamed here"]["namespace"] for one in (here, there)]
            return bool(places == ["elsewhere"] * 2 and here["renamed there"]["namespace"] == "far")

        await eventually(moved)
        await both.settled()
        assert both.old.complaints == []


@RELEASES
async def test_nothing_that_it_has_is_sent_again(mesh: Mesh, release: Release) -> None:
    """Not what it sent us, not what it took, and not after a start: each row costs it 131 ms and a part of a quota."""
    async with couple(mesh, release, before=_with_rows("one")) as both:
        await both.write("ours")
        await both.write_there("theirs")
        await both.same("one", "ours", "theirs")
        await both.settled()
        pushed = len(both.old.pushes)
        assert pushed == 1
        await both.there("POST", f"/memories/{both.theirs()['theirs']['id']}/promote", {})

        async def promoted() -> bool:
            return bool((await both.ours())["theirs"]["tier"] == "long")

        await eventually(promoted)
        await both.settled()
        assert len(both.old.pushes) == pushed
        assert both.old.complaints == []
    assert both.old.pushes == both.old.pushes[:pushed]


async def test_a_full_disk_of_our_own_is_told_as_ours(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as a bug and not as the daemon's trouble; once there is room, what it wrote meanwhile arrives."""
    async with couple(mesh, V063) as both:
        await both.write_there("before")
        await both.same("before")
        with monkeypatch.context() as patched:

            async def full(*_: object, **__: object) -> None:
                raise StoreFull("no space is left.", "Free some.")

            patched.setattr(Desk, "_take", full)
            both.old.store.merge(both.row("meanwhile", moment.text(time.time_ns() // 1_000)))

            async def told() -> bool:
                status = await both.status()
                return bool(status["code"] == "store_full" and "full disk" in status["reason"])

            await eventually(told)
        await both.same("before", "meanwhile")
