"""`make bench`: one run, one table. Each figure stands beside the limit of its parts, measured in the same run.

`python -m tests.bench [--quick] [--json]`. Real nodes in processes of their own, TLS and allowlist on, every commit
synced. `--quick` is a tenth of the size: to try the bench, not to quote it.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from node import setup
from node.config import PeerConfig
from node.demo.mesh import Mesh, MeshNode
from tests.bench import load, machine, parts
from tests.bench.corpus import SIGNER, records, versions
from tests.bench.load import Pusher
from tests.bench.wire import Connection, client_context

RARE, COMMON = "iterators", "the"
"""A word of some hundred memories among 100,000, and one that nearly all have; checked against what is found."""


@dataclass
class Row:
    """One line of the table."""

    name: str
    measured: float
    unit: str
    limit: float
    """Of the parts, in the same unit."""
    parts: str
    goal: float
    at_least: bool
    """True: the goal is a lower bound."""
    foreign: float
    p99: float | None = None
    p99_goal: float | None = None
    note: str = ""

    @property
    def reached(self) -> bool:
        first = self.measured >= self.goal if self.at_least else self.measured <= self.goal
        return first and (self.p99 is None or self.p99_goal is None or self.p99 <= self.p99_goal)


@dataclass
class Bench:
    """What is measured, and with what."""

    folder: Path
    scale: int
    console: Console
    rows: list[Row] = field(default_factory=list)
    _foreign: float = 0.0

    @contextmanager
    def clean(self) -> Iterator[None]:
        """Notes how busy the rest of the machine was meanwhile."""
        before = machine.look()
        yield
        self._foreign = machine.foreign(before, machine.look())

    def add(self, name: str, measured: float, unit: str, limit: float, of: str, goal: float, **more: Any) -> None:
        row = Row(name, measured, unit, limit, of, goal, more.pop("at_least", False), self._foreign, **more)
        self.rows.append(row)
        self.console.print(f"  {name}: {measured:,.2f} {unit}" + ("" if row.p99 is None else f", p99 {row.p99:.2f}"))

    def mesh(self, name: str, nodes: Sequence[str]) -> Mesh:
        (self.folder / name).mkdir()
        return Mesh(self.folder / name, list(nodes), {"AI_MEMORY_LOG_LEVEL": "warning"})


def p99(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def loader(mesh: Mesh, node: MeshNode) -> Pusher:
    """A certificate that `node` lets in as a peer without an address."""
    identity = mesh.issue("loader")
    folder = node.home.path
    cert, key = folder / "loader.pem", folder / "loader.key"
    cert.write_bytes(identity.cert_pem)
    key.touch(0o600)
    key.write_bytes(identity.key_pem)
    setup.add_peer(
        node.home, PeerConfig("loader", None, identity.fingerprint, "both", ("**",), ("**",), allow_unsigned=True), None
    )
    return Pusher(node.federation_url, client_context(folder / "ca.pem", cert, key), records(node.local_port))


def fresh_pushes(bench: Bench) -> None:
    """Three stores, each filled from nothing."""
    rates, raws = [], []
    for number in range(3):
        mesh = bench.mesh(f"fresh-{number}", ["one"])
        pusher = loader(mesh, mesh.nodes[0])
        batches = pusher.prepare(20_000 // bench.scale)
        raws.append(parts.raw_writes([one for batch in batches for one in batch]))
        with mesh:
            mesh.start()
            with bench.clean():
                rates.append(pusher.push(batches))
    raw = statistics.median(raws)
    bench.add("push of batches of 500, fresh store", statistics.median(rates), "records/s", raw,
              "raw set-wise SQLCipher writes, no text index", 10_000, at_least=True)  # fmt: skip


def signed_pushes(bench: Bench) -> None:
    """Three stores, each filled from nothing with signed records, while a client asks for `/health`."""
    rates, raws, looks = [], [], []
    for number in range(3):
        mesh = bench.mesh(f"signed-{number}", ["one"])
        pusher = loader(mesh, mesh.nodes[0])
        pusher.author = SIGNER
        batches = pusher.prepare(20_000 // bench.scale)
        raws.append(parts.raw_ingest([one for batch in batches for one in batch]))
        with mesh:
            mesh.start()
            with bench.clean():
                rate, some = load.looks_during(pusher, batches, mesh.nodes[0])
            rates.append(rate)
            looks += some
    raw = statistics.median(raws)
    bench.add("push of signed batches of 500, fresh store", statistics.median(rates), "records/s", raw,
              "one thread: decode, verify, write, index, commit", raw / 2, at_least=True)  # fmt: skip
    bench.add("health during such a push", statistics.median(looks), "ms", statistics.median(looks),
              "itself", 50.0, p99=p99(looks), p99_goal=50.0)  # fmt: skip


def one_store(bench: Bench) -> None:
    """One node, filled to 100,000 and then 200,000 records."""
    mesh = bench.mesh("big", ["big"])
    node = mesh.nodes[0]
    pusher = loader(mesh, node)
    home = node.home.path
    echo = parts.Echo(home / "ca.pem", home / "node.pem", home / "node.key")
    try:
        with mesh:
            mesh.start()
            assert node.process is not None
            empty_polls = _polls(bench, node, pusher, 0)
            fill(bench, pusher, 100_000 // bench.scale)
            settle(node)
            reads(bench, node, pusher, echo, empty_polls)
            fill(bench, pusher, 100_000 // bench.scale)
            settle(node)
            pushes_at_200k(bench, node, pusher)
    finally:
        echo.close()


def fill(bench: Bench, pusher: Pusher, count: int) -> None:
    while count > 0:
        some = min(count, 10_000)
        pusher.push(pusher.prepare(some))
        count -= some


def settle(node: MeshNode) -> None:
    """Wait until the indexes have caught up and the node is at rest: what follows is not the end of the load."""
    assert node.process is not None
    while node.get("/stats")["unindexed"]:
        time.sleep(0.1)
    while True:
        before = machine.look(node.process.pid)
        time.sleep(0.5)
        if machine.look(node.process.pid).ours - before.ours < 0.02:
            return


def _polls(bench: Bench, node: MeshNode, pusher: Pusher, count: int) -> list[float]:
    _, cursor = load.pages(node.federation_url, pusher.context, 1_000)
    with Connection(node.federation_url, pusher.context) as connection:
        path = f"/sync/since?limit=500&cursor={cursor}"
        load.timed(connection, path, 200)
        return load.timed(connection, path, 2_000)


def reads(bench: Bench, node: MeshNode, pusher: Pusher, echo: parts.Echo, empty_polls: list[float]) -> None:
    url, context = node.federation_url, pusher.context
    round_trips = echo.round_trips_ms(3_000)
    round_trip = statistics.median(round_trips)
    with bench.clean():
        rates = [load.pages(url, context, 1_000)[0] for _ in range(3)]
    database = parts.open_raw(node.home.path / "store.db", node.home.passphrase.read_text().strip())
    raw_pages = parts.raw_pages(database, 1_000)
    bench.add("since, 100k in the store", statistics.median(rates), "records/s", raw_pages,
              "one statement a page", 100_000, at_least=True)  # fmt: skip
    with bench.clean():
        full_polls = _polls(bench, node, pusher, 1)
    bench.add("since with nothing new, 100k in the store", statistics.median(full_polls), "ms", round_trip,
              "one TLS round trip", 0.5, p99=p99(full_polls),
              note=f"{statistics.median(empty_polls):.2f} ms with an empty store")  # fmt: skip
    with bench.clean(), Connection(url, context) as connection:
        load.timed(connection, "/health", 500)
        keep_alive = load.timed(connection, "/health", 10_000)
    bench.add("keep-alive requests through the gate, 1 connection", 1_000 / statistics.mean(keep_alive), "requests/s",
              1_000 / statistics.mean(round_trips), "TLS round trips", 6_500, at_least=True)  # fmt: skip
    handshakes = statistics.median(echo.handshakes_ms(150))
    with bench.clean():
        fresh = load.new_connections(url, context, 150)
    bench.add("new mutual-TLS connection and first answer", statistics.median(fresh), "ms", handshakes,
              "the same by the standard library, no HTTP", 3.5, p99=p99(fresh))  # fmt: skip
    single = versions(records(99), 2_000, 1, 1_700_000_000_000_000)
    commit = statistics.median(parts.raw_commit_ms(single))
    with Connection.to(node) as connection:
        plain = statistics.median(load.timed(connection, "/health", 2_000))
        [load.create(connection, f"warm {n}") for n in range(200)]
        with bench.clean():
            creates = [load.create(connection, f"create {n}") for n in range(2_000)]
        bench.add("create through the client API", statistics.median(creates), "ms", commit + plain,
                  "one raw synced commit + one HTTP round trip", 1.0, p99=p99(creates), p99_goal=4.0)  # fmt: skip
        settle(node)
        for word, kind, goal in ((RARE, "a rare word", 1.0), (COMMON, "a common word", 30.0)):
            with bench.clean():
                took = load.timed(connection, f"/search?q={word}&limit=20", 60)
            raw = statistics.median(parts.raw_search_ms(database, word))
            matches = database.execute("SELECT count(*) FROM text WHERE text MATCH ?", (word,)).fetchone()[0]
            bench.add(f"search at 100k, {kind}", statistics.median(took), "ms", raw + plain,
                      "SQLite's own ranking of all matches + one HTTP round trip", goal, p99=p99(took),
                      note=f"{word!r}: {matches:,} matches")  # fmt: skip
    database.close()


def pushes_at_200k(bench: Bench, node: MeshNode, pusher: Pusher) -> None:
    chunks = [pusher.prepare(20_000 // bench.scale) for _ in range(3)]
    raw = parts.raw_writes([one for batch in chunks[0] for one in batch])
    with bench.clean():
        rates = [pusher.push(chunk) for chunk in chunks]
    bench.add("push of batches of 500, 200k in the store", statistics.median(rates), "records/s", raw,
              "raw set-wise writes into a fresh file", 9_000, at_least=True)  # fmt: skip
    chunks = [pusher.prepare(20_000 // bench.scale) for _ in range(3)]
    took: list[float] = []
    with bench.clean():
        for chunk in chunks:
            rate, some = load.creates_during(pusher, chunk, node)
            took += some
    commit = statistics.median(parts.raw_commit_ms([one for batch in chunks[0] for one in batch][:1_000]))
    bench.add("creates during such a push", statistics.median(took), "ms", commit, "one raw synced commit", 20.0,
              p99=p99(took), p99_goal=20.0, note=f"{len(took)} creates, the push went on at {rate:,.0f}/s")  # fmt: skip


def two_nodes(bench: Bench) -> None:
    mesh = bench.mesh("pair", ["a", "b"])
    a, b = mesh.nodes
    home = a.home.path
    echo = parts.Echo(home / "ca.pem", home / "node.pem", home / "node.key")
    try:
        with mesh:
            mesh.start()
            round_trip = statistics.median(echo.round_trips_ms(2_000))
            commit = statistics.median(parts.raw_commit_ms(versions(records(98), 1_000, 1, 1_700_000_000_000_000)))
            load.propagation(a, b, 50)
            with bench.clean():
                took = load.propagation(a, b, 500)
            bench.add("write on A, readable on B", statistics.median(took), "ms", 2 * commit + round_trip,
                      "two raw synced commits + one TLS round trip", 2.5, p99=p99(took), p99_goal=6.0)  # fmt: skip
            b.stop()
            count = 60_000 // bench.scale
            load.store_many(a, records(97), count)
            with bench.clean():
                rate = catch_up(a, b, count)
    finally:
        echo.close()
    written = parts.raw_writes(versions(records(97), 5_000, 1, 1_700_000_000_000_000))
    bench.add(f"catching up with {count:,} changes after a stop", rate, "records/s", written,
              "raw set-wise SQLCipher writes, no text index", 2_000, at_least=True,
              note="the start of the process included")  # fmt: skip


def catch_up(a: MeshNode, b: MeshNode, count: int) -> float:
    """Records per second from starting `b` until it keeps exactly what `a` keeps."""
    began = time.perf_counter()
    b.start()
    while a.state[0] != b.state[0]:
        if time.perf_counter() - began > 300:
            raise RuntimeError(f"b did not catch up: {b.get('/sync/status')}")
        time.sleep(0.02)
    return count / (time.perf_counter() - began)


def table(rows: Sequence[Row]) -> Table:
    shown = Table("", "measured", "p99", "limit of its parts", "ratio", "to reach", "", "others' CPU")
    for row in rows:
        ratio = row.measured / row.limit if row.at_least else row.limit / row.measured
        sign = "≥" if row.at_least else "≤"
        goal = f"{sign} {row.goal:,g}" + ("" if row.p99_goal is None else f" / {row.p99_goal:g}")
        shown.add_row(
            row.name + (f"\n  {row.note}" if row.note else ""),
            f"{row.measured:,.2f} {row.unit}" if row.unit == "ms" else f"{row.measured:,.0f} {row.unit}",
            "" if row.p99 is None else f"{row.p99:.2f}",
            (f"{row.limit:,.2f}" if row.unit == "ms" else f"{row.limit:,.0f}") + f"\n  {row.parts}",
            f"{ratio:.2f}", goal, "reached" if row.reached else "MISSED", f"{row.foreign:.2f}",
        )  # fmt: skip
    return shown


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "fresh": fresh_pushes,
    "signed": signed_pushes,
    "store": one_store,
    "pair": two_nodes,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench", description="One run, one table.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size: to try the bench, not to quote it")
    parser.add_argument("--json", action="store_true", help="print one JSON array instead of the table")
    parser.add_argument("--only", choices=sorted(SECTIONS), help="one part of the table")
    arguments = parser.parse_args()
    console = Console(stderr=arguments.json, width=170)
    with tempfile.TemporaryDirectory(prefix="ai-memory-bench-") as folder:
        bench = Bench(Path(folder), 10 if arguments.quick else 1, console)
        console.print(f"one core of this machine at the beginning: {machine.speed()}")
        for name, section in SECTIONS.items():
            if arguments.only in (None, name):
                section(bench)
    console.print(f"one core of this machine at the end: {machine.speed()}")
    if arguments.json:
        print(json.dumps([asdict(row) | {"reached": row.reached} for row in bench.rows]))
    else:
        console.print(table(bench.rows))
    return 0 if all(row.reached for row in bench.rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
