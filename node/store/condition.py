"""Can a store be written? In words for anybody: no path, no SQL, nothing of what is in it."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from node.store.errors import Damaged, StoreError, StoreFull, StoreLocked, StoreReadOnly, StoreReplaced
from node.store.file import free_bytes, is_read_only
from node.store.frozen import NoWriter
from node.store.writer import Writer

LEAST_FREE = 128 * 1024
"""Bytes; a commit takes some 20 KiB of the log."""
ENDED = "the writer of the store has ended"
REPLACED = "the file of the store was removed or exchanged"
FULL = "no space is left for the store"
READ_ONLY = "the disk of the store cannot be written"
FAILED = "the last write to the store failed"
_WORDS: Mapping[type[StoreError], str] = {
    StoreFull: FULL,
    StoreReadOnly: READ_ONLY,
    StoreReplaced: REPLACED,
    StoreLocked: "another program has the store locked",
    Damaged: "the store is damaged, or its disk fails",
}


def troubles(writer: Writer | NoWriter, path: Path) -> list[str]:
    """What keeps the store at `path` from being written, now; empty where nothing does."""
    return list(dict.fromkeys(_found(writer, path)))


def _found(writer: Writer | NoWriter, path: Path) -> Iterator[str]:
    if not writer.is_running:
        yield ENDED
    if writer.is_displaced:
        yield REPLACED
    free = free_bytes(path)
    if free is None or is_read_only(path):
        yield READ_ONLY
    elif free < LEAST_FREE:
        yield FULL
    trouble = writer.trouble
    if trouble is not None:
        yield _WORDS.get(type(trouble), FAILED)
