"""Every error on both listeners has one form, whoever makes it: parser, router, guard or handler."""

import gzip
import zlib
from typing import Any

import pytest
from aiohttp import web
from certs import Mesh
from knocking import until
from lines import API, Caller, Line, Reply, chunked, request
from nodes import LIFE, MAX_BODY, PEERS_MAX_BODY, Place, Served, local

from node.api import federation as federation_module
from node.api import local as local_module
from node.api.errors import STATUS
from node.store.errors import StoreError, StoreFull, StoreReadOnly, StoreReplaced

pytestmark = pytest.mark.asyncio(loop_scope="module")
LISTENERS = ("local", "federation")
HOST = b"Host: 127.0.0.1\r\n"
JSON = b"Content-Type: application/json\r\n"
CHUNKED = JSON + b"Transfer-Encoding: chunked\r\n"

# What is no HTTP, or no HTTP that anybody should send: answered before any route is looked for.
NO_HTTP = {
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "words": b"hello, is anybody there?\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\n" + HOST + b"\r\n",
    "an unknown method": b"FROB /api/v1/health HTTP/1.1\r\n" + HOST + b"\r\n",
    "a path of 9,000 bytes": b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a header of 9,000 bytes": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 9_000 + b"\r\n\r\n",
    "200 headers": b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X%d: a\r\n" % i for i in range(200)) + b"\r\n",
    "no Host": b"GET /api/v1/health HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /api/v1/health HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "a space in a header's name": b"GET /api/v1/health HTTP/1.1\r\nBad Header: x\r\n" + HOST + b"\r\n",
    "NUL in a header": b"GET /api/v1/health HTTP/1.1\r\nX: a\0b\r\n" + HOST + b"\r\n",
    "raw bytes in the path": b"GET /api/v1/memories/\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
    "raw bytes in the query": b"GET /api/v1/search?q=\xff HTTP/1.1\r\n" + HOST + b"\r\n",
    "a negative length": b"POST /api/v1/memories HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    "a length in words": b"POST /api/v1/memories HTTP/1.1\r\n" + HOST + b"Content-Length: ten\r\n\r\n",
    "length and chunks": b"POST /api/v1/memories HTTP/1.1\r\n"
    + HOST
    + CHUNKED
    + b"Content-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "a chunk of size zz": b"POST /api/v1/memories HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\nzz\r\nabc\r\n",
}

# method, path, status, code
ROUTES = {
    "local": {
        "the root": ("GET", "/", 404, "not_found"),
        "an unknown path": ("GET", API + "/nope", 404, "not_found"),
        "above the root": ("GET", API + "/../../etc/passwd", 404, "not_found"),
        "a peers' path": ("POST", API + "/sync/push", 404, "not_found"),
        "an undecodable path": ("GET", API + "/nope/%ff%ed%a0%80%zz", 404, "not_found"),
        "NUL in the path": ("GET", API + "/nope/%00", 404, "not_found"),
        "no path": ("OPTIONS", "*", 404, "not_found"),
        "a wrong method": ("PATCH", API + "/memories", 405, "method_not_allowed"),
        "OPTIONS": ("OPTIONS", API + "/memories", 405, "method_not_allowed"),
        "a memory that is not there": ("GET", API + "/memories/00000000-0000-4000-8000-000000000000", 404, "not_found"),
        "an undecodable id": ("GET", API + "/memories/%ff", 404, "not_found"),
        "an id of NUL": ("DELETE", API + "/memories/%00%00%00%00", 404, "not_found"),
        "limit below zero": ("GET", API + "/memories?limit=-1", 400, "bad_query"),
        "limit in words": ("GET", API + "/memories?limit=ten", 400, "bad_query"),
        "limit in other digits": ("GET", API + "/memories?limit=%D9%A3", 400, "bad_query"),
        "a limit without end": ("GET", API + "/search?q=a&limit=" + "9" * 400, 400, "bad_query"),
        "offset in words": ("GET", API + "/conflicts?offset=x", 400, "bad_query"),
        "a conflict that is not there": ("GET", API + "/conflicts/00000000-0000-4000", 404, "not_found"),
        "an unknown tier to list": ("GET", API + "/memories?tier=huge", 400, "bad_query"),
        "an unknown tier to search": ("GET", API + "/search?q=a&tier=huge", 400, "bad_query"),
        "since in words": ("GET", API + "/memories?since=yesterday", 400, "bad_query"),
        "until with a space for +": ("GET", API + "/memories?until=2026-01-01T00:00:00+00:00", 400, "bad_query"),
        "no q": ("GET", API + "/search", 400, "bad_query"),
        "an empty q": ("GET", API + "/search?q=", 400, "bad_query"),
        "a q of 2,001 characters": ("GET", API + "/search?q=" + "a" * 2_001, 400, "bad_query"),
    },
    "federation": {
        "the root": ("GET", "/", 404, "not_found"),
        "the clients' memories": ("GET", API + "/memories", 404, "not_found"),
        "the clients' search": ("GET", API + "/search?q=a", 404, "not_found"),
        "the clients' status": ("GET", API + "/sync/status", 404, "not_found"),
        "a wrong method": ("GET", API + "/sync/push", 405, "method_not_allowed"),
        "a cursor in words": ("GET", API + "/sync/since?cursor=abc", 400, "bad_cursor"),
        "a cursor cut short": ("GET", API + f"/sync/since?cursor={LIFE}.1.1", 400, "bad_cursor"),
        "a cursor in other digits": (
            "GET",
            API + f"/sync/since?cursor={LIFE}.%D9%A3.3.{'0' * 16}.{'0' * 8}",
            400,
            "bad_cursor",
        ),
        "a cursor too large": (
            "GET",
            API + f"/sync/since?cursor={LIFE}.{'9' * 20}.{'9' * 20}.{'0' * 16}.{'0' * 8}",
            400,
            "bad_cursor",
        ),
        "limit in words": ("GET", API + "/sync/since?limit=ten", 400, "bad_query"),
        "a life in words": ("GET", API + "/sync/since?for=mine%ff", 400, "bad_query"),
        "since by time": ("GET", API + "/sync/since?since=2026-01-01T00:00:00%2B00:00", 422, "unsupported"),
    },
}

MEMORY = b'{"title":"a title","content":"some text"}'
BIG = b'{"title":"a title","content":"%b"}' % (b"x" * PEERS_MAX_BODY)
TARGETS = {"local": "/memories", "federation": "/sync/push"}


def squeezed(body: bytes, encoding: str) -> bytes:
    return gzip.compress(body, 1) if encoding == "gzip" else zlib.compress(body, 1)


# body, headers, status, code: the same on both listeners
BODIES: dict[str, tuple[bytes | None, dict[str, str | None], int, str]] = {
    "no body, no type": (None, {}, 415, "unsupported_media_type"),
    "an empty body": (b"", {}, 400, "malformed"),
    "no content type": (MEMORY, {"Content-Type": None}, 415, "unsupported_media_type"),
    "a form": (MEMORY, {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
    "text": (MEMORY, {"Content-Type": "text/plain; application/json"}, 415, "unsupported_media_type"),
    "bytes for a content type": (MEMORY, {"Content-Type": "\udcff;;="}, 415, "unsupported_media_type"),
    "an unknown encoding": (MEMORY, {"Content-Encoding": "br"}, 415, "unsupported_media_type"),
    "bytes for an encoding": (MEMORY, {"Content-Encoding": "\udcff"}, 415, "unsupported_media_type"),
    "two encodings": (MEMORY, {"Content-Encoding": "gzip, gzip"}, 415, "unsupported_media_type"),
    "an unknown expectation": (MEMORY, {"Expect": "nonsense"}, 400, "malformed"),
    "half an object": (b'{"title":', {}, 400, "malformed"),
    "two objects": (MEMORY + MEMORY, {}, 400, "malformed"),
    "a byte order mark": (b"\xef\xbb\xbf" + MEMORY, {}, 400, "malformed"),
    "UTF-16": (MEMORY.decode().encode("utf-16"), {}, 400, "malformed"),
    "invalid UTF-8": (b'{"title":"\xff","sender_agent_id":"\xff"}', {}, 400, "malformed"),
    "half a surrogate pair": (b'{"title":"\\ud800","sender_agent_id":"\\ud800"}', {}, 400, "malformed"),
    "NaN": (b'{"priority":NaN,"life":NaN}', {}, 400, "malformed"),
    "10,000 brackets": (b'{"metadata":{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}}", {}, 400, "malformed"),
    "10,000 open brackets": (b'{"metadata":{"a":' + b"[" * 10_000, {}, 400, "malformed"),
    "gzip that is none": (MEMORY, {"Content-Encoding": "gzip"}, 400, "malformed"),
    "deflate that is none": (MEMORY, {"Content-Encoding": "deflate"}, 400, "malformed"),
    "gzip cut short": (squeezed(MEMORY, "gzip")[:-9], {"Content-Encoding": "gzip"}, 400, "malformed"),
    "gzip and more": (squeezed(MEMORY, "gzip") + b"and more", {"Content-Encoding": "gzip"}, 400, "malformed"),
    "a gzip bomb": (squeezed(BIG, "gzip"), {"Content-Encoding": "gzip"}, 413, "too_large"),
    "a deflate bomb": (squeezed(BIG, "deflate"), {"Content-Encoding": "deflate"}, 413, "too_large"),
    "a stated length over the limit": (b"", {"Content-Length": str(PEERS_MAX_BODY + 1)}, 413, "too_large"),
}


async def check(node: Served, caller: Caller, data: bytes, status: int, code: str) -> Reply:
    """The documented status and code, and nothing else; the node goes on."""
    before = node.position
    reply = await caller.raw(data)
    assert (reply.status, reply.code) == (status, code)
    assert STATUS[code] == status
    node.check_says_nothing(reply)
    await node.check_goes_on(before)
    return reply


def as_sent(caller: Caller, method: str, path: str, body: bytes | None = None, headers: Any = None) -> bytes:
    return request(method, path, body, {**caller.headers, **(headers or {})})


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("case", NO_HTTP)
async def test_error_shape_of_what_is_no_http(node: Served, listener: str, case: str) -> None:
    """What cannot be parsed is answered in the program's own error form, and the connection is closed."""
    caller = node.listeners[listener]
    await check(node, caller, NO_HTTP[case], 400, "malformed")
    line = await Line.open(caller.port, caller.context)
    await line.send(NO_HTTP[case])
    await line.reply()
    assert await line.is_over()


@pytest.mark.parametrize(("listener", "case"), [(one, case) for one in ROUTES for case in ROUTES[one]])
async def test_error_shape_of_routes_and_queries(node: Served, listener: str, case: str) -> None:
    """Unknown paths, wrong methods and impossible queries have their documented status and code."""
    method, path, status, code = ROUTES[listener][case]
    caller = node.listeners[listener]
    reply = await check(node, caller, as_sent(caller, method, path), status, code)
    if status == 405:
        assert "allow" in reply.headers  # RFC 9110 section 15.5.6


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("case", BODIES)
async def test_error_shape_of_bodies(node: Served, listener: str, case: str) -> None:
    """A body that is no JSON, too large, or not what its headers say is refused by both listeners alike."""
    body, headers, status, code = BODIES[case]
    caller = node.listeners[listener]
    await check(node, caller, as_sent(caller, "POST", API + TARGETS[listener], body, headers), status, code)


@pytest.mark.parametrize("listener", LISTENERS)
async def test_error_shape_of_a_body_that_states_no_length(node: Served, listener: str) -> None:
    """A body in chunks is counted as it comes, and refused once it is over the limit."""
    caller, limit = node.listeners[listener], {"local": MAX_BODY, "federation": PEERS_MAX_BODY}[listener]
    headers = {"Content-Length": None, "Transfer-Encoding": "chunked"}
    head = as_sent(caller, "POST", API + TARGETS[listener], b"", headers)
    await check(node, caller, head + chunked(BIG[: limit + 1]), 413, "too_large")


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("more", [b"", b"zz\r\n"], ids=["that stops", "that goes wrong"])
async def test_error_shape_of_a_slow_body(
    node: Served, listener: str, more: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that does not come, or cannot be understood from some chunk on, is waited for only so long."""
    for module in (local_module, federation_module):
        monkeypatch.setattr(module, "BODY_PATIENCE", 0.1)
    caller, before = node.listeners[listener], node.position
    headers = {"Content-Length": None, "Transfer-Encoding": "chunked", "Expect": "100-continue"}
    line = await Line.open(caller.port, caller.context)
    await line.send(as_sent(caller, "POST", API + TARGETS[listener], b"", headers))
    assert (await line.reply()).status == 100  # the handler is about to read
    await line.send(b"9\r\n" + MEMORY[:9] + b"\r\n")
    await line.send(more)
    reply = await line.reply()
    await line.close()
    assert (reply.status, reply.code) == (408, "timeout")
    await node.check_goes_on(before)


@pytest.mark.parametrize("listener", LISTENERS)
async def test_who_hangs_up_in_the_middle_of_a_body_disturbs_nobody(node: Served, listener: str) -> None:
    """A body cut off by its sender stores nothing and is no mistake of ours; others go on."""
    caller, before = node.listeners[listener], node.position
    connections = node.daemon.door.connections
    line = await Line.open(caller.port, caller.context)
    headers = {"Content-Length": "1000", "Expect": "100-continue"}
    await line.send(as_sent(caller, "POST", API + TARGETS[listener], b"", headers))
    assert (await line.reply()).status == 100
    await line.send(MEMORY)
    await line.close()
    await until(lambda: node.daemon.door.connections <= connections)
    await node.check_goes_on(before)


SECRET = "/home/operator/store.db: SELECT doc FROM memory"
# What a handler may come to raise through no fault of the client.
OURS = {
    "a full disk": (StoreFull(SECRET, SECRET), 507, "store_full"),
    "a disk that cannot be written": (StoreReadOnly(SECRET, SECRET), 503, "store_read_only"),
    "a store that was taken away": (StoreReplaced(SECRET, SECRET), 503, "store_replaced"),
    "another trouble of the store": (StoreError(SECRET, SECRET), 500, "store"),
    "a mistake": (RuntimeError(SECRET), 500, "internal"),
    "an error of the library": (web.HTTPInternalServerError(text=SECRET), 500, "internal"),
}


@pytest.mark.parametrize("case", OURS)
async def test_error_shape_of_what_is_not_the_clients_fault(
    node: Served, case: str, monkeypatch: pytest.MonkeyPatch, no_bugs: list[Any]
) -> None:
    """The client is told that it was not its mistake and whether to come again; what exactly, only the log knows."""
    error, status, code = OURS[case]

    async def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(node.daemon.memories, "listed", fails)
    reply = await node.local("GET", "/memories")
    assert (reply.status, reply.code) == (status, code)
    assert ("retry-after" in reply.headers) is (status in (503, 507))
    assert SECRET not in reply.body.decode()
    node.check_says_nothing(reply)
    no_bugs.clear()  # they are meant here


def _has_the_form(reply: Reply) -> bool:
    try:
        return reply.code in STATUS
    except (AssertionError, ValueError):
        return False


class _Unguarded(web.AppRunner):
    """What would serve without `Runner`."""

    def __init__(self, application: web.Application, most: int | None) -> None:
        super().__init__(application, access_log=None, auto_decompress=False)


async def test_without_the_runner_errors_would_have_other_forms(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: aiohttp's own runner answers some of the same requests in text, and `check` would notice."""
    monkeypatch.setattr("node.daemon.Runner", _Unguarded)
    place = Place(Mesh(tmp_path_factory.mktemp("mesh")), "unguarded", {})
    cases = (NO_HTTP["HTTP/9.9"], request("PATCH", API + "/memories"), request("POST", API + "/memories", b"{"))
    async with place.serving() as daemon, local(daemon) as caller:
        assert [_has_the_form(await caller.raw(case)) for case in cases] == [False, False, False]
