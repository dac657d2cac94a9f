"""Backups: whole, consistent, and as encrypted as the store, under the same passphrase."""

from pathlib import Path

from node.store.connection import DatabaseError, connect, explained
from node.store.errors import StoreError, StoreMissing
from node.store.key import derive, salt_of


def back_up(path: Path, passphrase: str, target: Path) -> int:
    """Write a compact encrypted copy of the store at `path` to `target`, which must not exist. Returns its bytes.

    `VACUUM INTO` reads one state of the store and keeps key and salt, so the copy opens with the same passphrase. A
    node that runs on the store goes on meanwhile, writes included. Raises StoreError.
    """
    if not path.exists():
        raise StoreMissing(f"there is no store at {path}.", "Name the right --home.")
    if target.exists():
        raise StoreError(f"{target} exists already.", "Name a new file: a backup never overwrites.")
    reading = connect(path, derive(passphrase, salt_of(path)), writer=False)
    try:
        reading.execute("VACUUM INTO ?", (str(target),))
    except DatabaseError as error:
        target.unlink(missing_ok=True)
        raise explained(error, target) from None
    finally:
        reading.close()
    target.chmod(0o600)
    return target.stat().st_size
