"""Versions as rows and back: the column lists and the codecs that ledger and reader share."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from sync.ids import memory_id
from sync.ports import Held, Kept
from sync.version import Version, unstamped

Row = Sequence[Any]
T = TypeVar("T")

VERSION_COLUMNS = "namespace, id, kind, at, title, stamp, content, signature, tag, doc"
"""What makes a version, in the order that `version` expects."""
KEPT_COLUMNS = f"giver, {VERSION_COLUMNS}"

MOST_AT_ONCE = 512
"""Rows, or keys, of one statement."""
MOST_BYTES = 512 * 1024
"""Bytes of the rows of one statement, where a row has not more by itself."""

_held = msgspec.json.Decoder(list[tuple[str, str, str]])
encode = msgspec.json.Encoder(order="sorted").encode


def version(row: Row) -> Version:
    """A version from `VERSION_COLUMNS`."""
    namespace, record_id, kind, at, title, stamp, content, signature, tag, doc = row
    return Version(namespace, record_id, kind, at, *unstamped(stamp), content, signature, doc, title, tag)


def kept(row: Row) -> Kept:
    """A kept version from `KEPT_COLUMNS`."""
    return Kept(version(row[1:]), row[0])


def version_values(one: Version) -> tuple[Any, ...]:
    """The values of `VERSION_COLUMNS`."""
    return (
        one.namespace, one.id, one.kind, one.at, one.title, one.stamp, one.content, one.signature,
        one.tag, one.doc,
    )  # fmt: skip


def is_aliased(one: Version) -> bool:
    """True where the memory is not found by the id that its title gives."""
    return one.kind == "m" and one.id != memory_id(one.namespace, one.title, 0)


def encode_held(held: Sequence[Held]) -> bytes:
    return encode([(one.life, one.cursor, one.scope) for one in held])


def decode_held(data: bytes) -> tuple[Held, ...]:
    return tuple(Held(*one) for one in _held.decode(data))


def placeholders(columns: int, rows: int) -> str:
    """`(?,?),(?,?)…` for one set-wise statement."""
    return ",".join([f"({','.join('?' * columns)})"] * rows)


def chunks(items: Iterable[T], size_of: Callable[[T], int] | None = None) -> Iterator[list[T]]:
    """Parts for set-wise statements: of 1, 2, 4, … up to MOST_AT_ONCE items, by `size_of` of at most MOST_BYTES.

    A connection keeps statements for the next time, and SQLite keeps what was bound to each until then. With parts of
    any length each length is a statement of its own, and 256 of them held many times what a page had brought.
    """
    left = list(items)
    sizes = [size_of(one) for one in left] if size_of is not None else [0] * len(left)
    start = 0
    while start < len(left):
        count = 1 << (min(len(left) - start, MOST_AT_ONCE).bit_length() - 1)
        while count > 1 and sum(sizes[start : start + count]) > MOST_BYTES:
            count //= 2
        yield left[start : start + count]
        start += count
