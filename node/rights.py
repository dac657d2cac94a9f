"""What a local client may do: whom it writes as, which namespaces it sees and changes (docs/decisions/0052)."""

from dataclasses import dataclass

from sync.errors import RemoteError
from sync.scope import Globs


@dataclass(frozen=True, slots=True)
class Rights:
    """The owner's, or those of a token.

    What a client may not see is answered as if it were not there, in the same words: ids are computed from titles, so
    an answer that told the two apart would say whether somebody keeps a memory of this title.
    """

    agent: str | None
    """Whom it writes as, and nobody else; None: the owner, who writes as any agent."""
    read: Globs
    write: Globs

    @property
    def is_owner(self) -> bool:
        return self.agent is None

    @property
    def scope(self) -> Globs | None:
        """What the store's look-ups are limited to; None: nothing is hidden."""
        return None if self.read.is_everything else self.read

    def may_read(self, namespace: str) -> bool:
        return self.read.allows(namespace)

    def require_write(self, namespace: str) -> None:
        """Raises RemoteError `forbidden`, which depends on the token and on the name alone, not on what is there."""
        if not self.write.allows(namespace):
            raise RemoteError("forbidden", f"this token may not write in the namespace {namespace[:80]!r}")

    def require_agent(self, named: str | None) -> None:
        """Raises RemoteError `forbidden` where somebody else is named than whom the token is for."""
        if self.agent is not None and named is not None and named != self.agent:
            raise RemoteError("forbidden", f"this token writes as {self.agent} alone; the request names {named[:80]!r}")


OWNER = Rights(None, Globs.everything(), Globs.everything())
"""Whoever has the API key, and everybody where none is configured."""
NOBODY = Rights("", Globs(()), Globs(()))
"""Who has neither key nor token."""
