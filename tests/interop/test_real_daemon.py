"""What a node may rely on when it federates with the older daemon: scenarios for the fake of it, and for a real one.

The fake is always there, in both releases. A real daemon is used where these environment variables name one:

    AI_MEMORY_INTEROP_URL      https://localhost:9077, without a path; the release is asked from its health
    AI_MEMORY_INTEROP_CA       PEM: the CA of the daemon's certificate
    AI_MEMORY_INTEROP_CERT     PEM: a client certificate whose fingerprint is on the daemon's allowlist
    AI_MEMORY_INTEROP_KEY      PEM: its key
    AI_MEMORY_INTEROP_API_KEY  optional: the daemon's API key
    AI_MEMORY_INTEROP_AGENT    optional: the id to push as; `host:interop` where it is not set

The daemon's clock has to be right to some seconds. A 0.7.0 needs `AI_MEMORY_FED_SYNC_TRUST_PEER=1`, or it shows no
rows. A run leaves some forty rows below the namespace `interop/`, charged to authors `ai:interop-...`. Any store will
do: what is in it already is not looked at, as long as fewer than 10,000 rows have later times than now.

Rows are sent as a node has to send them: times with six digits and `+00:00`, `x-agent-id` and `x-peer-id` equal to the
sender, small batches, nothing twice.
"""

import asyncio
import json
import os
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from certs import Mesh
from rust_daemon import V063, V070, RustDaemon, client_context

NAMES = ("AI_MEMORY_INTEROP_URL", "AI_MEMORY_INTEROP_CA", "AI_MEMORY_INTEROP_CERT", "AI_MEMORY_INTEROP_KEY")
GIVEN = {name: os.environ.get(name, "") for name in NAMES}
MISSING = [name for name, value in GIVEN.items() if not value]
DAEMONS = ["fake 0.6.3", "fake 0.7.0", *(() if MISSING else ("real",))]
API = "/api/v1"


def time(after: float = 0.0) -> str:
    """Now, and so many seconds, as a node writes it: six digits always."""
    return (datetime.now(UTC) + timedelta(seconds=after)).isoformat(timespec="microseconds")


@dataclass
class Daemon:
    """A daemon, real or not, and a namespace of it that nobody else writes to."""

    session: aiohttp.ClientSession
    url: str
    agent: str
    fake: RustDaemon | None
    namespace: str = field(default_factory=lambda: f"interop/{uuid.uuid4().hex}")
    start: str = field(default_factory=lambda: time(-1))
    release: str = ""

    async def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and body, parsed where it is JSON."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        more = {} if data is None else {"content-type": "application/json"}
        async with self.session.request(method, self.url + path, data=data, headers={**more, **(headers or {})}) as got:
            text = await got.text()
            return got.status, json.loads(text) if got.content_type == "application/json" else text

    async def push(self, *rows: Any, **sections: Any) -> Any:
        """A push that has to be answered with 200: its counters that are not 0."""
        status, told = await self.ask("POST", f"{API}/sync/push", self.body(*rows, **sections), self.identity)
        assert status == 200, told
        return {name: count for name, count in told.items() if type(count) is int and count}

    def body(self, *rows: Any, **sections: Any) -> dict[str, Any]:
        return {"sender_agent_id": self.agent, "memories": list(rows), **sections}

    @property
    def identity(self) -> dict[str, str]:
        return {"x-agent-id": self.agent, "x-peer-id": self.agent}

    async def pull(self, since: str | None = None, limit: int = 10_000) -> list[Any]:
        """Rows of our namespace on one page."""
        query = f"since={quote(since or self.start, safe='')}&limit={limit}&peer={quote(self.agent, safe='')}"
        status, told = await self.ask("GET", f"{API}/sync/since?{query}", headers=self.identity)
        assert status == 200, told
        assert told["count"] == len(told["memories"]) <= told["limit"]
        return [one for one in told["memories"] if one["namespace"] == self.namespace]

    async def read(self, identifier: str) -> Any:
        """The memory as a client of the daemon reads it; None where there is none."""
        status, told = await self.ask("GET", f"{API}/memories/{identifier}")
        return told["memory"] if status == 200 else None

    @property
    def author(self) -> dict[str, str]:
        return {"agent_id": f"ai:interop-{self.namespace[-6:]}"}

    def row(self, title: str, at: str | None = None, **fields: Any) -> dict[str, Any]:
        """A memory of our own."""
        at = at or time()
        row = {"id": str(uuid.uuid4()), "tier": "mid", "namespace": self.namespace, "title": title, "content": "c"}
        row |= {"tags": ["t"], "priority": 5, "confidence": 1.0, "source": "api", "access_count": 0, "created_at": at}
        return row | {"updated_at": at, "metadata": self.author} | fields

    async def create(self, title: str, **fields: Any) -> str:
        """A memory that a client of the daemon writes: its id."""
        body = {"title": title, "content": "by a client", "namespace": self.namespace, **fields}
        status, told = await self.ask("POST", f"{API}/memories", body, {"x-agent-id": "ai:interop-user"})
        assert status == 201, told
        return str(told["id"])

    @property
    def complaints(self) -> list[str]:
        """What the fake had to say about our pushes; the real one says nothing."""
        return [] if self.fake is None else self.fake.complaints


@pytest.fixture(params=DAEMONS)
async def daemon(request: pytest.FixtureRequest, mesh: Mesh) -> AsyncIterator[Daemon]:
    """Each scenario gets one of these after the other."""
    if request.param != "real":
        fake = RustDaemon(V063 if request.param.endswith("0.6.3") else V070)
        async with fake.serving(mesh.node, [mesh.friend.fingerprint]):
            context = client_context(mesh.friend, verify=True)
            async for found in opened(fake.url, context, "host:interop", fake, {}):
                yield found
        return
    context = ssl.create_default_context(cafile=GIVEN["AI_MEMORY_INTEROP_CA"])
    context.load_cert_chain(GIVEN["AI_MEMORY_INTEROP_CERT"], GIVEN["AI_MEMORY_INTEROP_KEY"])
    key = os.environ.get("AI_MEMORY_INTEROP_API_KEY")
    agent = os.environ.get("AI_MEMORY_INTEROP_AGENT", "host:interop")
    async for found in opened(GIVEN["AI_MEMORY_INTEROP_URL"], context, agent, None, {"x-api-key": key} if key else {}):
        yield found


async def opened(
    url: str, context: ssl.SSLContext, agent: str, fake: RustDaemon | None, headers: Mapping[str, str]
) -> AsyncIterator[Daemon]:
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        found = Daemon(session, url, agent, fake)
        status, told = await found.ask("GET", f"{API}/health")
        assert (status, told["service"]) == (200, "ai-memory")
        found.release = told["version"]
        yield found


def test_a_real_daemon_is_named() -> None:
    """Skipped where none is: then all that follows was tried with the fake alone."""
    if MISSING:
        pytest.skip(f"no real daemon is named ({', '.join(MISSING)} not set): its fake alone was tried")
    assert DAEMONS[-1] == "real"


async def test_a_memory_arrives_and_comes_back_as_it_was(daemon: Daemon) -> None:
    """Every member of it: so a node can tell that nothing is to be done."""
    sent = daemon.row("one", content="é → ✓\n\ttext", tags=["a", "b"], priority=7, metadata=daemon.author | {"k": [1]})
    assert await daemon.push(sent) == {"applied": 1}
    shown, pulled = await daemon.read(sent["id"]), (await daemon.pull())[0]
    assert {name: shown[name] for name in sent} == sent
    assert {name: pulled[name] for name in sent} == sent
    assert daemon.complaints == []


async def test_the_later_text_wins_and_an_earlier_counts_as_applied_too(daemon: Daemon) -> None:
    """So `applied` says nothing; what is kept has to be read."""
    first = daemon.row("one", time(-60))
    later, earlier = (
        first | {"content": "later", "updated_at": time()},
        first | {"content": "x", "updated_at": time(-90)},
    )
    for row in (first, later, earlier):
        assert await daemon.push(row) == {"applied": 1}
    kept = await daemon.read(first["id"])
    assert (kept["content"], kept["updated_at"]) == ("later", later["updated_at"])
    assert kept["created_at"] == first["created_at"]


async def test_with_one_time_the_first_content_stays(daemon: Daemon) -> None:
    """A node that changes a row has to give it a later time."""
    row = daemon.row("one")
    await daemon.push(row)
    await daemon.push(row | {"content": "other"})
    assert (await daemon.read(row["id"]))["content"] == row["content"]


async def test_priority_never_falls_and_long_stays_long(daemon: Daemon) -> None:
    """A node that lowers either cannot have that replicated."""
    row = daemon.row("one", time(-60), priority=9, tier="long")
    await daemon.push(row)
    await daemon.push(row | {"priority": 2, "tier": "mid", "updated_at": time()})
    kept = await daemon.read(row["id"])
    assert (kept["priority"], kept["tier"], kept.get("expires_at")) == (9, "long", None)


@pytest.mark.parametrize("change", [{"title": "new"}, {"namespace": "interop/elsewhere"}])
async def test_a_rename_or_move_takes_a_delete_first(daemon: Daemon, change: dict[str, str]) -> None:
    """Alone it is skipped with an answer of 200. In one push the delete would come last: two pushes."""
    row = daemon.row("old", time(-60))
    renamed = row | {"updated_at": time(), **({"title": f"new {daemon.namespace}"} | change)}
    await daemon.push(row)
    assert await daemon.push(renamed) == {"skipped": 1}
    assert (await daemon.read(row["id"]))["title"] == "old"
    assert await daemon.push(deletions=[row["id"]]) == {"deleted": 1}
    assert await daemon.push(renamed) == {"applied": 1}
    kept = await daemon.read(row["id"])
    assert (kept["title"], kept["namespace"]) == (renamed["title"], renamed["namespace"])
    if daemon.fake is not None:
        assert len(daemon.complaints) == 1, "one about the skipped row"


async def test_memories_come_before_deletions_in_one_push(daemon: Daemon) -> None:
    """A row and its delete in one push: it is gone."""
    row = daemon.row("one")
    assert await daemon.push(row, deletions=[row["id"]]) == {"applied": 1, "deleted": 1}
    assert await daemon.read(row["id"]) is None


async def test_a_delete_leaves_nothing_behind(daemon: Daemon) -> None:
    """No tombstone: a second delete finds nothing, no page tells of it, and an old copy is let in again."""
    row = daemon.row("one", time(-60))
    await daemon.push(row)
    assert await daemon.push(deletions=[row["id"]]) == {"deleted": 1}
    assert await daemon.push(deletions=[row["id"]]) == {"noop": 1}
    assert await daemon.pull() == []
    assert await daemon.push(row) == {"applied": 1}
    assert (await daemon.read(row["id"]))["content"] == row["content"]


async def test_a_title_that_is_there_keeps_its_id(daemon: Daemon) -> None:
    """Ours is then known there under another id, under which alone it can be deleted."""
    theirs = await daemon.create("shared")
    ours = daemon.row("shared", time(2))
    assert await daemon.push(ours) == {"applied": 1}
    assert await daemon.read(ours["id"]) is None
    kept = await daemon.read(theirs)
    assert kept["content"] == ours["content"]
    assert kept["metadata"]["agent_id"] == "ai:interop-user", "the first author stays the author"
    assert await daemon.push(deletions=[ours["id"]]) == {"noop": 1}
    assert await daemon.push(deletions=[theirs]) == {"deleted": 1}


async def test_what_a_client_writes_is_pulled_once_it_has_a_later_time(daemon: Daemon) -> None:
    """Create, update, promote: each is a row with a new time. A delete is not to be seen."""
    identifier = await daemon.create("of a client")
    (first,) = await daemon.pull()
    assert (first["id"], first["metadata"]["agent_id"]) == (identifier, "ai:interop-user")
    assert await daemon.pull(first["updated_at"]) == []
    user = {"x-agent-id": "ai:interop-user"}
    assert (await daemon.ask("PUT", f"{API}/memories/{identifier}", {"content": "2"}, user))[0] == 200
    (second,) = await daemon.pull(first["updated_at"])
    assert second["content"] == "2"
    assert (await daemon.ask("POST", f"{API}/memories/{identifier}/promote", {}, user))[0] == 200
    (third,) = await daemon.pull(second["updated_at"])
    assert (third["tier"], third.get("expires_at")) == ("long", None)
    assert (await daemon.ask("DELETE", f"{API}/memories/{identifier}", headers=user))[0] == 200
    assert await daemon.pull() == []


async def test_metadata_goes_through_untouched_and_stays_under_an_edit(daemon: Daemon) -> None:
    """What a node writes into it comes back, also on a row that a client has edited meanwhile."""
    note = {"v": 1, "at": time(-60), "clock": {"ab" * 8: 2**52 + 1, "cd" * 8: 1}, "f": 0.1, "n": None, "l": [[], {}]}
    row = daemon.row("one", note["at"], metadata=daemon.author | {"attestation": note, "é": "✓"})
    await daemon.push(row)
    assert (await daemon.pull(time(-120)))[0]["metadata"] == row["metadata"]
    user = {"x-agent-id": "ai:interop-user"}
    status, edited = await daemon.ask("PUT", f"{API}/memories/{row['id']}", {"content": "edited"}, user)
    assert (status, edited["content"], edited["metadata"]) == (200, "edited", row["metadata"])
    assert edited["updated_at"] > row["updated_at"]
    assert [one["metadata"] for one in await daemon.pull()] == [row["metadata"]]


async def test_a_row_that_is_over_its_time_is_taken_and_told(daemon: Daemon) -> None:
    """Until its collector comes by, which tells nobody."""
    row = daemon.row("one", expires_at=time(-3600))
    assert await daemon.push(row) == {"applied": 1}
    assert [one["expires_at"] for one in await daemon.pull()] == [row["expires_at"]]


async def test_rows_with_one_time_do_not_follow_each_other_over_pages(daemon: Daemon) -> None:
    """`since` is exclusive and nothing else orders: a reader has to ask again from before the time of its last row."""
    at = time()
    just_before = (datetime.fromisoformat(at) - timedelta(microseconds=1)).isoformat(timespec="microseconds")
    rows = [daemon.row(f"row {n}", at) for n in range(3)]
    await daemon.push(*rows)
    assert await daemon.pull(at) == []
    assert {one["id"] for one in await daemon.pull(just_before)} == {one["id"] for one in rows}


async def test_our_times_sort_among_theirs(daemon: Daemon) -> None:
    """Six digits against their nine, as texts."""
    before = await daemon.push(daemon.row("before", time(-5)))
    await daemon.create("theirs")
    after = await daemon.push(daemon.row("after", time(5)))
    assert before == after == {"applied": 1}
    assert [one["title"] for one in await daemon.pull(time(-30))] == ["before", "theirs", "after"]


async def test_a_bad_row_is_skipped_and_the_rest_is_taken(daemon: Daemon) -> None:
    """With an answer of 200: `skipped` is all that tells."""
    bad, good = daemon.row("bad", content="a\r\nb"), daemon.row("good")
    assert await daemon.push(bad, good) == {"applied": 1, "skipped": 1}
    assert [one["title"] for one in await daemon.pull()] == ["good"]


@pytest.mark.parametrize("fault", [{"tier": "eternal"}, {"priority": 5.0}, {"tags": None}])
async def test_a_row_without_shape_fails_its_whole_push(daemon: Daemon, fault: dict[str, Any]) -> None:
    """422, in plain text, and nothing was stored."""
    body = daemon.body(daemon.row("good"), daemon.row("bad", **fault))
    status, told = await daemon.ask("POST", f"{API}/sync/push", body, daemon.identity)
    assert status == 422
    assert told.startswith("Failed to deserialize the JSON body into the target type: memories[1].")
    assert await daemon.pull() == []


async def test_a_body_over_two_mebibytes_is_refused(daemon: Daemon) -> None:
    """413: a node has to cut its pages by bytes, too."""
    rows = [daemon.row(f"row {n}", content="y" * 60_000) for n in range(36)]
    status, told = await daemon.ask("POST", f"{API}/sync/push", daemon.body(*rows), daemon.identity)
    assert (status, told) == (413, "Failed to buffer the request body: length limit exceeded")
    assert await daemon.pull() == []


async def test_a_link_needs_both_memories_there(daemon: Daemon) -> None:
    """Skipped before, applied after; a second time changes nothing and counts as applied."""
    one, two = daemon.row("one"), daemon.row("two")
    link = {"source_id": one["id"], "target_id": two["id"], "relation": "related_to", "created_at": time()}
    assert await daemon.push(one, links=[link]) == {"applied": 1, "skipped": 1}
    assert await daemon.push(two, links=[link]) == {"applied": 1, "links_applied": 1}
    assert await daemon.push(links=[link]) == {"links_applied": 1}
    _, told = await daemon.ask("GET", f"{API}/links/{one['id']}")
    assert [(found["target_id"], found["relation"]) for found in told["links"]] == [(two["id"], "related_to")]


async def test_archive_and_restore_by_push(daemon: Daemon) -> None:
    """A restored row has the time of its restoring, and in 0.6.3 another tier."""
    row = daemon.row("one", time(-60))
    await daemon.push(row)
    assert await daemon.push(archives=[row["id"]]) == {"archived": 1}
    assert await daemon.read(row["id"]) is None
    assert await daemon.push(archives=[row["id"]]) == {"noop": 1}
    assert await daemon.push(restores=[row["id"]]) == {"restored": 1}
    kept = await daemon.read(row["id"])
    assert kept["tier"] == ("long" if daemon.release == "0.6.3" else "mid")
    assert kept["updated_at"] > row["updated_at"]


async def test_without_a_peer_id_only_the_earlier_release_listens(daemon: Daemon) -> None:
    """0.7.0 asks for the header, and that it names the sender."""
    for headers in ({}, {"x-peer-id": "host:another"}):
        status, told = await daemon.ask("POST", f"{API}/sync/push", daemon.body(), headers)
        if daemon.release == "0.6.3":
            assert status == 200
        else:
            expected = "sender_agent_id_mismatch" if headers else "peer_id_header_missing"
            assert (status, told["error"]) == (403, expected)


async def test_the_key_of_a_link_may_hold_an_arrow(daemon: Daemon) -> None:
    """What it sends itself it takes as well: raw UTF-8 in a header."""
    status, _ = await daemon.ask(
        "POST", f"{API}/sync/push", daemon.body(), daemon.identity | {"idempotency-key": "one→two"}
    )
    assert status == 200


async def test_nobody_gets_in_without_a_certificate(daemon: Daemon) -> None:
    """The handshake ends in an alert, not in an answer."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.raises((aiohttp.ClientError, ssl.SSLError, asyncio.IncompleteReadError)):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            await session.get(f"{daemon.url}{API}/health")
