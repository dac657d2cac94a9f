"""`ai-memory demo`: a real mesh on this machine, shown while it works, with the figures at the end."""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table

from node.cli.output import NO, CommandError, show
from node.demo.corpus import Text, texts
from node.demo.evidence import Knock, knock, plaintext_in
from node.demo.mesh import HOST, Mesh, MeshNode, NodeError
from node.plain import field

BATCH = 500
SAMPLES = 120
CHANGES = 40
PATIENCE = 300.0
NAMES = ("laptop", "desk", "server", "attic", "garage", "office", "cabin", "phone")


@dataclass(frozen=True, slots=True)
class Report:
    """What the demo found."""

    nodes: int
    records: int
    bytes: int
    converged: bool
    seconds: float
    """To convergence: from the first write of the load until all nodes had all of it."""
    propagation: tuple[float, float]
    """p50 and p99 in milliseconds: from the answer to a write on one node until a read on another finds it."""
    stranger: Knock
    plaintext_hits: int
    digests: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "nodes": self.nodes,
            "records": self.records,
            "bytes": self.bytes,
            "converged": self.converged,
            "seconds": round(self.seconds, 3),
            "propagation_ms": {"p50": round(self.propagation[0], 2), "p99": round(self.propagation[1], 2)},
            "stranger": {
                "refused": self.stranger.refused,
                "alert": self.stranger.alert,
                "http_bytes": self.stranger.http_bytes,
            },
            "plaintext_hits": self.plaintext_hits,
            "digests": list(self.digests),
        }

    @property
    def good(self) -> bool:
        return self.converged and self.stranger.refused and not self.plaintext_hits


def run(nodes: int, records: int, as_json: bool) -> int:
    """Show it. Returns an exit code: 0 where everything that is promised held."""
    console = _console(quiet=as_json)
    corpus = list(itertools.islice(texts(), records))
    with tempfile.TemporaryDirectory(prefix="ai-memory-demo-") as folder:
        try:
            report = _show(Path(folder), NAMES[:nodes], corpus, console)
        except NodeError as error:
            raise CommandError(NO, "demo", *str(error).splitlines()) from None
    if as_json:
        show(report.as_json(), True)
    else:
        _summary(report, console)
    return 0 if report.good else 1


def _console(*, quiet: bool = False, file: IO[str] | None = None) -> Console:
    """What nodes answer is text, and no markup of ours."""
    return Console(stderr=quiet, quiet=quiet, file=file, markup=False, emoji=False, highlight=False)


def _show(folder: Path, names: Sequence[str], corpus: list[Text], console: Console) -> Report:
    console.print(f"Minting one CA and {len(names)} certificates; starting {len(names)} nodes …")
    with Mesh(folder, list(names)) as mesh:
        mesh.start()
        size = sum(len(text.content.encode()) for text in corpus)
        loading, spread = _load(mesh, corpus, console)
        console.print(
            f"{len(corpus)} memories were loaded in {loading:.1f} s; all nodes agreed {spread - loading:.1f} s later."
        )
        changed = _edit(mesh, corpus)
        agreed = mesh.wait_converged(PATIENCE)
        console.print(
            f"{changed} edits and deletes on {len(names)} nodes: {'all agree' if agreed else 'THEY DISAGREE'}."
        )
        propagation = _propagation(mesh)
        console.print("A stranger with a certificate of the same CA knocks …")
        first = mesh.nodes[0]
        stranger = knock(HOST, first.federation_port, first.home.path / "ca.pem", mesh.issue("stranger"), folder)
        console.print(f"… and sees: alert {field(stranger.alert)!r}, {stranger.http_bytes} bytes of HTTP.")
        agreed = mesh.wait_converged(PATIENCE) and agreed
        digests = tuple(node.state[0] for node in mesh.nodes)
        records = int(first.get("/stats")["total"])
    homes = [node.home.path for node in mesh.nodes]
    hits = len(plaintext_in(homes, [text.content for text in corpus]))
    converged = agreed and len(set(digests)) == 1
    return Report(len(names), records, size, converged, spread, propagation, stranger, hits, digests)


def _load(mesh: Mesh, corpus: list[Text], console: Console) -> tuple[float, float]:
    """Load everything into the first node; returns seconds until it had all, and until all nodes had."""
    began = time.monotonic()
    first = mesh.nodes[0]
    with _live(mesh, len(corpus), console) as refresh:
        for start in range(0, len(corpus), BATCH):
            batch = corpus[start : start + BATCH]
            body = [
                {"namespace": one.namespace, "title": one.title, "content": one.content, "tier": "long"}
                for one in batch
            ]
            answer = first.call("POST", "/memories/bulk", body)
            if answer["errors"]:
                raise NodeError(f"the corpus does not fit: {field(answer['errors'][0])}")
            refresh()
        loaded = time.monotonic() - began
        deadline = time.monotonic() + PATIENCE
        while not mesh.converged() and time.monotonic() < deadline:
            refresh()
            time.sleep(0.05)
        refresh()
    return loaded, time.monotonic() - began


@contextmanager
def _live(mesh: Mesh, total: int, console: Console) -> Iterator[Callable[[], None]]:
    """A table and a bar for each node, redrawn on `refresh`."""

    def draw() -> Group:
        table = Table("node", "changes seen", "", "digest", expand=False)
        for node in mesh.nodes:
            digest, feed = node.state
            table.add_row(
                field(node.name),
                f"{feed}",
                ProgressBar(total=total, completed=min(feed, total), width=40),
                field(digest[:16]),
            )
        return Group(table)

    if console.quiet or not console.is_terminal:
        yield lambda: None
        return
    with Live(draw(), console=console, auto_refresh=False) as live:
        yield lambda: live.update(draw(), refresh=True)


def _edit(mesh: Mesh, corpus: list[Text]) -> int:
    """Change and delete memories, each on another node than the one before."""
    listed = mesh.nodes[0].get(f"/memories?limit={2 * CHANGES}")["memories"]
    for index, memory in enumerate(listed):
        node = mesh.nodes[index % len(mesh.nodes)]
        if index % 2:
            node.call("DELETE", f"/memories/{memory['id']}")
        else:
            node.call("PUT", f"/memories/{memory['id']}", {"content": memory["content"] + "\n\n(read again)"})
    return len(listed)


def _propagation(mesh: Mesh) -> tuple[float, float]:
    """Write on one node, read on the next until it is there."""
    waits = []
    for sample in range(SAMPLES):
        writer = mesh.nodes[sample % len(mesh.nodes)]
        reader = mesh.nodes[(sample + 1) % len(mesh.nodes)]
        made = writer.call("POST", "/memories", {"title": f"sample {sample}", "content": "is it there yet?"})
        waits.append(_until_there(reader, str(made["id"])))
    ordered = sorted(waits)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]


def _until_there(reader: MeshNode, record_id: str) -> float:
    began = time.perf_counter()
    while time.perf_counter() - began < PATIENCE:
        status, _ = reader.request("GET", f"/memories/{record_id}")
        if status == 200:
            return (time.perf_counter() - began) * 1_000
    raise NodeError(f"{reader.name} never got {record_id}")


def _summary(report: Report, console: Console) -> None:
    table = Table(show_header=False, box=None)
    p50, p99 = report.propagation
    rows = (
        ("nodes", str(report.nodes)),
        ("memories on each", str(report.records)),
        ("text", f"{report.bytes / 1e6:.1f} MB"),
        ("all nodes had it after", f"{report.seconds:.1f} s"),
        ("a write is readable elsewhere after", f"{p50:.1f} ms (p50), {p99:.1f} ms (p99)"),
        ("the stranger", f"alert: {field(report.stranger.alert)}; {report.stranger.http_bytes} bytes of HTTP"),
        ("plain text in any file of any node", f"{report.plaintext_hits} pieces"),
        ("digests", " ".join(field(digest[:12]) for digest in report.digests)),
    )
    for row in rows:
        table.add_row(*row)
    console.print(Panel(table, title="agreed" if report.good else "SOMETHING IS WRONG", expand=False))
