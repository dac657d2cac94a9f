"""What a client asks for, as it came: bodies and query parameters. Anything else is told with what was expected."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from sync import apart, counted, moment
from sync.errors import RemoteError
from sync.memory import TIERS

MAX_BULK = 1_000
T = TypeVar("T")
_bulk = msgspec.json.Decoder(msgspec.Raw)


def decoded(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """What a client's body says. Raises RemoteError `invalid`, `malformed` or `limits`."""
    if len(body) > counted.MAX_RECORD:
        raise RemoteError("limits", f"an object of {len(body)} bytes, at most {counted.MAX_RECORD} are taken")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise RemoteError("invalid", counted.cut(f"{error}")) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteError("malformed", f"the body is no JSON object: {_why(error)}") from None


def elements(body: bytes) -> Sequence[bytes | msgspec.Raw]:
    """The elements of a body that is a list of at most MAX_BULK. Raises RemoteError `malformed` or `limits`."""
    try:
        listed = _bulk.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        parts = apart.elements(body, MAX_BULK)  # so that one that cannot be read at all refuses only itself
        if parts is None:
            why = f"{_why(error)}, and it cannot be taken apart into at most {MAX_BULK}"
            raise RemoteError("malformed", f"the body is no list of memories: {why}") from None
        return parts
    try:
        return counted.raws("memories", listed, MAX_BULK)
    except RemoteError as error:
        if error.code != "malformed":
            raise
        raise RemoteError("malformed", f"the body is no list of memories: {error}") from None


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return str(error)


def whole(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A number in a query. Raises RemoteError `bad_query`."""
    text = query.get(name)
    if text is None or text == "":
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 11):
        raise RemoteError("bad_query", f"{name}: {text[:20]!r}, a number from 0 to {most} expected")
    return min(int(text), most)


def tier(query: Mapping[str, str]) -> str | None:
    """A tier in a query, None where none is named. Raises RemoteError `bad_query`."""
    found = query.get("tier") or None
    if found is not None and found not in TIERS:
        raise RemoteError("bad_query", f"tier: {found[:20]!r}, one of {', '.join(TIERS)} expected")
    return found


def time(query: Mapping[str, str], name: str) -> str | None:
    """An RFC 3339 time in a query, as canonical text; None where none is named. Raises RemoteError `bad_query`."""
    text = query.get(name)
    if not text:
        return None
    found = moment.canonical(text)
    if found is None:
        raise RemoteError("bad_query", f"{name}: {text[:40]!r}, an RFC 3339 time expected (write + as %2B)")
    return found
