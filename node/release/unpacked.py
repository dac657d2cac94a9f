"""Wheels and sdists, unpacked within bounds: only the form that our own build makes is taken, member by member.

Both readers are strict on purpose. An archive that two programs read differently verifies as one thing and installs as
another, so what `pip` would have to guess about (a name twice, a link, an entry behind another's back, a header that
overrules another) is refused. Nothing is written anywhere, and nothing inside a member is unpacked.

tar: POSIX.1-2017, "ustar" and "pax"; ZIP: PKWARE's APPNOTE 6.3.10, without Zip64, comments and extra fields.
"""

import io
import re
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Final

from node.release.errors import Unfit

MAX_MEMBERS: Final = 10_000
MAX_UNPACKED: Final = 64 << 20
"""Bytes of all members together. An sdist of today unpacks to 5 MB."""
MAX_PAX: Final = 4_096
"""Bytes of a header that extends another."""
MAX_NAME: Final = 512
_PAX_KEYS = frozenset((b"path", b"mtime", b"atime", b"ctime"))
_PAX_RECORD = re.compile(rb"(\d{1,4}) ([^=\n]+)=")
_BLOCK, _CHUNK = tarfile.BLOCKSIZE, 1 << 16
_END = struct.Struct("<4s4H2LH")
_LOCAL = struct.Struct("<4s5H3L2H")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Wanted = Callable[[str], int]
"""How many bytes of the member of this name may be kept; 0 for one that is not asked for."""


def sdist(data: bytes, wanted: Wanted) -> dict[str, bytes]:
    """The wanted members of a tar archive in gzip, all of which is read. Raises Unfit, zlib.error, tarfile.TarError."""
    stream, names, found = _Inflated(data), _Names(), {}
    for name, size, is_file in _tar_headers(stream):
        names.add(name)
        if is_file:
            kept = _Kept(name, wanted(name))
            for part in stream.parts(size):
                kept.add(part)
            stream.exactly(-size % _BLOCK)
            if kept.limit:
                found[name] = bytes(kept.data)
        elif size:
            raise Unfit(f"the folder {name!r} has content")
    stream.finish()
    return found


def wheel(data: bytes, wanted: Wanted) -> dict[str, bytes]:
    """The wanted members of a ZIP archive, all of which is read. Raises Unfit, zlib.error, zipfile.BadZipFile."""
    directory = _checked_end(data)
    names, found, total = _Names(), {}, 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        _checked_entries(data, entries, directory)
        for entry in entries:
            names.add(entry.filename)
            total += entry.file_size
            if total > MAX_UNPACKED:
                raise Unfit(f"unpacks to more than {MAX_UNPACKED} bytes")
            kept = _Kept(entry.filename, wanted(entry.filename))
            with archive.open(entry) as file:
                while part := file.read(_CHUNK):
                    kept.add(part)
            if kept.limit:
                found[entry.filename] = bytes(kept.data)
    return found


class _Kept:
    """What is kept of a member while it passes."""

    def __init__(self, name: str, limit: int) -> None:
        self.name, self.limit = name, limit
        self.data = bytearray()

    def add(self, part: bytes) -> None:
        if self.limit:
            self.data += part
            if len(self.data) > self.limit:
                raise Unfit(f"{self.name!r} has more than {self.limit} bytes")


class _Names:
    """The names of one archive, each a plain path below it, none twice on any file system."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def add(self, name: str) -> None:
        if fault := _name_fault(name):
            raise Unfit(f"a member is called {name[:80]!r}, {fault}")
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in self._seen:
            raise Unfit(f"two members are called {name[:80]!r}")
        if len(self._seen) == MAX_MEMBERS:
            raise Unfit(f"has more than {MAX_MEMBERS} members")
        self._seen.add(folded)


def _name_fault(name: str) -> str | None:
    if not name or len(name) > MAX_NAME:
        return f"expected 1 to {MAX_NAME} characters"
    if not name.isprintable() or "\\" in name or ":" in name:
        return "expected printable characters, neither backslash nor colon"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "expected a path below the archive's own top"
    return None


# --- tar


class _Inflated:
    """What one gzip member unpacks to: forward only, and no more than is allowed of it."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0
        self._inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self._count = 0

    def parts(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes, in small parts."""
        while size:
            part = self._some(min(size, _CHUNK))
            if not part:
                raise Unfit("is cut short")
            size -= len(part)
            yield part

    def exactly(self, size: int) -> bytes:
        return b"".join(self.parts(size))

    def finish(self) -> None:
        """After the archive's end there is nothing but zeros, in the one gzip member."""
        while part := self._some(_CHUNK):
            if part.strip(b"\0"):
                raise Unfit("has more after the end of the archive")
        if not self._inflate.eof or self._inflate.unused_data or self._place < len(self._data):
            raise Unfit("is not one gzip member and nothing else")

    def _some(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail
            if not packed:
                packed = self._data[self._place : self._place + _CHUNK]
                self._place += len(packed)
            part = self._inflate.decompress(packed, size)
            self._count += len(part)
            if self._count > MAX_UNPACKED:
                raise Unfit(f"unpacks to more than {MAX_UNPACKED} bytes")
            if part or not packed:
                return part
        return b""


def _tar_headers(stream: _Inflated) -> Iterator[tuple[str, int, bool]]:
    """Name, size and whether it is a file, of each member; its content has to be read before the next is asked for."""
    extended: str | None = None
    while (block := stream.exactly(_BLOCK)).strip(b"\0"):
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        if info.size < 0:
            raise Unfit(f"the member {info.name[:80]!r} has a size of {info.size}")
        if info.type == tarfile.XHDTYPE and extended is None:
            if info.size > MAX_PAX:
                raise Unfit(f"has a pax header of {info.size} bytes, expected at most {MAX_PAX}")
            extended = _pax_path(stream.exactly(info.size))
            stream.exactly(-info.size % _BLOCK)
            continue
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
            raise Unfit(f"the member {info.name[:80]!r} is of the kind {info.type!r}, expected a file or a folder")
        yield extended or info.name, info.size, info.type != tarfile.DIRTYPE
        extended = None


def _pax_path(text: bytes) -> str:
    """The path that a pax header gives, empty where it gives none. One that overrules a size, say, is refused."""
    place, path = 0, ""
    while place < len(text):
        record = _PAX_RECORD.match(text, place)
        end = place + int(record[1]) if record is not None else 0
        if record is None or not record.end() < end <= len(text) or text[end - 1 : end] != b"\n":
            raise Unfit("has a pax header of another form")
        if record[2] not in _PAX_KEYS:
            raise Unfit(f"has a pax header with {record[2][:40]!r}, expected a path and times alone")
        if record[2] == b"path":
            path = text[record.end() : end - 1].decode()
        place = end
    return path


# --- ZIP


def _checked_end(data: bytes) -> int:
    """Where the directory starts, which ends where the record of its end starts, with which the archive ends."""
    if len(data) < _END.size:
        raise Unfit("is too short for a ZIP archive")
    magic, *_, count, size, start, comment = _END.unpack_from(data, len(data) - _END.size)
    if magic != b"PK\5\6" or comment:
        raise Unfit("does not end as a ZIP archive without a comment does")
    if count > MAX_MEMBERS or size > MAX_MEMBERS * (46 + 80):
        raise Unfit(f"has {count} members and a directory of {size} bytes, expected at most {MAX_MEMBERS} members")
    if start + size != len(data) - _END.size:
        raise Unfit("has something between its directory and its end")
    return int(start)


def _checked_entries(data: bytes, entries: list[zipfile.ZipInfo], directory: int) -> None:
    """One entry after the other from the first byte on, none over another, each as the directory says."""
    (count,) = struct.unpack_from("<H", data, len(data) - _END.size + 10)
    if len(entries) != count:
        raise Unfit(f"lists {len(entries)} members, and says that there are {count}")
    place = 0
    for one in sorted(entries, key=lambda entry: entry.header_offset):
        if one.header_offset != place or place + _LOCAL.size > directory:
            raise Unfit(f"the member {one.filename[:80]!r} does not begin where the one before it ends")
        magic, _, flags, method, _, _, crc, packed, size, name, extra = _LOCAL.unpack_from(data, place)
        named = data[place + _LOCAL.size : place + _LOCAL.size + name]
        said = (flags, method, crc, packed, size, named)
        listed = (
            one.flag_bits,
            one.compress_type,
            one.CRC,
            one.compress_size,
            one.file_size,
            one.orig_filename.encode(),
        )
        if magic != b"PK\3\4" or said != listed or extra or one.extra or one.comment:
            raise Unfit(f"the member {one.filename[:80]!r} is not what the directory says of it")
        if flags & ~0x800 or method not in _METHODS or (one.external_attr >> 28) not in (0, 8):
            raise Unfit(f"the member {one.filename[:80]!r} is encrypted, packed in another way, or no plain file")
        place += _LOCAL.size + name + packed
    if place != directory:
        raise Unfit("has something between its last member and its directory")
