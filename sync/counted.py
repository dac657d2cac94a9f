"""Counts what the lists of a message hold before any of it is made.

Four kilobytes of gzip unfold to a list of eight million numbers: each of them made, refused and named would take a
node's memory and a minute of its time. A list is left as the bytes that it is, counted, and only then taken apart.
"""

from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import TypeVar

import msgspec

from sync import apart
from sync.errors import RemoteError

EMPTY = msgspec.Raw(b"[]")
MAX_RECORD = 2**20
"""Bytes of one record as it was sent. The limits of its parts allow less, however they are escaped."""
MAX_DETAIL = 300
"""Characters of a sentence about what was sent: it may quote it."""
_ROOM = 8
"""So many times more than are allowed may be made to be counted: commas of a text are counted as if they ended one."""
_STRIDE = 65_536
T = TypeVar("T")


class _Enough(Exception):
    """More elements than are taken."""


_room: ContextVar[Iterator[int]] = ContextVar("room")
"""One element for each object that may still be made."""


class _Object(msgspec.Struct, gc=False):
    """Any object, nothing of it kept. The decoder makes one after the other, so it ends with the first too many."""

    def __post_init__(self) -> None:
        if next(_room.get(), None) is None:
            raise _Enough


_objects = msgspec.json.Decoder(list[_Object])
_raws = msgspec.json.Decoder(list[msgspec.Raw])


def decoded(decoder: "msgspec.json.Decoder[T]", body: bytes | msgspec.Raw, what: str = "the body") -> T:
    """What a message says. Raises RemoteError `malformed`, in which `what` names it."""
    try:
        return decoder.decode(body)
    except RecursionError:
        raise RemoteError("malformed", f"{what} is nested too deeply to be read") from None
    except UnicodeDecodeError:
        raise RemoteError("malformed", f"{what} is not UTF-8") from None
    except msgspec.DecodeError as error:
        raise RemoteError("malformed", cut(f"{what} is not what is expected here: {error}")) from None


def elements(name: str, listed: msgspec.Raw, most: int, decoder: "msgspec.json.Decoder[list[T]]") -> list[T]:
    """The elements of a list, decoded. Raises RemoteError `limits` where they are more than `most`, `malformed`."""
    if _has_commas(listed, _ROOM * max(most, 1)) and not _is_short(listed, most):
        raise RemoteError("limits", f"{name}: more than {most} found, at most {most} are taken in one message")
    found = decoded(decoder, listed, name)
    if len(found) > most:
        raise RemoteError("limits", f"{name}: {len(found)} found, at most {most} in one message")
    return found


def raws(name: str, listed: msgspec.Raw, most: int) -> list[msgspec.Raw]:
    """The elements of a list, as they are. Raises as `elements`."""
    return elements(name, listed, most, _raws)


def all_raws(lists: Sequence[tuple[str, msgspec.Raw]], most: int) -> list[list[msgspec.Raw]]:
    """The elements of several lists that may have so many together. Raises as `elements`."""
    found: list[list[msgspec.Raw]] = []
    for name, listed in lists:
        found.append(raws(name, listed, most - sum(map(len, found))))
    return found


def size_fault(raw: bytes | msgspec.Raw) -> str | None:
    """What is wrong with the size of a record as it was sent; None where nothing is. It is looked at unread."""
    size = memoryview(raw).nbytes
    return None if size <= MAX_RECORD else f"a record of {size} bytes, at most {MAX_RECORD}"


def cut(text: str) -> str:
    """A sentence that may quote what somebody sent, at most `MAX_DETAIL` characters of it."""
    return text if len(text) <= MAX_DETAIL else f"{text[: MAX_DETAIL - 1]}…"


def _has_commas(raw: msgspec.Raw, count: int) -> bool:
    """Whether there are so many. Looked at in pieces: a copy of the largest message would be another 16 MiB."""
    view = memoryview(raw)
    for start in range(0, view.nbytes, _STRIDE):
        count -= bytes(view[start : start + _STRIDE]).count(b",")
        if count <= 0:
            return True
    return False


def _is_short(raw: msgspec.Raw, most: int) -> bool:
    """True for a list of at most so many elements, though it has many commas."""
    _room.set(iter(range(most)))
    try:
        _objects.decode(raw)
    except _Enough:
        return False
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return apart.are_few(bytes(raw), most)  # one of them is no object: no sender of records makes such a list
    return True
