"""Hostile pages: each kind of list in each message, both ways. What they cost is in proportion to what was sent."""

import gzip
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
import structlog
from nodes import LIFE, Served, memory, push

from node import told as ration
from node.told import Told
from sync import counted, wire
from sync.errors import RemoteError
from sync.legacy import messages

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZE = 2**17
"""Bytes of a list: above the 50,000 records of a page, and below what the local listener takes."""
CURSOR = f"{LIFE}.1.2.00112233445566aa.0123abcd"
ROOM = 6 * 2**20
"""Bytes that a message may take whatever its size."""
TIMES = 16
"""Bytes that it may take beside them for each that was sent, as it unfolds."""
ANSWER = 64 * 1024
"""Bytes of an answer, whatever was sent."""


def filled(unit: bytes, size: int = SIZE) -> bytes:
    return b"[" + b",".join([unit] * (size // (len(unit) + 1))) + b"]"


LISTS = {
    "numbers": filled(b"1"),
    "nulls": filled(b"null", SIZE // 8),
    "objects": filled(b"{}", SIZE // 8),
    "texts": filled(b'""', SIZE // 8),
    "many members": b"[{" + b",".join(b'"%d":1' % number for number in range(SIZE // 10)) + b"}]",
    "many objects in one": b'[{"metadata":{"a":' + filled(b"{}") + b"}}]",
    "a long text": b'["' + b"x" * SIZE + b'"]',
    "a long id": b'[{"id":"' + b"x" * SIZE + b'"}]',
    "long tiers": filled(b'{"id":"a","tier":"' + b"x" * 50_000 + b'"}'),
    "commas in a text": b'["' + b"," * SIZE + b'"]',
    "deep": b"[" * (SIZE // 2) + b"]" * (SIZE // 2),
    "deep in an object": b'[{"a":' + b"[" * (SIZE // 2) + b"]" * (SIZE // 2) + b"}]",
    "no JSON at its end": b"[" + b"1," * (SIZE // 2) + b"NaN]",
    "ids that differ": b"[" + b",".join(b'{"id":"%d"}' % number for number in range(SIZE // 64)) + b"]",
}


def _push(name: str) -> Callable[[bytes], bytes]:
    return lambda listed: b'{"life":"%b","%b":%b}' % (LIFE.encode(), name.encode(), listed)


def _since(name: str) -> Callable[[bytes], bytes]:
    start = b'{"life":"%b","cursor":"%b","more":false,' % (LIFE.encode(), CURSOR.encode())
    return lambda listed: start + b'"%b":%b}' % (name.encode(), listed)


def _answer(name: str) -> Callable[[bytes], bytes]:
    return lambda listed: b'{"life":"%b","have":null,"%b":%b}' % (LIFE.encode(), name.encode(), listed)


def _older(name: str) -> Callable[[bytes], bytes]:
    start = b'{"sender_agent_id":"a",' + (b"" if name == "memories" else b'"memories":[],')
    return lambda listed: start + b'"%b":%b}' % (name.encode(), listed)


Message = tuple[Callable[[bytes], bytes], Callable[[bytes], object]]
OLDER = ("memories", "deletions", "archives", "restores", "links", *messages.NOT_DONE, "life")
MESSAGES: dict[str, Message] = {
    **{
        f"push: {name}": (_push(name), lambda body: wire.decode_push(body, "peer"))
        for name in ("memories", "tombstones", "links", "offers", "unknown")
    },
    **{
        f"since: {name}": (_since(name), lambda body: wire.decode_since(body, "peer", None, LIFE))
        for name in ("memories", "tombstones", "links", "alarms")
    },
    **{f"answer: {name}": (_answer(name), wire.decode_answer) for name in ("wanted", "refused", "alarms")},
    **{f"older push: {name}": (_older(name), messages.decode_push) for name in OLDER},
    "older since": (lambda listed: b'{"count":1,"limit":1,"memories":%b}' % listed, messages.decode_since),
    "older answer": (lambda listed: b'{"applied":1,"else":%b}' % listed, messages.decode_answer),
    "older quota": (lambda listed: b'{"agent_id":"a","else":%b}' % listed, messages.decode_quota),
}


def cost(read: Callable[[bytes], object], body: bytes) -> tuple[int, int]:
    """Bytes that reading took at its most, and that are held at its end."""
    tracemalloc.start()
    try:
        try:
            found = read(body)
        except RemoteError as error:
            found = error
            assert len(str(error)) <= 2 * counted.MAX_DETAIL
        held, most = tracemalloc.get_traced_memory()
        del found
    finally:
        tracemalloc.stop()
    return most, held


def is_cheap(message: str, listed: bytes) -> bool:
    """Whether a message is read in proportion to its size."""
    made, read = MESSAGES[message]
    body = made(listed)
    most, held = cost(read, body)
    return most <= ROOM + TIMES * len(body) and held <= 2 * ROOM


@pytest.mark.parametrize("message", MESSAGES)
async def test_what_a_message_takes_is_in_proportion_to_it(message: str) -> None:
    """Read whole, refused in part, or refused as a whole: whatever fills its list."""
    assert [name for name, listed in LISTS.items() if not is_cheap(message, listed)] == []


@pytest.mark.parametrize("message", ["push: memories", "since: links", "older push: links"])
async def test_a_list_that_is_not_counted_takes_many_times_its_size(
    message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: without the count, numbers that nobody wants are made one by one, refused, and kept."""

    def uncounted(_name: str, listed: msgspec.Raw, _most: int, decoder: Any) -> Any:
        return decoder.decode(listed)

    monkeypatch.setattr(counted, "elements", uncounted)
    monkeypatch.setattr(wire, "MAX_REFUSED", 10**9)
    monkeypatch.setattr(messages, "MOST_REFUSED", 10**9)
    assert not is_cheap(message, LISTS["numbers"])


@contextmanager
def statements(node: Served) -> Iterator[list[int]]:
    """Counts the statements of the store's writer."""
    ledger = node.daemon.store.writer._ledger
    true, count = ledger._execute, [0]

    def counting(*args: Any) -> Any:
        count[0] += 1
        return true(*args)

    ledger._execute = counting
    try:
        yield count
    finally:
        ledger._execute = true


@pytest.mark.parametrize("case", LISTS)
@pytest.mark.parametrize("name", ["memories", "tombstones", "links", "offers"])
async def test_a_hostile_push_is_answered_with_little(node: Served, name: str, case: str, no_bugs: list[Any]) -> None:
    """Sent as a few kilobytes of gzip: the answer is small, the store hardly asked, and the log has a few lines."""
    body = gzip.compress(_push(name)(LISTS[case]))
    with statements(node) as count:
        reply = await node.friend("POST", "/sync/push", body, {"Content-Encoding": "gzip"})
    assert reply.status in (200, 400)
    assert len(reply.body) <= ANSWER
    assert count[0] <= 20
    assert len(no_bugs) <= 20
    node.check_says_nothing(reply)


@pytest.mark.parametrize("case", LISTS)
@pytest.mark.parametrize("path", ["/memories/bulk", "/sync/versions"])
async def test_a_hostile_bulk_is_answered_with_little(node: Served, path: str, case: str) -> None:
    """The local listener counts as well."""
    body = LISTS[case] if path.endswith("bulk") else b'{"memories":%b}' % LISTS[case]
    reply = await node.local("POST", path, body)
    assert reply.status in (200, 400)
    assert len(reply.body) <= 4 * ANSWER


async def test_all_that_was_refused_is_counted_and_a_part_of_it_named(node: Served, no_bugs: list[Any]) -> None:
    """A hundred are named; the number of the others stands in the answer, in `sync status`, and not in the log."""
    sent = [memory(str(number), at=node.daemon.clock.now()) | {"tier": "huge"} for number in range(1_000)]
    node.daemon.exchange.forget(node.mesh.friend.fingerprint.text)
    reply = (await node.friend("POST", "/sync/push", push(*sent))).json
    assert (reply["skipped"], len(reply["refused"]), reply["refused_more"]) == (1_000, wire.MAX_REFUSED, 900)
    assert len([entry for entry in no_bugs if entry["event"] == "sync.refused"]) <= ration.EACH
    (friend,) = (await node.read("/sync/status"))["peers"]
    assert friend["refused_here"] == {"malformed": wire.MAX_REFUSED, "not_named": 900}
    assert "this node refuses 1000 records now (malformed 100, not_named 900)" in friend["reason"]


async def test_what_one_answer_refuses_is_not_named_without_end(node: Served) -> None:
    """What comes with a page that we fetched is bounded as what is pushed, and goes when its peer does."""
    listed = b"[" + b",".join(b'{"id":"%d"}' % number for number in range(20_000)) + b"]"
    gone = "sha256:" + "cc" * 32
    incoming = wire.decode_since(_since("memories")(listed), gone, None, LIFE)
    assert (len(incoming.refused), incoming.left_out) == (wire.MAX_REFUSED, 20_000 - wire.MAX_REFUSED)
    exchange = node.daemon.exchange
    await exchange.receive(incoming)
    assert exchange.refusals.here(gone) == {"malformed": wire.MAX_REFUSED, "not_named": 20_000 - wire.MAX_REFUSED}
    exchange.forget(gone)
    assert gone not in exchange.refusals._peers


async def test_lines_that_a_peer_can_cause_are_rationed() -> None:
    """So many of one kind and one peer, and then how many were left out; another peer's are told all the same."""
    told = Told(each=3, total=100)
    with structlog.testing.capture_logs() as logs:
        for number in range(3_000):
            told.warn("alarm.forged_claim", "liar", reason=str(number))
        told.warn("alarm.forged_claim", "honest", reason="a real one")
        told.sum_up()
        told.warn("alarm.forged_claim", "liar", reason="in the next window")
        told.sum_up()
    assert [entry["reason"] for entry in logs if entry["peer"] == "honest"] == ["a real one"]
    assert [entry.get("left_out") for entry in logs] == [None, None, None, None, 2_997, None]


async def test_without_a_ration_every_one_is_a_line() -> None:
    """Control: as many as were caused."""
    told = Told(each=10**9, total=10**9)
    with structlog.testing.capture_logs() as logs:
        for number in range(300):
            told.warn("alarm.forged_claim", "liar", reason=str(number))
        told.sum_up()
    assert len(logs) == 300


async def test_requests_that_are_none_do_not_fill_the_log(node: Served, no_bugs: list[Any]) -> None:
    """However many a peer sends: each is answered, and a few stand in the log."""
    for _ in range(50):
        assert (await node.friend.raw(b"no HTTP at all\r\n\r\n")).status == 400
    assert 0 < len([entry for entry in no_bugs if entry["event"] == "http.malformed"]) <= ration.EACH
