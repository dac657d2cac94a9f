"""A node's folder: where everything of it lies, with the modes that its files must have."""

import json
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from node.config import Config, ConfigError
from node.files import write_private
from tls.identity import IdentityFiles

DOOR_TIMEOUT = 2.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Running:
    """What a running node says about itself in its folder."""

    pid: int
    local_url: str
    federation_url: str | None


@dataclass(frozen=True, slots=True)
class Home:
    """The folder. Paths in the configuration are relative to it."""

    path: Path

    @classmethod
    def default(cls) -> "Home":
        """`AI_MEMORY_HOME`, or the per-user data folder."""
        named = os.environ.get("AI_MEMORY_HOME")
        if named:
            return cls(Path(named).expanduser())
        base = os.environ.get("XDG_DATA_HOME")
        return cls((Path(base) if base else Path.home() / ".local" / "share") / "ai-memory")

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def passphrase(self) -> Path:
        """Written by `init` where the passphrase has no other source."""
        return self.path / "passphrase"

    @property
    def ca_key(self) -> Path:
        """Only on the machine that minted the CA."""
        return self.path / "ca.key"

    @property
    def run(self) -> Path:
        return self.path / "run.json"

    def under(self, name: str) -> Path:
        """A path from the configuration."""
        return self.path / Path(name).expanduser()

    def store(self, config: Config) -> Path:
        return self.under(config["store", "path"])

    def allowlist(self, config: Config) -> Path:
        return self.under(config["tls", "allowlist"])

    def keyring(self, config: Config) -> Path:
        return self.under(config["trust", "keyring"])

    def identity(self, config: Config) -> IdentityFiles:
        return IdentityFiles(
            self.under(config["tls", "cert"]), self.under(config["tls", "key"]), self.under(config["tls", "ca"])
        )

    def write_run(self, local_url: str, federation_url: str | None) -> None:
        """Say that this process runs the node here."""
        told = {"pid": os.getpid(), "local_url": local_url, "federation_url": federation_url}
        write_private(self.run, json.dumps(told).encode())

    def clear_run(self) -> None:
        self.run.unlink(missing_ok=True)

    def running(self) -> Running | None:
        """The node that runs here, if any; what a dead one left behind does not count.

        That its process number exists proves little: in a container every node is number 1. So its door is tried too.
        """
        try:
            told: dict[str, Any] = json.loads(self.run.read_text())
            running = Running(int(told["pid"]), str(told["local_url"]), told["federation_url"])
            os.kill(running.pid, 0)
            address = urlsplit(running.local_url)
            socket.create_connection((address.hostname or "", address.port or 0), DOOR_TIMEOUT).close()
        except TimeoutError:
            return running  # too busy to open is not dead
        except (OSError, OverflowError, ValueError, KeyError, TypeError):
            return None
        return running


def require_private(path: Path) -> None:
    """Raises ConfigError where others than the owner can read a secret file."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}; expected a file with mode 0600"]) from None
    if mode & 0o077:
        raise ConfigError([f"{path}: mode is {mode:04o}, expected 0600; run: chmod 600 {path}"])
