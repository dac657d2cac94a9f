"""`POST /sync/versions`: each version is judged by itself, and a body that is none is refused as a whole."""

import json

import msgspec
import pytest
import versions
from nodes import Served

from sync import moment
from sync.dot import LEGACY
from sync.version import Version

pytestmark = pytest.mark.asyncio(loop_scope="module")
AT = moment.microseconds("2026-05-02T12:00:00.000000+00:00")


def legacy(title: str, at: int = AT) -> Version:
    return versions.version({LEGACY: at}, id=f"id-{title}", title=title, updated_at=moment.text(at))


def body(*documents: bytes, dry_run: bool = False) -> bytes:
    return b'{"memories":[%b],"dry_run":%b}' % (b",".join(documents), json.dumps(dry_run).encode())


async def test_each_version_has_its_outcome_in_order(node: Served) -> None:
    """Over several transactions; what cannot be read refuses itself, with the reason that a peer would be told."""
    good = [legacy(f"t{n}") for n in range(150)]
    documents = [one.doc for one in good]
    forged = documents[7].replace(b'"content":"text"', b'"content":"else"')
    documents[7:7] = [b"5", forged, legacy("later", AT + 10**15).doc]
    told = (await node.local("POST", "/sync/versions", body(*documents))).json
    outcomes = told["outcomes"]
    assert [one["outcome"] for one in outcomes] == ["taken"] * 7 + ["refused"] * 3 + ["taken"] * 143
    assert [one.get("reason") for one in outcomes[7:10]] == ["malformed", "bad_attestation", "clock_skew"]
    assert told["alarms"] == []
    again = (await node.local("POST", "/sync/versions", body(*(one.doc for one in good)))).json
    assert {one["outcome"] for one in again["outcomes"]} == {"unchanged"}


async def test_links_and_unlinks_are_taken_beside_memories(node: Served) -> None:
    """Their outcomes after those of the memories; a memory among them refuses itself."""
    made, undone = (
        versions.link({LEGACY: AT}, created_at=moment.text(AT)),
        versions.unlink({LEGACY: AT + 1}, seconds=(AT + 1 - versions.NOW) / moment.SECOND),
    )
    sent = b'{"memories":[%b],"links":[%b,%b,%b]}' % (legacy("linked").doc, made.doc, legacy("odd").doc, undone.doc)
    told = (await node.local("POST", "/sync/versions", sent)).json
    assert [one["outcome"] for one in told["outcomes"]] == ["taken", "taken", "refused", "taken"]
    again = (await node.local("POST", "/sync/versions", sent)).json
    assert [one["outcome"] for one in again["outcomes"]] == ["unchanged", "unchanged", "refused", "unchanged"]


async def test_a_dry_run_keeps_nothing(node: Served) -> None:
    """The feed does not move."""
    before = node.position
    told = (await node.local("POST", "/sync/versions", body(legacy("dry").doc, dry_run=True))).json
    assert told["outcomes"] == [{"outcome": "taken"}]
    assert node.position == before


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"[]", "malformed"),
        (b"{}", "malformed"),
        (b'{"memories":{}}', "malformed"),
        (b'{"memories":[], "dry_run":"yes"}', "malformed"),
        (b'{"memories":[\xff]}', "malformed"),
        (b'{"memories":' + b"[" * 100_000, "malformed"),
        (msgspec.json.encode({"memories": [0] * 1_001}), "limits"),
        (msgspec.json.encode({"memories": [0] * 500, "links": [0] * 501}), "limits"),
    ],
    ids=[
        "a list",
        "no list in it",
        "no list",
        "no boolean",
        "no UTF-8",
        "too deep",
        "one too many",
        "one too many with the links",
    ],
)
async def test_a_body_that_is_none_is_refused(node: Served, sent: bytes, code: str) -> None:
    """With what is wrong, and nothing is stored."""
    before = node.position
    reply = await node.local("POST", "/sync/versions", sent)
    assert (reply.status, reply.json["code"]) == (400, code)
    node.check_says_nothing(reply)
    await node.check_goes_on(before)


async def test_peers_have_no_such_route(node: Served) -> None:
    """What a peer sends has a cursor, a scope and a giver; this way round them is not theirs."""
    assert (await node.friend("POST", "/sync/versions", {"memories": []})).status == 404
