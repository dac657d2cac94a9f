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

    Raises NotEncrypted, NotADatabase or Damaged where the file cannot be a store, whatever the passphrase.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
        size = path.stat().st_size
    except FileNotFoundError:
        return secrets.token_bytes(SALT_BYTES)
    if head.startswith(PLAIN_HEADER):
        raise NotEncrypted(
            f"{path} is a plain, unencrypted SQLite database.",
            "Name another file for the store, or import that one.",
        )
    if size == 0:
        # SQLite would take an emptied store for a new one and hide the loss.
        raise Damaged(f"{path} is empty (0 bytes).", "Restore it from a backup, or remove it to begin a new store.")
    if size < PAGE_BYTES:
        raise Damaged(
            f"{path} is cut short: {size} bytes, a store has at least {PAGE_BYTES}.", "Restore it from a backup."
        )
    if _looks_like_something_else(head):
        raise NotADatabase(f"{path} is not a database.", "Check the path of the store in the configuration.")
    if size % PAGE_BYTES:
        raise Damaged(
            f"{path} is cut short or was appended to: {size} bytes, whole pages of {PAGE_BYTES} expected.",
            "Restore it from a backup.",
        )
    return head[:SALT_BYTES]


def _looks_like_something_else(head: bytes) -> bool:
    """Ciphertext looks random. 64 bytes of text, or with a tenfold byte, are as good as never random."""
    if max(head.count(byte) for byte in set(head)) >= 10:
        return True
    return all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head)
