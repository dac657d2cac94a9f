"""Ed25519 is verified strictly, and alike whatever library does the arithmetic."""

import hashlib
from collections.abc import Callable, Iterator

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from sync import ed25519
from sync.ed25519 import SMALL_ORDER, L, key_fault, public_of, sign, verifies
from tests.vectors import verify as book

TEXT = b"ai-memory/memory/v1\n"
BASE = bytes.fromhex("58" + "66" * 31)
IDENTITY = bytes([1]) + bytes(31)
TORSION = sorted(raw for raw in SMALL_ORDER if book.point(raw) is not None)
"""The 8 points of small order, canonically encoded."""
Arithmetic = Callable[[bytes, bytes, bytes], bool]


def by_openssl(public: bytes, text: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except InvalidSignature:
        return False
    return True


LIBRARIES: dict[str, Arithmetic] = {"libsodium": ed25519._fulfils, "OpenSSL": by_openssl}


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Arithmetic:
    found = LIBRARIES[request.param]
    monkeypatch.setattr(ed25519, "_fulfils", found)
    return found


def encoded(point: tuple[int, int, int, int]) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, -1, book.P)
    return (y * inverse % book.P | (x * inverse % book.P & 1) << 255).to_bytes(32, "little")


def challenge(r: bytes, public: bytes, text: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + public + text).digest(), "little") % L


def mixed() -> Iterator[tuple[bytes, bytes, bytes]]:
    """Keys and signatures whose points have a part of small order, made so that their other part fits."""
    a, r = 3**100 % L, 5**100 % L
    for in_key in TORSION:
        for in_r in TORSION[::3]:
            public = encoded(book.add(book.times(a, book.point(BASE)), book.point(in_key)))
            first = encoded(book.add(book.times(r, book.point(BASE)), book.point(in_r)))
            for serial in range(3):
                text = TEXT + bytes([serial])
                s = (r + challenge(first, public, text) * a) % L
                yield public, text, first + s.to_bytes(32, "little")


def test_the_list_of_small_orders_is_complete() -> None:
    """8 points; 6 other encodings of y that is too large, or of x = -0."""
    assert len(SMALL_ORDER) == 14
    assert len(TORSION) == 8
    assert all(encoded(book.times(8, book.point(raw))) == IDENTITY for raw in TORSION)


@settings(max_examples=40)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=64))
def test_it_signs_as_every_library_does(seed: bytes, text: bytes) -> None:
    """RFC 8032 leaves nothing open in signing."""
    other = Ed25519PrivateKey.from_private_bytes(seed)
    public = public_of(seed)
    assert public == other.public_key().public_bytes_raw()
    assert sign(seed, public, text) == other.sign(text)
    assert verifies(public, text, other.sign(text))
    assert book.verifies(public, text, other.sign(text))


def test_both_libraries_judge_mixed_points_as_the_book_does(library: Arithmetic) -> None:
    """A part of small order that does not cancel out is refused; one that does is not, as nobody could tell."""
    found = [verifies(*one) for one in mixed()]
    assert found == [book.verifies(*one) for one in mixed()]
    assert True in found[6:]
    assert False in found


def weak() -> list[tuple[bytes, bytes, bytes]]:
    """Signatures that no private key was needed for: all points of small order, S = 0."""
    texts = [TEXT + bytes([serial]) for serial in range(24)]
    return [(public, text, first + bytes(32)) for public in sorted(SMALL_ORDER) for first in TORSION for text in texts]


def test_points_of_small_order_sign_nothing(library: Arithmetic) -> None:
    """Neither as key nor as R."""
    assert not any(verifies(*one) for one in weak())


def test_openssl_alone_would_believe_many_of_them() -> None:
    """Control: this is what is looked at before the arithmetic."""
    assert sum(by_openssl(*one) for one in weak()) > 100


def test_s_is_less_than_l(library: Arithmetic) -> None:
    """Or every signature could be had in a second form by anybody who saw it."""
    public = public_of(bytes(32))
    signature = sign(bytes(32), public, TEXT)
    s = int.from_bytes(signature[32:], "little")
    assert verifies(public, TEXT, signature)
    assert not verifies(public, TEXT, signature[:32] + (s + L).to_bytes(32, "little"))
    assert ed25519.is_strict(public, signature[:32] + (L - 1).to_bytes(32, "little"))
    assert not ed25519.is_strict(public, signature[:32] + L.to_bytes(32, "little"))


BEYOND = [(2**255 - 19 + y).to_bytes(32, "little") for y in range(2, 19)]
"""Encodings that are not canonical, of points that are not of small order where they are of the curve at all."""


def test_each_point_is_looked_at_by_itself() -> None:
    """Neither key nor R may be of small order or written in a second way, whatever the other is like."""
    key = public_of(bytes(32))
    signature = sign(bytes(32), key, TEXT)
    assert ed25519.is_strict(key, signature)
    for point in (*SMALL_ORDER, *BEYOND, *(bytes((*one[:31], one[31] | 0x80)) for one in BEYOND)):
        assert not ed25519.is_strict(point, signature)
        assert not ed25519.is_strict(key, point + signature[32:])


@pytest.mark.parametrize("place", [0, 31, 32, 63])
def test_a_bit_flipped_anywhere_is_found(library: Arithmetic, place: int) -> None:
    """In key, text or signature."""
    public = public_of(bytes(32))
    signature = sign(bytes(32), public, TEXT)
    flipped = bytearray(signature)
    flipped[place] ^= 1
    assert not verifies(public, TEXT, bytes(flipped))
    assert not verifies(public, TEXT + b"\n", signature)
    assert not verifies(public_of(bytes(31) + b"\1"), TEXT, signature)


@pytest.mark.parametrize(("public", "signature"), [(31, 64), (33, 64), (32, 63), (32, 65), (0, 0)])
def test_other_lengths_are_nobodys(public: int, signature: int) -> None:
    """And no error of the library's reaches the caller."""
    assert not verifies(bytes(public), TEXT, bytes(signature))
    key = public_of(bytes(32))
    good = sign(bytes(32), key, TEXT)
    assert verifies(key, TEXT, good)
    assert not ed25519.is_strict((key + bytes(1))[:public], (good + bytes(1))[:signature])


@pytest.mark.parametrize(
    ("public", "fault"),
    [
        (public_of(bytes(32)), None),
        (bytes(31), "31 bytes, 32 expected"),
        (IDENTITY, "a point of small order"),
        ((2**255 - 2).to_bytes(32, "little"), "not the canonical encoding"),
        (b"\2" + bytes(31), "not a point of the main subgroup"),
        (next(mixed())[0], "not a point of the main subgroup"),
    ],
    ids=["a key", "short", "small order", "y over p", "not on the curve", "mixed"],
)
def test_what_can_be_enrolled(public: bytes, fault: str | None) -> None:
    """A key that a generator makes; nothing that only looks like one."""
    found = key_fault(public)
    assert (found is None) if fault is None else (found is not None and fault in found)
