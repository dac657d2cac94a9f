"""`make liar`: two listed nodes and a listed liar. Whatever it sends, a write is on the other node within 2 s.

`LIAR_SECONDS` says for how long, `LIAR_SEED` chooses what is sent. Ends with 1 where the bar was missed, with
2 where the liar did not lie to the end.
"""

import multiprocessing
import os
import secrets
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

from node import setup
from node.config import PeerConfig
from node.demo.mesh import HOST, Mesh, MeshNode, NodeError, free_ports
from tests.liar.liar import Place, run

SECONDS = float(os.environ.get("LIAR_SECONDS", "300"))
SEED = int(os.environ.get("LIAR_SEED", "1"))
WITHIN = 2.0
"""Seconds from a write to the moment when it can be read on the other node."""
MOST_RSS = 300
"""MiB of either node, at any time."""
PATIENCE = 30.0
EVERY = 0.2
SETTINGS = {"AI_MEMORY_SYNC_PULL_INTERVAL": "2", "AI_MEMORY_SYNC_RETRY_LONGEST": "2"}


def main() -> int:
    """Play it; 1 where a write was late or a node too large."""
    with tempfile.TemporaryDirectory(prefix="liar-") as folder, Mesh(Path(folder), ["a", "b"], SETTINGS) as mesh:
        place = prepare(mesh, Path(folder))
        mesh.start()
        liar = multiprocessing.get_context("spawn").Process(target=run, args=(place, SECONDS), daemon=True)
        liar.start()
        try:
            took = play(mesh)
            liar.join(PATIENCE)
            if liar.exitcode != 0:
                print("the liar came to its end before its time, so nothing was shown", file=sys.stderr)
                return 2
            return report(mesh, took)
        finally:
            liar.terminate()
            liar.join()


def prepare(mesh: Mesh, folder: Path) -> Place:
    """A certificate for the liar, on both lists; both nodes call it and are called."""
    identity = mesh.issue("liar")
    cert, key = folder / "liar.pem", folder / "liar.key"
    cert.write_bytes(identity.cert_pem)
    key.touch(0o600)
    key.write_bytes(identity.key_pem)
    (port,) = free_ports(1)
    for node in mesh.nodes:
        peer = PeerConfig("liar", f"https://{HOST}:{port}", identity.fingerprint, "both", ("**",), ("**",))
        setup.add_peer(node.home, peer, None)
    ports = tuple(node.federation_port for node in mesh.nodes)
    return Place(str(cert), str(key), str(mesh.nodes[0].home.path / "ca.pem"), port, ports, SEED)


def play(mesh: Mesh) -> list[float]:
    """Write on each node in turn, and wait for it on the other. Seconds that each took."""
    a, b = mesh.nodes
    took: list[float] = []
    end = time.monotonic() + SECONDS
    for here, there in cycle(((a, b), (b, a))):
        if time.monotonic() > end:
            return took
        took.append(_arrives(here, there, secrets.token_hex(8)))
        time.sleep(EVERY)
    return took


def _arrives(here: MeshNode, there: MeshNode, title: str) -> float:
    began = time.monotonic()
    made = here.call("POST", "/memories", {"title": title, "content": "an honest text", "namespace": "honest"})
    while time.monotonic() - began < PATIENCE:
        status, _ = there.request("GET", f"/memories/{made['id']}")
        if status == 200:
            break
        time.sleep(0.005)
    return time.monotonic() - began


def report(mesh: Mesh, took: list[float]) -> int:
    """Say what came of it."""
    took = sorted(took)
    late = sum(one > WITHIN for one in took)
    middle, high, longest = (f"{took[place] * 1e3:.0f} ms" for place in (len(took) // 2, len(took) * 99 // 100, -1))
    print(f"{len(took)} writes in {SECONDS:.0f} s: p50 {middle}, p99 {high}, longest {longest}")
    print(f"{late} of them took more than {WITHIN:.0f} s")
    sizes = [_most_rss(node) for node in mesh.nodes]
    for node, size in zip(mesh.nodes, sizes, strict=True):
        lines = (node.home.path / "node.log").read_bytes().count(b"\n")
        told = sorted({one["kind"] for one in node.get("/sync/status")["alarms"]})
        print(f"{node.name}: at most {size} MiB, {lines} lines of log, alarms: {', '.join(told) or 'none'}")
    return int(late > 0 or max(sizes) > MOST_RSS)


def _most_rss(node: MeshNode) -> int:
    """MiB, the most that it was since its start (VmHWM, proc(5))."""
    if node.process is None:
        raise NodeError(f"{node.name} does not run")
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    sys.exit(main())
