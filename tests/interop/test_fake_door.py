"""Who gets into the fake, and whose server its clients take: as `tls_probe.json` recorded it of the real daemon."""

import json
import ssl
from collections.abc import Callable, Mapping

import pytest
from certs import Mesh, Visitor
from knocking import plain_client
from lines import Line, request
from recordings import raw
from rust_daemon import V070, Caller, Quorum, Request, RustDaemon, SyncDaemon, client_context

VERSIONS = ("v063", "v070")
VISITORS: Mapping[str, Callable[[Mesh], Visitor | None]] = {
    "listed cert, default": lambda mesh: mesh.friend,
    "TLS1.3 only": lambda mesh: mesh.friend,
    "TLS1.2 only": lambda mesh: mesh.friend,
    "no client cert, TLS1.3": lambda mesh: None,
    "no client cert, TLS1.2": lambda mesh: None,
    "unlisted (CA-signed) TLS1.3": lambda mesh: mesh.stranger,
    "unlisted TLS1.2": lambda mesh: mesh.stranger,
    "listed, self-signed TLS1.3": lambda mesh: mesh.self_signed("alone"),
    "listed, foreign CA TLS1.3": lambda mesh: mesh.foreign,
    "listed, expired TLS1.3": lambda mesh: mesh.expired,
    "listed, not yet valid TLS1.3": lambda mesh: mesh.early,
    "listed, EKU serverAuth only TLS1.3": lambda mesh: mesh.server_only,
    "listed, RSA-2048 TLS1.3": lambda mesh: mesh.put("rsa", mesh.authority.issue("rsa", key_type="rsa")),
    "ALPN h2+http/1.1": lambda mesh: mesh.friend,
    "ALPN h2 only": lambda mesh: mesh.friend,
}
SERVERS: Mapping[str, Callable[[Mesh], Visitor]] = {
    "good server": lambda mesh: mesh.node,
    "foreign CA": lambda mesh: mesh.foreign,
    "wrong host": lambda mesh: mesh.put("far", mesh.authority.issue("far", hosts=("elsewhere.invalid",))),
    "expired": lambda mesh: mesh.expired,
}
PULLS = {
    "good server": "sync-daemon +client cert, good server",
    "foreign CA": "sync-daemon +client cert, server cert foreign CA",
    "wrong host": "sync-daemon +client cert, wrong host",
    "expired": "sync-daemon +client cert, expired server",
}
LEFT_OUT: Mapping[str, str] = {
    "TLS1.1 only": "says what the library of the prober can do",
    "listed, X.509 v1 TLS1.3": "no library here signs a certificate of version 1",
    "v1 TLS1.2": "no library here signs a certificate of version 1",
    "plain HTTP to TLS port": "the bytes of another TLS library's alert",
    "TLS1.3 resumption": "the fake gives out no tickets",
    "s_client": "the output of a program",
    "alert bytes no cert -tls1_3": "as in `no client cert, TLS1.3`",
    "alert bytes no cert -tls1_2": "as in `no client cert, TLS1.2`",
    "alert bytes unlisted -tls1_3": "as in `unlisted (CA-signed) TLS1.3`",
    "alert bytes unlisted -tls1_2": "as in `unlisted TLS1.2`",
    "sync-daemon no client cert, private-CA server": "every client of the fake has a certificate",
    "sync-daemon no client cert + --insecure": "the fake has no command line",
    "fan-out, no --quorum-ca-cert": "every client of the fake has the CA",
}
OTHER_ALERT = {"no client cert, TLS1.2": "handshake failure"}
"""The real daemon sends 116 here, which TLS 1.2 does not know; OpenSSL will not."""


async def outcome(mesh: Mesh, daemon: RustDaemon, label: str, visitor: Visitor | None) -> str:
    """The status line that this visitor gets, or the alert."""
    context = plain_client(mesh, visitor, tls12="TLS1.2" in label)
    if label.startswith("ALPN"):
        context.set_alpn_protocols(["h2"] if "only" in label else ["h2", "http/1.1"])
    try:
        line = await Line.open(daemon.port, context)
        await line.send(request("GET", "/api/v1/health"))
        reply = await line.reply()
        await line.close()
    except ssl.SSLError as error:
        return str(error)
    return f"HTTP/1.1 {reply.status} OK"


@pytest.mark.parametrize("label", VISITORS)
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_visitor_fares_as_recorded(mesh: Mesh, version: str, label: str) -> None:
    """A listed fingerprint gets in, whoever signed it and whenever it expired; anybody else gets the recorded alert."""
    recorded = next(one for one in raw(version, "tls_probe") if one["label"] == label)
    daemon = RustDaemon()
    visitor = VISITORS[label](mesh)
    others = [] if visitor is None or label.startswith("unlisted") else [visitor.fingerprint]
    async with daemon.serving(mesh.node, [mesh.node.fingerprint, *others]):
        told = await outcome(mesh, daemon, label, visitor)
    if "http" in recorded:
        assert told == recorded["http"]
    else:
        assert OTHER_ALERT.get(label, recorded["error"].rpartition("] ")[2]) in told
        assert daemon.log == []


@pytest.mark.parametrize("kind", SERVERS)
async def test_serve_takes_only_a_server_that_checks_out(mesh: Mesh, kind: str) -> None:
    """A foreign CA, another name, an old certificate: nothing is delivered, and the write is told so."""
    a, b = RustDaemon(V070), RustDaemon(V070)
    async with b.serving(SERVERS[kind](mesh), [mesh.friend.fingerprint]):
        a.fanout.peers = [Caller(b.url, client_context(mesh.friend, verify=True))]
        a.fanout.quorum = Quorum(timeout=60, retry_gap=0)
        headers = (("content-type", "application/json"),)
        answer = await a.handle(Request("POST", "/api/v1/memories", "", headers, b'{"title":"x","content":"c"}'))
    for version in VERSIONS:
        recorded = next(one for one in raw(version, "tls_probe") if one["label"] == f"fan-out, {kind}")
        assert (answer.status, len(b.log)) == (recorded["create_status"], recorded["requests_reached_peer"])
        assert json.loads(answer.data).get("reason") == recorded["body"].get("reason")


@pytest.mark.parametrize("kind", SERVERS)
async def test_the_sync_daemon_takes_any_server(mesh: Mesh, kind: str) -> None:
    """It has a certificate of its own, and therefore looks at nobody else's."""
    for version in VERSIONS:
        probe = next(one for one in raw(version, "tls_probe") if one["label"] == PULLS[kind])
        assert probe["requests_reached_peer"] > 0
    a, b = RustDaemon(V070), RustDaemon(V070)
    async with b.serving(SERVERS[kind](mesh), [mesh.friend.fingerprint]):
        pulled = await SyncDaemon(a, "host:a:sync").pull(Caller(b.url, client_context(mesh.friend, verify=False)))
    assert (pulled.failed, len(b.log)) == (None, 1)


def test_every_probe_is_looked_at_or_has_a_reason() -> None:
    servers = {f"fan-out, {kind}" for kind in SERVERS} | set(PULLS.values())
    for version in VERSIONS:
        assert {one["label"] for one in raw(version, "tls_probe")} == set(VISITORS) | set(LEFT_OUT) | servers
