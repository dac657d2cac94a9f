"""Whom this node knows: each configured peer, what it may read and write, and what a stranger on the allowlist may."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from node.config import Config, PeerConfig
from sync.keyring import EMPTY, Keyring
from sync.policy import Policy
from sync.scope import Globs
from sync.trust import KeyPolicy, Trust

RIGHTS = (
    ("federation", "default_read"), ("federation", "default_write"), ("federation", "default_legacy"),
    ("federation", "default_allow_unsigned"), ("trust", "policy"),
)  # fmt: skip
"""Settings that say who may do what. With the peers they are all of the configuration that an edit changes at once."""
_NOTHING = Globs(())


@dataclass(frozen=True, slots=True)
class Peer:
    """One configured peer. Its identity is its certificate; everything else is what the operator says about it."""

    name: str
    fingerprint: str
    """`sha256:` and 64 hex digits."""
    url: str | None
    """Where it listens; None for a peer that only ever calls us."""
    read: Globs
    """What it may read here."""
    write: Globs
    """What we take from it."""
    sends: bool = True
    """Data may leave for it (direction `push` or `both`)."""
    receives: bool = True
    """Data may come from it (direction `pull` or `both`)."""
    legacy: bool = False
    """It is a daemon of the older protocol."""
    allow_unsigned: bool | None = None
    """What nobody signed is taken from it. None: where it is such a daemon, whose clients cannot sign."""
    api_key_file: str | None = None
    """Where the key lies that such a daemon asks for."""

    @property
    def is_whole(self) -> bool:
        """No namespace and no direction is left out between this node and it, as far as this node's rules go."""
        return self.read.is_everything and self.write.is_everything and self.sends and self.receives

    @property
    def may_be_unsigned(self) -> bool:
        return self.legacy if self.allow_unsigned is None else self.allow_unsigned


@dataclass(frozen=True, slots=True)
class Strangers:
    """What an allowlisted certificate that is no configured peer may do."""

    read: Globs
    write: Globs
    legacy: bool = False
    allow_unsigned: bool | None = None


class PeerBook:
    """Looks peers up by fingerprint. Values only: a new configuration or keyring makes a new book."""

    def __init__(
        self,
        peers: Iterable[Peer],
        strangers: Strangers,
        keyring: Keyring = EMPTY,
        key_policy: KeyPolicy = "any",
    ) -> None:
        self._peers: Mapping[str, Peer] = {peer.fingerprint: peer for peer in peers}
        self._strangers = strangers
        self.keyring = keyring
        self._key_policy = key_policy
        self._trust = {
            is_allowed: Trust(keyring, key_policy, allow_unsigned=is_allowed) for is_allowed in (False, True)
        }
        self._policies = {one.fingerprint: self._policy(one) for one in self.peers}

    @property
    def peers(self) -> tuple[Peer, ...]:
        return tuple(self._peers.values())

    @property
    def default_legacy(self) -> bool:
        return self._strangers.legacy

    def with_keyring(self, keyring: Keyring) -> "PeerBook":
        """The same peers, judged by another keyring."""
        return PeerBook(self.peers, self._strangers, keyring, self._key_policy)

    def held_back(self, before: "PeerBook") -> "PeerBook":
        """These peers, of whom those that only now become daemons of the older protocol may do nothing yet.

        The store has to be made ready for such a one. What else is new needs nothing.
        """
        peers = [
            Peer(one.name, one.fingerprint, one.url, _NOTHING, _NOTHING, sends=False, receives=False)
            if one.legacy and not before.find(one.fingerprint).legacy
            else one
            for one in self.peers
        ]
        strangers = self._strangers
        if strangers.legacy and not before.default_legacy:
            strangers = Strangers(_NOTHING, _NOTHING)
        return PeerBook(peers, strangers, self.keyring, self._key_policy)

    def find(self, fingerprint: str) -> Peer:
        """The peer with this certificate; one that is allowlisted but not configured gets the default scope."""
        found = self._peers.get(fingerprint)
        if found is not None:
            return found
        name, default = fingerprint.removeprefix("sha256:")[:12], self._strangers
        return Peer(
            name, fingerprint, None, default.read, default.write, legacy=default.legacy,
            allow_unsigned=default.allow_unsigned,
        )  # fmt: skip

    def name_of(self, fingerprint: str) -> str | None:
        """What the operator calls the peer with this certificate; None where none is configured."""
        found = self._peers.get(fingerprint)
        return None if found is None else found.name

    def policy(self, fingerprint: str) -> Policy:
        """Our rules for what comes from this certificate."""
        return self._policies.get(fingerprint) or self._policy(self.find(fingerprint))

    def _policy(self, peer: Peer) -> Policy:
        return Policy(peer.write, self._trust[peer.may_be_unsigned])


def book_of(config: Config, peers: Iterable[PeerConfig], keyring: Keyring) -> PeerBook:
    """These peers and this keyring, under the rest of a configuration."""
    strangers = Strangers(
        Globs(tuple(config["federation", "default_read"])),
        Globs(tuple(config["federation", "default_write"])),
        config["federation", "default_legacy"],
        config["federation", "default_allow_unsigned"],
    )
    return PeerBook(map(_peer, peers), strangers, keyring, config["trust", "policy"])


def _peer(one: PeerConfig) -> Peer:
    return Peer(
        one.name,
        one.fingerprint.text,
        one.url,
        Globs(one.read),
        Globs(one.write),
        sends=one.direction in ("push", "both"),
        receives=one.direction in ("pull", "both"),
        legacy=one.legacy,
        allow_unsigned=one.allow_unsigned,
        api_key_file=one.api_key_file,
    )
