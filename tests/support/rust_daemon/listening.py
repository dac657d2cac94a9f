"""The daemon's door: TLS 1.2 and 1.3, a client certificate demanded, and judged by nothing but its fingerprint."""

import ssl
from collections.abc import Collection
from typing import Any

from certs import Visitor
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from OpenSSL import SSL

from tls.contexts import PinnedContext
from tls.fingerprint import Fingerprint

_APPLICATION_VERIFICATION = 50
"""The X509_V_ERR for which OpenSSL sends the alert that the daemon sends: handshake_failure (40)."""


def server_context(own: Visitor, listed: Collection[Fingerprint]) -> PinnedContext:
    """No chain, no dates, no purpose: a listed certificate gets in, whoever signed it and whenever it expired."""
    native = SSL.Context(SSL.TLS_METHOD)
    native.set_min_proto_version(SSL.TLS1_2_VERSION)
    native.use_certificate(x509.load_pem_x509_certificate(own.files.cert.read_bytes()))
    native.use_privatekey(load_pem_private_key(own.files.key.read_bytes(), None))  # type: ignore[arg-type]
    native.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    native.set_options(SSL.OP_NO_TICKET)

    def decide(connection: SSL.Connection, certificate: Any, code: int, depth: int, ok: int) -> bool:
        if depth:
            return True
        der = certificate.to_cryptography().public_bytes(Encoding.DER)
        return Fingerprint.of_der(der) in listed

    mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    native.set_verify(mode, decide)
    _with_its_alert(native, mode)
    return PinnedContext(native, True, lambda fingerprint: fingerprint in listed)


def _with_its_alert(native: SSL.Context, mode: int) -> None:
    library, ffi = SSL._lib, SSL._ffi  # type: ignore[attr-defined]
    inner = native._verify_helper.callback  # type: ignore[union-attr]

    @ffi.callback("int (*)(int, X509_STORE_CTX *)", error=0)  # type: ignore[untyped-decorator]
    def with_alert(ok: int, context: Any) -> int:
        result = int(inner(ok, context))
        if not result:
            library.X509_STORE_CTX_set_error(context, _APPLICATION_VERIFICATION)
        return result

    native._verify_callback = with_alert  # keeps it alive
    library.SSL_CTX_set_verify(native._context, mode, with_alert)


def client_context(own: Visitor, *, verify: bool) -> ssl.SSLContext:
    """The context of a caller. `serve` checks chain and host name; `sync-daemon` takes any server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(own.files.cert, own.files.key)
    if verify:
        context.load_verify_locations(own.files.ca)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
