"""The existing daemon's JSON export: `{"memories": […], "links": […], "count", "exported_at"}`."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from node.legacy.importing.rust_database import EXTRA_FIELDS, without_field
from node.legacy.importing.source import LINK, MEMORY, NotTaken, SourceError

_READ = ("memories", "links", "count", "exported_at")
_NOTHING: tuple[Any, ...] = (None, [], {}, "")


class RustExport:
    """An export, read at once."""

    form = "JSON export"

    def __init__(self, path: Path) -> None:
        """Raises SourceError, OSError."""
        body = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        try:
            found = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            self._memories = msgspec.json.decode(found["memories"], type=list[msgspec.Raw])
            self._links = msgspec.json.decode(found.get("links", b"[]"), type=list[msgspec.Raw])
            self._rest = {name: msgspec.json.decode(found[name]) for name in found if name not in _READ}
        except KeyError:
            raise SourceError(
                "source_schema", f"{path.name} is JSON, but no export of the existing daemon: it has no memories"
            ) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SourceError(
                "source_damaged", f"{path.name} is no whole JSON export: {error}; export it again"
            ) from None
        self.count = len(self._memories)
        self._extra: Counter[str] = Counter()

    def memories(self) -> Iterator[dict[str, Any] | NotTaken]:
        for raw in self._memories:
            try:
                fields = msgspec.json.decode(raw, type=dict[str, Any])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                yield NotTaken(MEMORY, "malformed", f"not a memory: {error or type(error).__name__}")
                continue
            self._extra.update(_extra(fields))
            yield fields

    def links(self) -> Iterator[dict[str, Any] | NotTaken]:
        for raw in self._links:
            try:
                yield msgspec.json.decode(raw, type=dict[str, Any])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                yield NotTaken(LINK, "malformed", f"not a link: {error or type(error).__name__}")

    def rest(self) -> Iterator[NotTaken]:
        """After the memories, whose fields are counted while they are read."""
        for name, count in sorted(self._extra.items()):
            yield without_field(name, count)
        for name, value in sorted(self._rest.items()):
            if value not in _NOTHING:
                count = len(value) if isinstance(value, list) else 1
                yield NotTaken(name[:200], "unsupported", "this version keeps nothing of the kind", count=count)

    def close(self) -> None:
        """The file is closed already."""


def _extra(fields: Mapping[str, Any]) -> Iterator[str]:
    """Names of fields that say something and that this program has not."""
    for name, default in EXTRA_FIELDS.items():
        value = fields.get(name)
        if value not in _NOTHING and value != default:
            yield name
