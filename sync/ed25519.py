"""Ed25519, verified strictly, whatever library does the arithmetic (protocol section 5).

Libraries differ over malformed keys and signatures: what one accepts another refuses, and a record that is accepted
here and refused there is a divergence that its author can make at will. So what RFC 8032 leaves open is settled before
the arithmetic: S < L (section 5.1.7), canonical encodings of both points (5.1.3), and none of the 14 encodings of the
8 points of small order, neither as key nor as R. What is left, libsodium and OpenSSL judge alike.

libsodium verifies about twice as fast as OpenSSL and lets other threads run meanwhile (docs/decisions/0037).
"""

from nacl import bindings
from nacl.exceptions import BadSignatureError

SEED_BYTES = 32
PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
L = 2**252 + 27742317777372353535851937790883648493
"""Order of the base point (RFC 8032 section 5.1)."""
_P = 2**255 - 19
_SIGN_BIT = 1 << 255

SMALL_ORDER = frozenset(
    bytes.fromhex(text)
    for text in (
        "0000000000000000000000000000000000000000000000000000000000000000",  # order 4
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0100000000000000000000000000000000000000000000000000000000000000",  # order 1
        "0100000000000000000000000000000000000000000000000000000000000080",  # … with x = -0
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",  # order 8
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # order 2
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",  # … with x = -0
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # y = p: 0 again
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # y = p + 1: 1 again
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    )
)
"""All encodings of the points of small order: the 8 canonical ones and 6 others."""


def public_of(seed: bytes) -> bytes:
    """The public key of a private one; 32 bytes each (RFC 8032 section 5.1.5)."""
    return bindings.crypto_sign_seed_keypair(seed)[0]


def sign(seed: bytes, public: bytes, text: bytes) -> bytes:
    """The signature over a text, 64 bytes (RFC 8032 section 5.1.6): the same text is always signed alike.

    `public` has to be the seed's (`public_of`); it is passed as making it anew takes as long as signing.
    """
    return bindings.crypto_sign(text, seed + public)[:SIGNATURE_BYTES]


def verifies(public: bytes, text: bytes, signature: bytes) -> bool:
    """True where the signature over the text is this key's. Of the wrong length, or malformed, it is nobody's."""
    return is_strict(public, signature) and _fulfils(public, text, signature)


def _fulfils(public: bytes, text: bytes, signature: bytes) -> bool:
    """The arithmetic: SB = R + kA (RFC 8032 section 5.1.7)."""
    try:
        bindings.crypto_sign_open(signature + text, public)
    except BadSignatureError:
        return False
    return True


def is_strict(public: bytes, signature: bytes) -> bool:
    """What is looked at before the arithmetic: lengths, S < L, canonical encodings, no point of small order."""
    if len(public) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    r = signature[:32]
    return (
        int.from_bytes(signature[32:], "little") < L
        and public not in SMALL_ORDER
        and r not in SMALL_ORDER
        and _is_canonical(public)
        and _is_canonical(r)
    )


def key_fault(public: bytes) -> str | None:
    """Why these bytes are no public key that a signature could be believed under; None where they are one."""
    if len(public) != PUBLIC_BYTES:
        return f"{len(public)} bytes, {PUBLIC_BYTES} expected"
    if public in SMALL_ORDER:
        return "a point of small order, under which anything can be signed"
    if not _is_canonical(public):
        return "not the canonical encoding of a point (RFC 8032 section 5.1.3)"
    if not bindings.crypto_core_ed25519_is_valid_point(public):
        return "not a point of the main subgroup of the curve: no key generator makes it"
    return None


def _is_canonical(point: bytes) -> bool:
    # y < p. (x = -0 is possible for y = 1 and y = -1 alone, which are of small order.)
    return int.from_bytes(point, "little") & ~_SIGN_BIT < _P
