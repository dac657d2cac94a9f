"""A running node and its peers: what is written here is there, and where it is not, the operator is told why."""

from collections.abc import Callable
from typing import Any

import pytest
from certs import Mesh
from knocking import until
from nodes import BRISK, QUIET, Place, events, eventually, failing, has, in_step, pair, peer, serving, write

from node.exchange import Exchange
from node.links import Links
from tls.authority import Authority


async def test_a_write_is_pushed_as_soon_as_it_is_committed(mesh: Mesh) -> None:
    """With a pull only once a day, what is written on either node is on the other: the commit itself sends it."""
    async with serving(*pair(mesh, QUIET)) as [(_, a), (_, b)]:
        await eventually(in_step(a, "b"))
        await eventually(in_step(b, "a"))
        await write(a, "from a")
        await eventually(has(b, "from a"))
        await write(b, "from b")
        await eventually(has(a, "from b"))
        assert (await a("GET", "/stats")).json["digest"] == (await b("GET", "/stats")).json["digest"]


async def test_without_the_event_of_a_commit_nothing_would_be_pushed(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: where nobody is told of the commit, the write stays where it is until the day is over."""
    async with serving(*pair(mesh, QUIET)) as [(_, a), (_, b)]:
        await eventually(in_step(a, "b"))
        await eventually(in_step(b, "a"))
        monkeypatch.setattr(Links, "committed", lambda self, number: None)
        await write(a, "from a")
        with pytest.raises(TimeoutError):
            await eventually(has(b, "from a"), 0.7)


async def test_a_peer_that_comes_back_is_pulled_from(mesh: Mesh) -> None:
    """Once a push reaches it again, what the peer wrote while it could not call us is fetched, without a period."""
    place_a, place_b = pair(mesh, BRISK)
    place_b.configure(peer("a", place_a.fingerprint))  # b never calls: a has to come for what b writes
    async with serving(place_a) as [(_, a)]:
        async with serving(place_b) as [(_, b)]:
            await eventually(in_step(a, "b"))
        await write(a, "while b was away")
        await eventually(lambda: failing(a, "b"))
        listed = place_b.home.path / "allowlist"
        kept = listed.read_text()
        listed.write_text("")
        async with serving(place_b) as [(_, b)]:
            await write(b, "by b, back again")  # before a can come: b does not listen for peers yet
            listed.write_text(kept)
            await eventually(has(b, "while b was away"))
            await eventually(has(a, "by b, back again"))
            await eventually(in_step(a, "b"))


async def test_catching_up_takes_all_pages_at_once(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty changes in pages of five arrive by one pull after another, though the next period is a day away.

    And the pages that tell the giver so, with nothing in them, go out one after another too: none is cut in vain.
    """
    cuts: list[object] = []
    cut = Exchange.cut

    async def counted(self: Exchange, ask: Any) -> Any:
        cuts.append(ask)
        return await cut(self, ask)

    monkeypatch.setattr(Exchange, "cut", counted)
    settings = {**BRISK, ("sync", "page_records"): 5}
    place_a, place_b = pair(mesh, settings)
    place_a.configure(peer("b", place_b.fingerprint))  # a never calls: b has to fetch
    async with serving(place_a) as [(_, a)]:
        await write(a, *(f"change {number}" for number in range(60)))
        async with serving(place_b) as [(_, b)]:
            await eventually(has(b, *(f"change {number}" for number in range(60))))
            await eventually(in_step(b, "a"))
    assert 24 <= len(cuts) <= 60  # twelve pages each way, and what a reader ahead or a retry adds


async def test_a_peer_that_is_added_and_removed_while_the_node_runs(mesh: Mesh, logs: list[Any]) -> None:
    """A `[[peer]]` written into the configuration is called at once, one taken out is not called any more."""
    place_a, place_b = pair(mesh, BRISK)
    place_a.configure()
    async with serving(place_a, place_b) as [(_, a), (_, b)]:
        assert (await a("GET", "/sync/status")).json["peers"] == []
        await write(a, "before")
        place_a.configure(place_b.as_peer())
        await eventually(has(b, "before"))
        place_a.configure()
        await until(lambda: bool(events(logs, "peer.ended")))
        assert (await a("GET", "/sync/status")).json["peers"] == []


# --- why it does not work


def as_it_should_be(mesh: Mesh, a: Place, b: Place) -> None:
    """Each lists the other; a calls b."""
    a.configure(b.as_peer())
    a.list(b.fingerprint)
    b.list(a.fingerprint)


def b_does_not_list_a(mesh: Mesh, a: Place, b: Place) -> None:
    as_it_should_be(mesh, a, b)
    b.list(mesh.friend.fingerprint)
    b.unlist(a.fingerprint)


def a_does_not_list_b(mesh: Mesh, a: Place, b: Place) -> None:
    as_it_should_be(mesh, a, b)
    a.unlist(b.fingerprint)


def b_has_another_certificate(mesh: Mesh, a: Place, b: Place) -> None:
    as_it_should_be(mesh, a, b)
    a.list(mesh.friend.fingerprint)
    a.configure(peer("b", mesh.friend.fingerprint, url=b.url))


def the_address_is_a_s_own(mesh: Mesh, a: Place, b: Place) -> None:
    as_it_should_be(mesh, a, b)
    a.configure(b.as_peer(url=a.url))
    a.list(a.fingerprint)


def b_is_of_another_ca(mesh: Mesh, a: Place, b: Place) -> None:
    """b has a certificate of another CA, which a lists and pins."""
    other = Authority.create("another mesh")
    made = other.issue("b", hosts=("127.0.0.1",))
    home = b.home.path
    (home / "node.pem").write_bytes(made.cert_pem)
    (home / "node.key").write_bytes(made.key_pem)
    b.fingerprint = made.fingerprint
    as_it_should_be(mesh, a, b)


# How it is arranged, whether b runs, the code, and words of the reason. `{a}`: the fingerprint of a, and so on.
WHY: dict[str, tuple[Callable[[Mesh, Place, Place], None], bool, str, str]] = {
    "b does not run": (as_it_should_be, False, "not_listening", "nobody listens"),
    "b does not list a": (b_does_not_list_a, True, "refused", "{a}  # a"),
    "a does not list b": (a_does_not_list_b, True, "peer_unlisted", "ai-memory allowlist add {b} --label b"),
    "b has another certificate": (
        b_has_another_certificate,
        True,
        "wrong_pin",
        "found {b}, expected {friend}; ask its operator",
    ),
    "the address is a's own": (the_address_is_a_s_own, True, "own_address", "own certificate ({a}) answers there"),
    "b is of another CA": (b_is_of_another_ca, True, "peer_unknown_ca", "peer add … --ca FILE"),
}


@pytest.mark.parametrize("case", WHY)
async def test_a_peer_that_is_not_reached_is_told_with_the_reason(mesh: Mesh, case: str) -> None:
    """`sync status` says failing, for how long, how far behind, a stable code, and what the operator should do."""
    arrange, runs, code, words = WHY[case]
    a, b = (Place(mesh, name, BRISK) for name in ("a", "b"))
    arrange(mesh, a, b)
    async with serving(*((b, a) if runs else (a,))) as [*_, (_, client)]:
        await write(client, "unsent")
        found = await eventually(lambda: failing(client, "b"))
        assert (found["code"], found["behind"]) == (code, 1)
        known = {"a": a.fingerprint.text, "b": b.fingerprint.text, "friend": mesh.friend.fingerprint.text}
        assert words.format(**known) in found["reason"]
        expected = {"not_listening": "unreachable", "refused": "refused"}.get(code, "distrusted")
        assert found["standing"] == expected
        assert found["attempts"] >= 1
        assert found["for_seconds"] >= 0
