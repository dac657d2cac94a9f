"""Reading what a stranger may have made: files, JSON and signatures of a release, none of which may cost much.

Whoever downloads a release hands this program files that anybody may have written. Nothing in them is looked into
before its size, and what it says of its own sizes, is known to be small.
"""

import base64
import binascii
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from node.release.errors import Unfit

MAX_JSON_VALUES: Final = 100_000
MAX_JSON_DEPTH: Final = 32
MAX_SIGNATURE: Final = 1 << 14
"""Bytes of an OpenPGP signature; one by RSA-16384 with all its subpackets is a third of that."""
_CHUNK = 1 << 16
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]|,', re.DOTALL)
_ARMOR = re.compile(rb"-----BEGIN PGP SIGNATURE-----\n(?:[!-9;-~]+: [ -~]*\n)*\n([A-Za-z0-9+/=\n]*)-----END")
_SIGNATURE_PACKET = 2


def names(folder: Path, limit: int) -> tuple[list[str], list[str]]:
    """The plain files of a folder and what else lies there, in the order of their names; `limit` entries at most.

    Raises Unfit where there are more.
    """
    plain: list[str] = []
    strange: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if len(plain) + len(strange) == limit:
                raise Unfit(f"holds more than {limit} files, which no release does")
            (plain if is_plain(folder / entry.name) else strange).append(entry.name)
    return sorted(plain), sorted(strange)


def is_plain(path: Path) -> bool:
    """A link could be another file tomorrow."""
    return path.is_file() and not path.is_symlink()


def digest(path: Path, limit: int) -> str:
    """SHA-256 of a file in hex, read in small parts. Raises Unfit where it has more than `limit` bytes."""
    made = hashlib.sha256()
    with _opened(path, limit) as file:
        for part in _parts(file, limit):
            made.update(part)
    return made.hexdigest()


def data(path: Path, limit: int, sha256: str | None = None) -> bytes:
    """A whole file. Raises Unfit where it has more than `limit` bytes, or has not the digest `sha256`.

    It may have been exchanged since that was found right.
    """
    with _opened(path, limit) as file:
        found = b"".join(_parts(file, limit))
    if sha256 is not None and hashlib.sha256(found).hexdigest() != sha256:
        raise Unfit("was changed while it was verified")
    return found


def parsed(text: bytes, values: int = MAX_JSON_VALUES, depth: int = MAX_JSON_DEPTH) -> Any:
    """A JSON document in UTF-8, whose values are counted before any is made: a byte of text can cost 64 in memory.

    Raises Unfit where it has too many, or is nested too deeply; ValueError where it is no JSON.
    """
    text.decode()  # or else the parser would take UTF-16, in which nothing was counted
    inside = deepest = count = 0
    for token in _TOKEN.finditer(text):
        if (kind := token[0][:1]) in b"[{":
            inside += 1
            deepest = max(deepest, inside)
        elif kind in b"]}":
            inside -= 1
        count += kind != b'"'
        if deepest > depth or count > values:
            raise Unfit(f"is JSON with more than {values} values or nested more than {depth} deep")
    return json.loads(text)


def signature(armor: bytes) -> bytes:
    """The one OpenPGP signature in an ASCII armor (RFC 9580, section 6.2), as bytes.

    Raises Unfit for anything else, such as a compressed packet, which can be a thousand times as long as it looks: what
    it holds is for gpg to say, but how much of it there is has to be known before.
    """
    found = _ARMOR.match(armor)
    if found is None:
        raise Unfit("is no ASCII armor of a signature")
    if len(found[1]) > 2 * MAX_SIGNATURE:
        raise Unfit(f"is longer than {MAX_SIGNATURE} bytes")
    lines = found[1].split(b"\n")
    body = b"".join(line for line in lines if not line.startswith(b"="))  # what starts so is the checksum
    try:
        packet = base64.b64decode(body, validate=True)
    except binascii.Error:
        raise Unfit("is not in base64") from None
    if fault := _packet_fault(packet):
        raise Unfit(fault)
    return packet


def _packet_fault(packet: bytes) -> str | None:
    """Why this is not one signature and nothing else (RFC 9580, section 4.2)."""
    if len(packet) < 3 or not packet[0] & 0x80:
        return "holds no OpenPGP packet"
    first, rest = packet[0], packet[1:]
    if first & 0x40:
        kind, octet = first & 0x3F, rest[0]
        if octet < 192:
            start, length = 1, octet
        elif octet < 224 and len(rest) > 1:
            start, length = 2, (octet - 192 << 8) + rest[1] + 192
        elif octet == 255:
            start, length = 5, int.from_bytes(rest[1:5], "big")
        else:
            return "holds a packet of unknown length"
    else:
        kind, width = first >> 2 & 0x0F, (1, 2, 4, 0)[first & 3]
        if not width:
            return "holds a packet of unknown length"
        start, length = width, int.from_bytes(rest[:width], "big")
    if kind != _SIGNATURE_PACKET:
        return f"holds a packet of the kind {kind}, expected a signature"
    if length != len(rest) - start or length > MAX_SIGNATURE:
        return f"holds a packet of {length} bytes in {len(rest) - start}, expected one signature and no more"
    return None


@contextmanager
def _opened(path: Path, limit: int) -> Iterator[BinaryIO]:
    """Without waiting for a pipe's other end; a device has no size, and is no file of a release."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise Unfit("is no plain file")
        if found.st_size > limit:
            raise Unfit(f"has {found.st_size} bytes, expected at most {limit}")
        yield file


def _parts(file: BinaryIO, limit: int) -> Iterator[bytes]:
    """The file may grow while it is read."""
    left = limit
    while part := file.read(min(_CHUNK, left + 1)):
        left -= len(part)
        if left < 0:
            raise Unfit(f"has more than {limit} bytes")
        yield part
