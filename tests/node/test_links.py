"""What `sync status` says of a peer whose changes wait in the future."""

from typing import Any

import pytest

from node.links import with_waiting
from sync import moment

NOW = 1_700_000_000 * moment.SECOND
AHEAD = moment.text(NOW + 600 * moment.SECOND)


def entry(state: str = "in_step", code: str | None = None) -> dict[str, Any]:
    return {"peer": "c", "fingerprint": "sha256:cc", "state": state, "code": code, "reason": "as it was"}


@pytest.mark.parametrize(("state", "becomes"), [("in_step", "behind"), ("behind", "behind"), ("starting", "starting")])
def test_a_peer_of_whom_changes_wait_is_not_in_step(state: str, becomes: str) -> None:
    """It did its part, and still the two do not keep the same: the reason is a clock, and how far it is off is told."""
    (told,) = with_waiting([entry(state)], {"sha256:cc": (7, AHEAD)}, NOW)
    assert (told["state"], told["code"], told["waiting"]) == (becomes, "clock_skew", 7)
    assert "7 of its changes wait, their times are up to 600 s ahead of this node's clock" in told["reason"]


def test_a_failure_stays_the_first_thing_to_say() -> None:
    """Nothing can be said about clocks that is more urgent than that the peer cannot be reached."""
    (told,) = with_waiting([entry("failing", "timeout")], {"sha256:cc": (7, AHEAD)}, NOW)
    assert told == entry("failing", "timeout") | {"waiting": 7}


def test_where_nothing_waits_nothing_is_said() -> None:
    """Control: of another peer, or of nobody."""
    for waiting in ({}, {"sha256:dd": (1, AHEAD)}):
        assert with_waiting([entry()], waiting, NOW) == [entry() | {"waiting": 0}]
