"""Calls to peers: for each that has an address, what keeps it in step over pinned connections of its own."""

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from node.bridge import Bridge, Call, Calling
from node.config import Config, ConfigError
from node.dialer import Dialer
from node.exchange import Exchange
from node.home import Home
from node.passphrase import from_file
from node.peers import Peer
from node.replicator import Limits, Replicator
from sync.peer import Pace
from tls.contexts import PinnedContext
from tls.explain import Known, explain
from tls.fingerprint import Fingerprint
from tls.gate import Gate

log = structlog.get_logger("node")


class Calls:
    """Makes them, by one configuration."""

    def __init__(self, home: Home, config: Config, gate: Gate, exchange: Exchange, bridge: Bridge | None) -> None:
        self._home, self._config = home, config
        self._gate, self._exchange, self._bridge = gate, exchange, bridge
        self._contexts: dict[str, PinnedContext] = {}

    def to(self, peer: Peer) -> Calling:
        """What calls this peer, which has an address."""
        config, fingerprint = self._config, Fingerprint.parse(peer.fingerprint)
        assert peer.url is not None, "only peers with an address are called"

        def explained(error: BaseException) -> tuple[str, str]:
            leaf = self._gate.identity.leaf
            begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
            known = Known(
                fingerprint, self._gate.allowed(fingerprint), begins, ends, datetime.now(UTC), shlex.quote(peer.name)
            )
            found = explain(error, self._gate.own_fingerprint, config.name, known)
            return found.code, found.text

        pace = Pace(config["sync", "pull_interval"], config["sync", "retry_first"], config["sync", "retry_longest"])
        limits = Limits(config["sync", "page_records"], config["sync", "page_bytes"])
        url = peer.url

        def dialer(headers: Mapping[str, str], least: float) -> Dialer:
            timeout = max(config["sync", "request_timeout"], least)
            return Dialer(url, lambda: self._context_for(fingerprint), timeout, headers)

        if peer.legacy and self._bridge is not None:
            return self._bridge.calling(peer, Call(dialer, pace, explained, self._api_key(peer)))
        return Replicator(peer, self._exchange, dialer({}, 0.0), config.agent_id, limits, pace, explained)

    def _api_key(self, peer: Peer) -> str | None:
        """The key that a daemon of the older protocol asks for; without it `sync status` shows what the daemon says."""
        if peer.api_key_file is None:
            return None
        try:
            return from_file(self._home.under(peer.api_key_file)).strip()
        except ConfigError as error:
            log.error("peer.api_key", peer=peer.name, reason=str(error))
            return None

    def _context_for(self, fingerprint: Fingerprint) -> PinnedContext:
        """The TLS context for calling one peer; made once for each identity."""
        found = self._contexts.get(fingerprint.text)
        if found is not None:
            return found
        context = self._gate.client_context(frozenset((fingerprint,)))
        self._contexts[fingerprint.text] = context
        return context

    def forget_contexts(self) -> None:
        """Our identity has changed: the next connection to each peer shows the new one."""
        self._contexts.clear()
