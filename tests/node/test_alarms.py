"""Alarms about a state of the node: a configuration that lost its peers, and no false alarm beside it."""

import pytest
from certs import Mesh
from nodes import BRISK, eventually, has, local, pair, serving, write

from node import alarms
from node.daemon import Daemon
from node.peers import Peer, PeerBook, Strangers
from node.standing import exit_code
from sync.scope import Globs
from tls.allowlist import Allowlist, Entry
from tls.fingerprint import Fingerprint

NOTHING, EVERYTHING = Globs(()), Globs.everything()
WHO = Fingerprint("ab" * 32)
LISTED = Allowlist((Entry(WHO, "desk", 1),))
PEER = Peer("desk", WHO.text, None, EVERYTHING, EVERYTHING)
ABSENT = PeerBook((), Strangers(NOTHING, NOTHING))


def test_a_listed_certificate_that_was_a_peer_and_has_no_rights_is_told() -> None:
    """With the two ways out: the table, or the end."""
    (alarm,) = alarms.of_peers(LISTED, ABSENT, {WHO.text})
    assert (alarm.kind, alarm.peer) == ("no_peer", "")
    assert f"{WHO.text} (desk)" in alarm.detail
    assert "`ai-memory peer add`" in alarm.detail and f"`ai-memory allowlist remove {WHO.text}`" in alarm.detail


@pytest.mark.parametrize(
    ("allowlist", "book", "known"),
    [
        (LISTED, PeerBook((PEER,), Strangers(NOTHING, NOTHING)), {WHO.text}),
        (LISTED, PeerBook((), Strangers(EVERYTHING, NOTHING)), {WHO.text}),
        (LISTED, PeerBook((), Strangers(NOTHING, EVERYTHING)), {WHO.text}),
        (LISTED, ABSENT, set[str]()),
        (Allowlist(()), ABSENT, {WHO.text}),
    ],
    ids=["a peer", "strangers read", "strangers write", "never read from", "not listed"],
)
def test_nothing_is_told_of(allowlist: Allowlist, book: PeerBook, known: set[str]) -> None:
    """Control: what somebody meant so."""
    assert list(alarms.of_peers(allowlist, book, known)) == []


async def test_a_configuration_that_lost_its_peers_is_an_alarm_after_a_start(mesh: Mesh) -> None:
    """Cut off behind its first sections it is in order; the store remembers whom it has read from."""
    place_a, place_b = pair(mesh, BRISK)
    async with serving(place_a, place_b) as [(_, a), (_, b)]:
        await write(b, "one")
        await eventually(has(a, "one"))
        assert exit_code((await a("GET", "/sync/status")).json) in (0, 12)
    whole = place_a.home.config.read_text()
    place_a.home.config.write_text(whole[: whole.index("[[peer]]")])
    async with place_a.serving() as daemon:
        told = await _status(daemon)
        assert [one["kind"] for one in told["alarms"]] == ["no_peer"]
        assert exit_code(told) == 1
        place_a.home.config.write_text(whole)

        async def ended() -> bool:
            return not (await _status(daemon))["alarms"]

        await eventually(ended)


async def _status(daemon: Daemon) -> dict[str, object]:
    async with local(daemon) as client:
        return dict((await client("GET", "/sync/status")).json)
