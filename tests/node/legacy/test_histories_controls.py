"""The histories notice when a rule of the bridge is taken away: each of these, without which they end apart."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bridged import Bridged
from rust_daemon import V063

from node.legacy import outbox
from node.legacy.intake import Intake
from node.legacy.replicator import LegacyReplicator
from sync.legacy.outgoing import Put, decide

STEPS, SEEDS = 40, 12
OFTEN = (3, 5, 1, 3, 3, 1, 3)
"""How often each kind of step is taken: deletes seldom, so that there is something to rename."""
TITLES, PLACES = ("one", "two"), ("a", "b")


def renames_at_once(patch: pytest.MonkeyPatch) -> None:
    """A renamed memory is sent as it is, without a delete before."""

    def careless(winner: Any, known: Any, twin: bool) -> Any:
        found = decide(winner, known, twin)
        return Put(found.theirs) if isinstance(found, Put) else found

    patch.setattr(outbox, "decide", careless)


def deletes_unread(patch: pytest.MonkeyPatch) -> None:
    """What is new there is never read."""

    async def nothing(_: Any) -> None:
        return

    patch.setattr(LegacyReplicator, "_read_new", nothing)
    patch.setattr(LegacyReplicator, "_scan", nothing)


def knows_no_names(patch: pytest.MonkeyPatch) -> None:
    """Its deletes are looked up by our own ids alone."""
    known = Intake._targets

    def ours_only(self: Intake, ids: Any) -> Any:
        with patch.context() as inner:
            inner.setattr("node.legacy.tables.by_theirs", lambda *_: {})
            return known(self, ids)

    patch.setattr(Intake, "_targets", ours_only)


async def ends_apart(folder: Path, seed: int) -> bool:
    """Play a history of writes and changes on both sides, told at once; True where the two are apart at the end."""
    world = Bridged(folder / f"{seed}.db", V063, seed)
    choose = random.Random(seed)
    try:
        await world.start()
        for _ in range(STEPS):
            ours, theirs = await world.ours(), world.theirs()
            title, place, text = choose.choice(TITLES), choose.choice(PLACES), f"text {choose.random():.6f}"
            change = choose.choice([{"content": text}, {"title": title}, {"namespace": place}])
            match choose.choices(range(7), OFTEN)[0]:
                case 0:
                    await world.write(title, place, text)
                case 1 if ours:
                    await world.change(choose.choice(ours)["id"], **change)
                case 2 if ours:
                    await world.delete(choose.choice(ours)["id"])
                case 3:
                    body = {"title": title, "namespace": place, "content": text, "tier": "long"}
                    await world.there("POST", "/memories", body, told=choose.random() < 0.5)
                case 4 if theirs:
                    record_id = choose.choice(theirs)["id"]
                    await world.there("PUT", f"/memories/{record_id}", change, told=choose.random() < 0.5)
                case 5 if theirs:
                    await world.there("DELETE", f"/memories/{choose.choice(theirs)['id']}")
                case _:
                    await world.read()
                    await world.send()
        for _ in range(3):
            await world.read()
            await world.calls._scan()
            await world.send()
        here = {(one["namespace"], one["title"]): one["content"] for one in await world.ours()}
        there = {(one["namespace"], one["title"]): one["content"] for one in world.theirs()}
        return here != there
    finally:
        world.close()


RULES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a delete before a rename": renames_at_once,
    "reading": deletes_unread,
    "its own names": knows_no_names,
}


async def test_with_all_rules_none_of_them_does(tmp_path: Path) -> None:
    """The very same histories."""
    assert [seed for seed in range(SEEDS) if await ends_apart(tmp_path, seed)] == []


@pytest.mark.parametrize("rule", RULES)
async def test_without_a_rule_some_history_ends_apart(
    rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a dozen histories, at least one."""
    RULES[rule](monkeypatch)
    for seed in range(SEEDS):
        if await ends_apart(tmp_path, seed):
            return
    raise AssertionError(f"nothing missed the rule of {rule}")
