"""The limits of the parts: what the same machine does in the same run with nothing of ours around it."""

import os
import socket
import ssl
import statistics
import tempfile
import threading
import time
from pathlib import Path

from node.store import rows
from node.store.connection import Connection as Database
from node.store.connection import connect
from node.store.key import derive, salt_of
from node.store.ledger import _memory_row
from node.store.schema import migrate
from sync import attest, record
from sync.ports import Change, Kept
from sync.version import Version
from tests.bench.wire import client_context

BATCH = 500
_INSERT = f"INSERT INTO memory(number, aliased, expires_at, giver, others, {rows.VERSION_COLUMNS}) VALUES "


def open_raw(path: Path, passphrase: str) -> Database:
    """A bare connection to a store, set up as the product's own; a new file where there is none."""
    key = derive(passphrase, salt_of(path))
    path.touch(0o600)
    return connect(path, key, writer=True)


def raw_writes(versions: list[Version]) -> float:
    """Rows per second: a statement and a synced commit for each 500; the product's table and indexes, no text index."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raw.db"
        database = open_raw(path, "bench")
        migrate(database, path)
        rates = []
        for start in range(0, len(versions), BATCH):
            changes = [
                Change(one.key, start + offset + 1, (Kept(one, 1),))
                for offset, one in enumerate(versions[start : start + BATCH])
            ]
            values = [value for change in changes for value in _memory_row(change)]
            began = time.perf_counter()
            database.execute("BEGIN IMMEDIATE")
            database.execute(_INSERT + rows.placeholders(15, len(changes)), values)
            database.execute("COMMIT")
            rates.append(len(changes) / (time.perf_counter() - began))
        database.close()
        return statistics.median(rates)


def raw_ingest(versions: list[Version]) -> float:
    """Rows per second of one thread that decodes, verifies, writes with a text index and commits 500 after 500.

    The merge is left out, and so is everything around it: it is what the parts of a signed push take by themselves.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raw.db"
        database = open_raw(path, "bench")
        migrate(database, path)
        rates = []
        for start in range(0, len(versions), BATCH):
            documents = [one.doc for one in versions[start : start + BATCH]]
            began = time.perf_counter()
            read = [record.read(document, "m") for document in documents]
            found = [one for one in read if isinstance(one, Version) and attest.is_genuine(one)]
            if len(found) != len(documents):
                raise RuntimeError("a record of the bench is not genuine")
            changes = [Change(one.key, start + offset + 1, (Kept(one, 1),)) for offset, one in enumerate(found)]
            values = [value for change in changes for value in _memory_row(change)]
            database.execute("BEGIN IMMEDIATE")
            database.execute(_INSERT + rows.placeholders(15, len(changes)), values)
            database.execute(
                "INSERT INTO text(rowid, title, content, tags, place) SELECT number, title, doc ->> '$.content',"
                " doc ->> '$.tags', '' FROM memory WHERE number > ?",
                (start,),
            )
            database.execute("COMMIT")
            rates.append(len(changes) / (time.perf_counter() - began))
        database.close()
        return statistics.median(rates)


def raw_commit_ms(versions: list[Version]) -> list[float]:
    """Milliseconds of single inserts, each with its own synced commit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raw.db"
        database = open_raw(path, "bench")
        migrate(database, path)
        took = []
        for number, one in enumerate(versions, 1):
            values = _memory_row(Change(one.key, number, (Kept(one, 1),)))
            began = time.perf_counter()
            database.execute("BEGIN IMMEDIATE")
            database.execute(_INSERT + rows.placeholders(15, 1), values)
            database.execute("COMMIT")
            took.append((time.perf_counter() - began) * 1_000)
        database.close()
        return took


def raw_pages(database: Database, page: int) -> float:
    """Rows per second read by one statement a page, over the whole store."""
    last = database.execute("SELECT max(number) FROM memory").fetchone()[0]
    began = time.perf_counter()
    for after in range(0, last, page):
        database.execute(
            "SELECT CAST(group_concat(doc, ',') AS BLOB) FROM (SELECT doc FROM memory WHERE number > ? AND number <= ?"
            " ORDER BY number)",
            (after, after + page),
        ).fetchone()
    return float(last / (time.perf_counter() - began))


def raw_search_ms(database: Database, word: str) -> list[float]:
    """Milliseconds of the ranked query alone, by SQLite's own order of rank."""
    took = []
    for _ in range(20):
        began = time.perf_counter()
        database.execute("SELECT rowid FROM text WHERE text MATCH ? ORDER BY rank LIMIT 20", (f'"{word}"',)).fetchall()
        took.append((time.perf_counter() - began) * 1_000)
    return took


class Echo:
    """A child process that echoes over mutual TLS: the standard library's, no HTTP, no gate."""

    def __init__(self, ca: Path, cert: Path, key: Path) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._context = client_context(ca, cert, key)
        self._pid = os.fork()
        if not self._pid:
            try:
                _serve(self._listening, ca, cert, key)
            finally:
                os._exit(0)

    def close(self) -> None:
        self._listening.close()
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)

    def connect(self) -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._context.wrap_socket(raw)

    def round_trips_ms(self, count: int, size: int = 200) -> list[float]:
        took, message = [], b"x" * size
        with self.connect() as connection:
            for _ in range(count):
                began = time.perf_counter()
                connection.sendall(message)
                connection.recv(65_536)
                took.append((time.perf_counter() - began) * 1_000)
        return took

    def handshakes_ms(self, count: int) -> list[float]:
        """New connection, one round trip, each."""
        took = []
        for _ in range(count):
            began = time.perf_counter()
            with self.connect() as connection:
                connection.sendall(b"x")
                connection.recv(10)
            took.append((time.perf_counter() - began) * 1_000)
        return took


def _serve(listening: socket.socket, ca: Path, cert: Path, key: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    while True:
        raw, _ = listening.accept()
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_echo, args=(context, raw), daemon=True).start()


def _echo(context: ssl.SSLContext, raw: socket.socket) -> None:
    with context.wrap_socket(raw, server_side=True) as connection:
        while data := connection.recv(65_536):
            connection.sendall(data)
