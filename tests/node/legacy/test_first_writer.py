"""`metadata.agent_id` names who wrote a memory first. A daemon of the older protocol puts its own first writer there.

Its merge takes `metadata` over whole, our attestation included, and then puts the `agent_id` of the row that it had
back: so wherever a title was written on both sides, its row has our text, our attestation and somebody else's name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bridged import Bridged
from rust_daemon import V063, V070, Release

RELEASES = pytest.mark.parametrize("release", [V063, V070], ids=["0.6.3", "0.7.0"])
OURS, THEIRS = "host:ours", "ai:old"


@contextmanager
def bridged(folder: Path, release: Release, *, beside: Bridged | None = None) -> Iterator[Bridged]:
    """A node and a daemon. `beside`: another node whose daemon it is."""
    made = Bridged(folder / f"{'one' if beside is None else 'other'}.db", release, 1 if beside is None else 2)
    if beside is not None:
        made.old = made.dialer.old = beside.old
        made.now = beside.now
    try:
        yield made
    finally:
        made.close()


async def written_on_both_sides(both: Bridged) -> None:
    """There first, then here, under one title; and our text went there."""
    await both.start()
    body = {"title": "one", "content": "theirs", "namespace": "team"}
    assert await both.there("POST", "/memories", body, told=False) < 300
    await both.write("one", "team", "ours")
    await both.send()


def name_in(memory: dict[str, Any]) -> Any:
    return memory["metadata"]["agent_id"]


@RELEASES
async def test_the_daemon_keeps_its_own_first_writer_under_our_text(release: Release, tmp_path: Path) -> None:
    """With our attestation in it. Control: under a title that it did not have, the name is ours."""
    with bridged(tmp_path, release) as both:
        await written_on_both_sides(both)
        await both.write("two", "team", "ours")
        await both.send()
        rows = {row["title"]: row for row in both.theirs()}
        assert (rows["one"]["content"], name_in(rows["one"])) == ("ours", THEIRS)
        assert rows["one"]["metadata"]["attestation"]["agent"] == OURS
        assert name_in(rows["two"]) == OURS


@RELEASES
async def test_its_first_writer_does_not_become_ours(release: Release, tmp_path: Path) -> None:
    """The row is read back, whole and by its fan-out, and says nothing new: ours stays, and nothing is sent again."""
    with bridged(tmp_path, release) as both:
        await written_on_both_sides(both)
        digest, pushes = both.store.position.digest, len(both.old.pushes)
        await both.read()
        await both.scan()
        await both.push(both.theirs())
        await both.send()
        (found,) = await both.ours()
        assert (found["content"], name_in(found)) == ("ours", OURS)
        assert (both.store.position.digest, len(both.old.pushes)) == (digest, pushes)
        assert await both.reported() == {}


@RELEASES
async def test_an_edit_there_leaves_the_first_writer(release: Release, tmp_path: Path) -> None:
    """It is an edit of what was written here: the daemon's own name for it is no part of that. Its text is."""
    with bridged(tmp_path, release) as both:
        await written_on_both_sides(both)
        (row,) = both.theirs()
        await both.there("PUT", f"/memories/{row['id']}", {"content": "edited there"})
        (found,) = await both.ours()
        assert (found["content"], name_in(found)) == ("edited there", OURS)


async def restamped(both: Bridged) -> None:
    """Written here, and then its daemon's operator took it over by `sync` from a file: its rows get that one's name."""
    await both.start()
    await both.write("one", "team", "ours")
    await both.send()
    (row,) = both.theirs()
    assert both.old.store.update(row | {"metadata": row["metadata"] | {"agent_id": THEIRS}})


@RELEASES
async def test_a_name_that_was_put_over_ours_does_not_become_ours(release: Release, tmp_path: Path) -> None:
    """An edit of that one field is none: the first stays, as it does at the daemon itself."""
    with bridged(tmp_path, release) as both:
        await restamped(both)
        digest = both.store.position.digest
        await both.scan()
        await both.push(both.theirs())
        (found,) = await both.ours()
        assert (name_in(found), both.store.position.digest, await both.reported()) == (OURS, digest, {})


@RELEASES
async def test_two_nodes_with_equal_digests_name_one_first_writer(release: Release, tmp_path: Path) -> None:
    """One wrote the memory, the other has it by the daemon alone, where another name was put into it."""
    with bridged(tmp_path, release) as one, bridged(tmp_path, release, beside=one) as other:
        await restamped(one)
        await other.start()
        await other.scan()
        (here,), (there,) = await one.ours(), await other.ours()
        assert here["content"] == there["content"] == "ours"
        assert one.store.position.digest != other.store.position.digest or name_in(here) == name_in(there)
