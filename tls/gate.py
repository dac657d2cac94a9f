"""The gate: who may connect here. Chain, dates, purpose and allowlist in every handshake, and a proof that it works."""

import ssl
from dataclasses import dataclass

from tls.allowlist import Allowlist
from tls.authority import Authority, Identity
from tls.channel import Channel
from tls.contexts import PinnedContext, build
from tls.errors import GateBrokenError
from tls.fingerprint import Fingerprint
from tls.identity import IdentityFiles, Loaded, load

_CLOSED = "The federation listener stays closed. Install the locked requirements again."
WARN_DAYS = 30
"""A certificate that expires sooner is reported."""


@dataclass(frozen=True, slots=True)
class _Current:
    """What new handshakes use; replaced as one."""

    loaded: Loaded
    server: PinnedContext


class Gate:
    """The server's side: an allowlist and an identity, each replaceable while connections live."""

    def __init__(self, files: IdentityFiles, allowlist: Allowlist) -> None:
        self._files = files
        self._allowlist = allowlist
        self._current = self._build()

    @property
    def allowlist(self) -> Allowlist:
        return self._allowlist

    @property
    def identity(self) -> Loaded:
        """What this node presents."""
        return self._current.loaded

    @property
    def own_fingerprint(self) -> Fingerprint:
        return self._current.loaded.fingerprint

    def server_context(self) -> PinnedContext:
        """For the next handshake; ask anew for each, so that a reload takes effect."""
        return self._current.server

    def client_context(self, pins: frozenset[Fingerprint]) -> PinnedContext:
        """For calling a peer: its certificate must be one of `pins`, and listed."""
        loaded = self._current.loaded
        return build(loaded, server=False, allowed=lambda peer: peer in pins and self.allowed(peer))

    def allowed(self, fingerprint: Fingerprint) -> bool:
        return fingerprint in self._allowlist

    def replace_allowlist(self, allowlist: Allowlist) -> None:
        """For all handshakes from now on. Live connections are the listener's affair."""
        self._allowlist = allowlist

    def reload_identity(self) -> bool:
        """Read certificate, key and CA bundle again; False: nothing changed. Raises IdentityError, keeping the old.

        A new context, because trust anchors cannot be taken out of a living one.
        """
        fresh = self._build()
        changed = fresh.loaded != self._current.loaded
        self._current = fresh
        return changed

    def _build(self) -> _Current:
        loaded = self._files.load()
        return _Current(loaded, build(loaded, server=True, allowed=self.allowed))


def self_test() -> None:
    """Let a listed and an unlisted certificate of one CA knock at a gate made as the real one is.

    Takes some milliseconds. Raises GateBrokenError unless the first gets in and the second gets an alert.
    """
    authority = Authority.create("self-test", days=1)
    node, friend, stranger = (authority.issue(name, days=1) for name in ("node", "friend", "stranger"))
    listed = frozenset((friend.fingerprint,))
    server = build(_loaded(node, authority), server=True, allowed=lambda fingerprint: fingerprint in listed)
    knocks = {"listed": friend, "unlisted": stranger}
    for name, identity in knocks.items():
        client = build(_loaded(identity, authority), server=False, allowed=lambda fingerprint: True)
        try:
            entered, alert = _knock(server, client)
        except Exception as error:
            raise GateBrokenError(f"the gate cannot be tested: {error!r}.", _CLOSED) from error
        if entered is not (name == "listed"):
            raise GateBrokenError(
                f"the gate does not gate: the {name} certificate was {'accepted' if entered else 'refused'} ({alert}).",
                _CLOSED,
            )
        if not entered and (alert is None or "alert" not in alert):
            raise GateBrokenError(
                f"the gate refuses without a TLS alert (the stranger saw: {alert}).",
                _CLOSED,
            )


def _loaded(identity: Identity, authority: Authority) -> Loaded:
    return load(identity.cert_pem, identity.key_pem, authority.cert_pem)


def _knock(server: PinnedContext, client: PinnedContext) -> tuple[bool, str | None]:
    """One handshake over memory BIOs: whether the server let the client in, and what the client was told."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    host = server.wrap_bio(to_server, to_client, server_side=True)
    guest = client.wrap_bio(to_client, to_server)
    told: str | None = None
    for _ in range(8):
        _advance(guest)
        _advance(host)
    try:
        guest.read(1)
    except ssl.SSLWantReadError:
        told = None
    except ssl.SSLError as error:
        told = str(error.args[-1])
    return host.peer is not None, told


def _advance(channel: Channel) -> None:
    if channel.peer is not None:
        return
    try:
        channel.do_handshake()
    except ssl.SSLWantReadError:
        return  # the other side has to move
