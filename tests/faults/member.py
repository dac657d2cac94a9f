"""One node under test: its own process on a host of its own, its store on a small disk, and all that can befall it."""

import http.client
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from netns import Host, die_with_parent, mount_small_disk, unmount

from node import passphrase, setup
from node.config import PeerConfig
from node.files import write_kept, write_private
from node.home import Home
from node.peerfile import with_peer
from node.store import Store
from node.store.backup import back_up
from node.store.connection import connect
from node.store.key import derive, salt_of
from node.store.locator import Locator
from node.store.reader import Reader
from sync.version import Key, Version
from tls import allowlist
from tls.authority import Authority, Identity
from tls.fingerprint import Fingerprint

DISK = 64 * 2**20
LOCAL_PORT, FEDERATION_PORT = 9077, 9443
START_TIMEOUT = 60.0
ANSWER_TIMEOUT = 5.0
SETTINGS = {
    "AI_MEMORY_LOCAL_LISTEN": f"127.0.0.1:{LOCAL_PORT}",
    "AI_MEMORY_LOG_FORMAT": "json",
    "AI_MEMORY_SYNC_PULL_INTERVAL": "0.7",
    "AI_MEMORY_SYNC_RETRY_FIRST": "0.1",
    "AI_MEMORY_SYNC_RETRY_LONGEST": "0.7",
    "AI_MEMORY_SYNC_REQUEST_TIMEOUT": "2",
}
INSIDE = Path(__file__).parent / "inside"
ROOT = Path(__file__).parent.parent.parent


class NoAnswer(Exception):
    """The node did not answer: what was asked for may have happened, or not."""


class Client:
    """Requests to one node's local listener over a kept connection; for one thread."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._connection: http.client.HTTPConnection | None = None

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """Status and JSON of the answer. Raises NoAnswer."""
        try:
            connection = self._connection or self._connect()
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, "/api/v1" + path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise NoAnswer(repr(error)) from error

    def _connect(self) -> http.client.HTTPConnection:
        made = http.client.HTTPConnection("127.0.0.1", LOCAL_PORT, timeout=ANSWER_TIMEOUT)
        made.sock = self._host.connect(("127.0.0.1", LOCAL_PORT), ANSWER_TIMEOUT)
        made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = made
        return made

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Member:
    """A node. `ca`: certificate and key of the mesh's CA; None: it makes one."""

    def __init__(self, name: str, host: Host, folder: Path, ca: tuple[Path, Path] | None, sabotage: str | None) -> None:
        self.name, self.host, self.place = name, host, host.number - 1
        self._disk = folder / f"{name}.disk"
        self._disk.mkdir()
        mount_small_disk(str(self._disk), DISK)
        self._store = self._disk / "store.db"
        self.home = Home(folder / name)
        self.log = folder / f"{name}.log"
        self._clock = folder / f"{name}.clock"
        self._clock.write_bytes(bytes(8))
        self._copy = folder / f"{name}.copy"
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("AI_MEMORY_")},
            **SETTINGS,
            "AI_MEMORY_STORE_PATH": str(self._store),
            "AI_MEMORY_FEDERATION_LISTEN": f"{host.address}:{FEDERATION_PORT}",
            "PYTHONPATH": f"{INSIDE}{os.pathsep}{ROOT}",
            "FAULT_CLOCK": str(self._clock),
            **({"FAULT_SABOTAGE": sabotage} if sabotage is not None else {}),
        }
        here = {"AI_MEMORY_STORE_PATH": str(self._store)}
        made = setup.init(self.home, name, (host.address,), ca=ca, api_key=False, environment=here)
        self.fingerprint = made.fingerprint
        self.client = Client(host)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://{self.host.address}:{FEDERATION_PORT}"

    @cached_property
    def ca(self) -> tuple[Path, Path]:
        return self.home.path / "ca.pem", self.home.ca_key

    # --- the process

    def launch(self) -> None:
        """Start the process, without waiting for it."""
        with self.log.open("ab") as log, self.host.inside():
            self.process = subprocess.Popen(
                [sys.executable, "-m", "node", "serve", "--home", str(self.home.path)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                preexec_fn=die_with_parent,
            )

    def await_ready(self) -> None:
        """Wait until its listeners are open. Raises NoAnswer with the end of its log."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self.process is not None and self.process.poll() is None:
            try:
                if self.client("GET", "/health")[1]["federation_enabled"] or self.lists_nobody:
                    return
            except NoAnswer:
                time.sleep(0.03)  # not up yet
        raise NoAnswer(f"{self.name} did not start:\n{self.log_tail()}")

    def start(self) -> None:
        self.launch()
        self.await_ready()

    def end(self, how: int) -> None:
        """Send a signal that ends the process, and wait for the end."""
        self.client.close()
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)
        self.process = None

    def signal(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-2_500:] if self.log.exists() else "(no log)"

    def logged(self, start: int) -> list[dict[str, Any]]:
        """The events since the log had `start` bytes."""
        lines = self.log.read_bytes()[start:].splitlines()
        return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]

    def mistakes(self) -> list[str]:
        """What its log says that no fault excuses: bugs, and traces that nobody caught."""
        text = self.log.read_text(errors="replace")
        return [line[:2_000] for line in text.splitlines() if '.bug"' in line or line.startswith("Traceback")]

    def status(self) -> dict[str, Any]:
        """What `sync status` tells. Raises NoAnswer."""
        return self.client("GET", "/sync/status")[1]

    # --- its clock and its disk

    def shift_clock(self, seconds: float) -> None:
        """The wall clock is wrong by so much from now on."""
        with self._clock.open("r+b") as file:
            file.write(struct.pack("<q", int(seconds * 1e9)))

    def fill_disk(self) -> None:
        """Leave no room at all."""
        with (self._disk / "ballast").open("ab", buffering=0) as ballast:
            for size in (2**20, 65_536, 4_096, 1):
                try:
                    while ballast.write(bytes(size)):
                        pass
                except OSError:
                    continue

    def free_disk(self) -> None:
        (self._disk / "ballast").unlink()

    # --- its store

    @cached_property
    def _secret(self) -> str:
        return passphrase.from_file(self.home.passphrase)

    def copy_store(self) -> None:
        """A consistent copy, to be put back later."""
        self._copy.unlink(missing_ok=True)
        back_up(self._store, self._secret, self._copy)

    def wipe_store(self) -> None:
        """As a new disk would be, and begun anew on it. The process must have ended."""
        self._remove()
        Store.open(self._store, self._secret, create=True, readers=1).close()

    def restore_store(self) -> None:
        """Put the older copy in the place of the store, by hand and without a word. The process must have ended."""
        self._remove()
        shutil.copy(self._copy, self._store)

    def _remove(self) -> None:
        for path in self._disk.glob("store.db*"):
            path.unlink()

    @contextmanager
    def file(self) -> Iterator[Callable[[Key], list[Version]]]:
        """All kept versions of a key, tombstones included, read from the store's file whatever its node does."""
        connection = connect(self._store, derive(self._secret, salt_of(self._store)), writer=False)
        try:
            connection.execute("BEGIN")  # one state of the store for what the locator reads, and what the reader does
            reader = Reader(connection, Locator(connection))
            yield lambda key: [one.version for one in reader.versions(key)]
        finally:
            connection.close()

    # --- whom it trusts

    def list(self, whom: Fingerprint, label: str) -> None:
        """Put a certificate on the allowlist."""
        path = self.home.path / "allowlist"
        write_kept(path, allowlist.add(path.read_text(), whom, label).encode())

    def unlist(self, whom: Fingerprint) -> None:
        """Take it off."""
        path = self.home.path / "allowlist"
        write_kept(path, allowlist.remove(path.read_text(), whom).encode())

    @property
    def lists_nobody(self) -> bool:
        """Its allowlist is empty: the federation listener stays closed."""
        return not allowlist.parse((self.home.path / "allowlist").read_text(), "the allowlist").entries

    def introduce(self, other: "Member") -> None:
        """Configure another as a peer, in place of what was said about it before."""
        self.list(other.fingerprint, other.name)
        peer = PeerConfig(other.name, other.url, other.fingerprint, "both", ("**",), ("**",))
        write_kept(self.home.config, with_peer(self.home.config.read_text(), peer).encode())

    def new_identity(self, ca: tuple[Path, Path]) -> Identity:
        """A new key pair and certificate of the mesh's CA, installed nowhere yet."""
        authority = Authority.load(*(path.read_bytes() for path in ca))
        return authority.issue(self.name, hosts=(self.host.address,))

    def install(self, identity: Identity) -> None:
        """Put it in the place of the one in use; the node notices."""
        write_private(self.home.path / "node.key", identity.key_pem)
        write_kept(self.home.path / "node.pem", identity.cert_pem)
        self.fingerprint = identity.fingerprint

    def close(self) -> None:
        """End the process, and take its disk away."""
        self.signal(signal.SIGCONT)
        self.end(signal.SIGKILL)
        unmount(str(self._disk))


def members(
    hosts: list[Host], edges: frozenset[tuple[int, int]], folder: Path, sabotaged: Mapping[int, str]
) -> list[Member]:
    """Nodes of one CA, each of which knows those that an edge joins it with. None runs yet."""
    made: list[Member] = []
    for host in hosts:
        ca = made[0].ca if made else None
        made.append(Member("abcdefgh"[host.number - 1], host, folder, ca, sabotaged.get(host.number - 1)))
    for first, second in edges:
        made[first].introduce(made[second])
        made[second].introduce(made[first])
    return made
