"""What a daemon's answer says of a request that it did not carry out."""

from dataclasses import dataclass

import msgspec

from node.dialer import Answer

UNTAKEN = ("http_413", "http_422")
"""Something in the body is at fault; a part of it may be taken."""
MOST_SAID = 4_096
"""Bytes that are looked at of an answer that is no JSON."""


class _Error(msgspec.Struct):
    """Nothing else of the body is made, however much there is."""

    error: str = ""


_error = msgspec.json.Decoder(_Error)


@dataclass(slots=True)
class FailedError(Exception):
    """A request that failed. `code` is a stable name, `retry_after` in seconds."""

    code: str
    text: str
    retry_after: float = 0.0


def checked(answer: Answer) -> bytes:
    """The body of a good answer. Raises FailedError."""
    if answer.status == 200:
        return answer.body
    raise FailedError(f"http_{answer.status}", _complaint(answer), answer.retry_after)


def _complaint(answer: Answer) -> str:
    """What the daemon says, JSON or text, or the status where it says nothing that can be read."""
    try:
        said = _error.decode(answer.body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = answer.body[:MOST_SAID].decode("utf-8", "replace")
    said = " ".join(said.split())[:300]
    return f"the peer answered {answer.status}: {said}" if said else f"the peer answered {answer.status} and no reason"
