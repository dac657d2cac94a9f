"""What the local listener checks before it answers: Host and Origin (a browser's), the API key, the content type.

Each guard has its negative control: without it, the request that it refuses gets through.
"""

import hmac
from collections.abc import Iterator
from typing import Any

import pytest
from certs import Mesh
from lines import API, request
from nodes import API_KEY, Place, Served, local

from node.api import errors, senders
from node.api.local import Local

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTS = {
    "localhost": True,
    "LOCALHOST:9077": True,
    "127.0.0.1": True,
    "127.0.0.1:9077": True,
    "[::1]:9077": True,
    "memories.example": False,
    "127.0.0.1.memories.example": False,
    "localhost.memories.example": False,
    "127.0.0.1@memories.example": False,
    "0.0.0.0": False,
    "192.168.1.5": False,
    "[::1": False,
    "[::1]": True,
    "[::2]": False,
    "[0:0:0:0:0:0:0:1]": False,
    "::1": False,
    "localhost.": False,
    "LocalHost.:9077": False,
    "localhost:": False,
    "localhost:x": False,
    "localhost/x": False,
    "x@localhost": False,
    "localhost localhost": False,
    "127.1": False,
    "2130706433": False,
    "\udcff": False,
    "": False,
}
ORIGINS: dict[str | None, bool] = {
    None: True,
    "http://localhost:3000": True,
    "http://127.0.0.1": True,
    "http://[::1]:8080": True,
    "https://memories.example": False,
    "https://localhost.memories.example": False,
    "http://127.0.0.1@memories.example": False,
    "null": False,
    "http://[::1": False,
    "localhost": False,
    "": False,
}
KEYS: dict[str | None, bool] = {
    API_KEY: True,
    None: False,
    "": False,
    API_KEY[:-1]: False,
    API_KEY + "x": False,
    API_KEY.upper(): False,
    "\udcff": False,
}
MEMORY = {"title": "a title", "content": "some text"}


def routes() -> list[tuple[str, str]]:
    """Every route of the listener: one that is added is checked here by itself."""
    application = Local(None, None, None, dict, None, max_body=1_024).application()  # type: ignore[arg-type]
    found = ((route.method, route.resource.canonical) for route in application.router.routes() if route.resource)
    return [(method, path.replace("{id}", "00000000-0000-4000-8000-000000000000")) for method, path in found]


class _Anything(frozenset[str]):
    """Contains every name."""

    def __contains__(self, name: object) -> bool:
        return True


@pytest.mark.parametrize("host", HOSTS)
async def test_only_names_of_loopback_are_served(node: Served, host: str) -> None:
    """A web page whose name was made to resolve to 127.0.0.1 sends its own name as Host, and gets nothing."""
    reply = await node.local("GET", "/stats", None, {"Host": host})
    assert (reply.status, reply.body and reply.json.get("code")) == (
        (200, None) if HOSTS[host] else (403, "forbidden_host")
    )


async def test_without_a_host_nothing_is_served(node: Served) -> None:
    """HTTP/1.0 needs no Host; this listener does."""
    reply = await node.local.raw(request("GET", API + "/health", None, {"Host": None}).replace(b"/1.1", b"/1.0"))
    assert (reply.status, reply.code) == (403, "forbidden_host")


@pytest.mark.parametrize("origin", ORIGINS, ids=str)
async def test_only_pages_of_this_machine_are_served(node: Served, origin: str | None) -> None:
    """A request that a page elsewhere made names that page as its Origin."""
    reply = await node.local("POST", "/memories", MEMORY, {"Origin": origin})
    assert (reply.status, reply.json.get("code")) == ((201, None) if ORIGINS[origin] else (403, "forbidden_host"))
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("header", ["Host", "Origin"])
async def test_without_its_check_a_rebound_name_would_be_served(
    node: Served, header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control for both: with any name taken as one of loopback, the page elsewhere gets its answer."""
    monkeypatch.setattr(senders, "LOOPBACK_NAMES", _Anything())
    reply = await node.local("GET", "/stats", None, {header: "https://memories.example"})
    assert reply.status == 200


async def test_two_names_are_none(node: Served) -> None:
    """Which of them another program looks at nobody knows."""
    for second in ("localhost", "memories.example"):
        lines = ("GET /api/v1/stats HTTP/1.1", "Host: localhost", f"Host: {second}", f"X-Api-Key: {API_KEY}", "", "")
        reply = await node.local.raw("\r\n".join(lines).encode())
        assert reply.status in (400, 403), reply


SITES = {  # Sec-Fetch-Site: is a GET served, is a POST?
    None: (True, True),
    "same-origin": (True, True),
    "none": (True, False),
    "same-site": (False, False),
    "cross-site": (False, False),
    "Cross-Site": (False, False),
    "": (False, False),
    "none, cross-site": (False, False),
}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("site", SITES, ids=str)
async def test_no_page_of_another_site_is_served(node: Served, site: str | None, method: str) -> None:
    """Not even of a server on another port of this machine; and what a person opened by hand only reads."""
    path = {"GET": "/memories", "POST": "/memories", "OPTIONS": "/memories"}.get(method, "/memories/0000")
    body = None if method in ("GET", "DELETE", "OPTIONS") else MEMORY
    reply = await node.local(method, path, body, {"Sec-Fetch-Site": site})
    assert (reply.status != 403) is SITES[site][method != "GET"]
    if reply.status == 403:
        assert reply.code == "forbidden_site"


@pytest.mark.parametrize("path", ["/health", "/memories/00000000-0000-4000-8000-000000000000", "/no-such-path"])
async def test_a_page_elsewhere_learns_nothing(node: Served, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever there is at a path: one answer, without a key as with one. Control: without the check they differ."""
    page = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert (await node.local("GET", path, None, page)).code == "forbidden_site"
    assert (await node.local("GET", path, None, {**page, "X-Api-Key": None})).code == "forbidden_site"
    monkeypatch.setattr(senders.Senders, "_check_site", lambda self, request: None)
    assert (await node.local("GET", path, None, page)).status in (200, 404)


ANSWERED = {
    "200": (request("GET", API + "/health"), 200),
    "200 with a key": (request("GET", API + "/stats", None, {"X-Api-Key": API_KEY}), 200),
    "400": (request("POST", API + "/memories", b"{", {"X-Api-Key": API_KEY}), 400),
    "no HTTP": (b"GET / HTTP/9.9\r\n\r\n", 400),
    "a bad line": (b"nonsense\r\n\r\n", 400),
    "401": (request("GET", API + "/stats"), 401),
    "403": (request("GET", API + "/stats", None, {"Host": "memories.example"}), 403),
    "404": (request("GET", "/no-such-path"), 404),
    "404 of a memory": (request("GET", API + "/memories/none", None, {"X-Api-Key": API_KEY}), 404),
    "405": (request("PATCH", API + "/memories"), 405),
    "a preflight": (
        request(
            "OPTIONS", API + "/memories", None, {"Access-Control-Request-Method": "POST", "Origin": "http://localhost"}
        ),
        405,
    ),
    "413": (request("POST", API + "/memories", b"x", {"X-Api-Key": API_KEY, "Content-Length": "999999999"}), 413),
    "415": (request("POST", API + "/memories", b"{}", {"X-Api-Key": API_KEY, "Content-Type": "text/plain"}), 415),
}


@pytest.mark.parametrize("case", ANSWERED)
async def test_every_answer_keeps_browsers_from_it(node: Served, case: str) -> None:
    """No guessing of types, no other page, nothing kept; and no word of CORS, so that a preflight fails."""
    sent, status = ANSWERED[case]
    reply = await node.local.raw(sent)
    assert reply.status == status
    assert {name: reply.headers.get(name.lower()) for name in senders.HEADERS} == senders.HEADERS
    assert not [name for name in reply.headers if name.startswith("access-control-")]


async def test_the_headers_are_of_the_listener(node: Served) -> None:
    """Control: they come from what the application says; peers, who are no browsers, are spared them."""
    reply = await node.friend("GET", "/health")
    assert not set(map(str.lower, senders.HEADERS)) & set(reply.headers)


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", None])
@pytest.mark.parametrize(("method", "path"), [one for one in routes() if one[0] != "GET"])
async def test_no_route_with_an_effect_takes_a_form(
    node: Served, method: str, path: str, kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a body or without; before a DELETE without both, browsers ask. Control: unlooked at, all go on."""
    for body in (None, b"{}"):
        reply = await node.local(method, path, body, {"Content-Type": kind})
        bare = method == "DELETE" and kind is None and body is None
        assert (reply.status == 415) is not bare, reply
    monkeypatch.setattr(errors, "require_json", lambda request: None)
    assert (await node.local(method, path, b"[]", {"Content-Type": kind})).status != 415


@pytest.mark.parametrize("key", KEYS, ids=str)
async def test_the_api_key_is_needed(node: Served, key: str | None) -> None:
    """Only the whole key opens; the answer does not tell what was wrong with another."""
    reply = await node.local("GET", "/stats", None, {"X-Api-Key": key})
    if KEYS[key]:
        assert reply.status == 200
    else:
        assert (reply.status, reply.code) == (401, "unauthorized")
        assert reply.json["error"].startswith("missing or invalid API key")
        node.check_says_nothing(reply)


async def test_health_says_to_all_that_it_lives(node: Served) -> None:
    """Which version it is, and whether it federates, is for those with a key."""
    bare = (await node.local("GET", "/health", None, {"X-Api-Key": None})).json
    assert bare == {"status": "ok", "service": "ai-memory"}
    assert (await node.local("GET", "/health", None, {"X-Api-Key": "wrong"})).json == bare
    assert bare.items() < (await node.local("GET", "/health")).json.items()


async def test_the_listener_proves_itself(node: Served) -> None:
    """To whoever can read the folder, for a nonce of theirs, and without a key: what it would be sent comes after."""
    running = node.place.home.running()
    assert running is not None
    assert running.secret not in repr(running)
    for nonce in ("00" * 32, "a1" * 32):
        reply = await node.local("GET", f"/health?nonce={nonce}", None, {"X-Api-Key": None})
        assert reply.json["proof"] == running.proof(nonce)
        assert running.secret.encode() not in reply.body
    for bad in ("", "00", "g" * 64, "00" * 33):
        assert (await node.local("GET", f"/health?nonce={bad}")).code == "bad_query"


async def test_the_api_key_is_no_query(node: Served) -> None:
    """A key in an address ends up in logs and histories, so it is not looked for there."""
    reply = await node.local("GET", "/stats?api_key=" + API_KEY.replace(" ", "%20"), None, {"X-Api-Key": None})
    assert (reply.status, reply.code) == (401, "unauthorized")


async def test_the_api_key_is_compared_in_constant_time(node: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one comparison is `hmac.compare_digest`; were it to say yes to all, a wrong key would open."""
    compared: list[tuple[bytes, bytes]] = []

    def yes(given: bytes, key: bytes) -> bool:
        compared.append((given, key))
        return True

    monkeypatch.setattr(hmac, "compare_digest", yes)
    reply = await node.local("GET", "/stats", None, {"X-Api-Key": "wrong"})
    assert (reply.status, compared) == (200, [(b"wrong", API_KEY.encode())])


async def test_beyond_loopback_the_key_is_the_guard(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where the operator listens on other addresses, any Host is served, and nobody without the key."""
    settings = {("local", "allow_non_loopback"): True, ("local", "api_key_file"): "api-key"}
    place = Place(Mesh(tmp_path_factory.mktemp("mesh")), "wide", settings)
    place.write_secret("api-key", API_KEY)
    async with place.serving() as daemon, local(daemon, Host="memories.example") as caller:
        assert (await caller("GET", "/stats", None, {"X-Api-Key": API_KEY})).status == 200
        assert (await caller("GET", "/stats")).code == "unauthorized"


async def test_beyond_loopback_names_can_be_asked_for(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With `hosts` Host and Origin are looked at there, too; the test above is the control, without it."""
    settings = {
        ("local", "listen"): "0.0.0.0:0",
        ("local", "allow_non_loopback"): True,
        ("local", "api_key_file"): "api-key",
        ("local", "hosts"): ["Node.example"],
    }
    place = Place(Mesh(tmp_path_factory.mktemp("mesh")), "named", settings)
    place.write_secret("api-key", API_KEY)
    async with place.serving() as daemon, local(daemon, X_Api_Key=API_KEY) as caller:
        assert daemon.local_url.startswith("http://127.0.0.1:")  # where commands on this machine find it
        for host, status in {
            "localhost": 200,
            "node.example:9077": 200,
            "memories.example": 403,
            "0.0.0.0": 403,
        }.items():
            assert (await caller("GET", "/stats", None, {"Host": host})).status == status
        assert (await caller("GET", "/stats", None, {"Origin": "https://node.example"})).status == 200
        assert (await caller("GET", "/stats", None, {"Origin": "https://memories.example"})).code == "forbidden_host"


@pytest.mark.parametrize(("method", "path"), routes())
async def test_no_route_is_without_its_guards(node: Served, method: str, path: str) -> None:
    """Host and key come before everything else; only `health` is told without a key."""
    foreign = await node.local(method, path, None, {"Host": "memories.example"})
    assert (foreign.status, foreign.code) == (403, "forbidden_host")
    keyless = await node.local(method, path, None, {"X-Api-Key": None})
    assert keyless.status == (200 if path.endswith("/health") else 401)


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", None])
async def test_only_json_is_taken_for_json(node: Served, kind: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page may send without asking (a form, text) is refused, and would be taken without the check."""
    for send in (("POST", "/memories"), ("POST", "/memories/bulk"), ("PUT", "/memories/00000000")):
        reply = await node.local(*send, MEMORY, {"Content-Type": kind})
        assert (reply.status, reply.code) == (415, "unsupported_media_type")
    monkeypatch.setattr(errors, "require_json", lambda request: None)
    assert (await node.local("POST", "/memories", MEMORY, {"Content-Type": kind})).status == 201


def agents() -> Iterator[Any]:
    yield pytest.param(None, None, "host:node", id="nobody named: the node")
    yield pytest.param("ai:alice", None, "ai:alice", id="the header")
    yield pytest.param(None, "ai:bob", "ai:bob", id="the body")
    yield pytest.param("ai:alice", "ai:bob", "ai:bob", id="the body before the header")


@pytest.mark.parametrize(("header", "member", "expected"), [*agents()])
async def test_the_writer_is_whom_the_request_names(
    node: Served, header: str | None, member: str | None, expected: str
) -> None:
    """`agent_id` of the body, else `X-Agent-Id`, else the node; the first writer stays, whoever changes it later."""
    body = {"title": f"by {header} and {member}", "content": "c", "agent_id": member}
    made = (await node.local("POST", "/memories", body, {"X-Agent-Id": header})).json
    assert made["agent_id"] == expected
    path = f"/memories/{made['id']}"
    changed = (await node.local("PUT", path, {"content": "d"}, {"X-Agent-Id": "ai:carol"})).json
    assert changed["metadata"]["agent_id"] == expected
    assert changed["metadata"]["attestation"]["agent"] == "ai:carol"


@pytest.mark.parametrize("agent", ["a b", "x" * 129, "ai:é", "\udcff", "a\\b"])
async def test_error_shape_of_an_agent_that_is_none(node: Served, agent: str) -> None:
    """A name that breaks the rule is refused, on writes that have no body too."""
    made = (await node.local("POST", "/memories", {"title": "kept", "content": "c"})).json
    path = f"/memories/{made['id']}"
    before = node.position
    for send in (("POST", "/memories", MEMORY), ("POST", f"{path}/promote", {}), ("DELETE", path, None)):
        reply = await node.local(*send, {"X-Agent-Id": agent})
        assert (reply.status, reply.code) == (400, "invalid")
    await node.check_goes_on(before)


async def test_the_routes_are_found() -> None:
    """The table of routes above is not empty by accident."""
    assert ("POST", API + "/memories") in routes()
    assert len(routes()) >= 13
