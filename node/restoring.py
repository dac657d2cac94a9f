"""A backup put in the place of a node's store: what the files need, and what the protocol needs."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from node.exchange import new_engine
from node.files import workshop
from node.opening import Patience, patiently
from node.store import Store, lock, restore
from node.store.errors import StoreError, StoreFull, StoreLocked, StoreReadOnly


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of a restore."""

    number: int
    """Where the feed of the backup ends."""
    memories: int
    kept: Path | None
    """The folder in which the old store is kept; None where there was none."""


def put_back(source: Path, path: Path, passphrase: str, agent: str, now: str, patience: Patience) -> Restored:
    """Put the backup in `source` in the place of the store at `path`, which no process may have open.

    It is verified first. What peers know of the time since the backup is not lost: the store begins a life and trusts
    no cursor of its own any more (protocol section 4, Actor), so that it reads all of them from the start. `agent`: the
    node's own; `now`: canonical time. Raises StoreError, and then the old store is in its place.
    """
    try:
        with _lock(path, patience):
            restore.finish(path)  # one that was killed; what it put there is what this one puts aside
            with workshop(Path(os.path.realpath(path))) as folder:  # on the disk that the store is on
                fresh = restore.copied(source, passphrase, path, folder)
                number, memories = _rolled_back(fresh, passphrase, agent, now)
                return Restored(number, memories, restore.put(fresh, path))
    except OSError as error:
        raise _explained(error, path) from None


def _lock(path: Path, patience: Patience) -> IO[str]:
    """The store's own lock, and not what a node says of itself, is the proof that none runs."""

    def attempt() -> IO[str]:
        try:
            return lock.take(path, lock.COMMAND)
        except StoreLocked as error:
            if error.holder != lock.NODE:
                raise
            text = str(error).removesuffix(error.next_step).strip()
            raise StoreLocked(text, "Stop the node first; nothing was changed.", "a running node") from None

    return patiently(attempt, patience)


def _rolled_back(fresh: Path, passphrase: str, agent: str, now: str) -> tuple[int, int]:
    """Have the store know that it is an older copy. Returns its feed's number and how many memories it has."""
    store = Store.open(fresh, passphrase, readers=1)
    try:
        store.writer.call(new_engine(agent, store).restored)
        found = store.reader.call(lambda reader: reader.stats(now, now))
        return store.position.number, found.total
    finally:
        store.close()


def _explained(error: OSError, path: Path) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(
            f"no space is left beside {path} for a second store.",
            "Free as much as the backup has.",
        )
    reason = (error.strerror or "an error").lower()
    named = f" ({error.filename})" if error.filename else ""
    return StoreReadOnly(
        f"{path} cannot be restored: {reason}{named}.", "Check that its folder exists and can be written."
    )
