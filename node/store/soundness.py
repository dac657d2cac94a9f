"""Is a store whole that was left in the middle of something? What SQLite recovers from its log, this program opens.

A checkpoint that met a full disk, or a kill, leaves a database that is shorter than it should be, perhaps by half a
page, while the log still has all its pages: nothing is lost. Only where neither has a page that is in use, something
is. To find out nothing is written: the files stay as they are for whoever wants to save what can be saved.
"""

from contextlib import closing
from pathlib import Path
from typing import Any

from node.store.connection import FAULTS, is_not_opened, looking, opening
from node.store.errors import Damaged
from node.store.file import beside, is_in_use, read_log, size_of
from node.store.key import PAGE_BYTES, Key

LOG_HEADER = 32
FRAME_HEADER = 24
"""Bytes; the first four are the page's number (https://sqlite.org/fileformat2.html, section 4.1)."""
LOCK_PAGE = 0x40000000 // PAGE_BYTES + 1
"""Where SQLite's locks lie: no page of any database (section 1.4)."""


def require_whole(path: Path, key: Key) -> None:
    """Raises Damaged where pages are missing that the log does not have either. Takes long only where some are.

    For whoever holds the store's lock, before it is opened.
    """
    size = size_of(path)
    if is_in_use(path):
        return  # it was looked at when it was opened
    if size % PAGE_BYTES == 0 and not size_of(beside(path, "-wal")):
        return  # where a whole page is missing, SQLite says so itself at the first read
    try:
        with closing(looking(path, key)) as connection:
            is_whole = _is_whole(connection, path, size)
    except FAULTS as error:
        if size % PAGE_BYTES == 0 or (size > PAGE_BYTES and is_not_opened(error)):
            raise opening(error, path) from None
        is_whole = False
    if not is_whole:
        raise Damaged(
            f"{path} is cut short: {size} bytes, and its log does not have the pages that it lacks"
            f" (of {PAGE_BYTES} bytes each).",
            "Restore it from a backup; its peers have what that lacks.",
        )


def _is_whole(connection: Any, path: Path, size: int) -> bool:
    pages = int(connection.execute("PRAGMA page_count").fetchone()[0])
    missing = set(range(size // PAGE_BYTES + 1, pages + 1)) - {LOCK_PAGE}
    if not missing or missing <= _logged(connection, path):
        return True
    # A page that nobody uses need not be anywhere: SQLite's own check knows.
    return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")


def _logged(connection: Any, path: Path) -> set[int]:
    """The numbers of the pages that the log has, as far as it counts."""
    try:
        _, frames, _ = connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
    except FAULTS:
        return set()  # of a log that cannot be written SQLite does not say so much
    if frames <= 0:
        return set()
    step = FRAME_HEADER + PAGE_BYTES
    return {
        int.from_bytes(number, "big")
        for number in read_log(path, (LOG_HEADER + frame * step for frame in range(frames)), 4)
    }
