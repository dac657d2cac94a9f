"""An agent's private key in a file: PKCS#8 PEM, for its owner alone, on the way from one machine to another."""

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from node.config import ConfigError, InvalidInput
from node.files import write_new
from sync import ed25519
from sync.attest import KeyPair
from sync.memory import agent_fault
from tls.ownership import advice

MAX_BYTES = 16_384
"""More than any private key in PEM has."""


def checked_agent(agent: str) -> str:
    """An agent's id as it is. Raises InvalidInput for what is none. (No file is ever named after one.)"""
    if fault := agent_fault(agent):
        raise InvalidInput([fault])
    return agent


def write(path: Path, pair: KeyPair, passphrase: str | None) -> None:
    """Write the private half into a new file with mode 0600. Raises ConfigError where anything is there already."""
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase is not None else NoEncryption()
    key = Ed25519PrivateKey.from_private_bytes(pair.seed)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    try:
        write_new(path, pem)
    except FileExistsError:
        raise ConfigError([f"{path}: there is something already, a new file expected; name another"]) from None
    except (OSError, ValueError) as error:
        do = f"; {told}" if isinstance(error, OSError) and (told := advice(error, path)) else ""
        raise ConfigError([f"{path}: {_why(error)}, a new file in an existing folder expected{do}"]) from None


def read(path: Path, agent: str, passphrase: str | None) -> KeyPair:
    """The key pair in a file that belongs to whoever runs this, and that nobody else can read. Raises ConfigError."""
    data = _private_bytes(path)
    try:
        key = load_pem_private_key(data, None if passphrase is None else passphrase.encode())
    except TypeError:  # encrypted and no passphrase, or the other way round
        found, expected = ("not encrypted", "none") if passphrase is not None else ("encrypted", "its passphrase file")
        raise ConfigError([f"{path}: the key in it is {found}, {expected} expected as --passphrase-file"]) from None
    except (ValueError, UnsupportedAlgorithm):
        why = "no private key in it that this passphrase opens" if passphrase is not None else "no private key in it"
        raise InvalidInput([f"{path}: {why}, PKCS#8 in PEM expected"]) from None
    if not isinstance(key, Ed25519PrivateKey):
        found = type(key).__name__.lstrip("_").removesuffix("PrivateKey")
        raise InvalidInput([f"{path}: a private key of the type {found}, Ed25519 expected"])
    pair = KeyPair.of(agent, key.private_bytes_raw())
    if fault := ed25519.key_fault(pair.key):
        raise InvalidInput([f"{path}: its public half is {fault}; make a new key"])
    return pair


def _private_bytes(path: Path) -> bytes:
    """What a file holds. It is judged once it is open: what is looked at is what is read."""
    try:
        # O_NONBLOCK: to open a pipe waits for nobody.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        link = "a symbolic link" if path.is_symlink() else _why(error)
        do = f"; {told}" if isinstance(error, OSError) and (told := advice(error, path)) else ""
        raise ConfigError([f"{path}: {link}, a regular file expected{do}"]) from None
    try:
        _require_private(path, os.fstat(descriptor))
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise InvalidInput([f"{path}: more than {MAX_BYTES} bytes, one private key in PEM expected"])
    return data


def _require_private(path: Path, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError([f"{path}: not a regular file, one with a private key in it expected"])
    if found.st_uid != os.geteuid():
        raise ConfigError([f"{path}: belongs to user {found.st_uid}, user {os.geteuid()} expected; copy it first"])
    if mode & 0o177:
        raise ConfigError([f"{path}: mode is {mode:04o}, expected 0600; run: chmod 600 {path}"])


def _why(error: Exception) -> str:
    return (error.strerror or "cannot be opened").lower() if isinstance(error, OSError) else str(error)
