"""Our own rules for what comes from one peer: which namespaces are taken, and whose word."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from sync.ports import Scope
from sync.record import Refused
from sync.trust import Trust, judge
from sync.version import Version

OUT_OF_SCOPE = "this node does not take that namespace from you"
BAD_SIGNATURE = "its signature is not over this record by the key that it names: somebody altered it on the way"


@dataclass(frozen=True)
class Policy:
    """Rules of ours alone: nothing that the peer says of itself changes them."""

    scope: Scope
    trust: Trust

    @cached_property
    def tag(self) -> str:
        """16 hex digits that differ where the rules differ; a cursor reached under other rules counts as none."""
        return hashlib.sha256(f"{self.scope.tag} {self.trust.tag}".encode()).hexdigest()[:16]

    def refusal(self, version: Version, *, genuine: bool) -> Refused | None:
        """Why a version is refused for good; None where it may be merged. `genuine`: its signature was verified."""
        if not self.scope.allows(version.namespace):
            return Refused(version.shown, version.kind, "scope", OUT_OF_SCOPE)
        if version.signature and not genuine:
            return Refused(version.shown, version.kind, "bad_signature", BAD_SIGNATURE)
        found = judge(self.trust, version)
        return found if isinstance(found, Refused) else None
