"""TLS 1.3 contexts, server and client: groups, suites, chain, certificate, and the decision about each peer.

TLS 1.3 only (RFC 8446), AEAD suites only, X25519MLKEM768 before X25519 where the linked OpenSSL has it, no tickets and
no resumption: a resumed session would not run the check again.
"""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NoReturn, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from tls.channel import Channel, Fault, Refusal
from tls.errors import IdentityError, TlsError
from tls.fingerprint import Fingerprint
from tls.identity import Loaded

SUITES = b"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
GROUPS = (b"X25519MLKEM768:X25519", b"X25519")
"""The first that the linked OpenSSL knows is used."""
_X509_UNLISTED = 24
"""An X509_V_ERR that OpenSSL has no alert of its own for: it sends certificate_unknown (46)."""
_X509_REASONS = {
    18: "a self-signed certificate of another CA",
    19: "signed by a CA that is not in the bundle",
    20: "signed by a CA that is not in the bundle",
    21: "signed by a CA that is not in the bundle",
    26: "the certificate's extended key usage does not allow this",
    66: "the certificate's key is too weak",
    67: "the key of its CA is too weak",
    68: "the signature of its CA is too weak",
    79: "signed by a certificate that is no CA's",
}

NOT_YET_VALID, EXPIRED = 9, 10
UNKNOWN_CA = frozenset((18, 19, 20, 21))
TIME = "%Y-%m-%dT%H:%M:%SZ"
_MOST_OF_A_NAME = 100

Allowed = Callable[[Fingerprint], bool]


class PinnedContext(ssl.SSLContext):
    """Looks like an `ssl.SSLContext` to event loops and aiohttp; makes `Channel`s over a pyOpenSSL context.

    The inherited OpenSSL context is never used: it is a client's without a certificate, useless by accident.
    """

    _native: SSL.Context
    _server: bool
    _allowed: Allowed

    def __new__(cls, *_: Any) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, native: SSL.Context, server: bool, allowed: Allowed) -> None:
        self._native = native
        self._server = server
        self._allowed = allowed

    def wrap_bio(  # type: ignore[override]
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: object = None,
    ) -> Channel:
        if server_side is not self._server:
            raise ssl.SSLError("this context is for the other side of a connection")
        name = _server_name(server_hostname) if isinstance(server_hostname, str) else None
        return Channel(
            self, self._native, incoming, outgoing, server=self._server, judge=self._allowed, server_name=name
        )

    def wrap_socket(self, *args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError("use asyncio: this context only wraps memory BIOs")


def build(loaded: Loaded, *, server: bool, allowed: Allowed) -> PinnedContext:
    """A context. `allowed` is asked during the handshake and again after it, each time anew. Raises IdentityError."""
    native = SSL.Context(SSL.TLS_METHOD)
    native.set_min_proto_version(SSL.TLS1_3_VERSION)
    native.set_max_proto_version(SSL.TLS1_3_VERSION)
    native.set_tls13_ciphersuites(SUITES)
    native.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION)
    native.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    native.set_session_id(b"ai-memory")  # without one a client that tries to resume gets a fatal internal_error
    _set_groups(native)
    try:
        _set_identity(native, loaded)
    except (SSL.Error, crypto.Error, ValueError, TypeError) as error:
        raise IdentityError(
            f"OpenSSL does not take this certificate, key or CA bundle: {error}.",
            "Issue a certificate with another key.",
        ) from None
    _set_verify(native, allowed)
    return PinnedContext(native, server, allowed)


def _set_groups(native: SSL.Context) -> None:
    # pyOpenSSL has no public way; the start-up self-test would notice if this private one went away.
    for groups in GROUPS:
        if SSL._lib.SSL_CTX_set1_curves_list(native._context, groups) == 1:  # type: ignore[attr-defined]
            return
        SSL._lib.ERR_clear_error()  # type: ignore[attr-defined]  # what is left there fails the next call
    raise TlsError("this OpenSSL knows neither X25519MLKEM768 nor X25519.", "Install the locked requirements again.")


def _set_identity(native: SSL.Context, loaded: Loaded) -> None:
    native.use_certificate(loaded.leaf)
    for intermediate in loaded.chain[1:]:
        native.add_extra_chain_cert(intermediate)
    native.use_privatekey(loaded.key)  # type: ignore[arg-type]
    native.check_privatekey()
    store = native.get_cert_store()
    assert store is not None, "a context has a store"
    for authority in loaded.authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))


def _set_verify(native: SSL.Context, allowed: Allowed) -> None:
    def decide(connection: SSL.Connection, certificate: Any, code: int, depth: int, ok: int) -> bool:
        refusal = connection.get_app_data()
        assert isinstance(refusal, Refusal), "every channel brings one"
        if depth and ok:
            return True
        fingerprint = Fingerprint.of_der(certificate.to_cryptography().public_bytes(Encoding.DER))
        if not depth:
            refusal.fingerprint = fingerprint
        if not ok:
            refusal.fault = fault = _fault(certificate.to_cryptography(), code, depth)
            refusal.reason = _described(fault, datetime.now(UTC))
            return False
        if not allowed(fingerprint):
            refusal.reason = "not on the allowlist"
            return False
        return True

    mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    native.set_verify(mode, decide)
    library, ffi = SSL._lib, SSL._ffi  # type: ignore[attr-defined]
    if not hasattr(library, "X509_STORE_CTX_set_error"):
        return  # the public way refuses just as well, with the alert internal_error (80)
    inner = native._verify_helper.callback  # type: ignore[union-attr]

    @ffi.callback("int (*)(int, X509_STORE_CTX *)", error=0)  # type: ignore[untyped-decorator]
    def with_alert(ok: int, context: Any) -> int:
        result = int(inner(ok, context))
        if ok and not result:
            library.X509_STORE_CTX_set_error(context, _X509_UNLISTED)
        return result

    native._verify_callback = with_alert  # keeps it alive
    library.SSL_CTX_set_verify(native._context, mode, with_alert)


def _fault(certificate: x509.Certificate, code: int, depth: int) -> Fault:
    issuer = "".join(one if one.isprintable() else "?" for one in certificate.issuer.rfc4514_string())[:_MOST_OF_A_NAME]
    return Fault(code, depth > 0, issuer, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def _described(fault: Fault, now: datetime) -> str:
    """With what was found, what was expected, and this node's clock where it decides."""
    what = "the certificate of its CA" if fault.is_ca else "the certificate"
    if fault.code == NOT_YET_VALID:
        return f"{what} is not valid yet: it begins at {fault.begins:{TIME}}, and this node's clock says {now:{TIME}}"
    if fault.code == EXPIRED:
        return f"{what} has expired: it ended at {fault.ends:{TIME}}, and this node's clock says {now:{TIME}}"
    known = _X509_REASONS.get(fault.code, f"the chain is not valid (X509 error {fault.code})")
    return f"{known}: {fault.issuer}" if fault.code in UNKNOWN_CA else known


def _server_name(host: str) -> bytes | None:
    """What is sent along as the name that is dialled (RFC 6066 section 3); None for addresses and what is no name."""
    if ":" in host or host.replace(".", "").isdigit():
        return None
    try:
        return host.removesuffix(".").encode("idna")
    except UnicodeError:
        return None  # the pin decides, not the name
