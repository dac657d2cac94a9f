"""Is the SQLite that runs here the one that this code relies on? Asked once, before any file is opened.

Each row names what breaks without it. A build that lacks one would not fail at start by itself, but at some later
statement, or by writing what it should have encrypted.
"""

import functools
import re
from collections.abc import Iterable

from sqlcipher3 import dbapi2 as sqlcipher

from node.store.errors import StoreError

SQLITE = (3, 51, 0)
"""`PRAGMA wal_checkpoint(NOOP)`: how long the log is (wal.py), and which pages are in it (soundness.py)."""
SQLCIPHER = (4, 0, 0)
"""The file format: key derivation, page size, checksum of each page (key.py)."""
OPTIONS = {
    "HAS_CODEC": "nothing would be encrypted",
    "ENABLE_FTS5": "there would be no index of the text",
    "THREADSAFE=1": "readers, writer and copier are threads of one process",
    "TEMP_STORE=2": "temporary tables would be written to disk as plain text",
}
"""Option of the build, and what breaks without it."""
_NEXT = "Install the locked requirements again (`make env`, or the release's own wheel)."


@functools.cache
def check() -> None:
    """Raises StoreError where the SQLite of this installation is not one that the store can be kept in."""
    connection = sqlcipher.connect(":memory:")
    try:
        cipher = connection.execute("PRAGMA cipher_version").fetchone()
        options = [option for (option,) in connection.execute("PRAGMA compile_options")]
    finally:
        connection.close()
    found = faults(sqlcipher.sqlite_version, cipher[0] if cipher else "", options)
    if found:
        raise StoreError(f"this installation cannot keep a store: {'; '.join(found)}.", _NEXT)


def faults(sqlite: str, cipher: str, options: Iterable[str]) -> list[str]:
    """What is wrong with a build of these versions and options; empty where nothing is."""
    found = []
    if not cipher:
        found.append("its SQLite has no encryption")
    elif _numbers(cipher) < SQLCIPHER:
        found.append(f"SQLCipher {cipher} found, {_dotted(SQLCIPHER)} or later expected")
    if _numbers(sqlite) < SQLITE:
        found.append(f"SQLite {sqlite} found, {_dotted(SQLITE)} or later expected")
    known = set(options)
    found += [f"SQLite was built without {name}: {why}" for name, why in OPTIONS.items() if name not in known]
    return found


def _numbers(version: str) -> tuple[int, ...]:
    """`4.19.0 community` is (4, 19, 0)."""
    return tuple(int(digits) for digits in re.findall(r"\d+", version.split(" ")[0]))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
