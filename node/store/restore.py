"""Putting a backup in the place of a store, so that a kill at any point leaves the old one or the new one.

A store is up to three files, and the log of the old one beside the new would be replayed into it. So the new store is
made whole elsewhere, then named `.STORE.restoring`: from that moment on the restore happens, for whoever opens the
store finishes it. What belongs to the old store is put aside, never removed (docs/decisions/0049).
"""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from node.disk import flush_folder
from node.files import publish, sync_file
from node.store import lock
from node.store.connection import FAULTS, Connection, connect, explained
from node.store.errors import Damaged, NotABackup, StoreError, StoreFull, StoreReadOnly, WrongFile
from node.store.file import SUFFIXES as SIDES
from node.store.file import beside
from node.store.key import derive, salt_of
from node.store.making import JOURNAL, LOG
from tls.ownership import advice


def ready(path: Path) -> Path:
    """Where the new store lies while it takes its place."""
    return path.with_name(f".{path.name}.restoring")


def copied(source: Path, passphrase: str, path: Path, folder: Path) -> Path:
    """The backup in `source`, in a private folder, proven to be a whole store of this program.

    Its log, where one lies beside it, is taken in: then it is a copy of a store's files. `path`: the store that it is
    to be. Raises StoreError, which names `source`.
    """
    _refuse(source, path)
    fresh = folder / path.name
    try:
        salt_of(source)  # its errors name the file, and say what it is instead
        for side in ("", LOG):
            if beside(source, side).exists():
                shutil.copyfile(beside(source, side), beside(fresh, side))
                beside(fresh, side).chmod(0o600)
        _check(fresh, passphrase)
    except OSError as error:
        if error.filename not in (str(source), str(beside(source, LOG))):
            raise
        why, do = (error.strerror or "an error").lower(), advice(error, source) or "name another backup"
        raise WrongFile(
            f"{error.filename} cannot be read: {why}.", f"Nothing was changed. {do[0].upper()}{do[1:]}."
        ) from None
    except FAULTS as error:
        raise _named(explained(error, fresh), fresh, source) from None
    except StoreError as error:
        raise _named(error, fresh, source) from None
    return fresh


def put(fresh: Path, path: Path) -> Path | None:
    """Have a whole store, closed, take the place of the one at `path`. The caller holds the lock.

    Returns the folder in which the files of the old one are kept, as they were; None where there were none. They are
    not opened: SQLite would copy a log into whatever file it finds beside it.
    """
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise StoreReadOnly(f"{path} is a folder, the store's file expected.", "Look what was mounted there.")
    sync_file(fresh)
    publish(fresh, ready(path))
    return finish(path)


def is_ready(path: Path) -> bool:
    """Whether a restore was killed before the new store was in its place."""
    return os.path.lexists(ready(Path(os.path.realpath(path))))


def settle(path: Path) -> None:
    """Finish a restore that was killed, for who does not hold the lock. Raises StoreLocked where somebody does."""
    if is_ready(path):
        with lock.take(path, lock.COMMAND):
            finish(path)


def finish(path: Path) -> Path | None:
    """Put the new store in its place, where one is ready. The caller holds the lock. As `put`."""
    path = Path(os.path.realpath(path))
    new = ready(path)
    if not os.path.lexists(new):
        return None
    aside = path.with_name(f"{path.name}.before-{_stamp(new)}")
    old = [one for one in ("", *SIDES) if os.path.lexists(beside(path, one)) or os.path.lexists(aside)]
    if old:
        aside.mkdir(mode=0o700, exist_ok=True)
        _keep(path, aside / path.name)
        for side in SIDES:
            if os.path.lexists(beside(path, side)):
                beside(path, side).rename(beside(aside / path.name, side))
        flush_folder(aside)
    new.replace(path)  # last: where it is done, so is all else
    flush_folder(path.parent)
    return aside if old else None


def _keep(path: Path, aside: Path) -> None:
    """The old store's file under a second name, so that at every moment one is in its place."""
    if not os.path.lexists(path) or os.path.lexists(aside):
        return
    try:
        os.link(path, aside, follow_symlinks=False)
    except OSError:  # a file system without links: whoever opens the store then finds the new one ready, and finishes
        path.rename(aside)


def _stamp(new: Path) -> str:
    """The same for everybody who finishes one restore."""
    at = datetime.fromtimestamp(new.stat().st_mtime_ns // 1_000 / 1e6, UTC)
    return at.strftime("%Y%m%dT%H%M%S.%fZ")


def _refuse(source: Path, path: Path) -> None:
    if source.exists() and not source.is_file():
        raise WrongFile(f"{source} is not a file.", "Name a backup that `ai-memory backup` wrote.")
    if not source.exists():
        raise WrongFile(f"{source}: there is no such file.", "Name a backup that `ai-memory backup` wrote.")
    if path.exists() and path.samefile(source):
        raise WrongFile(f"{source} is the store itself.", "Name a backup; this one is in its place already.")
    if beside(source, JOURNAL).exists():
        unfinished = f"{beside(source, JOURNAL)}: {source.name} was never finished."
        raise _named(StoreError(unfinished, ""), source, source)


def _check(fresh: Path, passphrase: str) -> None:
    """Raises StoreError where a copy is not a whole store that this passphrase opens."""
    connection = connect(fresh, derive(passphrase, salt_of(fresh)), writer=True)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        faults = [text for (text,) in connection.execute("PRAGMA cipher_integrity_check")]
        faults += [text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
        if faults:
            raise Damaged(f"{fresh} is damaged: {faults[0]}.", "")
        if not _is_ours(connection):
            raise StoreError(f"{fresh} is an encrypted database, and no store of this program.", "")
    finally:
        connection.close()


def _is_ours(connection: Connection) -> bool:
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return {"migration", "memory", "life", "head", "peer"} <= names


def _named(error: StoreError, fresh: Path, source: Path) -> StoreError:
    """The error about the backup that the operator named, and not about our copy of it."""
    text = str(error).removesuffix(error.next_step).strip().replace(str(fresh), str(source))
    if isinstance(error, StoreFull | StoreReadOnly | WrongFile):  # the place of the copy, not what is in it
        return type(error)(text, f"Nothing was changed. {error.next_step}")
    return NotABackup(error, text, "Nothing was changed. Name another backup, or look where its passphrase comes from.")
