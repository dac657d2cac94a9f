"""Who may sign for whom: what a version's signature is worth here, or why it is refused (protocol section 5).

Whether the signature is the key's that it names was verified before. What is judged here is whose key that is.
Memories, tombstones, links and unlinks are judged alike.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from sync.attest import is_carried, words_of
from sync.keyring import EMPTY, Keyring
from sync.record import Refused
from sync.version import Version

Level = Literal["unsigned", "self_signed", "attested"]
"""Nobody's word; the word of whoever has that key; the word of that agent."""
Standing = Literal["none", "foreign", "revoked", "unknown", "enrolled"]
"""What the keyring says of the key that signed a version, for the agent that it names."""
KeyPolicy = Literal["any", "enrolled"]
"""Whether a key that no agent is enrolled with may sign for an agent that has none."""


@dataclass(frozen=True)
class Trust:
    """Our rules for what comes from one peer. A sender's own claims play no part in them."""

    keyring: Keyring = EMPTY
    policy: KeyPolicy = "any"
    allow_unsigned: bool = False

    @cached_property
    def tag(self) -> str:
        """16 hex digits that differ where the rules differ."""
        said = f"{self.keyring.tag} {self.policy} {self.allow_unsigned}"
        return hashlib.sha256(said.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Row:
    """What becomes of a version whose key has this standing."""

    level: Level | None
    """None: it is never taken."""
    allowed: Callable[[Trust], bool]
    reason: str = ""
    """Why it is refused where it is not allowed, a stable name; empty where it always is."""
    detail: str = ""
    """The same in words, for the sender's operator."""


def _always(_: Trust) -> bool:
    return True


def _never(_: Trust) -> bool:
    return False


TABLE: dict[Standing, Row] = {
    "none": Row(
        "unsigned",
        lambda trust: trust.allow_unsigned,
        "unsigned_refused",
        "nobody signed it, and this node takes only what is signed from you",
    ),
    "foreign": Row(
        None,
        _never,
        "key_mismatch",
        "it is signed by a key that is not one of those that this node knows as its agent's",
    ),
    "revoked": Row(None, _never, "key_revoked", "its time is not before the one at which its key was revoked here"),
    "unknown": Row(
        "self_signed",
        lambda trust: trust.policy == "any",
        "not_enrolled",
        "this node knows no key of its agent, and takes only what agents wrote whose key it knows",
    ),
    "enrolled": Row("attested", _always),
}
"""The table of protocol section 5; its row for a signature that does not verify is `Policy.refusal`'s."""


_LEVELS: tuple[Level, ...] = ("unsigned", "self_signed", "attested")
"""The least first."""


def judge(trust: Trust, version: Version) -> Level | Refused:
    """The level of a version, or why it is refused. Its signatures, if it has any, were verified.

    What a node only writes on is worth what its author's word is worth and the node's own: the lesser of the two.
    """
    levels = []
    for standing in _standings(trust, version):
        row = TABLE[standing]
        if row.level is None or not row.allowed(trust):
            return Refused(version.shown, version.kind, row.reason, row.detail)
        levels.append(row.level)
    return min(levels, key=_LEVELS.index)


def standing_of(keyring: Keyring, agent: str, key: bytes, at: str) -> Standing:
    """What a keyring says of a key that signed for an agent at a time; `key` is empty where nobody signed."""
    if not key:
        return "none"
    entry = keyring.find(key)
    if entry is None:
        return "foreign" if keyring.of(agent) else "unknown"
    if entry.agent != agent:
        return "foreign"
    return "revoked" if entry.revoked is not None and at >= entry.revoked else "enrolled"


def _standings(trust: Trust, version: Version) -> Sequence[Standing]:
    if not version.signature:
        return ("none",)
    if not trust.keyring and trust.policy == "any" and not is_carried(version):
        return ("unknown",)  # most nodes, most versions: whose key it is need not be read
    return [standing_of(trust.keyring, word.agent, word.key, word.at) for word in words_of(version)]
