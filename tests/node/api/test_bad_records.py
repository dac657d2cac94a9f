"""Bad records: each is refused by name and alone, whatever is wrong with it, and its batch is stored without it."""

import itertools
import json
from typing import Any

import pytest
from nodes import LIFE, Served, memory, push, tombstone

from sync import apart, moment, wire
from sync.ids import memory_id

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What a client sends in place of some fields of a good memory: the field that the refusal must name.
OVER_LIMITS: dict[str, tuple[dict[str, Any], str]] = {
    "no title": ({"title": None}, "title"),
    "an empty title": ({"title": " \n"}, "title"),
    "a title of 513 characters": ({"title": "é" * 513}, "title: 513 characters, at most 512"),
    "a number for a title": ({"title": 5}, "title"),
    "no content": ({"content": ""}, "content"),
    "content of 65,537 bytes": ({"content": "x" * 65_537}, "content: 65537 bytes, at most 65536"),
    "content of 65,538 bytes in 32,769 characters": ({"content": "é" * 32_769}, "content: 65538 bytes"),
    "a carriage return": ({"content": "a\r\nb"}, "content: control character U+000D"),
    "NUL": ({"title": "a\0b"}, "title: control character U+0000"),
    "a namespace with a space": ({"namespace": "a b"}, "namespace"),
    "a namespace of nine segments": ({"namespace": "/".join("abcdefghi")}, "namespace: 9 segments, at most 8"),
    "a namespace of 513 characters": ({"namespace": "a" * 513}, "namespace: 513 characters"),
    "a namespace that climbs": ({"namespace": "a/../b"}, "namespace"),
    "an unknown tier": ({"tier": "huge"}, "tier"),
    "51 tags": ({"tags": ["x"] * 51}, "tags"),
    "a tag of 129 bytes": ({"tags": ["x" * 129]}, "tags"),
    "a text for tags": ({"tags": "x"}, "tags"),
    "priority 0": ({"priority": 0}, "priority: 0, 1 to 10 expected"),
    "priority 11": ({"priority": 11}, "priority: 11, 1 to 10 expected"),
    "priority 2^63": ({"priority": 2**63}, "priority"),
    "priority of 5,000 digits": ({"priority": 2**65}, "priority"),
    "priority 5.5": ({"priority": 5.5}, "priority"),
    "confidence 1.5": ({"confidence": 1.5}, "confidence: 1.5, 0.0 to 1.0 expected"),
    "an unknown source": ({"source": "rumour"}, "source"),
    "metadata of 65,537 bytes": ({"metadata": {"a": "x" * 65_537}}, "metadata"),
    "metadata 33 deep": ({"metadata": json.loads('{"a":' * 33 + "1" + "}" * 33)}, "metadata: nested"),
    "2^63 in metadata": ({"metadata": {"a": 2**63}}, "metadata: integer 9223372036854775808"),
    "a list for metadata": ({"metadata": [1]}, "metadata"),
    "an expiry in words": ({"expires_at": "tomorrow"}, "expires_at"),
    "an expiry on 30 February": ({"expires_at": "2026-02-30T00:00:00Z"}, "expires_at"),
    "a life of no seconds": ({"ttl_secs": 0}, "ttl_secs"),
    "a life without end": ({"ttl_secs": 2**63}, "ttl_secs"),
    "an agent with a space": ({"agent_id": "a b"}, "agent_id"),
}

# What stands in a list of records, raw, between two good ones.
UNREADABLE = {
    "NaN": b'{"id":"bad","title":"bad","confidence":NaN}',
    "Infinity": b'{"id":"bad","title":"bad","confidence":Infinity}',
    "minus Infinity": b'{"id":"bad","title":"bad","confidence":-Infinity}',
    "1e999": b'{"id":"bad","title":"bad","confidence":1e999}',
    "2^63": b'{"id":"bad","title":"bad","content":"x","priority":9223372036854775808}',
    "5,000 digits": b'{"id":"bad","title":"bad","content":"x","priority":' + b"7" * 5_000 + b"}",
    "invalid UTF-8": b'{"id":"bad","title":"bad\xff","content":"x"}',
    "half a surrogate pair": b'{"id":"bad","title":"bad \\ud800 bad","content":"x"}',
    "the other half": b'{"id":"bad","title":"bad \\udc00 bad","content":"x"}',
    "no escape": b'{"id":"bad","title":"bad \\x","content":"x"}',
    "a raw control character": b'{"id":"bad","title":"bad \x01","content":"x"}',
    "10,000 brackets": b'{"id":"bad","metadata":{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}}",
    "10,000 braces": b'{"id":"bad","metadata":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
    "a comma too many": b'{"id":"bad","title":"bad",}',
    "no colon": b'{"id" "bad"}',
    "a number with a zero before it": b'{"id":"bad","priority":05}',
    "a word": b"bad",
    "nothing": b"",
    "a number": b"5",
    "null": b"null",
    "a list": b'["id",["bad"],{"a":"]}"}]',
    "a text": b'"],[{"',
    "an empty object": b"{}",
}
TITLES = (f"neighbour {number}" for number in itertools.count())


def now_us(node: Served) -> int:
    return node.daemon.clock.now()


@pytest.fixture
def neighbours() -> tuple[str, str]:
    """Titles that no test used before."""
    return next(TITLES), next(TITLES)


async def stored(node: Served, namespace: str) -> dict[str, Any]:
    found = await node.read(f"/memories?limit=1000&namespace={namespace}")
    return {one["title"]: one for one in found["memories"]}


@pytest.mark.parametrize("case", OVER_LIMITS)
async def test_error_shape_of_a_memory_over_its_limits(node: Served, case: str) -> None:
    """A create that breaks a limit is refused with a sentence that names the field, and stores nothing."""
    changes, named = OVER_LIMITS[case]
    fields = {key: value for key, value in ({"title": "t", "content": "c"} | changes).items() if value is not None}
    before = node.position
    reply = await node.local("POST", "/memories", _json(fields))
    assert (reply.status, reply.code) == (400, "invalid")
    assert named in reply.json["error"]
    node.check_says_nothing(reply)
    await node.check_goes_on(before)


@pytest.mark.parametrize("case", OVER_LIMITS)
async def test_a_memory_over_its_limits_leaves_the_rest_of_a_bulk_alone(
    node: Served, case: str, neighbours: tuple[str, str]
) -> None:
    """The bad one is named by its place and its field; the others are stored."""
    changes, named = OVER_LIMITS[case]
    bad = {key: value for key, value in ({"title": "t", "content": "c"} | changes).items() if value is not None}
    first, last = ({"title": title, "content": "c", "namespace": "bulk"} for title in neighbours)
    reply = await node.local("POST", "/memories/bulk", _json([first, bad, last]))
    assert reply.status == 200
    assert (reply.json["created"], len(reply.json["ids"])) == (2, 2)
    (error,) = reply.json["errors"]
    assert error.startswith("1: ")
    assert named in error
    assert set(neighbours) <= (await stored(node, "bulk")).keys()


@pytest.mark.parametrize("case", UNREADABLE)
async def test_a_memory_that_no_reader_takes_leaves_the_rest_of_a_bulk_alone(
    node: Served, case: str, neighbours: tuple[str, str]
) -> None:
    """Even one that makes the whole body unreadable refuses only itself."""
    first, last = (_json({"title": title, "content": "c", "namespace": "bulk"}) for title in neighbours)
    reply = await node.local("POST", "/memories/bulk", b"[" + b" , ".join((first, UNREADABLE[case], last)) + b"]")
    assert (reply.status, reply.json["created"]) == (200, 2), reply.body
    assert [error.partition(":")[0] for error in reply.json["errors"]] == ["1"]
    assert set(neighbours) <= (await stored(node, "bulk")).keys()
    node.check_says_nothing(reply)


@pytest.mark.parametrize("name", ["memories", "tombstones"])
@pytest.mark.parametrize("case", UNREADABLE)
async def test_a_record_that_no_reader_takes_leaves_the_rest_of_a_push_alone(
    node: Served, case: str, name: str, neighbours: tuple[str, str]
) -> None:
    """One bad record of a peer is refused as malformed; what stands around it is applied."""
    first, last = (_json(memory(title, at=now_us(node))) for title in neighbours)
    lists = {"memories": [first, last], "tombstones": [_json(_gone(next(TITLES), now_us(node)))]}
    lists[name].insert(1, UNREADABLE[case])
    body = b'{"sender_agent_id":"ai:peer", "life" : "%b", "memories" : [ %b ],"tombstones":[%b],"links":[]}' % (
        LIFE.encode(),
        b" , ".join(lists["memories"]),
        b",".join(lists["tombstones"]),
    )
    reply = await node.friend("POST", "/sync/push", body)
    assert reply.status == 200, reply.body
    told = reply.json
    assert (told["applied"], told["deleted"], told["skipped"]) == (2, 1, 1)
    assert [(one["reason"], one["kind"]) for one in told["refused"]] == [("malformed", name[0])]
    assert set(neighbours) <= (await stored(node, "team")).keys()
    node.check_says_nothing(reply)


@pytest.mark.parametrize("case", UNREADABLE)
async def test_a_record_that_no_reader_takes_leaves_the_rest_of_a_pull_alone(node: Served, case: str) -> None:
    """What a peer answers to our `since` is read with the same care: one bad record does not stop the pull for ever."""
    good = _json(memory("pulled", at=now_us(node)))
    answer = b'{"life":"%b","cursor":"%b","more":true,"memories":[%b,%b],"tombstones":[]}' % (
        LIFE.encode(),
        f"{LIFE}.2.2.{'0' * 16}.{'0' * 8}".encode(),
        UNREADABLE[case],
        good,
    )
    incoming = wire.decode_since(answer, "peer", None, LIFE)
    assert [one.reason for one in incoming.refused] == ["malformed"]
    assert [one.title for one in incoming.versions] == ["pulled"]
    assert incoming.more


async def test_alarms_that_nobody_knows_are_not_taken_in() -> None:
    """A peer cannot fill our status with names of its own making."""
    alarms = ["duplicate_identity", "duplicate_identity", *(f"invented {number}" for number in range(100))]
    body = {"life": LIFE, "cursor": f"{LIFE}.0.0.{'0' * 16}.{'0' * 8}", "more": False, "alarms": alarms}
    assert wire.decode_since(_json(body), "peer", None, LIFE).alarms == ("duplicate_identity",)


@pytest.mark.parametrize("target", ["bulk", "push"])
async def test_without_taking_apart_one_record_would_refuse_its_batch(
    node: Served, target: str, neighbours: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: read as a whole, the same bodies are refused as a whole, and the sender would never get on."""
    monkeypatch.setattr(apart, "MOST_TOKENS", 0)
    before = node.position
    if target == "bulk":
        good = _json({"title": neighbours[0], "content": "c"})
        reply = await node.local("POST", "/memories/bulk", b"[" + good + b"," + UNREADABLE["NaN"] + b"]")
    else:
        body = push(memory(neighbours[0], at=now_us(node)), "BAD")
        reply = await node.friend("POST", "/sync/push", _json(body).replace(b'"BAD"', UNREADABLE["NaN"]))
    assert (reply.status, reply.code) == (400, "malformed")
    assert node.position == before


# What a peer may send that is no version: changes to a good memory, the reason, words of the detail.
NO_VERSIONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a tier of its own": ({"tier": "huge"}, "malformed", "tier"),
    "no namespace": ({"namespace": ...}, "malformed", "namespace"),
    "a title over the limit": ({"title": "x" * 513}, "limits", "title: 513 characters"),
    "a time of another form": ({"updated_at": "2026-01-01T00:00:00Z"}, "limits", "updated_at"),
    "an instant that never was": ({"updated_at": "2026-02-30T00:00:00.000000+00:00"}, "limits", "updated_at"),
    "no attestation": ({"metadata": {}}, "bad_attestation", "attestation"),
    "content that was altered": ({"content": "other words"}, "bad_attestation", "attestation.content"),
    "2^53 + 1 in metadata": ({"metadata": {"n": 2**53 + 1}}, "limits", "metadata: integer"),
    "2^53 in metadata, as RFC 8785 spells it": ({"metadata": {"n": 2**53}}, "bad_attestation", "attestation"),
}


@pytest.mark.parametrize("case", NO_VERSIONS)
async def test_a_version_that_is_none_is_refused_by_name(node: Served, case: str, neighbours: tuple[str, str]) -> None:
    """The answer tells the sender which record, why, and in words for its operator; its neighbour is applied."""
    changes, reason, words = NO_VERSIONS[case]
    bad = memory(neighbours[0], at=now_us(node)) | changes
    bad = {key: value for key, value in bad.items() if value is not ...}
    reply = await node.friend("POST", "/sync/push", push(bad, memory(neighbours[1], at=now_us(node))))
    told = reply.json
    assert (reply.status, told["applied"], told["skipped"]) == (200, 1, 1)
    (refused,) = told["refused"]
    assert (refused["id"], refused["reason"]) == (memory_id("team", neighbours[0], 0), reason)
    assert words in refused["detail"]


async def test_a_version_from_the_future_waits(node: Served, neighbours: tuple[str, str]) -> None:
    """A time more than 300 s ahead is `clock_skew`: not shown, not lost; its neighbour is applied."""
    waiting = (await node.read("/stats"))["waiting"]
    early, fine = (
        memory(title, at=now_us(node) + seconds * moment.SECOND)
        for title, seconds in zip(neighbours, (400, 200), strict=True)
    )
    told = (await node.friend("POST", "/sync/push", push(early, fine))).json
    assert told["applied"] == 1
    assert [(one["id"], one["reason"]) for one in told["refused"]] == [(early["id"], "clock_skew")]
    assert set(neighbours) & (await stored(node, "team")).keys() == {neighbours[1]}
    assert (await node.read("/stats"))["waiting"] == waiting + 1
    (friend,) = (await node.read("/sync/status"))["peers"]
    assert (friend["waiting"], friend["code"]) == (waiting + 1, "clock_skew")


DUPLICATES = {
    "the same twice": ([("first", 1), ("first", 1)], (1, 1), {"first"}),
    "a newer version after": ([("first", 1), ("second", 2)], (2, 0), {"second"}),
    "a newer version before": ([("second", 2), ("first", 1)], (1, 1), {"second"}),
    "one clock, two contents": ([("first", 1), ("second", 1)], (2, 0), {"first", "second"}),
}


@pytest.mark.parametrize("case", DUPLICATES)
async def test_one_id_twice_in_a_push(node: Served, case: str, neighbours: tuple[str, str]) -> None:
    """Versions of one memory in one push are merged in any order, as if they had come one after the other."""
    sent, (applied, noop), kept = DUPLICATES[case]
    at = now_us(node)
    versions = [memory(neighbours[0], content, at=at + clock, clock=clock) for content, clock in sent]
    told = (await node.friend("POST", "/sync/push", push(*versions, memory(neighbours[1], at=at)))).json
    assert (told["applied"], told["noop"], told["skipped"]) == (applied + 1, noop, 0)
    found = [one for one in (await node.read("/conflicts?limit=1000"))["conflicts"] if one["id"] == versions[0]["id"]]
    contents = {version["record"]["content"] for one in found for version in one["versions"]}
    assert (contents or {(await stored(node, "team"))[neighbours[0]]["content"]}) == kept


async def test_one_title_twice_in_a_bulk(node: Served, neighbours: tuple[str, str]) -> None:
    """Storing under a title twice is a create and an update, in one request too: the last one stands."""
    bodies = [{"title": neighbours[0], "content": content, "namespace": "bulk"} for content in ("first", "second")]
    told = (await node.local("POST", "/memories/bulk", bodies)).json
    assert (told["created"], len(set(told["ids"])), told["errors"]) == (2, 1, [])
    assert (await stored(node, "bulk"))[neighbours[0]]["content"] == "second"


ENVELOPES = {
    "a list": ([], "malformed"),
    "no life": ({"sender_agent_id": "ai:peer", "memories": []}, "not_native"),
    "a life in words": ({"life": "mine", "memories": []}, "malformed"),
    "a dry run": ({"life": LIFE, "memories": [], "dry_run": True}, "unsupported"),
    "an object for memories": ({"life": LIFE, "memories": {"a": []}}, "malformed"),
    "a cursor in words": ({"life": LIFE, "memories": [], "to": "here"}, "bad_cursor"),
    "for nobody": ({"life": LIFE, "memories": [], "for": "x" * 16}, "malformed"),
    "too many offers": ({"life": LIFE, "offers": [["a", "b", "00" * 16]] * (wire.MAX_OFFERS + 1)}, "limits"),
    "an offer with half a tag": ({"life": LIFE, "offers": [["a", "b", "00"]]}, "malformed"),
    "an offer of a long name": ({"life": LIFE, "offers": [["a" * 513, "b", "00" * 16]]}, "limits"),
}


@pytest.mark.parametrize("case", ENVELOPES)
async def test_error_shape_of_a_push_that_is_none(node: Served, case: str) -> None:
    """An envelope that cannot be understood is refused as a whole, with a code that says what kind of mistake it is."""
    body, code = ENVELOPES[case]
    before = node.position
    reply = await node.friend("POST", "/sync/push", body)
    assert (reply.status, reply.code) == (422 if code == "unsupported" else 400, code)
    node.check_says_nothing(reply)
    await node.check_goes_on(before)


async def test_error_shape_of_text_that_never_ends(node: Served) -> None:
    """Looking for records in a body of nothing but escaped quotes takes time in proportion to its length."""
    before = node.position
    reply = await node.friend("POST", "/sync/push", b'{"memories":["' + rb"\"" * 2**21)
    assert (reply.status, reply.code) == (400, "malformed")
    await node.check_goes_on(before)


async def test_error_shape_of_a_bulk_that_is_none(node: Served) -> None:
    """An object in place of a list, and a list that is too long, are refused as a whole."""
    before = node.position
    wrong = await node.local("POST", "/memories/bulk", {"memories": []})
    long = await node.local("POST", "/memories/bulk", [{"title": "t", "content": "c"}] * 1_001)
    assert [(one.status, one.code) for one in (wrong, long)] == [(400, "malformed"), (400, "limits")]
    await node.check_goes_on(before)


def _json(value: Any) -> bytes:
    if isinstance(value, dict) and isinstance(value.get("priority"), int) and value["priority"] > 2**64:
        # Stands for one of 5,000 digits, which Python does not write.
        return json.dumps(value).replace(str(value["priority"]), "7" * 5_000).encode()
    if isinstance(value, list):
        return b"[" + b",".join(map(_json, value)) + b"]"
    return json.dumps(value).encode()


def _gone(title: str, at: int) -> Any:
    return tombstone(title, at=moment.text(at))
