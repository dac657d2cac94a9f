"""What an import reads, whatever file it comes from: memories, links, and what is left behind with the reason."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

MEMORY, LINK, NAMESPACE, ARCHIVED = "memory", "link", "namespace", "archived_memory"
SIGNATURE = "signature"


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Something in the file that is not taken, and why."""

    kind: str
    """`memory`, `link`, `signature`, `namespace`, `archived_memory`, `field`, or the name of a table."""
    reason: str
    """A stable name."""
    detail: str
    """A sentence for the operator."""
    id: str = ""
    """Its id in the file."""
    namespace: str = ""
    title: str = ""
    count: int = 1
    is_loss: bool = True
    """False for the daemon's own bookkeeping, which means nothing elsewhere."""


class Source(Protocol):
    """A file opened for an import. Everything that it yields belongs to one consistent state of the file."""

    @property
    def form(self) -> str:
        """What the file is, in words."""

    @property
    def count(self) -> int:
        """How many memories it has."""

    def memories(self) -> Iterator[dict[str, Any] | NotTaken]:
        """Each memory: fields by their names on the wire, values not checked; or why it cannot be read."""

    def links(self) -> Iterator[dict[str, Any] | NotTaken]:
        """Each link: as a memory, and its ends by their ids in the file."""

    def rest(self) -> Iterator[NotTaken]:
        """What the file has beside memories and links."""

    def close(self) -> None:
        """Raises SourceError where the file changed while it was read."""


class SourceError(Exception):
    """A file that cannot be imported. `code` is a stable name; the text says what to do next."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
