"""A word that stands in memories which tests store through real nodes, and in no file that a node may write."""

from collections.abc import Iterator
from pathlib import Path

MARKER = "plaintext-marker-7f3a9c51"
_FORMS = (MARKER.encode(), MARKER.replace("-", " ").encode(), MARKER.encode("utf-16-le"))


def holding(folder: Path) -> Iterator[Path]:
    """Files below a folder in which the marker can be read."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and any(form in path.read_bytes() for form in _FORMS):
            yield path
