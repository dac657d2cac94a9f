"""A running node and its keyring: whose word it takes, before and after an edit, and what the sender is told."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from certs import Mesh
from keys import pair as pair_of
from knocking import until
from lines import Caller
from nodes import BRISK, LIFE, QUIET, Place, events, eventually, federation, has, pair, peer, push, serving, titles
from stamps import stamp

from node.daemon import Daemon
from node.links import Links
from node.refusals import Refusals
from sync import keyring, moment
from sync.attest import Author, Unsigned
from sync.draft import Fields, new_memory
from sync.ids import memory_id
from sync.keyring import KeyringError, key_text
from sync.policy import Policy
from sync.record import memory_version

ANN = "ai:ann"
WRITTEN = 1_700_000_000 * moment.SECOND


async def say(caller: Caller, title: str, agent: str = ANN) -> None:
    """Store a memory in an agent's name."""
    body = {"title": title, "content": "text", "namespace": "n"}
    reply = await caller("POST", "/memories", body, {"X-Agent-Id": agent})
    assert reply.status == 201, reply.body


def key_of(daemon: Daemon, agent: str = ANN) -> bytes:
    """The key by which this node's agent signs."""
    return daemon.store.keys.author(agent).key


def enrol(place: Place, *entries: tuple[bytes, str]) -> None:
    text = ""
    for key, agent in entries:
        text = keyring.add(text, key, agent, "test")
    (place.home.path / "keyring").write_text(text)


def refused(sender: Caller, receiver: Caller, reason: str) -> Callable[[], Awaitable[Any]]:
    """The sender was told in the answer to its push; or the receiver had fetched it first, and says so itself."""

    async def look() -> bool:
        told = [one for each in (sender, receiver) for one in (await each("GET", "/sync/status")).json["peers"]]
        return any(one["refused"] >= 1 and reason in one["reason"] for one in told)

    return look


# how b judges what a's agent writes: b's policy, whom its keyring has before, and the reason
CASES: dict[str, tuple[str, tuple[tuple[bytes, str], ...], str]] = {
    "another key": ("any", ((pair_of(ANN).key, ANN),), "key_mismatch"),
    "nobody": ("enrolled", (), "not_enrolled"),
}


@asynccontextmanager
async def judged(mesh: Mesh, policy: str, before: tuple[tuple[bytes, str], ...]) -> AsyncIterator[Any]:
    """Two nodes, of which b judges; (a, its client, b, its place, its client)."""
    place_a, place_b = pair(mesh, {**BRISK, ("trust", "policy"): policy})
    enrol(place_b, *before)
    place_a.configure(place_b.as_peer())
    async with serving(place_a, place_b) as [(a, client_a), (b, client_b)]:
        enrol(place_a, (key_of(b, "host:b"), "host:b"))
        yield a, client_a, b, place_b, client_b


@pytest.mark.parametrize("case", CASES)
async def test_what_was_refused_is_taken_after_enrolment_without_a_restart(mesh: Mesh, case: str) -> None:
    """It is told why; once the key stands in the file, the memory comes by itself, though it is not written
    again and no period is over."""
    policy, before, reason = CASES[case]
    async with judged(mesh, policy, before) as (a, client_a, _, place_b, client_b):
        await say(client_a, "by ann")
        await eventually(refused(client_a, client_b, reason))
        assert await titles(client_b) == set()
        enrol(place_b, (key_of(a), ANN))
        await eventually(has(client_b, "by ann"))


async def _nothing_again(mesh: Mesh, seconds: float) -> None:
    async with judged(mesh, "enrolled", ()) as (a, client_a, _, place_b, client_b):
        await say(client_a, "by ann")
        await eventually(refused(client_a, client_b, "not_enrolled"))
        enrol(place_b, (key_of(a), ANN))
        with pytest.raises(TimeoutError):
            await eventually(has(client_b, "by ann"), seconds)


async def test_without_the_tag_nothing_would_come_again(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a cursor that does not know under which keyring it was reached covers what was refused."""
    monkeypatch.setattr(Policy, "tag", property(lambda self: self.scope.tag))
    await _nothing_again(mesh, 1.5)


async def test_without_reading_again_it_would_wait_for_its_period(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: nobody asks the peer because our rules have changed."""
    monkeypatch.setattr(Links, "read_again", lambda self: None)
    await _nothing_again(mesh, 1.5)


async def test_a_revocation_ends_what_a_key_may_write(mesh: Mesh, logs: list[Any]) -> None:
    """What came before stays; what is written from then on is refused, while the node runs, and no other agent's."""
    async with judged(mesh, "any", ()) as (a, client_a, b, place_b, client_b):
        enrol(place_b, (key_of(a), ANN))
        await until(lambda: len(b.book.keyring) == 1)
        await say(client_a, "before")
        await eventually(has(client_b, "before"))
        path = place_b.home.path / "keyring"
        path.write_text(keyring.revoke(path.read_text(), key_of(a), moment.text(b.clock.now())))
        await until(lambda: any(one.revoked for one in b.book.keyring.entries))
        await say(client_a, "after")
        await say(client_a, "by ben", "ai:ben")
        await eventually(refused(client_a, client_b, "key_revoked"))
        await eventually(has(client_b, "by ben"))
        assert await titles(client_b) == {"before", "by ben"}
        assert [one["keys"] for one in events(logs, "keyring.loaded") if one["keys"]][-1] == 1


async def test_a_broken_edit_keeps_the_last_good_keyring(mesh: Mesh, logs: list[Any]) -> None:
    """A wrong line is told with its place and changes nothing for anybody; mended, the edit takes effect."""
    place = Place(mesh, "a", QUIET)
    enrol(place, (pair_of(ANN).key, ANN))
    async with serving(place) as [(daemon, _)]:
        path = place.home.path / "keyring"
        good = path.read_text()
        path.write_text(f"{good}ed25519:x {ANN}\n")
        await until(lambda: bool(events(logs, "keyring.broken")))
        assert events(logs, "keyring.broken")[0]["reason"].startswith(f"{path}:2:9: found 1 characters, expected")
        assert daemon.book.keyring.agents == {ANN}
        path.write_text(f"{good}{key_text(pair_of('ai:ben').key)} ai:ben\n")
        await until(lambda: daemon.book.keyring.agents == {ANN, "ai:ben"})
        place.configure()  # an edit of the configuration does not bring an older keyring back
        await until(lambda: bool(events(logs, "keyring.loaded")))
        assert daemon.book.keyring.agents == {ANN, "ai:ben"}
        path.write_text("")
        await until(lambda: not len(daemon.book.keyring))


async def test_a_node_does_not_start_with_a_broken_keyring(mesh: Mesh) -> None:
    """It would take what it was told not to take; the error names file, line and column."""
    place = Place(mesh, "a", QUIET)
    (place.home.path / "keyring").write_text("# mine\noops\n")
    with pytest.raises(KeyringError, match="keyring:2:1: found 'oops', expected ed25519: and"):
        async with place.serving():
            pass


# --- unsigned


def said(author: Author, title: str = "pushed") -> dict[str, Any]:
    """The body of a push with one memory by this author."""
    draft = new_memory(Fields(title=title, content="text", namespace="n"), memory_id("n", title, 0), WRITTEN)
    version = memory_version(draft, author, stamp({LIFE: 1 << 20}))
    return push(json.loads(version.doc))


# how a friend is configured, whether it is configured at all, and the settings of strangers: is unsigned taken?
UNSIGNED: dict[str, tuple[dict[str, Any] | None, dict[tuple[str, str], Any], bool]] = {
    "by default": ({}, {}, False),
    "refused": ({"allow_unsigned": False}, {}, False),
    "allowed": ({"allow_unsigned": True}, {}, True),
    "a stranger": (None, {}, False),
    "a stranger, allowed": (None, {("federation", "default_allow_unsigned"): True}, True),
    "a friend, strangers allowed": ({}, {("federation", "default_allow_unsigned"): True}, False),
}


@pytest.mark.parametrize("case", UNSIGNED)
async def test_unsigned_memories_are_refused_unless_the_operator_allows_them(mesh: Mesh, case: str) -> None:
    """From a peer of this node's own protocol; what is signed is taken from each of them."""
    configured, settings, is_taken = UNSIGNED[case]
    place = Place(mesh, "a", {**QUIET, ("federation", "default_write"): ["**"], **settings})
    if configured is not None:
        place.configure(peer("friend", mesh.friend.fingerprint, **configured))
    place.list(mesh.friend.fingerprint)
    async with place.serving() as daemon, federation(daemon, mesh, mesh.friend) as friend:
        answer = (await friend("POST", "/sync/push", said(Unsigned(ANN)))).json
        expected = [] if is_taken else ["unsigned_refused"]
        assert ([one["reason"] for one in answer["refused"]], answer["applied"]) == (expected, int(is_taken))
        signed = (await friend("POST", "/sync/push", said(pair_of(ANN), "signed"))).json
        assert (signed["refused"], signed["applied"]) == ([], 1)


@pytest.mark.parametrize("notes", [True, False], ids=["", "without the note"])
async def test_a_node_tells_what_it_refused_of_a_peer_that_only_calls_it(
    notes: bool, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks on either side why the two differ is told. Control: without the note one side says "in step"."""
    if not notes:
        monkeypatch.setattr(Refusals, "note", lambda *a: None)
    place_a, place_b = pair(mesh, {**BRISK, ("trust", "policy"): "enrolled"})
    place_a.configure(place_b.as_peer())
    place_b.configure(place_a.as_peer(url=None))
    async with serving(place_a, place_b) as [(_, client_a), (_, client_b)]:
        await say(client_a, "by ann")
        await eventually(in_step(client_a))
        (told,) = (await client_b("GET", "/sync/status")).json["peers"]
        if not notes:
            assert (told["refused"], "refused" in told["reason"]) == (0, False)
            return
        assert told["refused"] >= 1 and "this node said not_enrolled" in told["reason"]


def in_step(client: Caller) -> Callable[[], Awaitable[Any]]:
    """All that this node had to say to its only peer was answered."""

    async def look() -> bool:
        (told,) = (await client("GET", "/sync/status")).json["peers"]
        return bool(told["state"] == "in_step")

    return look
