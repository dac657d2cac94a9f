"""A daemon of the older protocol cannot sign: what is taken from it, and what becomes of what was not."""

from dataclasses import replace
from pathlib import Path

import pytest
from bridged import EVERYTHING, OLD, Bridged
from rust_daemon import V070

from node.peers import Peer, PeerBook, Strangers


def book(both: Bridged, allow_unsigned: bool | None) -> PeerBook:
    return PeerBook([replace(both.peer, allow_unsigned=allow_unsigned)], Strangers(EVERYTHING, EVERYTHING))


async def test_its_rows_are_taken_unless_the_operator_refuses_them(tmp_path: Path) -> None:
    """Refused, they are counted, kept nowhere, and taken when they are shown again once they may be."""
    both = Bridged(tmp_path / "store.db", V070, 1)
    await both.start()
    both.exchange.replace_book(book(both, False))
    both.tick()
    row = {"title": "theirs", "namespace": "n", "content": "text", "tier": "long"}
    assert await both.there("POST", "/memories", row, told=False) == 201
    await both.scan()
    assert await both.ours() == []
    assert len(both.desk.refused[OLD]) == 1
    both.exchange.replace_book(book(both, None))
    await both.scan()
    assert [one["title"] for one in await both.ours()] == ["theirs"]
    assert both.desk.refused[OLD] == set(), "what is taken is refused no more"
    both.exchange.replace_book(book(both, False))
    assert await both.there("DELETE", f"/memories/{both.theirs()[0]['id']}") == 200
    assert [one["title"] for one in await both.ours()] == ["theirs"], "nobody signed the delete"
    both.close()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("said", [None, False, True])
def test_what_is_not_said_follows_from_the_protocol(legacy: bool, said: bool | None) -> None:
    """For a configured peer, and for certificates that are none."""
    peer = Peer("x", OLD, None, EVERYTHING, EVERYTHING, legacy=legacy, allow_unsigned=said)
    expected = legacy if said is None else said
    known = PeerBook([peer], Strangers(EVERYTHING, EVERYTHING))
    unknown = PeerBook([], Strangers(EVERYTHING, EVERYTHING, legacy, said))
    assert known.policy(OLD).trust.allow_unsigned is unknown.policy(OLD).trust.allow_unsigned is expected
    assert known.policy("another").trust.allow_unsigned is False
