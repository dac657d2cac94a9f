"""The key pairs of the agents that write through this node, sealed in its store.

An agent's key is derived from its id and from a secret of the store that is made once and never leaves it: so every
agent has one from its first write on, it is the same after a restart and in a restored backup, and nothing is to be
kept in step with a write that may yet be rolled back.
"""

import hashlib
import hmac
import secrets
from functools import lru_cache

from node.store.connection import Connection
from sync.attest import KeyPair

SECRET_BYTES = 32
_PURPOSE = b"ai-memory/agent-key/v1"
MAX_KNOWN = 1_024
"""Key pairs held in memory: agents name themselves, so there may be any number of them."""


class Keys:
    """`sync.attest.Keychain` over one store's secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.author = lru_cache(MAX_KNOWN)(self._author)

    def _author(self, agent: str) -> KeyPair:
        """The agent's key pair. Safe from any thread."""
        seed = hmac.digest(self._secret, b"%b\0%b" % (_PURPOSE, agent.encode()), hashlib.sha256)
        return KeyPair.of(agent, seed)


def load(connection: Connection) -> Keys:
    """The keys of a store, whose secret is made where it has none yet."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("INSERT OR IGNORE INTO key_secret VALUES(1, ?)", (secrets.token_bytes(SECRET_BYTES),))
        (secret,) = connection.execute("SELECT secret FROM key_secret").fetchone()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise
    return Keys(secret)
