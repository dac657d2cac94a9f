"""What the operator edits while the node runs: allowlist, keyring, certificate, configuration.

A file that is broken changes nothing, and each of its problems is told.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from node import config as configuration
from node import keyfile
from node.config import ConfigError
from node.peers import book_of
from sync.keyring import KeyringError
from tls.allowlist import AllowlistError
from tls.allowlist import load as load_allowlist
from tls.errors import IdentityError
from tls.watch import Watched

if TYPE_CHECKING:
    from node.daemon import Daemon

log = structlog.get_logger("node")


class Edits:
    """Takes in what was edited, for one node."""

    def __init__(self, node: "Daemon") -> None:
        self._node = node
        self._written = node.config.as_written

    @property
    def watched(self) -> Sequence[Watched]:
        """The files, and what happens when they change."""
        home, config = self._node.home, self._node.config
        identity = home.identity(config)
        return (
            Watched((home.allowlist(config),), self.allowlist),
            Watched((home.keyring(config),), self.keyring),
            Watched((identity.cert, identity.key, identity.ca), self.identity),
            Watched((home.config,), self.config),
        )

    def allowlist(self) -> None:
        """Take in an edited allowlist; a broken one changes nothing, and is told."""
        node = self._node
        try:
            fresh = load_allowlist(node.home.allowlist(node.config))
        except AllowlistError as error:
            for problem in error.problems:
                log.error("allowlist.broken", reason=str(problem), kept=len(node.gate.allowlist))
            return
        before = node.gate.allowlist
        node.gate.replace_allowlist(fresh)
        dropped = node.door.drop_unlisted()
        for warning in fresh.warnings:
            log.warning("allowlist.duplicate", reason=warning)
        added, removed = fresh.fingerprints - before.fingerprints, before.fingerprints - fresh.fingerprints
        log.info("allowlist.loaded", entries=len(fresh), added=len(added), removed=len(removed), dropped=dropped)
        for fingerprint in removed:
            node.begin(node.links.hang_up(fingerprint.text), "peer.hang_up")
        node.begin(node.door.settle(), "federation.listen")

    def keyring(self) -> None:
        """Take in an edited keyring, for what was refused under the last one too; a broken one changes nothing."""
        node = self._node
        before = node.book.keyring
        try:
            fresh = keyfile.load(node.home.keyring(node.config))
        except KeyringError as error:
            for problem in error.problems:
                log.error("keyring.broken", reason=str(problem), kept=len(before))
            return
        if fresh == before:
            return
        node.exchange.replace_book(node.book.with_keyring(fresh))
        for warning in fresh.warnings:
            log.warning("keyring.doubtful", reason=warning)
        log.info("keyring.loaded", keys=len(fresh), agents=len(fresh.agents), before=len(before))
        if fresh.tag != before.tag:
            node.links.read_again()

    def identity(self) -> None:
        """Take in a rotated certificate, key or CA bundle; a pair that does not match changes nothing."""
        node = self._node
        try:
            if node.gate.reload_identity():
                node.calls.forget_contexts()
                identity = node.gate.identity
                log.info("identity.loaded", fingerprint=identity.fingerprint.text, days_left=identity.days_left())
        except IdentityError as error:
            log.error("identity.broken", reason=str(error), kept=node.gate.own_fingerprint.short)
        node.warn_of_expiry()

    def config(self) -> None:
        """Take in added, changed and removed peers. Every other setting waits for the next start, and that is told."""
        node = self._node
        try:
            fresh = configuration.load(node.home.config, node.config.environment)
        except ConfigError as error:
            for problem in error.problems:
                log.error("config.broken", reason=problem, kept=len(node.book.peers))
            return
        later = sorted(f"[{section}] {key}" for section, key in fresh.differences(self._written))
        self._written = fresh
        if later:
            log.warning("config.restart_needed", reason=f"{', '.join(later)} take effect at the next start")
        node.begin(node.settle_links(book_of(node.config, fresh.peers, node.book.keyring)), "peer.links")
