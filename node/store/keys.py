"""The key pairs of the agents that write through this node, sealed in its store.

An agent's first key is derived from its id and from a secret of the store that is made once and never leaves it: so
every agent has one from its first write on, it is the same after a restart and in a restored backup, and nothing is to
be kept in step with a write that may yet be rolled back. A key that an operator makes in its place, or brings from
another machine, is no function of anything: it lies in a table of its own (docs/decisions/0039).
"""

import hashlib
import hmac
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from node.store.connection import FAULTS, Connection, connect, explained
from node.store.key import derive, salt_of
from sync.attest import KeyPair

SECRET_BYTES = 32
_PURPOSE = b"ai-memory/agent-key/v1"
MAX_KNOWN = 1_024
"""Derived key pairs held in memory: agents name themselves, so there may be any number of them."""

Execute = Callable[..., Any]
"""`execute` of an open transaction, or of a read."""
Origin = Literal["derived", "rotated", "imported"]
_COLUMNS = "agent, key, seed, origin, since, after, by"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A key of an agent that the store has a row for."""

    agent: str
    key: bytes
    """The public half, 32 bytes."""
    seed: bytes | None = field(default=None, repr=False)
    """The private half, 32 bytes; None where it is derived from the store's secret."""
    origin: Origin = "derived"
    since: str | None = None
    """Canonical time: since when the agent signs with it here; None for the key that it began with."""
    after: bytes | None = None
    """The key that it took the place of, where that one signed it (protocol section 5, *Successor*)."""
    by: bytes | None = None
    """That signature, 64 bytes."""


class Keys:
    """`sync.attest.Keychain` over one store's secret and its sealed keys. Safe from any thread."""

    def __init__(self, secret: bytes, sealed: Iterable[Sealed] = ()) -> None:
        self._secret = secret
        self.derived = lru_cache(MAX_KNOWN)(self._derived)
        self._current: Mapping[str, KeyPair] = {}
        self.replace(sealed)

    def author(self, agent: str) -> KeyPair:
        """The key pair that the agent signs with now."""
        return self._current.get(agent) or self.derived(agent)

    def replace(self, sealed: Iterable[Sealed]) -> None:
        """Sign with the last of these for each agent from now on; in the order of `read`."""
        # One assignment: who asks meanwhile gets the old key or the new one.
        self._current = {one.agent: self.pair(one) for one in sealed}

    def pair(self, one: Sealed) -> KeyPair:
        """Both halves of a sealed key."""
        return self.derived(one.agent) if one.seed is None else KeyPair.of(one.agent, one.seed)

    def _derived(self, agent: str) -> KeyPair:
        """The agent's first key pair."""
        seed = hmac.digest(self._secret, b"%b\0%b" % (_PURPOSE, agent.encode()), hashlib.sha256)
        return KeyPair.of(agent, seed)


def load(connection: Connection) -> Keys:
    """The keys of a store, whose secret is made where it has none yet."""
    with _transaction(connection) as execute:
        execute("INSERT OR IGNORE INTO key_secret VALUES(1, ?)", (secrets.token_bytes(SECRET_BYTES),))
        return _keys(execute)


def known(execute: Execute) -> Keys:
    """The keys of a store that cannot be written. It has a secret since it was made."""
    return _keys(execute)


def read(execute: Execute) -> list[Sealed]:
    """All sealed keys; of each agent's the last is the one that it signs with."""
    found = execute(f"SELECT {_COLUMNS} FROM agent_key ORDER BY number")
    return [Sealed(*row) for row in found]


def seal(execute: Execute, one: Sealed) -> None:
    """Make this the key that its agent signs with."""
    execute("DELETE FROM agent_key WHERE agent = ? AND key = ?", (one.agent, one.key))
    values = (one.agent, one.key, one.seed, one.origin, one.since, one.after, one.by)
    execute(f"INSERT INTO agent_key({_COLUMNS}) VALUES(?, ?, ?, ?, ?, ?, ?)", values)


@contextmanager
def beside(path: Path, passphrase: str) -> Iterator[tuple[Execute, Keys]]:
    """A short transaction over the keys of a store that a running node has open. Raises StoreError.

    Only `agent_key` may be written: all else the node holds in memory. It has to be told to read the keys again.
    """
    try:
        connection = connect(path, derive(passphrase, salt_of(path)), writer=False)
        try:
            with _transaction(connection) as execute:
                yield execute, _keys(execute)
        finally:
            connection.close()
    except FAULTS as error:
        raise explained(error, path) from None


def by_agent(sealed: Iterable[Sealed]) -> Mapping[str, Sequence[Sealed]]:
    """The sealed keys of each agent, the current one last."""
    found: defaultdict[str, list[Sealed]] = defaultdict(list)
    for one in sealed:
        found[one.agent].append(one)
    return found


def _keys(execute: Execute) -> Keys:
    (secret,) = execute("SELECT secret FROM key_secret").fetchone()
    return Keys(secret, read(execute))


@contextmanager
def _transaction(connection: Connection) -> Iterator[Execute]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection.execute
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise
