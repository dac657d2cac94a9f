"""Where the store's passphrase comes from. Never from an argument, which every user of the machine can read."""

import os
import subprocess
from collections.abc import MutableMapping
from pathlib import Path

from node.config import Config, ConfigError
from node.home import Home, read_private

VARIABLE = "AI_MEMORY_DB_KEY"
CREDENTIAL = "ai-memory-passphrase"
COMMAND_TIMEOUT = 60
MAX_BYTES = 4_096


def find(config: Config, home: Home, environment: MutableMapping[str, str] | None = None) -> str:
    """The passphrase, from the first source that has one. Raises ConfigError naming all of them.

    The variable is removed from the environment, so that no child process inherits it.
    """
    found = sought(config, home, environment)
    if found is not None:
        return found
    raise ConfigError(
        [
            f"no passphrase for the store: expected the variable {VARIABLE}, [store] passphrase_file, the systemd"
            f" credential {CREDENTIAL}, [store] passphrase_command, or the file {home.passphrase}. Put it back where it"
            ' was (README.md, "Where the passphrase comes from"); where it is lost, see docs/recovery.md, "The'
            ' passphrase is lost"'
        ]
    )


def sought(config: Config, home: Home, environment: MutableMapping[str, str] | None = None) -> str | None:
    """As `find`, and None where no source has one. Raises ConfigError for a source that cannot be used."""
    environment = os.environ if environment is None else environment
    value = environment.pop(VARIABLE, None)
    if value is not None:
        return _decoded(os.fsencode(value), f"the variable {VARIABLE}")
    named = config["store", "passphrase_file"]
    if named:
        return from_file(home.under(named))
    credentials = environment.get("CREDENTIALS_DIRECTORY")
    if credentials and (Path(credentials) / CREDENTIAL).exists():
        # systemd's folder is private to the unit, whatever the mode of the file says.
        return _read(Path(credentials) / CREDENTIAL, f"the credential {CREDENTIAL}")
    command = config["store", "passphrase_command"]
    if command:
        return _from_command(command)
    if home.passphrase.exists():
        return from_file(home.passphrase)
    return None


def from_file(path: Path) -> str:
    """The passphrase in a file or pipe that only its owner can read; the newline at its end is not part of it."""
    return _decoded(read_private(path, pipe=True), str(path))


def _read(path: Path, source: str) -> str:
    try:
        return _decoded(path.read_bytes(), source)
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise ConfigError([f"{path}: {reason}, expected a secret in it"]) from None


def _from_command(command: list[str]) -> str:
    try:
        ran = subprocess.run(command, capture_output=True, timeout=COMMAND_TIMEOUT, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ConfigError([f"[store] passphrase_command {command[0]!r} failed: {type(error).__name__}"]) from None
    if ran.returncode:
        raise ConfigError([f"[store] passphrase_command {command[0]!r} ended with status {ran.returncode}, expected 0"])
    return _decoded(ran.stdout, "[store] passphrase_command")


def _decoded(data: bytes, source: str) -> str:
    try:
        value = data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError([f"the secret from {source} is not UTF-8 text"]) from None
    if not value:
        raise ConfigError([f"the secret from {source} is empty"])
    if len(value.encode()) > MAX_BYTES or "\0" in value:
        raise ConfigError([f"the secret from {source} is longer than {MAX_BYTES} bytes, or has a NUL in it"])
    return value
