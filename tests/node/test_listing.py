"""An allowlist that is edited while the node runs: how it stands with the peers concerned is so at once."""

from typing import Any

import pytest
from certs import Mesh
from nodes import BRISK, QUIET, Place, eventually, pair, serving, standing_is

from node import daemon
from node.dialer import Dialer
from node.links import Links
from node.replicator import Replicator
from tls.authority import Authority

PATIENT = {**QUIET, ("sync", "retry_first"): 60.0, ("sync", "retry_longest"): 3_600.0}
"""Who could not be called is called again after half a minute at the least, and nobody because a period is over."""
SOON = 5.0


async def _as_it_is_taken_in(mesh: Mesh) -> None:
    place_a, place_b = pair(mesh, BRISK)
    place_a.list(mesh.friend.fingerprint)  # so that the listener stays open
    async with serving(place_a, place_b) as [(daemon_a, a), _]:
        await eventually(standing_is(a, "b", "identical"))
        place_a.unlist(place_b.fingerprint)
        daemon_a.edits.allowlist()
        (told,) = daemon_a.standings({})
        assert (told["standing"], told["code"]) == ("distrusted", "peer_unlisted")
        assert f"ai-memory allowlist add {place_b.fingerprint.text} --label b" in told["reason"]
        place_a.list(place_b.fingerprint)
        await eventually(standing_is(a, "b", "identical"), SOON)


async def test_a_peer_that_is_taken_off_the_list_is_at_once_not_in_step(mesh: Mesh) -> None:
    """In the same turn of the event loop, before any request has failed; and it is in step again once it is listed."""
    await _as_it_is_taken_in(mesh)


async def test_by_its_last_answer_it_would_be_in_step_still(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the lanes know no more than that."""
    monkeypatch.setattr(daemon, "as_listed", lambda told, is_listed: told)
    with pytest.raises(AssertionError):
        await _as_it_is_taken_in(mesh)


async def _asked_once_more(mesh: Mesh) -> None:
    place_a, place_b = pair(mesh, BRISK)
    place_a.list(mesh.friend.fingerprint)
    place_b.configure(place_a.as_peer(url=None))
    async with serving(place_a, place_b) as [(_, a), _]:
        await eventually(standing_is(a, "b", "identical"))
        place_a.unlist(place_b.fingerprint)
        await eventually(standing_is(a, "b", "distrusted"), 2.0)


async def test_whose_connections_are_closed_is_asked_at_once(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not when the period is over, a day here: the handshake says what is the matter, whatever it is."""
    monkeypatch.setattr(daemon, "as_listed", lambda told, is_listed: told)
    await _asked_once_more(mesh)


async def test_without_asking_nothing_would_be_known(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: closed connections alone say nothing until the next request."""
    monkeypatch.setattr(daemon, "as_listed", lambda told, is_listed: told)

    async def hang_up(self: Replicator) -> None:
        await Dialer.close(self._dialer)

    monkeypatch.setattr(Replicator, "hang_up", hang_up)
    with pytest.raises(TimeoutError):
        await _asked_once_more(mesh)


async def _let_in(mesh: Mesh) -> None:
    place_a, place_b = pair(mesh, PATIENT)
    place_a.unlist(place_b.fingerprint)
    place_a.list(mesh.friend.fingerprint)
    place_b.configure(place_a.as_peer(url=None))  # b never calls: it cannot be that which wakes a
    async with serving(place_b, place_a) as [_, (_, a)]:
        await eventually(standing_is(a, "b", "distrusted"))
        place_a.list(place_b.fingerprint)
        await eventually(standing_is(a, "b", "identical"), SOON)


async def test_a_peer_that_is_listed_anew_is_called_at_once(mesh: Mesh) -> None:
    """Whatever is left of the wait after the last failure, half a minute here."""
    await _let_in(mesh)


async def _of_a_known_ca(mesh: Mesh) -> None:
    place_a, place_b = (Place(mesh, name, PATIENT) for name in ("a", "b"))
    other = Authority.create("another mesh")
    made = other.issue("b", hosts=("127.0.0.1",))
    (place_b.home.path / "node.pem").write_bytes(made.cert_pem)
    (place_b.home.path / "node.key").write_bytes(made.key_pem)
    place_b.fingerprint = made.fingerprint
    place_a.configure(place_b.as_peer())
    place_a.list(place_b.fingerprint)
    place_b.configure(place_a.as_peer(url=None))
    place_b.list(place_a.fingerprint)
    async with serving(place_b, place_a) as [_, (_, a)]:
        told = await eventually(standing_is(a, "b", "distrusted"))
        assert told["code"] == "peer_unknown_ca"
        bundle = place_a.home.path / "ca.pem"
        bundle.write_bytes(bundle.read_bytes() + other.cert_pem)
        await eventually(standing_is(a, "b", "identical"), SOON)


async def test_a_peer_whose_ca_is_added_is_called_at_once(mesh: Mesh) -> None:
    """The same of the other file that says whom this node accepts."""
    await _of_a_known_ca(mesh)


@pytest.mark.parametrize("case", [_let_in, _of_a_known_ca])
async def test_without_waking_it_the_wait_would_be_sat_out(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, case: Any
) -> None:
    """Control: nobody tells the replicator."""
    monkeypatch.setattr(Links, "heard_from", lambda *_: None)
    with pytest.raises(TimeoutError):
        await case(mesh)
