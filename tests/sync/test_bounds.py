"""What a peer can make the engine remember: bounded while it is listed, and nothing afterwards."""

import versions
from versions import ALICE, PEER, Desk

from sync.engine import Engine
from sync.receive import MAX_HELD, Page, Taken
from sync.serve import wanted_next


def lives(count: int) -> list[str]:
    return [f"{number:016x}" for number in range(count)]


def heard(desk: Desk, names: list[str], peer: str = PEER) -> Engine:
    """The engine after pages of a peer that says to live each of these lives, all of which moved our cursor."""
    for name in names:
        page = Page(peer, name, None, f"{ALICE}.1.1.00112233445566aa.0123abcd", None, False)
        desk.engine.received(page, Taken(moved=True), versions.NOW)
    return desk.engine


def test_a_peer_of_many_lives_has_as_many_cursors_as_the_store_keeps() -> None:
    """The newest; those of another peer are not touched."""
    desk = Desk()
    heard(desk, ["f" * 16], "another")
    engine = heard(desk, lives(1_000))
    assert set(engine._confirmed) == {("another", "f" * 16), *((PEER, name) for name in lives(1_000)[-MAX_HELD:])}


def test_a_peer_that_left_leaves_nothing() -> None:
    """All that was kept for it is freed."""
    desk = Desk()
    engine = heard(desk, lives(1_000))
    engine._asked.choose(PEER, [b"tag"], versions.NOW)
    engine._believed[PEER] = 1
    engine.forget(PEER)
    kept = (engine._confirmed, engine._believed, engine._lives_seen, engine._asked._requests, engine._asked._heard)
    assert kept == ({}, {}, {}, {}, {})


def test_a_receiver_that_wants_whatever_it_can_invent_is_not_kept_in_mind() -> None:
    """Answer after answer, each with two thousand tags of its own making: what is remembered has a bound."""
    desk = Desk()
    desk.write("one")
    cut = desk.cut(limit=1)
    wanted: frozenset[bytes] = frozenset()
    for number in range(40):
        named = frozenset(f"{number} {place}".encode() for place in range(2_000))
        wanted = wanted_next(cut, cut.after, 0, named, wanted)
    assert len(wanted) <= 10_000
    assert named <= wanted
