"""Links that a daemon of the older protocol sends: the one place where they become ours, once there are links here."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinksTaken:
    """What came of links."""

    applied: int
    skipped: int


def take_links(links: Sequence[bytes]) -> LinksTaken:
    """Each is a JSON object with `source_id`, `target_id` (the daemon's ids), `relation` and `created_at`.

    This version replicates no links: none is kept, and none is said to be.
    """
    return LinksTaken(0, len(links))
