"""Which locks of SQLite's a process holds on a store, asked from another process; and another program that opens it.

A process never meets its own locks, so only a child can ask (fcntl(2), F_GETLK).
"""

import json
import subprocess
import sys
from pathlib import Path

PATIENCE = 60
_ASK = """
import fcntl, json, struct, sys
# What every open connection holds (sqlite3 os.h, os_unix.c): shared on the database, shared on the log's index.
held = {}
for suffix, start, length in (("", 0x40000002, 510), ("-shm", 128, 1)):
    with open(sys.argv[1] + suffix, "rb+") as file:
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, start, length, 0)
        kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, asked))
        held[suffix] = None if kind == fcntl.F_UNLCK else pid
print(json.dumps(held))
"""
_OUTSIDER = """
import fcntl, os, sys
from sqlcipher3 import dbapi2 as sqlcipher
path = sys.argv[1]
connection = sqlcipher.connect(path)
connection.set_key(sys.stdin.read().encode())
print(connection.execute("SELECT count(*) FROM memory").fetchone()[0])
# As SQLite closes that is older than 3.51 (sqlite3WalClose): who gets the database for itself is alone, and tidies up.
file = open(path, "rb+")
try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)
except BlockingIOError:
    pass
else:
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    os.unlink(path + "-wal")
    os.unlink(path + "-shm")
connection.close()
"""


def holders(path: Path) -> dict[str, int | None]:
    """Who holds the lock on the database (key: "") and on its index of the log ("-shm"): a process number, or None.

    Linux: the layout of `struct flock` is that of a 64-bit system there.
    """
    done = subprocess.run([sys.executable, "-c", _ASK, str(path)], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    found: dict[str, int | None] = json.loads(done.stdout)
    return found


def visit(path: Path, passphrase: str) -> int:
    """Open the store with another program, as a person does who wants to look into it; returns how many rows it saw."""
    done = subprocess.run(
        [sys.executable, "-c", _OUTSIDER, str(path)], input=passphrase, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
