"""A pyOpenSSL connection in the shape that asyncio and uvloop expect of `ssl.SSLObject`, over their memory BIOs.

The standard library cannot decide about a client's certificate during the handshake; pyOpenSSL's verify callback can.
Event loops create their TLS object with `context.wrap_bio()` and use only the methods below. (Measured, with what was
rejected: docs/decisions/0002.)
"""

import ssl
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from tls.fingerprint import Fingerprint

LINGER_BYTES = 1 << 20
"""What a refused peer may still send while its alert is on the way; then it is cut off."""
BARREN_BYTES = 24_576
"""What a peer may send without a byte of use in it: a record that is not whole yet, and some hundred key updates.

Each of those costs OpenSSL some 60 microseconds and an answer, which waits in memory where the peer does not read.
"""
USE = 16
"""For so many bytes of use it may send another one of none."""
RECORD = 22
"""Bytes that a record has beside its content (RFC 8446 section 5.2)."""
_CHUNK = 16_384
_SLICE = 1 << 18
"""What is encrypted at one go: OpenSSL's buffer keeps the size of the largest for as long as the connection lives."""


_lib, _ffi = SSL._lib, SSL._ffi  # type: ignore[attr-defined]  # private, and wanted: docs/decisions/0002

Judge = Callable[[Fingerprint], bool]
"""Decides about a peer after the handshake, independently of the verify callback."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a certificate of a chain, whatever the list says."""

    code: int
    """OpenSSL's X509_V_ERR."""
    is_ca: bool
    """It is not the peer's own certificate, but that of a CA above it."""
    issuer: str
    begins: datetime
    ends: datetime


class PeerRefused(ssl.SSLCertVerificationError):
    """We do not accept what a peer that we called has shown."""

    def __init__(self, reason: str, shown: Fingerprint | None, fault: Fault | None) -> None:
        super().__init__(ssl.SSL_ERROR_SSL, f"certificate verify failed: {reason}{f' ({shown.text})' if shown else ''}")
        self.shown = shown
        self.fault = fault


class Refusal:
    """Why a handshake was refused; filled in by the verify callback, read by the listener."""

    __slots__ = ("alert", "fault", "fingerprint", "reason")

    def __init__(self) -> None:
        self.fingerprint: Fingerprint | None = None
        self.fault: Fault | None = None
        self.reason: str | None = None
        self.alert: str | None = None


class Attempt:
    """Where a connection that is being set up finds its channel, even where the handshake fails; and what it brings."""

    channel: "Channel | None" = None
    hello: bytes | bytearray = b""
    """What the client has said before TLS was begun."""
    on_refused: Callable[[], None] | None = None
    """Called once the peer is refused, and is only waited for until it has read its alert."""


ATTEMPT: ContextVar[Attempt] = ContextVar("attempt")
"""Set by the listener around each handshake; event loops carry it into the callbacks that create the channel."""


class Channel:
    """One TLS connection."""

    def __init__(
        self,
        context: ssl.SSLContext,
        native: SSL.Context,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        *,
        server: bool,
        judge: Judge,
        server_name: bytes | None = None,
    ) -> None:
        self.context = context
        self.refusal = Refusal()
        self.peer: Fingerprint | None = None
        """Set once both checks have passed, and only then."""
        self._incoming, self._outgoing = incoming, outgoing
        self._server = server
        self._judge = judge
        self._connection = SSL.Connection(native, None)
        self._connection.set_app_data(self.refusal)
        if server:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
            if server_name:
                self._connection.set_tlsext_host_name(server_name)
        self._from_openssl, self._into_openssl = self._connection._from_ssl, self._connection._into_ssl
        self._ssl = self._connection._ssl
        self._pointer = _ffi.new("char **")
        self._buffer = _ffi.new("char[]", _CHUNK)
        self._ended = False
        self._dead: ssl.SSLError | None = None
        self._budget = LINGER_BYTES
        self._barren = 0
        self._on_refused: Callable[[], None] | None = None
        attempt = ATTEMPT.get(None)
        if attempt is not None:
            attempt.channel = self
            self._on_refused = attempt.on_refused
            incoming.write(attempt.hello)

    # --- the handshake

    def do_handshake(self) -> None:
        if self._dead is not None:
            self._linger()
        try:
            self._shake_hands()
        except SSL.WantReadError:
            self._flush()
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "want read") from None
        except SSL.Error as error:
            self._flush()
            self._refuse(self._detailed(mapped(error)))
        except Exception as error:  # whatever escaped from the verify callback: fail closed
            self._flush()
            self._refuse(ssl.SSLError(ssl.SSL_ERROR_SSL, _failed_itself(error)))
        peer = self._checked_again()
        if peer is None:
            if self._server:  # a client keeps quiet: its certificate waits in the same buffer
                self._connection.shutdown()
                self._flush()
            found = self.refusal
            self._refuse(PeerRefused(found.reason or "", found.fingerprint, found.fault))
        self._flush()
        self.peer = peer
        self._barren = self._held(self._into_openssl)

    def _shake_hands(self) -> None:
        while True:
            self._feed()
            try:
                self._connection.do_handshake()
                return
            except SSL.WantReadError:
                if not self._incoming.pending:
                    raise

    def _checked_again(self) -> Fingerprint | None:
        """The second, independent check: a resumed session runs no callback, and the list may have changed by now."""
        try:
            peer = self._presented()
            self.refusal.fingerprint = peer
            if peer is not None and self._judge(peer):
                return peer
            self.refusal.reason = self.refusal.reason or "not on the allowlist"
        except Exception as error:  # fail closed
            self.refusal.reason = _failed_itself(error)
        return None

    def _presented(self) -> Fingerprint | None:
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        return Fingerprint.of_der(certificate.public_bytes(Encoding.DER)) if certificate is not None else None

    def _detailed(self, error: ssl.SSLError) -> ssl.SSLError:
        """For whoever dials: which certificate was presented, and what is wrong with it."""
        found = self.refusal
        if self._server or found.reason is None:
            return error
        # The callback is asked for the CA before the leaf, and the peer's certificate is nobody's until the end: where
        # the CA is at fault, what was shown stands at the beginning of the chain.
        return PeerRefused(found.reason, found.fingerprint or self._sent(), found.fault)

    def _sent(self) -> Fingerprint | None:
        """What a server has sent first, whatever became of it."""
        chain = self._connection.get_peer_cert_chain(as_cryptography=True)
        return Fingerprint.of_der(chain[0].public_bytes(Encoding.DER)) if chain else None

    def _refuse(self, error: ssl.SSLError) -> NoReturn:
        self.refusal.alert = str(error.args[-1]) if error.args else None
        self._dead = error
        if not self._server:
            raise error  # only a server has to wait for its alert to be read
        if self._on_refused is not None:
            self._on_refused()
        # Loops flush what is outgoing when a handshake wants to read, and drop it when it fails: so it "wants to read".
        raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "delivering the alert")

    def _linger(self) -> NoReturn:
        """Take in, and throw away, what the refused peer still sends; closing at once would destroy the alert."""
        assert self._dead is not None
        self._budget -= len(self._incoming.read())
        if self._budget < 0:
            raise self._dead
        raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "waiting for the peer to hang up")

    # --- the traffic

    def read(self, size: int = 1024, buffer: Any = None) -> Any:
        most = min(size, _CHUNK) if buffer is None else min(size, _CHUNK, len(buffer))
        try:
            count = self._read_some(most)
            text = _ffi.buffer(self._buffer, count)
            if buffer is None:
                return text[:]
            buffer[:count] = memoryview(text)
            return count
        except SSL.ZeroReturnError:
            self._ended = True
            return b"" if buffer is None else 0
        except SSL.WantReadError:
            self._flush()
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "want read") from None
        except SSL.Error as error:
            self._flush()
            raise mapped(error) from None

    def _read_some(self, most: int) -> int:
        """How many bytes lie in the buffer now. Raises SSL.Error."""
        while True:
            self._feed()
            if not (self.pending() or self._ended):
                raise SSL.WantReadError  # asyncio asks once more than there is; OpenSSL need not be asked then
            try:
                count = self._done(_lib.SSL_read(self._ssl, self._buffer, most))
            except SSL.WantReadError:
                if self._barren > BARREN_BYTES:
                    raise SSL.Error([("", "", "too much that is no data: key updates, or empty records")]) from None
                if not self._incoming.pending:
                    raise
                continue
            self._barren = max(0, self._barren - count - count // USE - RECORD)
            return count

    def write(self, data: Any) -> int:
        count = len(data)
        if not count:
            return 0
        try:
            if count <= _CHUNK:
                count = self._done(_lib.SSL_write(self._ssl, _ffi.from_buffer(data), count))
            else:
                # All of it, as asyncio's re-slicing after each 16 KiB becomes quadratic.
                view = memoryview(data)
                for start in range(0, len(view), _SLICE):
                    self._connection.sendall(view[start : start + _SLICE])
                    self._flush()
        except SSL.Error as error:
            self._flush()
            raise mapped(error) from None
        self._flush()
        return count

    def pending(self) -> int:
        """uvloop reads on only while this is not 0, so ciphertext that waits inside OpenSSL must count."""
        return self._held(self._into_openssl) or int(self._connection.pending())

    def unwrap(self) -> None:
        self._feed(everything=True)
        try:
            done = self._connection.shutdown() or self._connection.shutdown()
        except SSL.WantReadError:
            done = False  # our close_notify is written, the peer's has not come
        except SSL.Error as error:
            self._flush()
            raise mapped(error) from None
        self._flush()
        if not done:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "want read")

    # The traffic goes to OpenSSL directly, through the one buffer of this connection: pyOpenSSL's own methods allocate
    # and copy once more for each call, and take twice as long for a small message.

    def _done(self, result: int) -> int:
        """What an operation of OpenSSL returned, where it was carried out; else pyOpenSSL's error for it."""
        if result <= 0:
            self._connection._raise_ssl_error(self._ssl, result)
        return result

    def _feed(self, everything: bool = False) -> None:
        # A chunk at a time: what OpenSSL has it goes through in one call, however long that takes.
        if self._incoming.pending and (everything or not self._held(self._into_openssl)):
            data = self._incoming.read(-1 if everything else _CHUNK)
            self._barren += len(data)
            if _lib.BIO_write(self._into_openssl, data, len(data)) != len(data):
                raise MemoryError("OpenSSL had no room for what came in")

    def _flush(self) -> None:
        while held := self._held(self._from_openssl):
            count = _lib.BIO_read(self._from_openssl, self._buffer, min(held, _CHUNK))
            self._outgoing.write(_ffi.buffer(self._buffer, count))

    def _held(self, bio: Any) -> int:
        """How many bytes wait in one of OpenSSL's two memory buffers."""
        return int(_lib.BIO_get_mem_data(bio, self._pointer))

    # --- what loops and aiohttp ask about

    def getpeercert(self, binary_form: bool = False) -> Any:
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            return None
        return certificate.public_bytes(Encoding.DER) if binary_form else {}

    def cipher(self) -> tuple[str | None, str | None, int | None]:
        connection = self._connection
        return connection.get_cipher_name(), connection.get_cipher_version(), connection.get_cipher_bits()

    def version(self) -> str:
        return self._connection.get_protocol_version_name()

    def group(self) -> str | None:
        """The key exchange group, such as X25519MLKEM768."""
        ask: Callable[[], str | None] | None = getattr(self._connection, "get_group_name", None)
        return ask() if ask is not None else None

    def compression(self) -> None:
        return None

    def selected_alpn_protocol(self) -> None:
        return None


def _failed_itself(error: Exception) -> str:
    return f"the check itself failed: {type(error).__name__}"


def mapped(error: SSL.Error) -> ssl.SSLError:
    """The standard library's exception for one of pyOpenSSL's."""
    if isinstance(error, SSL.WantWriteError):
        return ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, "want write")
    if isinstance(error, SSL.ZeroReturnError):
        return ssl.SSLZeroReturnError(ssl.SSL_ERROR_ZERO_RETURN, "the peer closed the connection")
    if isinstance(error, SSL.SysCallError):
        return ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the connection ended without a close_notify")
    reasons = error.args[0] if error.args and isinstance(error.args[0], list | tuple) else []
    text = "; ".join(str(reason[-1]) for reason in reasons) or "TLS error"
    kind = ssl.SSLCertVerificationError if "certificate verify failed" in text else ssl.SSLError
    return kind(ssl.SSL_ERROR_SSL, text)


def channel_of(transport: Any) -> Channel:
    """The channel below a transport that a gate or a client context made."""
    channel = transport.get_extra_info("ssl_object")
    if not isinstance(channel, Channel):
        raise TypeError(f"the transport has no channel of this program below it, but {type(channel).__name__}")
    return channel
