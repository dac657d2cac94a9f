"""Whether a client has said hello: the first record of a TLS connection (RFC 8446 section 5.1), whole or not.

Until it has, nothing of TLS is begun for it: a silent socket, or half a hello, costs a descriptor and these bytes.
"""

HEADER = 5
LONGEST = HEADER + 2**14 + 2**8
"""More bytes than that no record has, header included."""
_HANDSHAKE = 22


def missing(data: bytes | bytearray) -> int:
    """How many bytes are still to come, as far as can be seen; 0: TLS may begin.

    What is no hello at all is nobody's to wait for: 0, so that OpenSSL says what it thinks of it.
    """
    if data and data[0] != _HANDSHAKE:
        return 0
    if len(data) < HEADER:
        return HEADER - len(data)
    length = HEADER + int.from_bytes(data[3:HEADER], "big")
    return max(0, length - len(data)) if length <= LONGEST else 0
