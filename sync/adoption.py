"""Taking in versions that no peer's page brought, such as those of an import: merged as any other, without a giver.

They move no cursor, and none of them waits for its time: whoever brings them can bring them again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sync import moment
from sync.attest import is_genuine
from sync.merge import is_echo, supersedes
from sync.policy import BAD_SIGNATURE
from sync.ports import Kept
from sync.receive import Alarm, Receiver
from sync.record import Refused, load
from sync.version import Version

Outcome = Literal["taken", "unchanged"] | Refused


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of each version, in their order."""

    outcomes: tuple[Outcome, ...]
    alarms: tuple[Alarm, ...]


class Adopter(Receiver):
    """Applies versions from outside the feed of any peer, inside an open transaction."""

    def adopt(self, versions: Sequence[Version], *, dry_run: bool) -> Adopted:
        """Merge these, unless it is a `dry_run`."""
        self._batch.load(version.key for version in versions)
        outcomes = tuple(self._outcome(version) for version in versions)
        if not dry_run:
            self._batch.commit()
        return Adopted(outcomes, tuple(self._alarms))

    def _outcome(self, version: Version) -> Outcome:
        if version.signature and not is_genuine(version):
            return Refused(version.shown, version.kind, "bad_signature", BAD_SIGNATURE)
        if version.at > self._horizon:
            return Refused(version.id, version.kind, "clock_skew", self._early(version.at))
        kept = self._batch.kept(version.key)
        if is_echo(version, (one.version for one in kept)) or any(_is_echo(version, one) for one in kept):
            return "unchanged"
        return "taken" if self.accept("", version, 0, rollback_allowed=False) else "unchanged"

    def _early(self, at: str) -> str:
        ahead = (moment.microseconds(at) - self._now) // moment.SECOND
        return f"its time lies {ahead} s in the future of this node, at most 300 s are believed; bring it again then"


def _is_echo(version: Version, kept: Kept) -> bool:
    """True for what says no more than a kept version does and is not newer (protocol section 8).

    A daemon without clocks that was given a memory of ours, and lost its attestation or altered its expiry or priority,
    is the author of nothing. Of two copies of one write the merge itself knows which to keep.
    """
    other = kept.version
    if version.kind != "m" or other.kind != "m" or version.at > other.at:
        return False
    if supersedes(version, other):
        return False
    return _said(version) == _said(other)


def _said(version: Version) -> tuple[str, str, list[str], str]:
    memory = load(version.doc)
    return memory.title, memory.content, memory.tags, memory.source
