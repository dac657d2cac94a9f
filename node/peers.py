"""Whom this node knows: each configured peer, what it may read and write, and what a stranger on the allowlist may."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sync.receive import Policy
from sync.scope import Globs


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
    api_key_file: str | None = None
    """Where the key lies that such a daemon asks for."""


class PeerBook:
    """Looks peers up by fingerprint. Values only: a new configuration makes a new book."""

    def __init__(
        self, peers: Iterable[Peer], default_read: Globs, default_write: Globs, *, default_legacy: bool = False
    ) -> None:
        self._peers: Mapping[str, Peer] = {peer.fingerprint: peer for peer in peers}
        self._default_read = default_read
        self._default_write = default_write
        self.default_legacy = default_legacy

    @property
    def peers(self) -> tuple[Peer, ...]:
        return tuple(self._peers.values())

    def find(self, fingerprint: str) -> Peer:
        """The peer with this certificate; one that is allowlisted but not configured gets the default scope."""
        found = self._peers.get(fingerprint)
        if found is not None:
            return found
        name = fingerprint.removeprefix("sha256:")[:12]
        return Peer(name, fingerprint, None, self._default_read, self._default_write, legacy=self.default_legacy)

    def name_of(self, fingerprint: str) -> str | None:
        """What the operator calls the peer with this certificate; None where none is configured."""
        found = self._peers.get(fingerprint)
        return None if found is None else found.name

    def policy(self, fingerprint: str) -> Policy:
        """Our rules for what comes from this certificate."""
        peer = self.find(fingerprint)
        return Policy(peer.write, peer.write.tag)

    def write_scope(self, fingerprint: str) -> Globs:
        return self.find(fingerprint).write
