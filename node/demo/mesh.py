"""A mesh of real nodes on this machine: separate processes, own folders, one CA. For demo, tests and bench."""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from node import setup
from node.config import PeerConfig
from node.home import Home
from node.passphrase import from_file
from tls.authority import Authority, Identity
from tls.fingerprint import Fingerprint

START_TIMEOUT = 30.0
STOP_TIMEOUT = 20.0
HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)
"""Below the lowest that a system gives to an outgoing connection (32,768 on Linux, 49,152 elsewhere)."""


class NodeError(Exception):
    """A node of the mesh did not do what it was told."""


@dataclass(slots=True)
class MeshNode:
    """One node: its folder and, while it runs, its process."""

    name: str
    home: Home
    fingerprint: Fingerprint
    local_port: int
    federation_port: int
    settings: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)

    @property
    def federation_url(self) -> str:
        return f"https://{HOST}:{self.federation_port}"

    @property
    def local_url(self) -> str:
        return f"http://{HOST}:{self.local_port}"

    @property
    def api_key(self) -> str:
        """What its clients send."""
        return from_file(self.home.api_key)

    def start(self) -> None:
        """Start the process and wait until it answers. Raises NodeError with the end of its log."""
        log = (self.home.path / "node.log").open("ab")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AI_MEMORY_")}
        environment |= {
            "AI_MEMORY_LOCAL_LISTEN": f"{HOST}:{self.local_port}",
            "AI_MEMORY_FEDERATION_LISTEN": f"{HOST}:{self.federation_port}",
            "AI_MEMORY_LOG_FORMAT": "json",
            **self.settings,
        }
        with log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "node", "serve", "--home", str(self.home.path)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            running = self.home.running()  # its own word: somebody else may answer on that port
            if running is None or running.pid != self.process.pid:
                time.sleep(0.02)
                continue
            try:
                status, told = self.request("GET", "/health")
                if status < 400 and told["federation_enabled"]:
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.02)  # not up yet, or not yet well: its federation listener opens last
        raise NodeError(f"node {self.name} did not start; its log ends:\n{self.log_tail()}")

    def log_tail(self) -> str:
        return (self.home.path / "node.log").read_text(errors="replace")[-2_000:]

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End the process and wait for it."""
        self.hang_up()
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_TIMEOUT)
        self.process = None

    def kill(self) -> None:
        """As a power cut would: no chance to finish anything."""
        self.stop(signal.SIGKILL)

    # --- the client API

    def get(self, path: str) -> dict[str, Any]:
        return self.call("GET", path)

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """A request to the local listener over a kept connection. Raises NodeError for an error answer."""
        status, answer = self.request(method, path, body)
        if status >= 400:
            raise NodeError(f"{self.name}: {method} {path[:80]} answered {status}: {answer}")
        return answer

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """Status and JSON of an answer."""
        connection = self._connection or http.client.HTTPConnection(HOST, self.local_port, timeout=60)
        if self._connection is None:
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "X-Api-Key": self.api_key}
        try:
            connection.request(method, "/api/v1" + path, data, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException):
            connection.close()
            self._connection = None
            raise
        self._connection = connection
        return response.status, answer

    def hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def state(self) -> tuple[str, int]:
        """Digest and feed number."""
        told = self.get("/sync/status")
        return str(told["digest"]), int(told["feed"])


class Mesh:
    """Nodes that all know each other. A context manager: at its end every process is gone."""

    def __init__(self, folder: Path, names: list[str], settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.nodes: list[MeshNode] = []
        ports = free_ports(2 * len(names))
        for index, name in enumerate(names):
            home = Home(folder / name)
            first = self.nodes[0].home if self.nodes else None
            ca = (first.path / "ca.pem", first.ca_key) if first is not None else None
            made = setup.init(home, name, (HOST, "localhost"), ca=ca, environment={})
            self.nodes.append(
                MeshNode(name, home, made.fingerprint, ports[2 * index], ports[2 * index + 1], settings or {})
            )
        for one in self.nodes:
            for other in self.nodes:
                if other is not one:
                    peer = PeerConfig(other.name, other.federation_url, other.fingerprint, "both", ("**",), ("**",))
                    setup.add_peer(one.home, peer, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def issue(self, name: str) -> Identity:
        """A certificate of the mesh's own CA, on nobody's allowlist."""
        home = self.nodes[0].home
        return Authority.load((home.path / "ca.pem").read_bytes(), home.ca_key.read_bytes()).issue(name)

    def converged(self) -> bool:
        """True where all nodes keep exactly the same versions."""
        return len({node.state[0] for node in self.nodes}) == 1

    def wait_converged(self, seconds: float) -> bool:
        """Wait until they do; False where the time ran out."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.converged():
                return True
            time.sleep(0.05)
        return False


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now, none of those that systems give to outgoing connections.

    One of these could be taken by such a connection before its node listens on it, or while that is restarted.
    """
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            found.append(port)
        if len(found) == count:
            return found
    raise NodeError(f"fewer than {count} ports between {PORTS.start} and {PORTS.stop} are free")
