"""From a link of the existing daemon to a version, the same on every node and at every time (decision 0032).

Its ends are rows of the file. One that is not, or that was not taken, may be a memory here all the same: another file
brought it, or it was stored here under the title.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from node.legacy.importing.row import record_id
from node.legacy.importing.source import LINK, NotTaken
from sync.ids import is_native
from sync.legacy.link import TheirLink, read_link, version_of
from sync.record import Refused
from sync.version import Key, Version

Here = Callable[[str], str | None]
"""The namespace of the memory here that has this id; None where there is none, or more than one."""


class Ends:
    """The memories of a file by their ids in it, and our keys for them."""

    def __init__(self, here: Here) -> None:
        self._here = here
        self._keys: dict[str, Key] = {}
        self._lost: dict[str, str] = {}
        self._asked: dict[str, str | None] = {}

    def take(self, row_id: str, key: Key) -> None:
        """This row is taken, under this key."""
        self._keys[row_id] = key

    def lose(self, fields: Mapping[str, Any]) -> None:
        """This row is not taken; its fields as far as they can be read."""
        row_id, namespace, title = (fields.get(name) for name in ("id", "namespace", "title"))
        if isinstance(row_id, str) and isinstance(namespace, str) and isinstance(title, str):
            self._lost[row_id] = record_id(row_id, namespace, title)
        elif isinstance(row_id, str):
            self._lost[row_id] = ""

    def key(self, row_id: str) -> Key | None:
        """Our key for a row; None for one that is neither taken nor here."""
        if row_id in self._keys:
            return self._keys[row_id]
        ours = self._lost.get(row_id, row_id if is_native(row_id) else "")
        if ours and ours not in self._asked:
            self._asked[ours] = self._here(ours)
        namespace = self._asked.get(ours)
        return None if namespace is None else (namespace, ours)

    def why_not(self, row_id: str) -> str:
        """Why a row has no key, in words."""
        return "was not taken" if row_id in self._lost else "is not in the file"


def read(fields: Mapping[str, Any]) -> TheirLink | NotTaken:
    """A link by its fields in the file."""
    try:
        found = read_link(msgspec.json.encode(fields))
    except RecursionError:
        return NotTaken(LINK, "malformed", "it is nested too deeply")
    return _not_taken(found) if isinstance(found, Refused) else found


def version(link: TheirLink, ends: Ends) -> Version | NotTaken:
    """A link's version."""
    source, target = ends.key(link.source_id), ends.key(link.target_id)
    if source is None or target is None:
        name, row_id = ("source_id", link.source_id) if source is None else ("target_id", link.target_id)
        detail = f"{name}: memory {row_id} {ends.why_not(row_id)}, and it is not here either"
        return NotTaken(LINK, "missing_memory", detail, link.shown)
    made = version_of(link, source, target[1])
    return _not_taken(made) if isinstance(made, Refused) else made


def _not_taken(refused: Refused) -> NotTaken:
    return NotTaken(LINK, refused.reason, refused.detail, refused.id)
