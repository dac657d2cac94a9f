"""Versions that a local client brings from elsewhere, as an import does: decoded, taken in parts, answered one by one.

They are records with their attestations, as they go between peers; `sync.adoption` says what becomes of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from sync import counted, link
from sync.adoption import Outcome
from sync.engine import Engine
from sync.errors import RemoteError
from sync.ports import Ledger
from sync.receive import Alarm
from sync.record import Refused, read
from sync.version import Version

MOST = 1_000
"""Versions of one request."""
AT_ONCE = 100
"""Versions of one transaction, so that single writes get in between (docs/decisions/0008)."""


class _Request(msgspec.Struct):
    memories: msgspec.Raw
    links: msgspec.Raw = counted.EMPTY
    """Links and unlinks."""
    dry_run: bool = False


_request = msgspec.json.Decoder(_Request)


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a part."""

    outcomes: tuple[Outcome, ...]
    alarms: tuple[Alarm, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What one transaction takes in."""

    found: Sequence[Version | Refused]
    dry_run: bool

    def adopt(self, engine: Engine, ledger: Ledger, now: int) -> Told:
        adopted = engine.adopt(
            ledger, [one for one in self.found if isinstance(one, Version)], now, dry_run=self.dry_run
        )
        judged = iter(adopted.outcomes)
        outcomes = tuple(next(judged) if isinstance(one, Version) else one for one in self.found)
        return Told(outcomes, adopted.alarms)


def parts(body: bytes) -> Iterator[Part]:
    """The parts of a request, `{"memories": […], "links": […], "dry_run": false}`.

    Raises RemoteError before the first.
    """
    try:
        asked = _request.decode(body)
    except RecursionError:
        raise RemoteError("malformed", "the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteError("malformed", f"the body is no object with a list of memories: {error}") from None
    memories, links = counted.all_raws((("memories", asked.memories), ("links", asked.links)), MOST)
    for start in range(0, len(memories), AT_ONCE):
        yield Part([_read("m", bytes(raw)) for raw in memories[start : start + AT_ONCE]], asked.dry_run)
    for start in range(0, len(links), AT_ONCE):
        yield Part([_read("l", bytes(raw)) for raw in links[start : start + AT_ONCE]], asked.dry_run)


def _read(kind: Literal["m", "l"], raw: bytes) -> Version | Refused:
    if fault := counted.size_fault(raw):
        return Refused("", kind, "limits", fault)
    return read(raw, "m") if kind == "m" else link.read(raw)


def answer(told: Iterable[Told], failed: int = 0) -> dict[str, Any]:
    """`{"outcomes": […], "alarms": […]}`, the outcomes in the order of the request: memories, then links.

    `failed`: how many at its end were not looked at, as the store failed before them.
    """
    told = list(told)
    return {
        "outcomes": [_shown(one) for part in told for one in part.outcomes] + [{"outcome": "failed"}] * failed,
        "alarms": [{"kind": one.kind, "detail": one.detail} for part in told for one in part.alarms],
    }


def _shown(outcome: Outcome) -> dict[str, str]:
    if isinstance(outcome, Refused):
        return {"outcome": "refused", "reason": outcome.reason, "detail": outcome.detail}
    return {"outcome": outcome}
