"""From a failed connection to a sentence that tells the operator what to do.

In TLS 1.3 a refused client believes that its handshake succeeded; the alert comes with its first read (RFC 8446
section 4.4.2.4). Libraries wrap it three deep and spell it in several ways, so the words of the alert are looked for.
"""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from tls.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class Explanation:
    """`code` is stable, `text` is for a person."""

    code: str
    text: str


_REFUSED = "the peer refused our certificate; ask its operator to add this line to its allowlist: {line}"
_EXPIRED = "the peer says that our certificate has expired; issue a new one (ours is {line})"
_UNKNOWN_CA = "the peer does not trust the CA of our certificate; give its operator our CA certificate"
_PURPOSE = "our certificate does not allow client authentication; issue a new one"
_REQUIRED = "the peer asks for a certificate and got none; check [tls] in our configuration"
_VERSION = "the peer does not speak TLS 1.3; it must be updated"
_UNTRUSTED = (
    "the peer's certificate is not the pinned one, not on our allowlist, of another CA, or expired; "
    "compare its fingerprint with its operator"
)
_NOT_LISTENING = "nobody listens at that address; is the peer running, and does its allowlist name anybody?"
_NOT_TLS = "what answers there does not speak TLS; check the address"
_ALERTS = (
    ("certificate unknown", "refused", _REFUSED),
    ("internal error", "refused", _REFUSED),
    ("access denied", "refused", _REFUSED),
    ("handshake failure", "refused", _REFUSED),
    ("certificate expired", "expired", _EXPIRED),
    ("unknown ca", "unknown_ca", _UNKNOWN_CA),
    ("unsupported certificate", "wrong_purpose", _PURPOSE),
    ("bad certificate", "bad_certificate", "the peer cannot use our certificate; issue a new one"),
    ("certificate required", "no_certificate", _REQUIRED),
    ("protocol version", "tls_version", _VERSION),
    ("certificate verify failed", "peer_untrusted", _UNTRUSTED),
    ("not on the allowlist", "peer_untrusted", _UNTRUSTED),
    ("wrong version number", "not_tls", _NOT_TLS),
)
"""Words of the error (RFC 8446 section 6.2), a stable code, and what to say."""


def explain(error: BaseException, own: Fingerprint, label: str) -> Explanation:
    """`own`: our certificate. `label`: what we call ourselves, for the line that the other operator needs."""
    line = f"{own.text}  # {label}"
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, ssl.SSLError):
            said = " ".join(map(str, one.args))
            text = said.lower()
            for words, code, sentence in _ALERTS:
                if words in text or words.replace(" ", "_") in text:
                    return Explanation(code, sentence.format(line=line) + _detail(said))
    for one in chain:
        if isinstance(one, socket.gaierror):
            return Explanation("unknown_host", "the peer's host name is not known; check the address and the DNS")
        if isinstance(one, ConnectionRefusedError):
            return Explanation("not_listening", _NOT_LISTENING)
        if isinstance(one, TimeoutError):
            return Explanation("timeout", "no answer in time; is the peer reachable, or is a firewall between?")
    if any(isinstance(one, ssl.SSLError) for one in chain):
        return Explanation("tls", f"the TLS connection failed: {_last(chain)}")
    if any(isinstance(one, ConnectionError) for one in chain):
        return Explanation("disconnected", f"the peer hung up; it may be restarting, or refuse us ({line})")
    return Explanation("unreachable", f"the peer cannot be reached: {_last(chain)}")


def _detail(text: str) -> str:
    """What our own check found, where it says so."""
    _, found, detail = text.partition("certificate verify failed: ")
    return f" ({detail})" if found else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        certificate_error = getattr(one, "certificate_error", None)  # aiohttp hides the cause here
        one = certificate_error or getattr(one, "os_error", None) or one.__cause__ or one.__context__


def _last(chain: list[BaseException]) -> str:
    return str(chain[-1])[:200] or type(chain[-1]).__name__
