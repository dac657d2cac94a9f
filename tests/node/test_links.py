"""What `sync status` says of each peer: how far it is behind, and whether its changes wait in the future."""

from typing import Any

import pytest

from node.links import Links, with_waiting
from node.peers import Peer, PeerBook, Strangers
from sync import moment
from sync.scope import Globs

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


class Silent:
    """What calls a peer, and remembers only what it is told."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.number = 0

    def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def committed(self, number: int) -> None:
        self.number = number

    def heard_from(self) -> None:
        pass

    def read_again(self) -> None:
        pass

    async def hang_up(self) -> None:
        pass

    def status(self) -> dict[str, Any]:
        return {"behind": self.number}


@pytest.mark.parametrize("tells", [True, False], ids=["", "untold"])
async def test_whoever_has_the_answer_to_a_write_sees_it_in_the_status(
    tells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the word of the commit is still on its way. Control: without telling first, the peer seems in step."""
    links = Links(Silent)
    everything = Globs.everything()
    book = PeerBook([Peer("c", "sha256:cc", "https://c", everything, everything)], Strangers(everything, everything))
    await links.settle(book, 0)
    if not tells:
        monkeypatch.setattr(Links, "committed", lambda *_: None)
    assert [one["behind"] for one in links.status(book, 1)] == [1 if tells else 0]
    await links.close()
