"""The lock of a store: one process at a time, and what it is, for whoever finds it taken.

The lock is `flock` on the file `STORE.lock`, which is never removed: it ends with its process, however that ends. What
stands in the file is only for people, and counts only while the lock is held.
"""

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from node.store.errors import StoreLocked

NODE = "a node"
COMMAND = "a command"


def path_of(store: Path) -> Path:
    """The lock's own file."""
    return store.with_name(store.name + ".lock")


def take(store: Path, what: str) -> IO[str]:
    """The lock, until it is closed or the process ends. `what`: who holds it then, NODE or COMMAND.

    Raises StoreLocked, whose `holder` says the same of the process that has it.
    """
    name = path_of(store)
    lock = os.fdopen(os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder, pid = _told(lock.read(1_000))
        lock.close()
        who = f" ({holder}, process {pid})" if pid is not None else ""
        text = f"{store} is in use by another process{who}."
        raise StoreLocked(text, "Ask the running node, or stop it first.", holder) from None
    except BaseException:
        lock.close()
        raise
    with suppress(OSError):  # a full disk keeps nobody from reading the store, and this is only for people
        os.ftruncate(lock.fileno(), 0)
        os.pwrite(lock.fileno(), json.dumps({"pid": os.getpid(), "holder": what}).encode(), 0)
    return lock


def _told(text: str) -> tuple[str, int | None]:
    """Who holds the lock, in its own words. Before it has written them nobody knows."""
    try:
        told = json.loads(text)
        return (NODE if told["holder"] == NODE else COMMAND), int(told["pid"])
    except (ValueError, KeyError, TypeError):
        return COMMAND, None
