"""When `sync status` says by its exit code that somebody should look."""

from typing import Any

import pytest

from node.cli.serve import all_is_well

PEER = {"state": "in_step", "waiting": 0}


@pytest.mark.parametrize(
    ("told", "is_well"),
    [
        ({"peers": [], "alarms": []}, True),
        ({"peers": [PEER, PEER], "alarms": []}, True),
        ({"peers": [PEER, PEER | {"state": "behind"}], "alarms": []}, False),
        ({"peers": [PEER, PEER | {"waiting": 1}], "alarms": []}, False),
        ({"peers": [PEER], "alarms": [{"kind": "rolled_back"}]}, False),
    ],
    ids=["alone", "in step", "behind", "something waits for its time", "an alarm"],
)
def test_what_asks_for_somebody_to_look(told: dict[str, Any], is_well: bool) -> None:
    """A peer that is not in step, memories of it that nobody can read yet, an alarm."""
    assert all_is_well(told) is is_well
