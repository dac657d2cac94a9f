"""A peer that pushes, and clients that create, poll and search: what is done to a node while the clock runs."""

import itertools
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from node.demo.mesh import MeshNode
from sync.attest import Author
from sync.version import Version
from tests.bench.corpus import LIFE, NOBODY, Record, records, versions
from tests.bench.wire import Connection

BATCH = 500


@dataclass
class Pusher:
    """One peer's connection, and where its feed stands."""

    url: str
    context: ssl.SSLContext
    source: Iterator[Record] = field(default_factory=records)
    number: int = 0
    author: Author = NOBODY
    _cursor: str | None = None

    def prepare(self, count: int) -> list[list[Version]]:
        """The next records as batches, made before the clock runs."""
        made = versions(self.source, count, self.number + 1, time.time_ns() // 1_000 - 60_000_000, self.author)
        return [made[start : start + BATCH] for start in range(0, count, BATCH)]

    def push(self, batches: list[list[Version]]) -> float:
        """Push them, one request in flight; returns records per second of the time until the last answer."""
        with Connection(self.url, self.context) as connection:
            hello = connection.json("POST", "/sync/push", {"sender_agent_id": "bench", "memories": [], "life": LIFE})
            bodies = [self._body(batch, hello["life"]) for batch in batches]
            requests = [connection.prepared("POST", "/sync/push", body) for body in bodies]
            count = sum(map(len, batches))
            applied = 0
            began = time.perf_counter()
            answers = [connection.send(request) for request in requests]
            took = time.perf_counter() - began
            for answer in answers:
                applied += int(answer.partition(b'"applied":')[2].partition(b",")[0])
        if applied != count:
            raise RuntimeError(f"{count} records were pushed, {applied} applied: {answers[-1][:300]!r}")
        return count / took

    def _body(self, batch: list[Version], life: str) -> bytes:
        self.number += len(batch)
        after, self._cursor = self._cursor, f"{LIFE}.{self.number}.{self.number}.{self.number:016x}.00000000"
        quoted = b"null" if after is None else b'"%b"' % after.encode()
        return (
            b'{"sender_agent_id":"bench","life":"%b","after":%b,"to":"%b","for":"%b","memories":[%b],"tombstones":[],'
            b'"links":[],"offers":[],"dry_run":false}'
        ) % (LIFE.encode(), quoted, self._cursor.encode(), life.encode(), b",".join(one.doc for one in batch))


def creates_during(pusher: Pusher, batches: list[list[Version]], node: MeshNode) -> tuple[float, list[float]]:
    """Push while a local client creates one memory after the other: records per second, and milliseconds a create."""
    rates: list[float] = []
    pushing = threading.Thread(target=lambda: rates.append(pusher.push(batches)))
    took: list[float] = []
    with Connection.to(node) as connection:
        pushing.start()
        while pushing.is_alive():
            took.append(create(connection, f"during a push {time.perf_counter_ns()}"))
        pushing.join()
    return rates[0], took


def looks_during(pusher: Pusher, batches: list[list[Version]], node: MeshNode) -> tuple[float, list[float]]:
    """Push while a local client asks for `/health` every 5 ms: records per second, and milliseconds a look."""
    rates: list[float] = []
    pushing = threading.Thread(target=lambda: rates.append(pusher.push(batches)))
    took: list[float] = []
    with Connection.to(node) as connection:
        request = connection.prepared("GET", "/health")
        pushing.start()
        while pushing.is_alive():
            began = time.perf_counter()
            connection.send(request)
            took.append((time.perf_counter() - began) * 1_000)
            time.sleep(0.005)
        pushing.join()
    return rates[0], took


def create(connection: Connection, title: str) -> float:
    """Milliseconds of one create through the client API."""
    body = b'{"title":"%b","content":"%b","tier":"long"}' % (title.encode(), b"something worth keeping " * 20)
    request = connection.prepared("POST", "/memories", body)
    began = time.perf_counter()
    connection.send(request)
    return (time.perf_counter() - began) * 1_000


def store_many(node: MeshNode, source: Iterator[Record], count: int) -> None:
    """Store through the client API, 500 a request."""
    with Connection.to(node) as connection:
        for start in range(0, count, BATCH):
            body = [
                {"namespace": one.namespace, "title": one.title, "content": one.content, "tier": "long"}
                for one in itertools.islice(source, min(BATCH, count - start))
            ]
            answer = connection.json("POST", "/memories/bulk", body)
            if answer["errors"]:
                raise RuntimeError(f"not stored: {answer['errors'][:3]}")


def pages(url: str, context: ssl.SSLContext, limit: int) -> tuple[float, str]:
    """Read the whole feed by `since`: records per second, and the last cursor."""
    with Connection(url, context) as connection:
        cursor, count = "", 0
        began = time.perf_counter()
        while True:
            answer = connection.request("GET", f"/sync/since?limit={limit}&cursor={cursor}")
            count += int(answer.partition(b'"count":')[2].partition(b",")[0])
            tail = answer[-400:]
            cursor = tail.partition(b'"cursor":"')[2].partition(b'"')[0].decode()
            if b'"more":false' in tail:
                return count / (time.perf_counter() - began), cursor


def timed(connection: Connection, path: str, count: int) -> list[float]:
    """Milliseconds of each of `count` GETs over one kept connection."""
    request = connection.prepared("GET", path)
    took = []
    for _ in range(count):
        began = time.perf_counter()
        connection.send(request)
        took.append((time.perf_counter() - began) * 1_000)
    return took


def new_connections(url: str, context: ssl.SSLContext, count: int) -> list[float]:
    """Milliseconds from nothing to the first answer."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        with Connection(url, context) as connection:
            connection.request("GET", "/health")
        took.append((time.perf_counter() - began) * 1_000)
    return took


def propagation(writing: MeshNode, reading: MeshNode, count: int) -> list[float]:
    """Milliseconds from sending a create to one node until a read by id on another finds it.

    The reader asks without a pause, and so takes a part of a core from the node that it waits for.
    """
    took = []
    with Connection.to(writing) as writer, Connection.to(reading) as reader:
        for index in range(count):
            body = b'{"title":"propagation %d","content":"%b","tier":"long"}' % (index, b"is it there yet? " * 20)
            began = time.perf_counter()
            answer = writer.request("POST", "/memories", body)
            record_id = answer.partition(b'"id":"')[2].partition(b'"')[0].decode()
            request = reader.prepared("GET", f"/memories/{record_id}")
            while not reader.finds(request):
                continue
            took.append((time.perf_counter() - began) * 1_000)
    return took
