"""Random histories of a node and an older daemon: when all has been told, both show the same, or the node says why."""

import contextlib
import os
import random
from pathlib import Path

import pytest
from bridged import Bridged
from rust_daemon import V063, V070

HISTORIES = int(os.environ.get("LEGACY_HISTORIES", "12"))
STEPS = 30
TITLES = ("one", "two", "three")
PLACES = ("a", "b")


async def step(world: Bridged, choose: random.Random) -> None:
    """One operation on one side, or one step of the bridge, or a failure of it."""
    title, place, text = choose.choice(TITLES), choose.choice(PLACES), f"text {choose.random():.6f}"
    ours, theirs = await world.ours(), world.theirs()
    told = choose.random() < 0.6
    match choose.randrange(12):
        case 0 | 1:
            await world.write(title, place, text)
        case 2 if ours:
            await world.change(choose.choice(ours)["id"], content=text)
        case 3 if ours:
            await world.change(choose.choice(ours)["id"], **choose.choice([{"title": title}, {"namespace": place}]))
        case 4 if ours:
            await world.delete(choose.choice(ours)["id"])
        case 5 | 6:
            body = {"title": title, "namespace": place, "content": text, "tier": "long"}
            await world.there("POST", "/memories", body, told=told)
        case 7 if theirs:
            body = choose.choice([{"content": text}, {"title": title}, {"namespace": place}])
            await world.there("PUT", f"/memories/{choose.choice(theirs)['id']}", body, told=told)
        case 8 if theirs:
            # A delete that nobody hears of is its own affair: here it is always told.
            await world.there("DELETE", f"/memories/{choose.choice(theirs)['id']}")
        case 9:
            await world.read()
        case 10:
            world.dialer.is_down = choose.random() < 0.3
            with contextlib.suppress(ConnectionRefusedError):
                await world.send()
            world.dialer.is_down = False
        case _:
            await world.read()
            await world.send()


def shown(rows: list[dict[str, str]]) -> dict[tuple[str, str], str]:
    return {(row["namespace"], row["title"]): row["content"] for row in rows}


@pytest.mark.parametrize("release", [V063, V070], ids=["0.6.3", "0.7.0"])
@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_both_show_the_same_at_the_end(tmp_path: Path, release: object, seed: int) -> None:
    """Renames, moves, deletes and edits on both sides, some of them told late; twice read whole, and sent."""
    world = Bridged(tmp_path / "store.db", release, seed)  # type: ignore[arg-type]
    try:
        await world.start()
        await world.read()
        choose = random.Random(seed)
        for _ in range(STEPS):
            await step(world, choose)
        for _ in range(3):
            await world.read()
            await world.scan()
            await world.send()
        here, there = shown(await world.ours()), shown(world.theirs())
        differing = {key for key in here.keys() | there.keys() if here.get(key) != there.get(key)}
        reported = await world.reported()
        assert differing <= reported.keys(), (here, there)
        # It deleted a row that it had never shown, under an id that nobody here had heard of.
        assert {reported[key] for key in differing} <= {"gone"}
        pushed = len(world.old.pushes)
        await world.read()
        await world.scan()
        await world.send()
        assert len(world.old.pushes) == pushed, "nothing is left to be said, and something is said"
    finally:
        world.close()
