"""When a client has said hello: counted by the record's own length, byte by byte."""

import pytest
from certs import Mesh
from knocking import client_hello, plain_client

from tls.hello import HEADER, LONGEST, missing


def _record(length: int) -> bytes:
    return b"\x16\x03\x01" + length.to_bytes(2, "big") + bytes(length)


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (b"", 5),
        (b"\x16", 4),
        (b"\x16\x03\x01\x00", 1),
        (b"\x16\x03\x01\x02", 1),
        (_record(9)[:5], 9),
        (_record(9)[:13], 1),
        (_record(9), 0),
        (_record(9) + b"more", 0),
        (_record(0), 0),
        (_record(LONGEST - HEADER)[:5], LONGEST - HEADER),
        (_record(LONGEST - HEADER + 1)[:5], 0),
        (b"\x16\x03\x01\xff\xff", 0),
        (b"G", 0),
        (b"\x17\x03\x03\x00\x20", 0),
        (b"\x80", 0),
    ],
)
def test_what_is_still_to_come(said: bytes, left: int) -> None:
    """Header first, then what it says; what no record can be is left to OpenSSL at once."""
    assert missing(said) == left


def test_a_real_hello_is_whole_at_its_last_byte(mesh: Mesh) -> None:
    """As an ordinary client says it."""
    hello = client_hello(plain_client(mesh, mesh.friend))
    assert [missing(hello[:size]) == 0 for size in range(1, len(hello) + 1)] == [False] * (len(hello) - 1) + [True]
