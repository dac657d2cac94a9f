"""The process that verifies signatures: claims in on its standard input, a byte for each out. See `node.verifier`.

It imports nothing that it does not need, and ends when its input does.
"""

import struct
import sys
from collections.abc import Iterable
from typing import BinaryIO

from node.hardening import harden
from sync import ed25519

Claim = tuple[bytes, bytes, bytes]
"""Key, text, signature."""
_COUNT = struct.Struct("!I")
_LENGTHS = struct.Struct("!HHI")


def encoded(claims: Iterable[Claim]) -> bytes:
    """A request: how many, and for each the three lengths and the three texts."""
    parts = [
        _LENGTHS.pack(len(key), len(signature), len(text)) + key + signature + text for key, text, signature in claims
    ]
    return _COUNT.pack(len(parts)) + b"".join(parts)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more: one byte a claim, 1 where it is genuine."""
    while head := requests.read(_COUNT.size):
        (count,) = _COUNT.unpack(head)
        results = bytearray()
        for _ in range(count):
            key, signature, text = map(requests.read, _LENGTHS.unpack(requests.read(_LENGTHS.size)))
            results.append(ed25519.verifies(key, text, signature))
        answers.write(results)
        answers.flush()


if __name__ == "__main__":
    harden()
    serve(sys.stdin.buffer, sys.stdout.buffer)
