"""From a passphrase to the key of a store, and from a file's first bytes to what the file is.

SQLCipher 4 derives its key with PBKDF2-HMAC-SHA512, 256,000 rounds, over the first 16 bytes of the file, and does so
again for each connection (102 ms). Deriving it here once and handing SQLCipher the raw key and the same salt gives the
same file: any SQLCipher 4 opens it, or a copy of it, with the passphrase alone.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from node.store.errors import Damaged, NotADatabase, NotEncrypted
from node.store.file import StoreFile, beside, size_of

ROUNDS = 256_000
SALT_BYTES = 16
KEY_BYTES = 32
PAGE_BYTES = 4_096
PLAIN_HEADER = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Key:
    """The raw key of one store file."""

    literal: bytes = field(repr=False)
    """`x'<64 hex of the key><32 hex of the salt>'`, as SQLCipher takes it."""


def derive(passphrase: str, salt: bytes) -> Key:
    """The key for a file with this salt. Takes about 0.1 s."""
    if not passphrase:
        raise ValueError("the passphrase is empty")
    raw = hashlib.pbkdf2_hmac("sha512", passphrase.encode(), salt, ROUNDS, KEY_BYTES)
    return Key(b"x'%b%b'" % (raw.hex().encode(), salt.hex().encode()))


def salt_of(path: Path) -> bytes:
    """The salt of an existing store, or a fresh one where there is no file yet.

    Raises NotEncrypted, NotADatabase or Damaged where the file cannot be a store, whatever the passphrase. A file that
    is no whole number of pages may be one: what it lacks can be in its log (soundness.py).
    """
    try:
        with StoreFile(path) as file:
            head, size = file.head(64), file.size
    except FileNotFoundError:
        return secrets.token_bytes(SALT_BYTES)
    has_log = size_of(beside(path, "-wal")) > 0
    if head.startswith(PLAIN_HEADER):
        raise NotEncrypted(
            f"{path} is a plain, unencrypted SQLite database.",
            "Name another file for the store, or import that one.",
        )
    if size == 0:
        # SQLite would take an emptied store for a new one, hide the loss, and throw its log away.
        what = (
            f"is empty (0 bytes), and there is a log beside it ({path.name}-wal)" if has_log else "is empty (0 bytes)"
        )
        raise Damaged(f"{path} {what}.", "Restore it from a backup, or move it away to begin a new store.")
    if size < (SALT_BYTES if has_log else PAGE_BYTES):
        raise Damaged(
            f"{path} is cut short: {size} bytes, a store has at least {PAGE_BYTES}.", "Restore it from a backup."
        )
    if _looks_like_something_else(head):
        raise NotADatabase(f"{path} is not a database.", "Check the path of the store in the configuration.")
    return head[:SALT_BYTES]


def _looks_like_something_else(head: bytes) -> bool:
    """Ciphertext looks random. 64 bytes of text, or with a tenfold byte, are as good as never random."""
    if max(head.count(byte) for byte in set(head)) >= 10:
        return True
    return all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head)
