"""Chains: what counts as signed by the mesh's CA, at both ends, whatever the allowlist says."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certs import Mesh, Visitor, bare
from knocking import LOOPS, Notes, knock, listening, on_loop, plain_client, until

from tls import contexts
from tls.channel import PeerRefused
from tls.explain import Known, explain
from tls.gate import Gate

Knocked = tuple[bytes, str | None, Notes]


@pytest.fixture
def own(tmp_path: Path) -> Mesh:
    """A mesh whose CA bundle the test may change."""
    return Mesh(tmp_path)


async def _knock_as(mesh: Mesh, visitor: Visitor) -> Knocked:
    """The visitor is listed: only its chain can keep it out."""
    async with listening(Gate(mesh.node.files, mesh.listing(mesh.node, visitor))) as (listener, notes):
        answer, alert = await knock(listener.port, plain_client(mesh, visitor))
        await until(lambda: bool(notes.events))
        return answer, (alert or "").lower().replace("_", " "), notes


def _below_an_intermediate(mesh: Mesh, *, with_issuer: bool, ca: bool = True, path_length: int | None = 1) -> Visitor:
    root = bare("deep root", ca=True, path_length=path_length)
    mesh.ca.write_bytes(mesh.authority.cert_pem + root.cert_pem)
    return mesh.below(bare("between", root, ca=ca), "deep", with_issuer=with_issuer)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_intermediate_that_is_sent_along_is_followed(own: Mesh, loop: str) -> None:
    """Leaf and intermediate in one file, the root in the bundle: in."""
    visitor = _below_an_intermediate(own, with_issuer=True)
    answer, _, notes = on_loop(loop, lambda: _knock_as(own, visitor))
    assert answer == b"echo:hello"
    assert notes.events[0].fingerprint == visitor.fingerprint


def test_a_server_sends_its_intermediate_too(own: Mesh) -> None:
    """A node whose certificate comes from an intermediate is accepted by whoever dials it."""
    server = _below_an_intermediate(own, with_issuer=True)

    async def main() -> None:
        async with listening(Gate(server.files, own.listing(own.friend))) as (listener, _):
            friend = Gate(own.friend.files, own.listing(server))
            context = friend.client_context(frozenset((server.fingerprint,)))
            assert (await knock(listener.port, context))[0] == b"echo:hello"

    on_loop("asyncio", main)


BROKEN = {
    "the intermediate is not sent": ("unknown ca", "signed by a CA that is not in the bundle"),
    "the intermediate is no CA": ("unknown ca", "signed by a certificate that is no CA's"),
    "the chain is longer than its root allows": ("unknown ca", "the chain is not valid"),
    "self-signed": ("unknown ca", "a self-signed certificate of another CA"),
    "signed with another node's key": ("unknown ca", "signed by a certificate that is no CA's"),
}


def _broken(mesh: Mesh, case: str) -> Visitor:
    match case:
        case "the intermediate is not sent":
            return _below_an_intermediate(mesh, with_issuer=False)
        case "the intermediate is no CA":
            return _below_an_intermediate(mesh, with_issuer=True, ca=False)
        case "the chain is longer than its root allows":
            return _below_an_intermediate(mesh, with_issuer=True, path_length=0)
        case "self-signed":
            return mesh.self_signed("loner")
        case _:
            return mesh.puppet_of(mesh.node)


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_listed_certificate_with_a_broken_chain_is_refused(own: Mesh, loop: str, case: str) -> None:
    """The list does not stand in for the chain; the alert arrives, and the event says what is wrong."""
    words, reason = BROKEN[case]
    answer, alert, notes = on_loop(loop, lambda: _knock_as(own, _broken(own, case)))
    assert answer == b""
    assert words in alert
    assert reason in (notes.events[0].reason or "")
    assert (notes.made, notes.events[0].kind) == (0, "refused")


@pytest.mark.parametrize("case", BROKEN)
def test_without_the_chain_check_each_of_them_gets_in(own: Mesh, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: where the verify callback overlooks OpenSSL's verdict, the same certificates reach HTTP."""

    def overlook(native: contexts.SSL.Context, allowed: contexts.Allowed) -> None:
        native.set_verify(contexts.SSL.VERIFY_PEER, lambda *whatever: True)

    monkeypatch.setattr(contexts, "_set_verify", overlook)
    assert on_loop("asyncio", lambda: _knock_as(own, _broken(own, case)))[0] == b"echo:hello"


def test_a_listed_certificate_with_a_weak_key_is_refused(own: Mesh) -> None:
    """An RSA key of 1024 bits is not enough, though its owner's own library is content with it."""
    visitor = own.weak("weak")
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    careless.set_ciphers("DEFAULT@SECLEVEL=0")
    careless.check_hostname = False
    careless.load_verify_locations(own.ca)
    careless.load_cert_chain(visitor.files.cert, visitor.files.key)

    async def main() -> None:
        async with listening(Gate(own.node.files, own.listing(visitor))) as (listener, notes):
            answer, alert = await knock(listener.port, careless)
            assert answer == b""
            assert "bad certificate" in (alert or "").lower().replace("_", " ")
            await until(lambda: bool(notes.events))
            assert (notes.made, notes.events[0].reason) == (0, "the certificate's key is too weak")

    on_loop("asyncio", main)


def test_a_server_with_a_client_s_certificate_is_refused(own: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever dials checks the purpose too; control: with a certificate for servers it is accepted."""
    wrong, right = own.issue("wrong", purposes=("client",)), own.issue("right", purposes=("server",))

    async def dial(server: Visitor) -> bytes:
        async with listening(Gate(server.files, own.listing(own.friend))) as (listener, _):
            friend = Gate(own.friend.files, own.listing(server))
            context = friend.client_context(frozenset((server.fingerprint,)))
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)
            writer.write(b"hi")
            answer = await reader.read(10)
            writer.transport.abort()
            return answer

    with pytest.raises(ssl.SSLCertVerificationError, match="extended key usage"):
        on_loop("asyncio", lambda: dial(wrong))
    assert on_loop("asyncio", lambda: dial(right)) == b"echo:hi"


def test_a_wrong_server_never_sees_our_certificate(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pin is checked before our certificate leaves, and even the second check keeps it back."""
    real = contexts._set_verify
    certificate = len(ssl.PEM_cert_to_DER_cert(mesh.friend.files.cert.read_text()))
    assert len(_answer_to(mesh, mesh.node)[0]) > certificate, "control: the right server is sent it"
    sent, error = _answer_to(mesh, mesh.stranger)
    assert len(sent) < 100, "no more than an alert"
    assert "not on the allowlist" in str(error)
    monkeypatch.setattr(contexts, "_set_verify", lambda native, allowed: real(native, lambda _: True))
    sent, error = _answer_to(mesh, mesh.stranger)
    assert sent == b""
    assert "not on the allowlist" in str(error)


def _answer_to(mesh: Mesh, server: Visitor) -> tuple[bytes, ssl.SSLError | None]:
    """What a client that has pinned the node sends in answer to the first flight of this server."""
    one, two = ssl.MemoryBIO(), ssl.MemoryBIO()
    friend = Gate(mesh.friend.files, mesh.listing(mesh.node))
    guest = friend.client_context(frozenset((mesh.node.fingerprint,))).wrap_bio(two, one)
    host = Gate(server.files, mesh.listing(mesh.friend)).server_context().wrap_bio(one, two, server_side=True)
    for channel in (guest, host):
        with pytest.raises(ssl.SSLWantReadError):
            channel.do_handshake()
    try:
        guest.do_handshake()
    except ssl.SSLError as error:
        return one.read(), error
    return one.read(), None


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_outlives_its_certificate_and_the_next_does_not_come_about(own: Mesh, loop: str) -> None:
    """Dates are those of the handshake: what was valid then goes on, and nobody enters with it any more."""

    async def main() -> None:
        moment = datetime.now(UTC) + timedelta(seconds=2.5)
        brief = own.issue("brief", not_after=moment)
        async with listening(Gate(own.node.files, own.listing(brief))) as (listener, notes):
            context = plain_client(own, brief)
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)
            await until(lambda: notes.made == 1)
            async with asyncio.timeout(10):
                while (refused := (await knock(listener.port, context))[1]) is None:
                    await asyncio.sleep(0.05)
            assert "expired" in refused.lower()
            writer.write(b"still here")
            assert await reader.read(100) == b"echo:still here"
            writer.transport.abort()

    on_loop(loop, main)


@pytest.mark.parametrize("is_pinned", [True, False], ids=["the right one", "another"])
def test_what_was_shown_is_known_although_its_ca_was_at_fault(own: Mesh, *, is_pinned: bool) -> None:
    """OpenSSL asks for the CA first, and ends there. That another node answers is still the first thing to say."""
    server = _broken(own, "the intermediate is no CA")
    pin = server.fingerprint if is_pinned else own.node.fingerprint
    gate = Gate(own.friend.files, own.listing(own.node, server))

    async def main() -> None:
        async with listening(Gate(server.files, own.listing(own.friend))) as (listener, _):
            context = gate.client_context(frozenset((pin,)))
            await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)

    with pytest.raises(PeerRefused) as refused:
        on_loop("asyncio", main)
    assert refused.value.fault is not None and refused.value.fault.is_ca
    assert refused.value.shown == server.fingerprint
    leaf = gate.identity.leaf
    dates = leaf.not_valid_before_utc, leaf.not_valid_after_utc, datetime.now(UTC)
    found = explain(refused.value, gate.own_fingerprint, "desk", Known(pin, True, *dates, "deep"))
    assert found.code == ("peer_untrusted" if is_pinned else "wrong_pin")
    assert "signed by a certificate that is no CA's" in found.text or not is_pinned
