"""Versions as rows and back: the column lists and the codecs that ledger and reader share."""

from collections.abc import Sequence
from typing import Any

import msgspec

from sync.ids import memory_id
from sync.ports import Held, Kept
from sync.version import Version

Row = Sequence[Any]

VERSION_COLUMNS = "namespace, id, kind, at, title, clock, content, signature, tag, doc"
"""What makes a version, in the order that `version` expects."""
KEPT_COLUMNS = f"giver, {VERSION_COLUMNS}"

_clock = msgspec.json.Decoder(dict[str, int])
_held = msgspec.json.Decoder(list[tuple[str, str, str]])
encode = msgspec.json.Encoder(order="sorted").encode


def version(row: Row) -> Version:
    """A version from `VERSION_COLUMNS`."""
    namespace, record_id, kind, at, title, clock, content, signature, tag, doc = row
    return Version(namespace, record_id, kind, at, _clock.decode(clock), content, signature, doc, title, tag)


def kept(row: Row) -> Kept:
    """A kept version from `KEPT_COLUMNS`."""
    return Kept(version(row[1:]), row[0])


def version_values(one: Version) -> tuple[Any, ...]:
    """The values of `VERSION_COLUMNS`."""
    return (
        one.namespace, one.id, one.kind, one.at, one.title, encode(one.clock), one.content, one.signature,
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
