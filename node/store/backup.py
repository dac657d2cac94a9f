"""Backups: whole, consistent, and as encrypted as the store, under the same passphrase."""

from pathlib import Path

from node.store import Store
from node.store.connection import DatabaseError, explained
from node.store.errors import StoreError


def back_up(store: Store, target: Path) -> int:
    """Write a compact encrypted copy of the store to `target`, which must not exist. Returns its size in bytes.

    `VACUUM INTO` keeps key and salt, so the copy opens with the same passphrase. Writes go on meanwhile.
    """
    if target.exists():
        raise StoreError(f"{target} exists already.", "Name a new file: a backup never overwrites.")

    try:
        store.reader.statement("VACUUM INTO ?", (str(target),))
    except DatabaseError as error:
        target.unlink(missing_ok=True)
        raise explained(error, target) from None
    target.chmod(0o600)
    return target.stat().st_size
