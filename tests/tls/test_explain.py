"""Failed connections explained: real failures of both TLS libraries, and every spelling of the alerts."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver
from certs import Mesh, Visitor
from cryptography import x509
from knocking import listening, on_loop, plain_client

from tls.allowlist import Allowlist, Entry
from tls.channel import Fault, PeerRefused
from tls.contexts import EXPIRED, NOT_YET_VALID, TIME
from tls.explain import LONG, Known, explain
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


NOW = datetime.now(UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
PURPOSE = 26
"""OpenSSL's X509_V_ERR of a certificate for something else."""
BEGINS, ENDS = NOW - timedelta(days=30), NOW + timedelta(days=365)
"""Of our own certificate."""


def known(pin: Visitor, *, is_listed: bool = True, now: datetime = NOW) -> Known:
    """Our own certificate is a month old and has a year to go."""
    return Known(pin.fingerprint, is_listed, BEGINS, ENDS, now, "attic")


# What is configured for the peer, what answers, the code, and words; {0}: what was shown, {1}: what is configured.
OTHER = "another certificate than the configured one answers there"
THEIRS = {
    "wrong pin": (
        "stranger",
        "node",
        "wrong_pin",
        f"{OTHER}: found {{0}}, expected {{1}}",
    ),
    "wrong pin, of another CA": (
        "stranger",
        "foreign",
        "wrong_pin",
        f"{OTHER}: found {{0}}",
    ),
    "expired": (
        "expired",
        "expired",
        "peer_expired",
        "(the certificate has expired: it ended at {ends}, and this node's clock says",
    ),
    "not valid yet": (
        "early",
        "early",
        "clock",
        "(the certificate is not valid yet: it begins at {begins}, and this node's clock says",
    ),
    "another CA": ("foreign", "foreign", "peer_unknown_ca", "a CA that is not in our bundle: found '"),
    "not listed": ("server_only", "server_only", "peer_unlisted", "ai-memory allowlist add {1} --label attic"),
    "ourselves": ("node", "friend", "own_address", "this node's own certificate ({0}) answers there"),
}


@pytest.mark.parametrize("client", ["ours", "ours in aiohttp"])
@pytest.mark.parametrize("case", THEIRS)
def test_each_cause_for_not_accepting_a_server_has_its_own_sentence(mesh: Mesh, client: str, case: str) -> None:
    """With what was found, what was expected, and what to do; in whatever the client wraps it."""
    pin, server, code, words = THEIRS[case]
    pinned, impostor = getattr(mesh, pin), getattr(mesh, server)
    gate = Gate(mesh.friend.files, mesh.listing(mesh.node, mesh.stranger, mesh.expired, mesh.early, mesh.foreign))
    error = on_loop("asyncio", lambda: _meeting(gate, pinned, impostor, client))
    found = explain(error, mesh.friend.fingerprint, "desk", known(pinned, is_listed=gate.allowed(pinned.fingerprint)))
    leaf = x509.load_pem_x509_certificate(impostor.files.cert.read_bytes())
    dates = {"begins": f"{leaf.not_valid_before_utc:{TIME}}", "ends": f"{leaf.not_valid_after_utc:{TIME}}"}
    expected = words.format(impostor.fingerprint.text, pinned.fingerprint.text, **dates)
    assert (found.code, expected in found.text) == (code, True)
    others = {sentence.partition("{")[0] for _, _, other, sentence in THEIRS.values() if other != code}
    assert [one for one in others if one in found.text] == []


async def _meeting(gate: Gate, pin: Visitor, server: Visitor, client: str) -> BaseException:
    context = gate.client_context(frozenset((pin.fingerprint,)))
    us = Allowlist((Entry(gate.own_fingerprint, "us", 1),))
    async with listening(Gate(server.files, us)) as (listener, _):
        talk = _talk if client == "ours" else _request
        return await _failure(lambda: talk(listener.port, context))


YEARS = timedelta(days=2_000)


@pytest.mark.parametrize(("server", "off"), [("expired", YEARS), ("early", -YEARS)], ids=["ahead", "behind"])
def test_a_clock_that_is_years_off_is_named_and_not_a_certificate(mesh: Mesh, server: str, off: timedelta) -> None:
    """By such a clock our own certificate is out of its time too: that is how it is known."""
    visitor = getattr(mesh, server)
    gate = Gate(mesh.friend.files, mesh.listing(mesh.node, visitor))
    error = on_loop("asyncio", lambda: _meeting(gate, visitor, visitor, "ours"))
    found = explain(error, mesh.friend.fingerprint, "desk", known(visitor, now=NOW + off))
    assert found.code == "clock"
    assert "this node's clock says" in found.text and "Set the clock of this machine" in found.text


@pytest.mark.parametrize(
    ("alert", "now", "code", "words"),
    [
        ("certificate expired", NOW, "clock", "one of the two clocks is wrong"),
        ("certificate expired", NOW + YEARS, "expired", "issue a new one"),
        ("certificate expired", NOW - YEARS, "clock", "Set the clock of this machine"),
        ("bad certificate", NOW, "bad_certificate", "its clock is before"),
        ("bad certificate", NOW - YEARS, "clock", "Set the clock of this machine"),
        ("certificate unknown", NOW - YEARS, "refused", "add this line"),
        ("certificate expired", BEGINS, "clock", "one of the two clocks is wrong"),
        ("certificate expired", ENDS, "clock", "one of the two clocks is wrong"),
        ("certificate expired", ENDS + SECOND, "expired", "has expired; issue a new one"),
        ("bad certificate", BEGINS, "bad_certificate", "its clock is before"),
        ("bad certificate", BEGINS - SECOND, "clock", "Set the clock of this machine"),
    ],
)
def test_what_a_peer_says_of_our_dates_is_compared_with_our_clock(
    mesh: Mesh, alert: str, now: datetime, code: str, words: str
) -> None:
    """A certificate that has a year to go has not expired: then a clock is wrong, and it is said which times differ."""
    found = explain(ssl.SSLError(1, f"ssl/tls alert {alert}"), OWN, "desk", known(mesh.node, now=now))
    assert (found.code, words in found.text) == (code, True)


# What was shown, what is wrong with it, what is known, the code, and words.
PIN = Fingerprint("fedcba9876543210" * 4)
ATTIC = Known(PIN, True, BEGINS, ENDS, NOW, "attic")
UNLISTED = replace(ATTIC, is_listed=False)
ONE_OF_TWO = "one of two clocks is wrong"


def fault(code: int, *, ends: datetime = NOW) -> Fault:
    return Fault(code, False, "CN=other", BEGINS, ends)


def at(now: datetime) -> Known:
    return replace(ATTIC, now=now)


FOUND: dict[str, tuple[Fingerprint | None, Fault | None, Known | None, str, str]] = {
    "no certificate": (None, None, ATTIC, "peer_untrusted", "does not accept the certificate"),
    "another purpose": (PIN, fault(PURPOSE), ATTIC, "peer_untrusted", "does not accept the certificate"),
    "another purpose, not listed": (PIN, fault(PURPOSE), UNLISTED, "peer_untrusted", "does not accept the cert"),
    "listed and without a fault": (PIN, None, ATTIC, "peer_untrusted", "does not accept the certificate"),
    "not listed": (PIN, None, UNLISTED, "peer_unlisted", "ai-memory allowlist add"),
    "not valid yet": (PIN, fault(NOT_YET_VALID), None, "clock", ONE_OF_TWO),
    "not valid yet, as ours begins": (PIN, fault(NOT_YET_VALID), at(BEGINS), "clock", ONE_OF_TWO),
    "not valid yet, before ours begins": (PIN, fault(NOT_YET_VALID), at(BEGINS - SECOND), "clock", "Set the clock"),
    "ended": (PIN, fault(EXPIRED), None, "peer_expired", "its operator has to issue a new one"),
    "ended, a day after ours": (PIN, fault(EXPIRED), at(ENDS + DAY), "peer_expired", "its operator has to issue"),
    "ended, a year after ours": (PIN, fault(EXPIRED), at(ENDS + LONG), "peer_expired", "its operator has to issue"),
    "ended, long after ours": (PIN, fault(EXPIRED), at(ENDS + LONG + SECOND), "clock", "Set the clock"),
    "ended, long after ours, lately": (
        PIN, fault(EXPIRED, ends=ENDS + LONG), at(ENDS + LONG + DAY), "peer_expired", "its operator has to issue"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
def test_each_finding_about_a_server_has_its_sentence(case: str) -> None:
    """Up to the second at which a date is over, and with as little as may be known."""
    shown, wrong, what, code, words = FOUND[case]
    found = explain(PeerRefused("the check's words", shown, wrong), OWN, "desk", what)
    assert (found.code, words in found.text) == (code, True), found.text


@pytest.mark.parametrize("client", ["ours", "ours in aiohttp"])
@pytest.mark.parametrize(
    ("pin", "server", "code", "reason"),
    [
        ("stranger", "node", "peer_untrusted", "not on the allowlist"),
        ("expired", "expired", "peer_expired", "has expired"),
        ("foreign", "foreign", "peer_unknown_ca", "a CA that is not in the bundle"),
    ],
)
def test_a_server_that_we_do_not_trust_is_named(
    mesh: Mesh, client: str, pin: str, server: str, code: str, reason: str
) -> None:
    """Where nothing is known of what was expected, the sentence says no more than was found."""
    impostor: Visitor = getattr(mesh, server)

    async def main() -> BaseException:
        gate = Gate(mesh.friend.files, mesh.listing(mesh.node, mesh.stranger, mesh.expired, mesh.foreign))
        context = gate.client_context(frozenset((getattr(mesh, pin).fingerprint,)))
        async with listening(Gate(impostor.files, mesh.listing(mesh.friend))) as (listener, _):
            talk = _talk if client == "ours" else _request
            return await _failure(lambda: talk(listener.port, context))

    found = explain(on_loop("asyncio", main), OWN, "desk")
    assert found.code == code
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
    assert (str(other) if code in ("tls", "unreachable") else LINE) in found.text


def test_an_error_without_words_is_told_by_its_kind() -> None:
    """There is nothing else to tell of it."""
    assert explain(ValueError(), OWN, "desk").text == "the peer cannot be reached: ValueError"


@pytest.mark.parametrize("place", ["certificate_error", "os_error", "__cause__", "__context__"])
def test_a_cause_is_found_wherever_a_client_hides_it(place: str) -> None:
    """Each by itself, and below another."""

    class Hiding(Exception):
        certificate_error: BaseException | None = None
        os_error: BaseException | None = None

    inner, outer = Hiding("inner"), RuntimeError("outer")
    setattr(inner, place, ConnectionRefusedError(111, "Connection refused"))
    outer.__context__ = inner
    assert explain(outer, OWN, "desk").code == "not_listening"
