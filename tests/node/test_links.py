"""What `sync status` says of each peer: how far it is behind, whether its changes wait, and whether it has hung up."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from certs import Mesh
from knocking import until
from nodes import QUIET, eventually, pair, serving, standing_is

from node.daemon import Daemon
from node.links import Links, with_waiting
from node.peers import Peer, PeerBook, Strangers
from node.replicator import Replicator
from sync import moment
from sync.scope import Globs
from tls.fingerprint import Fingerprint

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

    def look(self) -> None:
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


# --- a peer that hangs up


async def _asleep(node: Daemon) -> None:
    """Until it has nothing more to say to its one peer before the next period."""
    (replicator,) = node.links._replicators.values()
    assert isinstance(replicator, Replicator)
    await until(lambda: not replicator._work and (replicator.machine.timer() or 0.0) > time.monotonic() + 60.0)


async def _stops(mesh: Mesh, direction: str, seconds: float = 5.0) -> None:
    place_a, place_b = pair(mesh, QUIET)
    place_a.configure(place_b.as_peer(direction=direction))
    place_b.configure(place_a.as_peer(direction={"both": "both", "push": "pull", "pull": "push"}[direction]))
    async with serving(place_a) as [(node_a, a)]:
        async with serving(place_b):
            await eventually(standing_is(a, "b", "identical", "in_step", "in_scope"))
            await _asleep(node_a)
        await eventually(standing_is(a, "b", "unreachable"), seconds)


async def _lets_nobody_in(mesh: Mesh, seconds: float = 5.0) -> None:
    place_a, place_b = pair(mesh, QUIET)
    place_b.list(Fingerprint("cc" * 32))  # or its listener closes
    async with serving(place_a, place_b) as [(node_a, a), _]:
        await eventually(standing_is(a, "b", "identical"))
        await _asleep(node_a)
        place_b.unlist(place_a.fingerprint)
        await eventually(standing_is(a, "b", "refused"), seconds)


@pytest.mark.parametrize("direction", ["both", "push", "pull"])
async def test_a_peer_that_stops_is_soon_unreachable(mesh: Mesh, direction: str) -> None:
    """Its connections end with it: nobody waits for the next period, which is never here."""
    await _stops(mesh, direction)


async def test_a_peer_that_lets_this_node_in_no_more_has_soon_refused_it(mesh: Mesh) -> None:
    """It closes the connections of whom it takes from its allowlist."""
    await _lets_nobody_in(mesh)


@pytest.mark.parametrize("happens", [lambda mesh: _stops(mesh, "both", 2.0), lambda mesh: _lets_nobody_in(mesh, 2.0)])
async def test_without_looking_a_peer_that_is_gone_stays_in_step(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Mesh], Awaitable[None]]
) -> None:
    """Control: until the next period."""
    monkeypatch.setattr(Replicator, "look", lambda self: None)
    with pytest.raises(TimeoutError):
        await happens(mesh)
