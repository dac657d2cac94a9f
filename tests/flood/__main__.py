"""`make flood`: a stranger floods a real node while a listed peer connects again and again. Prints one table.

`python -m tests.flood [--seconds 60] [--only WORD] [--json]`. Node, stranger and peer are processes of their own on
this machine, so the stranger's own work takes a part of it away. Exit code 1 where an attempt of the peer failed, or
where one in a hundred took a second or longer.
"""

import argparse
import json
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from node.demo.mesh import Mesh, MeshNode
from tests.bench import machine
from tests.bench.wire import client_context

PATIENCE = 10.0
"""Seconds that one attempt may take before it has failed."""
PAUSE = 0.05
GOAL = 1.0
"""Seconds in which 99 of 100 attempts have their answer."""
EVERYTHING = {"silent": 8, "half": 8, "drip": 4, "hello": 4, "whole": 4}
NEAR = [f"127.0.0.{last}" for last in range(2, 18)]
FAR = [f"127.{second}.0.2" for second in range(2, 18)]


@dataclass(frozen=True)
class Case:
    """Who floods from where, and where the peer is."""

    name: str
    addresses: list[str]
    ways: dict[str, int]
    peer: str = "127.0.0.1"
    is_listed: bool = False
    """Its certificate is."""


CASES = (
    Case("nobody", [], {}),
    Case("everything at once, 16 addresses of the peer's own /24", NEAR, EVERYTHING),
    Case("everything at once, 16 networks", FAR, EVERYTHING),
    Case("silent sockets, 16 networks", FAR, {"silent": 32}),
    Case("whole handshakes with an unlisted certificate, 16 networks", FAR, {"whole": 16}),
    Case("hellos and nothing after them, 16 networks", FAR, {"hello": 16}),
    Case("silent sockets from the peer's own address", ["127.0.0.1"], {"silent": 64, "half": 64}),
    Case("everything at once from the peer's own address", ["127.0.0.1"], EVERYTHING),
    Case("another listed peer asks 150 times for 8 MiB and reads nothing", ["127.9.0.2"], {"deaf": 15}, is_listed=True),
)


@dataclass(frozen=True)
class Row:
    """What the peer met with."""

    case: str
    attempts: int
    failed: int
    median_ms: float
    p99_ms: float
    worst_ms: float
    cores: float
    """Of the node's process."""
    peak_mib: float
    """The node's memory, at most since its start."""
    strangers: dict[str, int]
    """How often the stranger came in each way."""

    @property
    def is_good(self) -> bool:
        return not self.failed and self.p99_ms < GOAL * 1_000


def attempt(port: int, context: ssl.SSLContext, source: str) -> float:
    """Seconds for a new connection, a handshake, a request and its answer. Raises OSError where there is none."""
    began = time.perf_counter()
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0)) as raw,
        context.wrap_socket(raw) as connection,
    ):
        connection.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: node\r\n\r\n")
        if b"200 OK" not in connection.recv(4_096):
            raise ConnectionError("no answer")
    return time.perf_counter() - began


@contextmanager
def flooding(folder: Path, port: int, case: Case) -> Iterator[dict[str, int]]:
    """A stranger at work; at the end what it has done is in the dictionary."""
    done: dict[str, int] = {}
    if not case.addresses:
        yield done
        return
    command = [sys.executable, "-m", "tests.flood.stranger", str(port), str(folder), json.dumps(case.ways)]
    process = subprocess.Popen([*command, *case.addresses], stdout=subprocess.PIPE)
    try:
        yield done
        process.terminate()
        done.update(json.loads(process.communicate(timeout=30)[0]))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def fill(node: MeshNode) -> None:
    """Enough for pages of the largest size."""
    node.start()
    for batch in range(4):
        bodies = [{"title": f"{batch}-{one}", "content": "x" * 60_000, "namespace": "n"} for one in range(40)]
        node.call("POST", "/memories/bulk", bodies)
    node.stop()


def peak_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1_024 for line in lines if line.startswith("VmHWM"))


def measured(folder: Path, node: MeshNode, context: ssl.SSLContext, case: Case, seconds: float) -> Row:
    """The peer comes as soon as the flood has begun, having never been there before."""
    node.start()
    assert node.process is not None, "it was started"
    took, failed = [], 0
    with flooding(folder, node.federation_port, case) as done:
        time.sleep(2 if case.addresses else 0)
        before = machine.look(node.process.pid)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                took.append(attempt(node.federation_port, context, case.peer))
            except OSError as error:
                failed += 1
                print(f"  failed: {error!r}", file=sys.stderr)
            time.sleep(PAUSE)
        after = machine.look(node.process.pid)
    peak = peak_mib(node.process.pid)
    node.stop()
    took = sorted(took) or [PATIENCE]
    return Row(
        case.name,
        len(took) + failed,
        failed,
        took[len(took) // 2] * 1_000,
        took[int(len(took) * 0.99)] * 1_000,
        took[-1] * 1_000,
        (after.ours - before.ours) / (after.at - before.at),
        peak,
        done,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="make flood")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", default="", help="cases that have this word in their name")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, Mesh(Path(folder), ["node", "peer", "liar"]) as mesh:
        node, peer, liar = mesh.nodes
        stranger, unlisted = mesh.issue("stranger"), Path(folder) / "stranger"
        unlisted.mkdir()
        (unlisted / "node.pem").write_bytes(stranger.cert_pem)
        (unlisted / "node.key").touch(0o600)
        (unlisted / "node.key").write_bytes(stranger.key_pem)
        shutil.copy(node.home.path / "ca.pem", unlisted / "ca.pem")
        fill(node)
        context = client_context(*(peer.home.path / name for name in ("ca.pem", "node.pem", "node.key")))
        for case in CASES:
            if asked.only in case.name:
                home = liar.home.path if case.is_listed else unlisted
                rows.append(measured(home, node, context, case, asked.seconds))
                print(_line(rows[-1]), file=sys.stderr)
    if asked.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print(f"\n| {asked.seconds:.0f} s of | attempts | failed | median | p99 | worst | node's cores | node's peak |")
        print("|---|---:|---:|---:|---:|---:|---:|---:|")
        print(*map(_line, rows), sep="\n")
    return 0 if all(row.is_good for row in rows) else 1


def _line(row: Row) -> str:
    times = " | ".join(f"{value:,.1f} ms" for value in (row.median_ms, row.p99_ms, row.worst_ms))
    return f"| {row.case} | {row.attempts} | {row.failed} | {times} | {row.cores:.2f} | {row.peak_mib:.0f} MiB |"


if __name__ == "__main__":
    raise SystemExit(main())
