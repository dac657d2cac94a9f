"""Tokens: each lets a client write as one agent and see some namespaces. Kept as hashes, in a private file.

A token is 32 random bytes, so its SHA-256 can be kept as it is: nobody finds a token by guessing. It is shown once.
"""

import codecs
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from node.config import ConfigError, InvalidInput
from node.files import write_private
from node.home import read_private
from node.rights import Rights
from node.settings import globs_fault, typed_globs_fault
from sync import moment
from sync.errors import RemoteError
from sync.memory import agent_fault
from sync.scope import Globs
from tls.secretfile import MAX_BYTES

PREFIX = "aimt_"
"""So that people, and scanners of secrets, see what it is."""
MOST = 1_000
MIN_PREFIX = 4
ID_DIGITS = 12


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One token, without what opens."""

    hash: str
    """SHA-256 of the token's text, in hex."""
    agent: str
    read: tuple[str, ...]
    write: tuple[str, ...]
    made_at: str

    @property
    def id(self) -> str:
        """What it is called by; it opens nothing."""
        return self.hash[:ID_DIGITS]

    @property
    def rights(self) -> Rights:
        return Rights(self.agent, Globs(self.read), Globs(self.write))


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: tuple[Token, ...]


_file = msgspec.json.Decoder(_File)


def parse(data: bytes, path: Path) -> tuple[Token, ...]:
    """The tokens in a file's text. Raises ConfigError for anything else: then no token is one."""
    try:
        found = _file.decode(data.removeprefix(codecs.BOM_UTF8)).tokens
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            [f"{path}: not what `ai-memory token add` wrote ({error}); put it back from a copy, or remove it"]
        ) from None
    for one in found:
        if fault := agent_fault(one.agent) or globs_fault([*one.read, *one.write]):
            raise ConfigError([f"{path}: token {one.id}: {fault}"])
    return found


def load(path: Path) -> tuple[Token, ...]:
    """The tokens of a node; none where there is no file. Raises ConfigError where there is one that cannot be used."""
    try:
        path.lstat()
    except FileNotFoundError:
        return ()
    except OSError:
        pass  # what cannot be looked at is not "none": who reads it says why
    return parse(read_private(path), path)


def add(path: Path, agent: str, read: Sequence[str], write: Sequence[str], now: int) -> tuple[str, Token]:
    """Make a token, and keep its hash. Returns what opens, which is kept nowhere, and what is kept.

    Where neither `read` nor `write` is given, the agent sees and writes everything; where one is, nothing of the other.
    `now`: microseconds. Raises ConfigError.
    """
    faults = [fault for fault in (agent_fault(agent), typed_globs_fault([*read, *write])) if fault]
    if faults:
        raise InvalidInput(faults)
    if not read and not write:
        read = write = ("**",)
    text = PREFIX + secrets.token_urlsafe(32)
    made = Token(hash_of(text), agent, tuple(read), tuple(write), moment.text(now))
    with _editing(path):
        before = load(path)
        if len(before) >= MOST:
            raise ConfigError([f"{path}: there are {len(before)} tokens, at most {MOST}; revoke some"])
        _write(path, (*before, made))
    return text, made


def revoke(path: Path, name: str) -> tuple[Token, ...]:
    """Take away one token, named by 4 or more digits of its id, or all of an agent. Returns what was taken away.

    Raises RemoteError `ambiguous_id` where the digits fit several, ConfigError.
    """
    with _editing(path):
        before = load(path)
        gone = [one for one in before if one.agent == name]
        if not gone and len(name) >= MIN_PREFIX:
            gone = [one for one in before if one.id.startswith(name)]
        if len(gone) > 1 and gone[0].agent != name:
            raise RemoteError("ambiguous_id", f"{name!r} begins the ids of {len(gone)} tokens; give more of it")
        if gone:
            _write(path, [one for one in before if one not in gone])
    return tuple(gone)


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _write(path: Path, tokens: Sequence[Token]) -> None:
    data = msgspec.json.format(msgspec.json.encode(_File(tuple(tokens)))) + b"\n"
    if len(data) > MAX_BYTES:  # it could not be read again, and nobody would be let in
        raise ConfigError([f"{path}: it would have {len(data)} bytes, at most {MAX_BYTES}; revoke some tokens"])
    write_private(path, data)


@contextmanager
def _editing(path: Path) -> Iterator[None]:
    """One editor at a time: two that read the same would lose what the first of them wrote."""
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
