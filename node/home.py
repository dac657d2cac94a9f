"""A node's folder: where everything of it lies, with the modes that its files must have."""

import fcntl
import hashlib
import hmac
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from node.config import Config, ConfigError
from node.files import write_private
from tls.identity import IdentityFiles
from tls.secretfile import SecretFileError, read_secret

API_KEY = "api-key"
FOLDER = "folder"
"""In the note of a running node: whose it is."""
PROOF = b"local listener 1\n"


@dataclass(frozen=True, slots=True)
class Running:
    """What a running node says about itself in its folder."""

    pid: int
    local_url: str
    federation_url: str | None
    store: str
    """The file whose lock the process holds."""
    secret: str = field(repr=False)
    """Of this run alone, 64 hex digits: who can read it is the one who could read the API key."""

    def proof(self, nonce: str) -> str:
        """What only the node of this run answers to a nonce, and of its own address alone: so nobody hands it on."""
        text = PROOF + f"{self.local_url}\n{nonce}".encode()
        return hmac.new(bytes.fromhex(self.secret), text, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Home:
    """The folder. Paths in the configuration are relative to it."""

    path: Path

    @classmethod
    def default(cls) -> "Home":
        """`AI_MEMORY_HOME`, or the per-user data folder. Raises ConfigError where the variable is there, and empty."""
        named = os.environ.get("AI_MEMORY_HOME")
        if named:
            return cls(Path(named).expanduser())
        if named is not None:  # of a script whose own variable was not set: it does not mean the folder of this user
            told = "environment: AI_MEMORY_HOME is empty, expected the node's folder; name it, or unset the variable"
            raise ConfigError([f"{told} for ~/.local/share/ai-memory"])
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
    def api_key(self) -> Path:
        """Written by `init`, which names it in the configuration too: without that no key is asked for."""
        return self.path / API_KEY

    @property
    def ca_key(self) -> Path:
        """Only on the machine that minted the CA."""
        return self.path / "ca.key"

    @property
    def run(self) -> Path:
        return self.path / "run.json"

    @property
    def tokens(self) -> Path:
        """Written by `token add`."""
        return self.path / "tokens.json"

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

    def write_run(self, running: Running) -> None:
        """Say that this process runs the node here, in this folder: a copy of it speaks of no other."""
        write_private(self.run, json.dumps(asdict(running) | {FOLDER: str(self.path.resolve())}).encode())

    def clear_run(self) -> None:
        self.run.unlink(missing_ok=True)

    def running(self) -> Running | None:
        """The node that runs here, if any: its process is there, and holds the lock of its store.

        What a dead one left behind does not count, whoever has its process number by now (in a container every node is
        number 1), or listens on its port. Nor does what the node of another folder wrote, which was copied here: it
        runs, and would be given what is meant for this one. Raises ConfigError where others can read the note, or could
        have written it.
        """
        if not self.run.exists():
            return None
        try:
            told = json.loads(read_private(self.run))
            if not self.path.samefile(told[FOLDER]):
                return None
            running = Running(
                int(told["pid"]),
                str(told["local_url"]),
                told["federation_url"],
                str(told["store"]),
                str(told["secret"]),
            )
            bytes.fromhex(running.secret)
            os.kill(running.pid, 0)
        except (OSError, OverflowError, ValueError, KeyError, TypeError):
            return None
        return running if is_locked(Path(running.store)) else None


def lock_of(store: Path) -> Path:
    """The file whose lock says that a process has the store open."""
    return store.with_name(store.name + ".lock")


def is_locked(store: Path) -> bool:
    """Whether a process has the store open, this one too. Its lock ends with it, however it ends."""
    try:
        lock = os.open(lock_of(store), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, and for a moment: two that ask do not see each other
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def require_private(path: Path) -> None:
    """Raises ConfigError where others than the owner can read a secret file."""
    read_private(path)


def read_private(path: Path, *, pipe: bool = False) -> bytes:
    """What a secret file holds, as `read_secret`. Raises ConfigError where it is missing, or others can read it."""
    try:
        return read_secret(path, pipe=pipe)
    except SecretFileError as error:
        raise ConfigError([str(error)]) from None
