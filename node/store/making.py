"""Making a store, and saying that there is none: nothing else ever makes one (docs/decisions/0049)."""

import os
from pathlib import Path

from node.files import publish, workshop
from node.store.connection import connect
from node.store.errors import StoreError, StoreMissing, StoreReadOnly
from node.store.file import SUFFIXES as SIDES
from node.store.file import StoreFile, beside, size_of
from node.store.key import Key
from node.store.keys import load as load_keys
from node.store.schema import migrate

LOG, SHARED, JOURNAL = SIDES
"""What SQLite puts beside a store. Each belongs to exactly one file, and nothing in it says to which."""


def require(path: Path) -> None:
    """Raises StoreMissing where nothing is at the path of a store, StoreReadOnly where no file can be."""
    if path.is_dir():
        raise StoreReadOnly(
            f"{path} is a folder, the store's file expected.", "Name the right file, or look what was mounted there."
        )
    if path.exists():
        return
    kept = beside(path, LOG)
    lost = f" What was written last is in {kept}: keep that file with its store." if kept.exists() else ""
    first = f", once {kept} has been moved away" if kept.exists() else ""
    raise StoreMissing(
        f"there is no store at {path}, where this node's is expected.{lost}",
        "Is its disk mounted? Else `ai-memory restore FILE` puts a backup there; `ai-memory init --store` makes a new,"
        f" empty one{first}.",
    )


def make(path: Path, key: Key) -> None:
    """Make an empty store, whole or not at all. The caller holds its lock. Raises StoreError, OSError, DatabaseError.

    A file that is made in its place would be an empty one for a moment, which no later start can tell from a loss.
    """
    path = Path(os.path.realpath(path))  # an operator's symbolic link to another disk stays one
    _require_no_remains(path)
    with workshop(path) as folder:
        fresh = folder / path.name
        fresh.touch(0o600)
        with StoreFile(fresh) as file:  # given up after the connection
            connection = connect(fresh, key, writer=True)
            try:
                migrate(connection, path)
                load_keys(connection)
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                connection.close()
            file.flush()
        publish(fresh, path)


def _require_no_remains(path: Path) -> None:
    """What lies beside a store that is gone may be all that is left of it, and would be taken for the new one's."""
    for side in (LOG, JOURNAL):
        if beside(path, side).is_symlink() or size_of(beside(path, side)):
            raise StoreError(
                f"{beside(path, side)} lies there without its store: it may hold what was written last.",
                "Put its store back, or move it away to begin anew: SQLite would take it for the new store's own.",
            )
    for side in SIDES:
        beside(path, side).unlink(missing_ok=True)
