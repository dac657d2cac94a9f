"""Times as they are written: `YYYY-MM-DDTHH:MM:SS.ffffff+00:00`, whose text order is the order of time.

Inside `sync` a time is that text, or an integer of microseconds since 1970-01-01T00:00:00Z. Nothing here reads a clock.
"""

import re
from datetime import UTC, datetime, timedelta

MICROSECOND = 1
SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The hours are spelled out: later versions of Python read 24:00 as the next day's midnight, which would give one
# instant two texts, accepted on one node and refused on another.
_CANONICAL = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d\.\d{6}\+00:00", re.ASCII)
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]((?:[01]\d|2[0-3]):\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)  # RFC 3339 section 5.6; a fraction finer than a microsecond is cut, not rounded


def text(microseconds: int) -> str:
    """The canonical text of a time."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds")


def microseconds(canonical: str) -> int:
    """The time that a canonical text names; raises ValueError for a date that does not exist."""
    return (datetime.fromisoformat(canonical) - _EPOCH) // timedelta(microseconds=1)


def is_canonical(value: str) -> bool:
    """True for text in exactly the form that this node writes, naming a real instant."""
    if not _CANONICAL.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def canonical(value: str) -> str | None:
    """Any RFC 3339 time in canonical text, or None where it is not one."""
    found = _RFC3339.fullmatch(value)
    if not found:
        return None
    day, clock, fraction, offset = found.groups()
    try:
        moment = datetime.fromisoformat(
            f"{day}T{clock}.{(fraction or '')[:6]:0<6}{'+00:00' if offset in 'Zz' else offset}"
        )
        return moment.astimezone(UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError):
        return None
