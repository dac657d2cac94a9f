"""From a failed connection to a sentence that tells the operator what to do.

In TLS 1.3 a refused client believes that its handshake succeeded; the alert comes with its first read (RFC 8446
section 4.4.2.4). Libraries wrap it three deep and spell it in several ways, so the words of the alert are looked for.
"""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from tls.channel import Fault, PeerRefused
from tls.contexts import EXPIRED, NOT_YET_VALID, TIME, UNKNOWN_CA
from tls.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class Explanation:
    """`code` is stable, `text` is for a person."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Known:
    """What was expected, and what this node knows of itself: without it a sentence is less exact."""

    pin: Fingerprint
    """The one that is configured for the peer."""
    is_listed: bool
    """Whether that is on our allowlist."""
    begins: datetime
    ends: datetime
    """Of our own certificate."""
    now: datetime
    """By this node's clock."""
    peer: str = "NAME"
    """What the operator calls the peer."""


LONG = timedelta(days=365)
"""A certificate that ended longer ago than this, by a clock for which our own has ended too, speaks of the clock."""
_REFUSED = "the peer refused our certificate; ask its operator to add this line to its allowlist: {line}"
_EXPIRED = "the peer says that our certificate has expired; issue a new one (ours is {line})"
_UNKNOWN_CA = (
    "the peer does not trust the CA of our certificate; give its operator our CA certificate (ca.pem), who adds it with"
    " `ai-memory peer add … --ca FILE`"
)
_PURPOSE = "our certificate does not allow client authentication; issue a new one"
_REQUIRED = "the peer asks for a certificate and got none; check [tls] in our configuration"
_VERSION = "the peer does not speak TLS 1.3; it must be updated"
_UNTRUSTED = "this node does not accept the certificate that the peer shows; compare its fingerprint with its operator"
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


def explain(error: BaseException, own: Fingerprint, label: str, known: Known | None = None) -> Explanation:
    """`own`: our certificate. `label`: what we call ourselves, for the line that the other operator needs."""
    line = f"{own.text}  # {label}"
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, PeerRefused):  # aiohttp wraps it in an error of its own that is an SSLError too
            return _of_theirs(one, own, known)
    for one in chain:
        if isinstance(one, ssl.SSLError):
            said = " ".join(map(str, one.args))
            text = said.lower()
            for words, code, sentence in _ALERTS:
                if words in text or words.replace(" ", "_") in text:
                    by_clock = _of_our_dates(code, known)
                    return by_clock or Explanation(code, sentence.format(line=line) + _detail(said))
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


def _of_theirs(error: PeerRefused, own: Fingerprint, known: Known | None) -> Explanation:
    """We refuse the peer: each cause by itself, the one that explains the others first."""
    shown, fault, detail = error.shown, error.fault, _detail(" ".join(map(str, error.args)))
    if shown == own:
        text = f"this node's own certificate ({own.text}) answers there: the address is this node's"
        return Explanation("own_address", f"{text}; correct the peer's url in [[peer]]")
    if known is not None and shown is not None and shown != known.pin:
        return Explanation("wrong_pin", (
            f"another certificate than the configured one answers there: found {shown.text}, expected {known.pin.text};"
            " ask its operator for `ai-memory fingerprint`, and where that is the one found, put it into [[peer]] and"
            f" the allowlist: `ai-memory peer remove {known.peer}`, then `peer add`"
        ))  # fmt: skip
    if fault is not None and fault.code in (EXPIRED, NOT_YET_VALID):
        return _of_their_dates(fault, detail, known)
    if fault is not None and fault.code in UNKNOWN_CA:
        return Explanation("peer_unknown_ca", (
            f"the peer's certificate is signed by a CA that is not in our bundle: found {fault.issuer!r}; get that CA's"
            " certificate (ca.pem) from its operator, and add it: `ai-memory peer add … --ca FILE`" + detail
        ))  # fmt: skip
    if fault is None and known is not None and not known.is_listed:
        return Explanation("peer_unlisted", (
            f"the peer's certificate is the configured one ({known.pin.text}), and is not on our allowlist; let it in:"
            f" `ai-memory allowlist add {known.pin.text} --label {known.peer}`"
        ))  # fmt: skip
    return Explanation("peer_untrusted", _UNTRUSTED + detail)


def _of_their_dates(fault: Fault, detail: str, known: Known | None) -> Explanation:
    """A certificate that is not valid now, by this node's clock: which of the two is wrong?"""
    whose = "the certificate of the peer's CA" if fault.is_ca else "the peer's certificate"
    if fault.code == NOT_YET_VALID:
        if known is not None and known.now < known.begins:
            return _our_clock(known, f"that is before this node's own certificate began ({known.begins:{TIME}})")
        text = f"one of two clocks is wrong, this node's or that of the machine where {whose} was made{detail}; compare"
        return Explanation("clock", f"{text} `date -u` on both")
    if known is not None and known.now - max(known.ends, fault.ends) > LONG:
        return _our_clock(known, (
            f"by it this node's own certificate has ended too ({known.ends:{TIME}}), and {whose} ({fault.ends:{TIME}});"
            " if it is right, both need new ones"
        ))  # fmt: skip
    return Explanation("peer_expired", f"{whose} has expired; its operator has to issue a new one{detail}")


def _of_our_dates(code: str, known: Known | None) -> Explanation | None:
    """The peer refuses our certificate for its dates; by our own clock it may be valid."""
    if known is None or code not in ("expired", "bad_certificate"):
        return None
    if known.now < known.begins:
        return _our_clock(known, f"that is before this node's own certificate began ({known.begins:{TIME}})")
    if code == "expired" and known.now <= known.ends:
        return Explanation("clock", (
            f"the peer says that our certificate has expired; by this node's clock ({known.now:{TIME}}) it is valid"
            f" until {known.ends:{TIME}}: one of the two clocks is wrong; compare `date -u` on both machines"
        ))  # fmt: skip
    if code == "expired":
        return None
    return Explanation(code, (
        f"the peer cannot use our certificate: either its clock is before {known.begins:{TIME}}, when ours began (this"
        f" node's clock says {known.now:{TIME}}; compare `date -u` on both machines), or it does not know its kind of"
        " key; then issue a new one"
    ))  # fmt: skip


def _our_clock(known: Known, why: str) -> Explanation:
    return Explanation("clock", f"this node's clock says {known.now:{TIME}}: {why}. Set the clock of this machine")


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
