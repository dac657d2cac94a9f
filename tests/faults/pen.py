"""Clients that write: each looks, writes, looks again, and tells the witness what it was told."""

import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import msgspec
from marker import MARKER

from sync.dot import MAC_BITS
from sync.version import Version
from tests.faults.member import Client, Member, NoAnswer
from tests.faults.script import Write
from tests.faults.truth import World
from tests.faults.witness import Clock, Look, Seen, Witness, Written

BULK = 40
PROBE_EVERY = 0.25
MOST_BALLAST = 24
"""On one node in one round, lest the disks of the others fill up."""
BALLAST = 60_000
"""Bytes of one memory that is meant to find a full disk."""


def look(client: Client, *namespaces: str) -> list[Seen]:
    """All kept versions in these namespaces, or in all. Raises NoAnswer."""
    found: list[Seen] = []
    for namespace in namespaces or ("",):
        only = f"&namespace={quote(namespace, safe='')}" if namespace else ""
        for offset in itertools.count(0, 1_000):
            records = client("GET", f"/memories?limit=1000&offset={offset}{only}")[1]["memories"]
            found += [seen(record, record["namespace"]) for record in records]
            if len(records) < 1_000:
                break
    told = client("GET", "/conflicts?limit=1000")[1]["conflicts"]
    found += [
        seen(version["record"], one["namespace"])
        for one in told
        if not namespaces or one["namespace"] in namespaces
        for version in one["versions"]
    ]
    return list(dict.fromkeys(found))


def seen(record: dict[str, Any], namespace: str) -> Seen:
    """A record as a client reads it."""
    attestation = record["metadata"]["attestation"] if "metadata" in record else record["attestation"]
    token = record["content"].split("\n")[0] if "content" in record else None
    return Seen((namespace, record["id"]), token, clock_of(attestation), record.get("title", ""))


def clock_of(attestation: dict[str, Any]) -> Clock:
    """What its author had seen of each actor, itself included."""
    latest: dict[str, int] = {}
    for actor, counter, *_ in (attestation["dot"], *attestation["context"]):
        latest[actor] = max(latest.get(actor, 0), counter >> MAC_BITS)
    return frozenset(latest.items())


@contextmanager
def from_file(member: Member) -> Iterator[Look]:
    """Versions as a store's file has them, whatever its node does."""
    with member.file() as versions:
        yield lambda key: [_seen(one) for one in versions(key)]


def _seen(version: Version) -> Seen:
    return seen(msgspec.json.decode(version.doc), version.namespace)


class Pen(threading.Thread):
    """Writes as the script says, then a little on every node again and again until told to stop."""

    def __init__(self, members: Sequence[Member], world: World, witness: Witness, writes: Iterable[Write]) -> None:
        super().__init__(name="pen")
        self._members = members
        self._world = world
        self._witness = witness
        self._writes = tuple(writes)
        self._clients = [Client(one.host) for one in members]
        self._enough = threading.Event()
        self._numbers = itertools.count()
        self._ballast = [0] * len(members)
        self.lock = threading.Lock()
        """Held while a write is under way."""
        self.counts = dict.fromkeys(("acknowledged", "in doubt", "refused"), 0)
        self.error: BaseException | None = None
        self.seed_name = self._writes[0].namespace.partition("/")[0]

    def run(self) -> None:
        try:
            began = time.monotonic()
            for write in self._writes:
                time.sleep(max(0.0, began + write.at - time.monotonic()))
                self._write(write)
            while not self._enough.wait(PROBE_EVERY):
                for node in range(len(self._members)):
                    self._write(self._probe(node))
        except BaseException as error:  # told by `finish`, in the thread that waits for it
            self.error = error
        finally:
            for client in self._clients:
                client.close()

    def finish(self) -> None:
        """Stop, wait, and raise what went wrong here."""
        self._enough.set()
        self.join()
        if self.error is not None:
            raise self.error

    def _probe(self, node: int) -> Write:
        number = next(self._numbers)
        kind = "ballast" if self._world.full - {node} and self._ballast[node] < MOST_BALLAST else "put"
        self._ballast[node] += kind == "ballast"
        return Write(0.0, node, kind, f"{self.seed_name}/a", f"probe {node} {number % 8}")

    def _write(self, write: Write) -> None:
        if write.node in self._world.stopped | self._world.paused:
            return  # a client of a node that is not there
        with self.lock:
            try:
                self._one(write)
            except NoAnswer:
                self.counts["in doubt"] += 1

    def _one(self, write: Write) -> None:
        client = self._clients[write.node]
        if write.kind in ("bulk", "ballast"):
            self._bulk(client, write)
            return
        other = f"{self.seed_name}/b" if write.namespace != f"{self.seed_name}/b" else f"{self.seed_name}/a"
        before = look(client, write.namespace, other)
        self._witness.saw(before)
        found = next((one for one in before if one.title == write.title and one.key[0] == write.namespace), None)
        token = f"{self.seed_name}-{next(self._numbers)} of {self._members[write.node].name}"
        written = Written(None if write.kind == "delete" else token, write.node, f"{write.kind} {write.title!r}")
        body: dict[str, Any] = {"content": f"{token}\n{MARKER}"}
        if write.kind == "put" or found is None:
            if write.kind not in ("put", "edit"):
                return
            body |= {"title": write.title, "namespace": write.namespace, "tier": "long"}
            keys = [("POST", "/memories")]
        else:
            written.key = found.key
            written.seen = tuple(one for one in before if one.key == found.key)
            path = f"/memories/{found.key[1]}?namespace={quote(found.key[0], safe='')}"
            keys = [("DELETE" if write.kind == "delete" else "PUT", path)]
            if write.kind == "move":
                body |= {"namespace": other}
        method, path = keys[0]
        try:
            status, answer = client(method, path, None if method == "DELETE" else body)
        except NoAnswer:
            self._witness.wrote(written)
            raise
        if status >= 400:
            self.counts["refused"] += 1
            return
        self.counts["acknowledged"] += 1
        written.acknowledged, written.ended = True, time.monotonic()
        if written.token is not None:
            written.key = (answer["namespace"], answer["id"])
            at_new = tuple(one for one in before if one.key == written.key and one not in written.seen)
            written.seen += at_new
            if "metadata" in answer:
                written.clock = clock_of(answer["metadata"]["attestation"])
        self._witness.wrote(written)
        if written.token is not None and written.clock is None:
            after = look(client, write.namespace)
            self._witness.saw(after)
            written.clock = next((one.clock for one in after if one.token == token), None)

    def _bulk(self, client: Client, write: Write) -> None:
        number, size = next(self._numbers), 3 if write.kind == "ballast" else BULK
        filling = "x" * (BALLAST if write.kind == "ballast" else 200)
        tokens = [f"{self.seed_name}-{number}.{index} of {self._members[write.node].name}" for index in range(size)]
        bodies = [
            {"title": token, "content": f"{token}\n{MARKER}\n{filling}", "namespace": write.namespace, "tier": "long"}
            for token in tokens
        ]
        written = [Written(token, write.node, write.kind) for token in tokens]
        try:
            status, answer = client("POST", "/memories/bulk", bodies)
            if status < 400 and len(answer["ids"]) == size:
                for one, record_id in zip(written, answer["ids"], strict=True):
                    one.acknowledged, one.ended, one.key = True, time.monotonic(), (write.namespace, record_id)
                self.counts["acknowledged"] += size
            else:
                self.counts["refused"] += size
        finally:
            for one in written:
                self._witness.wrote(one)
