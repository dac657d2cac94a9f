"""Failed connections explained: real failures of both TLS libraries, and every spelling of the alerts."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver
from certs import Mesh, Visitor
from knocking import listening, on_loop, plain_client

from tls.explain import explain
from tls.fingerprint import Fingerprint
from tls.gate import Gate

OWN = Fingerprint("0123456789abcdef" * 4)
LINE = f"{OWN.text}  # desk"

REFUSED: dict[str, tuple[Callable[[Mesh], Visitor], str]] = {
    "unlisted": (lambda mesh: mesh.stranger, "refused"),
    "expired": (lambda mesh: mesh.expired, "expired"),
    "not valid yet": (lambda mesh: mesh.early, "bad_certificate"),
    "another CA": (lambda mesh: mesh.foreign, "unknown_ca"),
    "server's only": (lambda mesh: mesh.server_only, "wrong_purpose"),
}


async def _failure(connect: Callable[[], Any]) -> BaseException:
    try:
        async with asyncio.timeout(10):
            await connect()
    except Exception as error:  # all of them are what the test is about
        return error
    raise AssertionError("the connection did not fail")


async def _talk(port: int, context: ssl.SSLContext) -> None:
    """Connect and read: in TLS 1.3 the alert comes with the first read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        await reader.readexactly(1)
    finally:
        writer.transport.abort()


async def _request(port: int, context: ssl.SSLContext, host: str = "127.0.0.1", **options: Any) -> None:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(**options)) as session,
        session.post(f"https://{host}:{port}/", data=b"x" * 100, ssl=context) as answer,
    ):
        await answer.read()


def _ours(mesh: Mesh, visitor: Visitor, *pins: Visitor) -> ssl.SSLContext:
    gate = Gate(visitor.files, mesh.listing(mesh.node))
    return gate.client_context(frozenset(pin.fingerprint for pin in pins or (mesh.node,)))


@pytest.mark.parametrize("client", ["standard library", "ours", "ours in aiohttp"])
@pytest.mark.parametrize("case", REFUSED)
def test_each_refusal_of_a_real_gate_is_recognised(mesh: Mesh, case: str, client: str) -> None:
    """Whatever library meets the alert, and however it is wrapped, the code is the same."""
    visitor, code = REFUSED[case]

    async def main() -> BaseException:
        async with listening(Gate(mesh.node.files, mesh.everyone_but_the_stranger())) as (listener, _):
            port, who = listener.port, visitor(mesh)
            if client == "standard library":
                return await _failure(lambda: _talk(port, plain_client(mesh, who)))
            if client == "ours":
                return await _failure(lambda: _talk(port, _ours(mesh, who)))
            return await _failure(lambda: _request(port, _ours(mesh, who)))

    found = explain(on_loop("asyncio", main), OWN, "desk")
    assert found.code == code
    assert (LINE in found.text) == (code in ("refused", "expired"))


def test_a_client_without_certificate_or_tls_1_3_is_told_so(mesh: Mesh) -> None:
    """The two refusals that only a foreign client meets."""

    async def main() -> tuple[BaseException, BaseException]:
        async with listening(Gate(mesh.node.files, mesh.everyone_but_the_stranger())) as (listener, _):
            none = await _failure(lambda: _talk(listener.port, plain_client(mesh, None)))
            old = await _failure(lambda: _talk(listener.port, plain_client(mesh, mesh.friend, tls12=True)))
            return none, old

    none, old = on_loop("asyncio", main)
    assert explain(none, OWN, "desk").code == "no_certificate"
    assert explain(old, OWN, "desk").code == "tls_version"


@pytest.mark.parametrize("client", ["ours", "ours in aiohttp"])
@pytest.mark.parametrize(
    ("pin", "server", "reason"),
    [
        ("stranger", "node", "not on the allowlist"),
        ("expired", "expired", "has expired"),
        ("foreign", "foreign", "a CA that is not in the bundle"),
    ],
)
def test_a_server_that_we_do_not_trust_is_named(mesh: Mesh, client: str, pin: str, server: str, reason: str) -> None:
    """Wrong pin, expired, another CA: the sentence says which, and shows the fingerprint that was presented."""
    impostor: Visitor = getattr(mesh, server)

    async def main() -> BaseException:
        gate = Gate(mesh.friend.files, mesh.listing(mesh.node, mesh.stranger, mesh.expired, mesh.foreign))
        context = gate.client_context(frozenset((getattr(mesh, pin).fingerprint,)))
        async with listening(Gate(impostor.files, mesh.listing(mesh.friend))) as (listener, _):
            talk = _talk if client == "ours" else _request
            return await _failure(lambda: talk(listener.port, context))

    found = explain(on_loop("asyncio", main), OWN, "desk")
    assert found.code == "peer_untrusted"
    assert reason in found.text
    assert impostor.fingerprint.text in found.text


ALERTS = {
    "certificate unknown": "refused",
    "internal error": "refused",
    "access denied": "refused",
    "handshake failure": "refused",
    "certificate expired": "expired",
    "unknown ca": "unknown_ca",
    "unsupported certificate": "wrong_purpose",
    "bad certificate": "bad_certificate",
    "certificate required": "no_certificate",
    "protocol version": "tls_version",
}


@pytest.mark.parametrize("spelling", ["OpenSSL 3", "OpenSSL 4", "pyOpenSSL", "without words"])
@pytest.mark.parametrize("words", ALERTS)
def test_every_spelling_of_an_alert_is_recognised(words: str, spelling: str) -> None:
    """Old and new OpenSSL name the alerts differently, and each wrapper quotes them in its own way."""
    prefix = "tlsv13" if words == "certificate required" else "sslv3" if "cert" in words else "tlsv1"
    constant = f"{prefix}_ALERT_{words.replace(' ', '_')}".upper()
    text = {
        "OpenSSL 3": f"[SSL: {constant}] {prefix} alert {words} (_ssl.c:2580)",
        "OpenSSL 4": f"[SSL: TLS_ALERT_{words.replace(' ', '_').upper()}] tls alert {words} (_ssl.c:2580)",
        "pyOpenSSL": f"ssl/tls alert {words}",
        "without words": f"[SSL: {constant}] (_ssl.c:2580)",
    }[spelling]
    found = explain(_wrapped(ssl.SSLError(1, text)), OWN, "desk")
    assert found.code == ALERTS[words]
    assert (LINE in found.text) == (found.code in ("refused", "expired"))


def _wrapped(error: BaseException) -> BaseException:
    """As deep as clients bury it."""
    try:
        try:
            raise error
        except BaseException as inner:
            raise ConnectionError("cannot write") from inner
    except ConnectionError as middle:
        outer = RuntimeError("request failed")
        outer.__context__ = middle
        return outer


class _NoNames(AbstractResolver):
    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def close(self) -> None:
        pass


def test_an_unknown_host_name(mesh: Mesh) -> None:
    """DNS is named, not the peer."""

    async def main() -> BaseException:
        return await _failure(lambda: _request(1, _ours(mesh, mesh.friend), "desk.invalid", resolver=_NoNames()))

    assert explain(on_loop("asyncio", main), OWN, "desk").code == "unknown_host"


def test_nobody_listens(mesh: Mesh) -> None:
    """A refused connection is not a refused certificate."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listened on
        port = taken.getsockname()[1]

        async def main() -> BaseException:
            return await _failure(lambda: _request(port, _ours(mesh, mesh.friend)))

        assert explain(on_loop("asyncio", main), OWN, "desk").code == "not_listening"


def test_no_answer_in_time(mesh: Mesh) -> None:
    """A peer that takes the connection and says nothing is a timeout, from aiohttp as from asyncio."""

    async def main() -> BaseException:
        async with await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            context = _ours(mesh, mesh.friend)

            async def patient() -> None:
                timeout = aiohttp.ClientTimeout(total=0.1)
                async with aiohttp.ClientSession(timeout=timeout) as session:
                    await session.get(f"https://127.0.0.1:{port}/", ssl=context)

            return await _failure(patient)

    assert explain(on_loop("asyncio", main), OWN, "desk").code == "timeout"
    assert explain(TimeoutError(), OWN, "desk").code == "timeout"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", "not_tls", id="plain HTTP"),
        pytest.param(b"", "disconnected", id="hangs up"),
    ],
)
def test_what_answers_is_no_peer(mesh: Mesh, answer: bytes, code: str) -> None:
    """Something else at that address, or something that hangs up, is told apart from a refusal."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10_000)
        writer.write(answer)
        writer.close()

    async def main() -> BaseException:
        async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await _failure(lambda: _request(port, _ours(mesh, mesh.friend)))

    found = explain(on_loop("asyncio", main), OWN, "desk")
    assert found.code == code
    assert (LINE in found.text) == (code == "disconnected")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ssl.SSLError(1, "decryption failed or bad record mac"), "tls"),
        (ConnectionResetError(104, "Connection reset by peer"), "disconnected"),
        (OSError(113, "No route to host"), "unreachable"),
        (ValueError(), "unreachable"),
    ],
    ids=["TLS", "reset", "no route", "anything"],
)
def test_the_rest_is_told_as_it_is(error: BaseException, code: str) -> None:
    """Every failure has a code and a sentence, and a cause that points back at itself does not hang it."""
    error.__context__ = other = RuntimeError("while handling")
    other.__context__ = error
    found = explain(error, OWN, "desk")
    assert found.code == code
    assert found.text
    assert len(found.text) < 400
