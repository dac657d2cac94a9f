"""A batch: what it knows of its own changes before anybody else does."""

import random

import pytest
import versions
from stamps import stamp
from versions import ALICE, BOB, OTHER, Desk

from sync import lives
from sync.batch import Batch
from sync.ports import Kept


def batch_of(desk: Desk) -> Batch:
    return Batch(desk.store, lives.minting(random.Random(3).randbytes))


def test_a_title_is_found_among_the_memories_of_its_namespace_alone() -> None:
    """Neither in another place, nor in a link, which has its target where a memory has its title."""
    batch = batch_of(Desk())
    here = Kept(versions.version({ALICE: 1}, title=OTHER), None)
    for one in (
        here,
        Kept(versions.version({ALICE: 2}, title=OTHER, namespace="b"), None),
        Kept(versions.version({ALICE: 3}, title="other", id="other"), None),
        Kept(versions.link(stamp({BOB: 1})), None),
    ):
        batch.put(one.version.key, (one,))
    assert list(batch.changed_with_title("a", OTHER)) == [here]


def test_a_batch_without_a_change_hands_nothing_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it read what it has read."""
    desk = Desk()
    key = desk.write().version.key
    batch = batch_of(desk)
    batch.load((key,))
    for verb in ("kept", "put", "advance", "waits"):
        monkeypatch.setattr(desk.store, verb, None)
    batch.load((key,))
    assert [one.version.key for one in batch.kept(key)] == [key]
    batch.commit()
