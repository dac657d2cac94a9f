"""The numbers that stand for givers (`sync.ports.Giver`) in a store.

A giver is a page's certificate, life and generation, and a peer can have a new one with every page: a row for each
would let it fill the disk. So a number is the certificate's own, above `TAG_BITS` bits of a hash of the other two.
Whoever looks for two givers with one tag finds them only under its own certificate, and all that it gains is that a
version is not sent back to itself.
"""

import hashlib

from sync.ports import Giver

TAG_BITS = 40


def number_of(certificate: int, giver: Giver) -> int:
    """The number of a giver, at least 2**TAG_BITS. `certificate`: the number of the giver's certificate, 1 or more."""
    said = f"{giver.life} {giver.generation}".encode()
    tag = int.from_bytes(hashlib.blake2b(said, digest_size=TAG_BITS // 8).digest())
    return certificate << TAG_BITS | tag


def certificate_of(number: int) -> int:
    """The number of the certificate behind a giver's."""
    return number >> TAG_BITS
