"""The feed's lives, numbers and heads, and which cursor on it is valid (protocol section 6).

A cursor says: go on after `number`; when the page was cut the feed stood at `top` with this `head`, in this `life`, and
was served under the rules that `filter` names. Only `life`, `top`, `head` and `filter` are judged: they prove that the
reader saw a prefix of *this* feed. A store rolled back, replaced or re-scoped fails the proof and is read from the
start; a plain restart passes it.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from sync.errors import RemoteError
from sync.ports import Life, Position

ZERO_HEAD = bytes(8)
EMPTY = Position(0, ZERO_HEAD, 0)
_CURSOR = re.compile(r"([0-9a-f]{16})\.(\d{1,16})\.(\d{1,16})\.([0-9a-f]{16})\.([0-9a-f]{8})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in somebody's feed. Its text is opaque to everyone but the node that issued it."""

    life: str
    number: int
    top: int
    head: bytes
    filter: str

    @property
    def text(self) -> str:
        return f"{self.life}.{self.number}.{self.top}.{self.head.hex()}.{self.filter}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises RemoteError `bad_cursor` for text that no node ever issued."""
        found = _CURSOR.fullmatch(text)
        if not found:
            raise RemoteError(
                "bad_cursor",
                "the cursor is not of the form life.number.top.head.filter; start again without a cursor",
            )
        life, number, top, head, tag = found.groups()
        return cls(life, int(number), int(top), bytes.fromhex(head), tag)


HEADS_KEPT = 1_000_000
"""Heads are kept for the last so many numbers: of a feed that only ever grows, and that a peer can make grow."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where to read on."""

    after: int
    reset: bool
    """The cursor was none of ours, or none at all: from the start."""
    rolled_back: bool
    """The cursor proves that this store once held a feed that it no longer has."""


_START = Resolved(0, reset=True, rolled_back=False)
_ROLLED_BACK = Resolved(0, reset=True, rolled_back=True)


def resolve(
    cursor: Cursor | None, lives: Sequence[Life], position: Position, head_at: Callable[[int], bytes | None], tag: str
) -> Resolved:
    """Judge a peer's cursor on our feed. `tag`: of the scope under which we would serve that peer now."""
    if cursor is None:
        return _START
    for index, life in enumerate(lives):
        if life.actor != cursor.life:
            continue
        live = index + 1 == len(lives)
        end = position.number if live else lives[index + 1].began_after
        # Of an ended life nothing more can be reissued, so a foreign claim on it costs a re-read and no new life.
        astray = _ROLLED_BACK if live else _START
        if cursor.top > end:
            return astray
        if cursor.top < max(life.began_after, oldest_kept(position.number)):
            return _START
        if head_at(cursor.top) != cursor.head:
            return astray
        return Resolved(cursor.number, reset=False, rolled_back=False) if cursor.filter == tag else _START
    return _ROLLED_BACK


def oldest_kept(number: int) -> int:
    """The smallest number whose head is kept while the feed stands at `number`; below, no cursor can be judged."""
    return max(0, number - HEADS_KEPT)


def advanced(head: bytes, number: int, tags: Iterable[bytes]) -> bytes:
    """The feed's head after one more change: 8 bytes. `tags`: of all versions kept by it."""
    return hashlib.sha256(b"%b%b%b" % (head, number.to_bytes(8, "big"), b"".join(sorted(tags)))).digest()[:8]
