"""Who signs in tests: nobody, or everybody under a key that the agent's id gives."""

import hashlib
from dataclasses import dataclass
from functools import cache

from sync.attest import Author, KeyPair, Unsigned, writer_of
from sync.trust import Trust
from sync.version import Version

ANYBODY = Trust(allow_unsigned=True)
"""Whatever anybody says is taken, signed or not."""


@cache
def pair(agent: str) -> KeyPair:
    """The same key pair for the same agent, in every run."""
    return KeyPair.of(agent, hashlib.sha256(agent.encode()).digest())


@dataclass(frozen=True)
class Signing:
    """A keychain with a key for every agent."""

    def author(self, agent: str) -> Author:
        return pair(agent)


@dataclass(frozen=True)
class Nobody:
    """A keychain without keys: nothing is signed."""

    def author(self, agent: str) -> Author:
        return Unsigned(agent)


def agent_of(version: Version) -> str:
    """The agent that a version's attestation names as its writer."""
    return writer_of(version)[0]
