"""A cluster of containers for one run of the tests: its files, images, networks and volumes, and what can befall it."""

import http.client
import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger import NAMESPACE, Ledger

from node.demo.mesh import free_ports

ROOT = Path(__file__).parent.parent.parent
TESTS = ROOT / "tests" / "cluster"
PUBLIC_BASE = "python:3.12-slim-bookworm"
CONTEXT = ("Dockerfile", ".dockerignore", "compose.yaml", "pyproject.toml", "README.md", "LICENSE",
           "requirements.lock", "build.lock", "hatch_build.py", "node", "sync", "tls", "keys")  # fmt: skip
NODES = ("a", "b", "c")
PATIENCE = 180.0
"""Seconds after which a wait that should end by itself is given up."""
KILL = "import json, os, signal; os.kill(json.load(open('/node/run.json'))['pid'], signal.SIGKILL)"


class ClusterError(Exception):
    """A command failed; the text has what it said."""


def run(*command: str, timeout: float = 300.0, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command to its end. Raises ClusterError with its output where it fails."""
    ran = subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)
    if check and ran.returncode:
        raise ClusterError(
            f"{' '.join(command)}: status {ran.returncode}\n{ran.stdout[-3_000:]}\n{ran.stderr[-3_000:]}"
        )
    return ran


def docker(*arguments: str, **options: Any) -> str:
    return run("docker", *arguments, **options).stdout.strip()


def compose_command() -> tuple[str, ...]:
    """Compose as a plug-in of the client, or the program of its own."""
    has_plugin = shutil.which("docker") and not run("docker", "compose", "version", check=False).returncode
    return ("docker", "compose") if has_plugin else ("docker-compose",)


@dataclass
class ClusterNode:
    """One node, reached by the port that is published on 127.0.0.1."""

    name: str
    port: int
    cluster: "Cluster"
    _key: str = ""

    @property
    def container(self) -> str:
        of = ("project", self.cluster.project), ("service", self.name), ("oneoff", "False")
        filters = [text for key, value in of for text in ("--filter", f"label=com.docker.compose.{key}={value}")]
        return docker("ps", "-aq", *filters)

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and answer. Raises OSError or HTTPException where none comes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(
                method, f"/api/v1{path}", data, {"Content-Type": "application/json", "X-Api-Key": self._key}
            )
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        status, answer = self.call("GET", path)
        assert status == 200, (self.name, path, status, answer)
        return answer

    def wait_up(self) -> None:
        """Until it answers, and this test knows its key."""
        eventually(lambda: self.inspect("{{.State.Running}}") == "true", f"{self.name} runs")
        self._key = self.execute("cat", "/node/api-key").strip()

        def answers() -> bool:
            try:
                return bool(self.call("GET", "/health")[1]["federation_enabled"])  # 503 until it is
            except (OSError, http.client.HTTPException):
                return False

        eventually(answers, f"{self.name} answers")

    def status(self) -> dict[str, Any]:
        return dict(self.get("/sync/status"))

    def of(self, peer: str) -> dict[str, Any]:
        """How it says that it stands with a peer."""
        return next(dict(one) for one in self.status()["peers"] if one["peer"] == peer)

    def memories(self) -> dict[str, str]:
        """Titles and contents of everything in the ledger's namespace."""
        found: dict[str, str] = {}
        while True:
            page = self.get(f"/memories?namespace={NAMESPACE}&limit=1000&offset={len(found)}")["memories"]
            found |= {one["title"]: one["content"] for one in page}
            if len(page) < 1_000:
                return found

    def command(self, *arguments: str) -> tuple[int, str]:
        """`ai-memory` as an operator runs it in the container: exit code and output."""
        ran = run("docker", "exec", self.container, "ai-memory", *arguments, check=False)
        return ran.returncode, ran.stdout + ran.stderr

    def execute(self, *command: str) -> str:
        return docker("exec", self.container, *command)

    def inspect(self, template: str) -> str:
        return docker("inspect", "--format", template, self.container)

    def kill(self) -> None:
        """kill -9 of the program itself, as the program's own user: nothing else has a right to."""
        run("docker", "exec", self.container, "python3", "-c", KILL, check=False)  # it takes this command with it

    def set_clock(self, seconds: float) -> None:
        """Its wall clock is off by so much from now on."""
        with (self.cluster.skews / self.name / "offset").open("r+b") as file:
            file.write(struct.pack("<q", round(seconds * 1e9)))


@dataclass
class Cluster:
    """compose.yaml under a project name of its own, built in a folder of its own."""

    folder: Path
    project: str
    base: str = ""
    files: tuple[str, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)
    timings: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._compose = compose_command()
        self.skews = self.folder / "skews"
        self.context = self.folder / "context"
        ports = free_ports(len(NODES) + 1)
        self.nodes = tuple(ClusterNode(name, port, self) for name, port in zip(NODES, ports, strict=False))
        self.stranger = ClusterNode("stranger", ports[-1], self)
        self.files = ("compose.yaml", str(TESTS / "test.yaml"))
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AI_MEMORY_", "COMPOSE_"))},
            **{f"{one.name.upper()}_PORT": str(one.port) for one in (*self.nodes, self.stranger)},
            "MESH_IMAGE": self.image,
            "SKEWS": str(self.skews),
        }

    @property
    def image(self) -> str:
        return f"{self.project}:local"

    @property
    def label(self) -> str:
        return f"{self.project}=1"

    # --- from nothing to running, and back

    def prepare(self) -> None:
        """The files of an image and of the clocks. Nothing is written into the checkout."""
        self.context.mkdir(parents=True)
        for name in CONTEXT:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, self.context / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, self.context / name)
        for name in (*NODES, "stranger"):
            (self.skews / name).mkdir(parents=True)
            (self.skews / name / "offset").write_bytes(bytes(8))
        first = self.skews / NODES[0] / "skew.so"
        run("cc", "-shared", "-fPIC", "-O2", "-nostdlib", "-fno-stack-protector", "-Wall", "-Werror",
            "-Wno-builtin-declaration-mismatch", "-o", str(first), str(TESTS / "skew.c"))  # fmt: skip
        for name in (*NODES[1:], "stranger"):
            shutil.copy(first, self.skews / name)
        self._open_to_all(self.folder)
        self._open_to_all(self.skews)

    def _open_to_all(self, top: Path) -> None:
        """The program in a container is another user."""
        for path in (top, *top.rglob("*")) if top == self.skews else (top,):
            path.chmod(0o755)

    def choose_base(self) -> None:
        """The base that is named, the public one where it can be had, or one made here with a folder of wheels."""
        self.base = os.environ.get("MESH_BASE", "")
        if not self.base and not run("docker", "pull", "-q", PUBLIC_BASE, check=False).returncode:
            self.base = PUBLIC_BASE
        if not self.base:
            self.base = f"{self.project}-base:local"
            with self.timed("base image"):
                run(str(TESTS / "base.sh"), self.base, self.label)
            with self.timed("wheels"):
                version = docker(
                    "run", "--rm", self.base, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"
                )
                run(
                    *(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes"),
                    *("--only-binary=:all:", "--python-version", version, "-d", str(self.context / "wheelhouse")),
                    *("-r", str(ROOT / "requirements.lock"), "-r", str(ROOT / "build.lock")),
                )
        self._environment["MESH_BASE"] = self.base

    def up(self, *arguments: str) -> None:
        self.compose("up", "-d", *arguments, timeout=900)

    def compose(self, *arguments: str, timeout: float = 300.0) -> str:
        files = [text for name in self.files for text in ("-f", name)]
        command = (*self._compose, "-p", self.project, *files, *arguments)
        return run(*command, timeout=timeout, cwd=self.context, env=self._environment).stdout

    def remove(self) -> None:
        """Everything that has this run's name."""
        name = f"name=^{self.project}"
        for kind, listing, removal in (
            (
                "containers",
                ("ps", "-aq", "--filter", f"label=com.docker.compose.project={self.project}"),
                ("rm", "-fv"),
            ),
            ("containers", ("ps", "-aq", "--filter", f"label={self.label}"), ("rm", "-fv")),
            ("networks", ("network", "ls", "-q", "--filter", name), ("network", "rm")),
            ("volumes", ("volume", "ls", "-q", "--filter", name), ("volume", "rm", "-f")),
            ("images", ("images", "-q", self.image), ("rmi", "-f")),
            ("images", ("images", "-q", "--filter", f"label={self.label}"), ("rmi", "-f")),
        ):
            found = list(dict.fromkeys(docker(*listing).split()))  # the newest first: what was built on others
            if found:
                ran = run("docker", *removal, *found, check=False)
                if ran.returncode:
                    sys.stderr.write(f"{kind} of {self.project} are left: {ran.stderr}\n")

    def restore(self) -> None:
        """All nodes as they should be, whatever the test before left: one failure must not look like twelve."""
        for one in self.nodes:
            one.set_clock(0)
        if self._is_settled():
            return
        self.up("--no-deps", *NODES)
        for one in self.nodes:
            one.wait_up()
        self.agree()

    def replace(self, node: ClusterNode) -> None:
        """Its container goes, and a new one comes."""
        self.compose("rm", "-sf", node.name)
        self.up("--no-deps", node.name)
        node.wait_up()

    @contextmanager
    def other_files(self, *more: str) -> Iterator[None]:
        """With more files laid over compose.yaml."""
        before, self.files = self.files, (*self.files, *more)
        try:
            yield
        finally:
            self.files = before

    def timed(self, what: str) -> "_Timed":
        return _Timed(self.timings, what)

    # --- what must hold

    def traffic(self, *names: str) -> AbstractContextManager[None]:
        """Somebody writes on each of these nodes (all, where none is named) while the block runs."""
        return self.ledger.traffic({one.name: one.call for one in self.nodes if one.name in (names or NODES)})

    def some_more(self, count: int = 10) -> None:
        """Wait until so many more writes were acknowledged."""
        enough = self.ledger.counts["acknowledged"] + count
        eventually(lambda: self.ledger.counts["acknowledged"] >= enough, "the writers go on", self.report)

    def agree(self) -> None:
        """All nodes keep the same, are in step with each other, and have all that was acknowledged to anybody."""
        eventually(self._is_settled, "all nodes agree", self.report)
        digests = {one.status()["digest"] for one in self.nodes}
        assert len(digests) == 1, self.report()
        for one in self.nodes:
            assert self.ledger.wrong(one.memories()) == [], one.name

    def _is_settled(self) -> bool:
        try:
            told = [one.status() for one in self.nodes]
        except (OSError, http.client.HTTPException):
            return False
        in_step = all(peer["state"] == "in_step" for one in told for peer in one["peers"])
        return in_step and len({one["digest"] for one in told}) == 1

    def report(self) -> str:
        lines = []
        for one in self.nodes:
            try:
                lines.append(json.dumps(one.status()))
            except (OSError, http.client.HTTPException) as error:
                lines.append(f"{one.name}: {type(error).__name__}")
            lines.append(self.log_of(one.container))
        return "\n".join(lines)

    def log_of(self, container: str) -> str:
        return run("docker", "logs", "--tail", "60", container, check=False).stderr

    # --- what can befall it

    def cut(self, node: ClusterNode) -> None:
        """Take a node off the network between the nodes; its published port stays."""
        docker("network", "disconnect", f"{self.project}_mesh", node.container)

    def heal(self, node: ClusterNode) -> None:
        docker("network", "connect", "--alias", f"{node.name}.mesh", f"{self.project}_mesh", node.container)

    def remove_volume(self, name: str) -> None:
        docker("volume", "rm", f"{self.project}_{name}")

    def copy_volume(self, source: str, target: str) -> None:
        """What is in one volume, and nothing else, into another. No container may use them."""
        script = (
            "import shutil, pathlib\n"
            "for one in pathlib.Path('/mesh/a').iterdir(): one.rmdir() if one.is_dir() else one.unlink()\n"
            "shutil.copytree('/data', '/mesh/a', dirs_exist_ok=True)"
        )
        docker("run", "--rm", "-v", f"{self.project}_{source}:/data", "-v", f"{self.project}_{target}:/mesh/a",
               "--entrypoint", "python3", self.image, "-c", script)  # fmt: skip


class _Timed:
    def __init__(self, timings: dict[str, float], what: str) -> None:
        self._timings, self._what = timings, what

    def __enter__(self) -> None:
        self._begun = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._timings[self._what] = time.monotonic() - self._begun


def eventually(look: Callable[[], Any], what: str, report: Callable[[], str] = str, seconds: float = PATIENCE) -> Any:
    """What a look-up says, once it says something. Fails with the report where that takes too long."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}\n{report()}"
        time.sleep(0.05)
    return found


WORDS = {
    "not_listening": "nobody listens at that address",
    "unknown_host": "the peer's host name is not known; check the address and the DNS",
    "timeout": "no answer in time; is the peer reachable, or is a firewall between?",
    "disconnected": "the peer hung up; it may be restarting, or refuse us",
    "refused": "the peer refused our certificate; ask its operator to add this line to its allowlist: sha256:",
    "wrong_pin": "another certificate than the configured one answers there: found sha256:",
    "peer_unlisted": "is not on our allowlist; let it in: `ai-memory allowlist add sha256:",
    "http_507": "the peer answered 507: this node's disk is full: nothing was stored; try again once it has space",
    "clock_skew": "ahead of this node's clock",
}
"""What a node says to each code."""


def says(node: ClusterNode, peer: str, *codes: str) -> str:
    """Wait until a node says that it is not in step with a peer, for one of these reasons, in its words; which one."""

    def look() -> dict[str, Any] | None:
        found = node.of(peer)
        return found if found["state"] != "in_step" and found["code"] in codes else None

    found = dict(eventually(look, f"{node.name} says {codes} of {peer}", lambda: json.dumps(node.status())))
    assert WORDS[found["code"]] in found["reason"], found
    return str(found["code"])
