"""What was refused between this node and each peer, by which of the two, and why.

Without it `sync status` would say that everything was confirmed, and nobody would know why two nodes differ.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from sync.record import Refused
from sync.wire import RefusedEntry

MOST_REMEMBERED = 1_000
"""Records of a peer; of more only the number stays at that."""
OURS, THEIRS = "this node", "the peer"

log = structlog.get_logger("sync")


@dataclass(slots=True)
class _Of:
    """Of one peer: the ids, and the newest."""

    ids: set[str] = field(default_factory=set)
    who: str = ""
    last: Refused | RefusedEntry | None = None
    at: float = 0.0
    """Monotonic seconds."""


class Refusals:
    """Since the start, by a peer's fingerprint."""

    def __init__(self) -> None:
        self._peers: dict[str, _Of] = {}

    def note(self, fingerprint: str, name: str, who: str, entry: Refused | RefusedEntry) -> None:
        """`who` refused a record. Each record is logged once, under the peer's `name`."""
        if who == OURS and entry.reason == "clock_skew":
            return  # what waits is told of with how long it has to
        found = self._peers.setdefault(fingerprint, _Of())
        found.who, found.last, found.at = who, entry, time.monotonic()
        if entry.id not in found.ids and len(found.ids) < MOST_REMEMBERED:
            found.ids.add(entry.id)
            log.warning("sync.refused", peer=name, by=who, id=entry.id, code=entry.reason, reason=entry.detail)

    def told(self, status: Mapping[str, Any]) -> dict[str, Any]:
        """A peer's entry of `sync status`, with what was refused."""
        found = self._peers.get(status["fingerprint"])
        if found is None or found.last is None:
            return dict(status)
        count, ago = len(found.ids), time.monotonic() - found.at
        reason = (
            f"{status['reason']}; {count} {'record was' if count == 1 else 'records were'} refused since the start, the"
            f" last {ago:.0f} s ago; {found.who} said {found.last.reason}: {found.last.detail}"
        )
        return {**status, "refused": count, "reason": reason}
