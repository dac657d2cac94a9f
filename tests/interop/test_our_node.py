"""A node of ours with a daemon of the older protocol as its peer: scenarios for the fake of it, and for a real one.

The fake is always there, in both releases. A real daemon is used where the variables of test_real_daemon.py name one:

    AI_MEMORY_INTEROP_URL=https://localhost:9077 AI_MEMORY_INTEROP_CA=ca.pem \\
    AI_MEMORY_INTEROP_CERT=ours.pem AI_MEMORY_INTEROP_KEY=ours.key \\
    .venv/bin/python -m pytest tests/interop/test_our_node.py

The certificate and key are our node's identity, so their fingerprint has to be on the daemon's allowlist. Its own
fingerprint is learned from the certificate that it presents. Optional:

    AI_MEMORY_INTEROP_API_KEY  the daemon's API key
    AI_MEMORY_INTEROP_AGENT    our node's agent id; `host:interop` where it is not set
    AI_MEMORY_INTEROP_LISTEN   host:port where our node listens, if the daemon was started to call it there

The last is for a daemon with `--quorum-writes 2 --quorum-peers https://<host>:<port>`, a client certificate that is
the one it serves with, and `--quorum-ca-cert` with the CA of our certificate, which has to name that host and to allow
server authentication. Without it the scenario of a delete there is skipped: the daemon tells deletes in no other way.
Such a daemon answers 503 to its clients while no node of ours runs, so test_real_daemon.py does not go with it.

A 0.7.0 needs `AI_MEMORY_FED_SYNC_TRUST_PEER=1`, or our node sees nothing. Its clock has to be right to a few seconds.
Each scenario writes a few rows in a namespace of its own, `interop/` and a random name, and deletes them at the end.
Our node takes and gives nothing outside that namespace, but it reads all that the daemon shows: a large store takes it
some time at each scenario.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from certs import Mesh
from named import Both, Named, Sent, facing, missing, needless
from nodes import eventually
from older import QUICK
from rust_daemon import V063, V070, Caller, RustDaemon, client_context

from node.dialer import Answer, Dialer
from node.legacy.replicator import PUSH
from sync.memory import MAX_METADATA_BYTES

RELEASES = {"fake 0.6.3": V063, "fake 0.7.0": V070}
REAL = pytest.param("real", marks=pytest.mark.timeout(1800))
DAEMONS = [*RELEASES, *(() if missing() else (REAL,))]
STEADY: Mapping[tuple[str, str], Any] = {
    ("sync", "pull_interval"): 1.0, ("sync", "retry_first"): 0.5, ("sync", "retry_longest"): 5.0,
}  # fmt: skip
"""Settings of a node that leaves a real daemon time to answer others."""
PATIENCE, PATIENCE_REAL = 15.0, 300.0
"""Seconds. A 0.7.0 with an encrypted store takes 131 ms a row, and may have much to show."""
BESIDE = {"title": "beside", "content": "of somebody else", "namespace": "elsewhere"}


@dataclass
class Scenario:
    """A node and a daemon. `fake`: the daemon, where it is one."""

    both: Both
    fake: RustDaemon | None

    @property
    def complaints(self) -> list[str]:
        """What was wrong with our node's pushes: by the daemon's counters, and by what the fake had to say."""
        return [*needless(self.both.sent), *(self.fake.complaints if self.fake is not None else ())]

    async def ends_well(self) -> None:
        """In step, nothing to tell the operator, and no push that a good peer does not make."""
        assert (await self.both.settled())["notes"] == []
        assert self.complaints == []


@pytest.fixture(params=DAEMONS)
async def apart(request: pytest.FixtureRequest, mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scenario]:
    """Both run, and our node does not know the daemon yet."""
    post = Dialer.post
    sent: list[Sent] = []

    async def recording(dialer: Dialer, path: str, body: bytes) -> Answer:
        answer = await post(dialer, path, body)
        if path == PUSH:
            asked, told = json.loads(body), json.loads(answer.body) if answer.status == 200 else {}
            sent.append(Sent(asked["memories"], asked.get("deletions", []), answer.status, told))
        return answer

    monkeypatch.setattr(Dialer, "post", recording)
    scenario = real(mesh) if request.param == "real" else faked(mesh, request.param)
    async with scenario as found:
        found.both.sent = sent
        yield found


@pytest.fixture
async def joined(apart: Scenario) -> Scenario:
    """Both run, and the daemon is a peer of our node."""
    await apart.both.connect()
    return apart


@asynccontextmanager
async def real(mesh: Mesh) -> AsyncIterator[Scenario]:
    async with facing(mesh, Named.from_environment(), STEADY, PATIENCE_REAL) as both:
        yield Scenario(both, None)


@asynccontextmanager
async def faked(mesh: Mesh, which: str) -> AsyncIterator[Scenario]:
    """A fake that asks for an API key, fans out to our node, and has a memory that is none of our business."""
    fake, ours = RustDaemon(RELEASES[which], name="old", api_key="open sesame"), mesh.friend
    async with fake.serving(mesh.node, [ours.fingerprint]):
        named = Named(fake.url, ours.files.ca, ours.files.cert, ours.files.key, fake.api_key)
        async with facing(mesh, named, QUICK, PATIENCE) as both:
            status, told = await both.ask("POST", "/memories", BESIDE)
            assert status == 201, told
            fake.fanout.peers = [Caller(both.place.url, client_context(mesh.node, verify=True))]
            yield Scenario(both, fake)
            await fake.fanout.settled()
        assert [(one["title"], one["namespace"]) for one in fake.store.all()] == [("beside", "elsewhere")]


def test_a_real_daemon_is_named() -> None:
    """Skipped where none is: then all that follows was tried with the fake alone."""
    if missing():
        pytest.skip(f"no real daemon is named ({', '.join(missing())} not set): its fake alone was tried")
    assert DAEMONS[-1] is REAL


async def test_a_memory_written_here_arrives_there(joined: Scenario) -> None:
    """Under the id that it has here."""
    both = joined.both
    ours = await both.write("ours", "é → ✓\n\ttext")
    await both.same("ours")
    assert (await both.there())["ours"]["id"] == ours
    await joined.ends_well()


async def test_a_memory_written_there_arrives_here(joined: Scenario) -> None:
    """With its author; and what lies in other namespaces there does not."""
    both = joined.both
    await both.write_there("theirs", "é → ✓\n\ttext")
    await both.same("theirs")
    assert (await both.here())["theirs"]["metadata"]["agent_id"] == "ai:interop-user"
    await joined.ends_well()
    assert both.sent == []


async def test_a_change_on_either_side_arrives_on_the_other(joined: Scenario) -> None:
    """Of memories that were written here, and of those that were written there."""
    both = joined.both
    ours, theirs = await both.write("ours"), await both.write_there("theirs")
    await both.same("ours", "theirs")
    await both.change(ours, content="changed here")
    await both.change_there(theirs, content="changed there")
    await both.same("ours", "theirs")
    here = await both.here()
    assert (here["ours"]["content"], here["theirs"]["content"]) == ("changed here", "changed there")
    await both.change_there(ours, content="ours, changed there")
    await both.change(here["theirs"]["id"], content="theirs, changed here")
    await both.same("ours", "theirs")
    there = await both.there()
    assert (there["ours"]["content"], there["theirs"]["content"]) == ("ours, changed there", "theirs, changed here")
    await joined.ends_well()


async def test_a_delete_here_arrives_there(joined: Scenario) -> None:
    """Of a memory of either side, and neither comes back."""
    both = joined.both
    ours, _ = await both.write("ours"), await both.write_there("theirs")
    await both.same("ours", "theirs")
    await both.delete(ours)
    await both.same("theirs")
    await both.delete((await both.here())["theirs"]["id"])
    await both.same()
    await joined.ends_well()


async def test_a_delete_there_arrives_here_where_it_is_told(joined: Scenario) -> None:
    """By a push, which is the only way that the daemon has."""
    both = joined.both
    if joined.fake is None and both.named.listen is None:
        pytest.skip("AI_MEMORY_INTEROP_LISTEN is not set: the daemon does not call our node, and tells no delete else")
    ours, theirs = await both.write("ours"), await both.write_there("theirs")
    await both.same("ours", "theirs")
    await both.delete_there(ours)
    await both.same("theirs")
    await both.delete_there(theirs)
    await both.same()
    await joined.ends_well()


async def test_a_rename_here_arrives_there(joined: Scenario) -> None:
    """The daemon cannot rename: it is told a delete, and then the memory under its new title."""
    both = joined.both
    ours, _ = await both.write("ours"), await both.write_there("theirs")
    await both.same("ours", "theirs")
    await both.change(ours, title="ours, renamed")
    await both.same("ours, renamed", "theirs")
    await both.change((await both.here())["theirs"]["id"], title="theirs, renamed")
    await both.same("ours, renamed", "theirs, renamed")
    await joined.ends_well()


async def test_one_title_with_two_ids_is_one_memory(apart: Scenario) -> None:
    """Written on both sides before they knew each other: one of the texts is on both, and changes still arrive."""
    both = apart.both
    ours = await both.write("one")
    theirs = await both.write_there("one", alone=True)
    assert ours != theirs
    await both.connect()
    await both.same("one")
    await both.settled()
    await both.change(ours, content="changed here")
    await both.same("one")
    await both.change_there(theirs, content="changed there")
    await both.same("one")
    assert (await both.here())["one"]["content"] == "changed there"
    assert [(await side())["one"]["id"] for side in (both.here, both.there)] == [ours, theirs]
    await both.delete(ours)
    await both.same()
    await apart.ends_well()


async def test_a_carriage_return_gets_no_further_than_our_door(joined: Scenario) -> None:
    """The daemon would skip the row without a word; here its writer is told, and nothing is sent."""
    both = joined.both
    reply = await both.local("POST", "/memories", both.draft("odd", "a\r\nb"))
    assert (reply.status, reply.code) == (400, "invalid")
    assert "U+000D" in reply.json["error"]
    await both.write("even")
    await both.same("even")
    await joined.ends_well()
    assert [row["title"] for one in both.sent for row in one.rows] == ["even"]


async def test_what_it_would_skip_is_not_sent_and_is_reported(joined: Scenario) -> None:
    """Metadata that is over its limit only with our attestation. Made smaller, the memory goes."""
    both = joined.both
    note = {"k": "x" * (MAX_METADATA_BYTES - 100)}
    odd = await both.write("odd", metadata=note)
    await both.write("even")

    async def noted() -> list[str]:
        return list((await both.status())["notes"])

    (told,) = await eventually(noted, both.patience)
    assert told.startswith(f"1 memories are not on it ({both.namespace}/odd: it would skip it: metadata: ")
    await both.settled()
    assert (await both.there()).keys() == {"even"}
    assert [row["title"] for one in both.sent for row in one.rows] == ["even"]
    await both.change(odd, metadata={"k": "x"})
    await both.same("odd", "even")
    await joined.ends_well()


async def test_nothing_that_it_has_is_sent_again(joined: Scenario) -> None:
    """Not what it took, not what it wrote, and not because something else is written."""
    both = joined.both
    await both.write("ours")
    await both.write_there("theirs")
    await both.same("ours", "theirs")
    await both.write("another")
    await both.write_there("yet another")
    await both.same("ours", "theirs", "another", "yet another")
    await joined.ends_well()
    assert sorted(row["title"] for one in both.sent for row in one.rows) == ["another", "ours"]
    assert [one.deletions for one in both.sent if one.deletions] == []


@pytest.mark.parametrize("control", ["twice", "skipped"])
async def test_a_needless_push_is_noticed(control: str, joined: Scenario) -> None:
    """Control: a row that goes out again, and one that the daemon does not take."""
    both = joined.both
    await both.write("ours")
    await both.same("ours")
    await both.settled()
    (first,) = both.sent
    row = dict(first.rows[0]) | ({"title": "renamed"} if control == "skipped" else {})
    body = {"sender_agent_id": both.named.agent, "memories": [row]}
    headers = {"X-Agent-Id": both.named.agent, "X-Peer-Id": both.named.agent}
    key = {"X-Api-Key": both.named.api_key} if both.named.api_key is not None else {}
    async with Dialer(both.named.url, lambda: both.named.context, both.patience, headers | key) as dialer:
        await dialer.post(PUSH, json.dumps(body).encode())
    assert needless(both.sent) != []
    assert joined.fake is None or joined.fake.complaints != []
