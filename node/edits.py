"""What the operator edits while the node runs: allowlist, keyring, certificate, configuration. One path for all.

Everything is read first; a file that is broken, or gone, changes nothing, and each of its problems is told. What the
new text takes away is taken away in the same turn of the event loop, before anything that could wait or fail. Only then
is given what it gives, by one task that tries again until it is done. What is not in force yet, and why, is in
`sync status`.
"""

import asyncio
import json
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import structlog

from node import config as configuration
from node import editing, health, keyfile, plain
from node.config import Config, ConfigError
from node.home import FOLDER, Home, read_private
from node.peers import RIGHTS, PeerBook, book_of
from node.store.errors import StoreError
from node.tokens import load as load_tokens
from sync.keyring import KeyringError
from sync.receive import Alarm
from tls.allowlist import Allowlist, AllowlistError
from tls.allowlist import load as load_allowlist
from tls.errors import IdentityError, TlsError
from tls.secretfile import secret_fault
from tls.watch import Watched

if TYPE_CHECKING:
    from node.daemon import Daemon

FIRST_RETRY, LONGEST_RETRY = 0.25, 15.0
"""Seconds between two attempts to give what an edit gives."""
READ_AGAIN = 2.0
"""Seconds between two looks at a file that could not be taken in."""
GIVING = "what the edit takes away is in force; what it gives is being given"

Subject = Literal["allowlist", "keyring", "identity", "config", "tokens", "secrets", "note", "peers", "listener"]
"""The files, of which the note is `run.json` and the secrets are read at a start; the peers, whose rights stand in the
configuration; and the listener, which a first line of the allowlist opens."""

log = structlog.get_logger("node")


@dataclass(frozen=True, slots=True)
class Unmet:
    """An edit that is not in force, or not all of it."""

    state: Literal["failed", "pending"]
    """failed: the file cannot be taken in, and what was read last holds. pending: it is being carried out."""
    reasons: tuple[str, ...]
    """What was found, what is expected, and what holds until then."""
    since: float
    """Monotonic seconds."""


class Edits:
    """Takes in what was edited, for one node."""

    def __init__(self, node: "Daemon") -> None:
        self._node = node
        self._written = node.config.as_written
        self._unmet: dict[Subject, Unmet] = {}
        self._wanted: PeerBook | None = None
        self._news = asyncio.Event()

    @property
    def watched(self) -> Sequence[Watched]:
        """The files, and what happens when they change."""
        home, config = self._node.home, self._node.config
        identity = home.identity(config)
        allowlist, keyring = home.allowlist(config), home.keyring(config)
        shown = (identity.cert, identity.key, identity.ca)
        return (
            Watched((allowlist,), self.allowlist, modes=self._elsewhere(allowlist)),
            Watched((keyring,), self.keyring, modes=self._elsewhere(keyring)),
            Watched(shown, self.identity, modes=self._elsewhere(*shown)),
            Watched((home.config,), self.config, modes=(home.path, home.store(config))),
            Watched((), self.secrets, modes=self._secrets),
            Watched((home.tokens,), self.tokens),
            Watched((home.run,), self.note),
            Watched((home.path / editing.JOURNAL,), self.unfinished),
        )

    def _elsewhere(self, *files: Path) -> tuple[Path, ...]:
        """The folders of these files, where they are not the node's own: it is looked at with the configuration."""
        return tuple({one.parent for one in files} - {self._node.home.path})

    def unfinished(self) -> None:
        """Carry out what is left of an edit whose command was killed in the middle; one that is under way is let be."""
        if editing.is_unfinished(self._node.home.path):
            self._node.begin(asyncio.to_thread(editing.finish, self._node.home.path), "edit")

    # --- the files

    def allowlist(self) -> None:
        """Take in an edited allowlist; a broken one, or none, changes nothing, and is told."""
        node = self._node
        before = node.gate.allowlist
        try:
            fresh = load_allowlist(node.home.allowlist(node.config))
        except AllowlistError as error:
            kept = f"the {len(before)} entries that were read last hold until then"
            self._failed("allowlist", error.lines, kept)
            return
        self._met("allowlist")
        added, removed = fresh.fingerprints - before.fingerprints, before.fingerprints - fresh.fingerprints
        called = self._called()  # by now: who is new to the configuration is called for the first time anyway
        node.gate.replace_allowlist(Allowlist(tuple(e for e in fresh.entries if e.fingerprint not in added)))
        dropped = node.door.drop_unlisted()
        for fingerprint in removed:
            node.exchange.forget(fingerprint.text)
            node.begin(node.links.hang_up(fingerprint.text), "peer.hang_up")
        if added:  # what the other files take away from them comes first
            self.keyring()
            self.config()
        node.gate.replace_allowlist(fresh)
        self._call_again(called & {fingerprint.text for fingerprint in added})
        for warning in fresh.warnings:
            log.warning("allowlist.duplicate", reason=warning)
        log.info("allowlist.loaded", entries=len(fresh), added=len(added), removed=len(removed), dropped=dropped)
        node.begin(self._open_or_close(), "federation.listen")

    def keyring(self) -> None:
        """Take in an edited keyring, for what was refused under the last one too; a broken one changes nothing.

        A keyring that is gone is broken too where it had a line: revocations must not end because a disk is not there.
        """
        node = self._node
        before = node.book.keyring
        try:
            fresh = keyfile.load(node.home.keyring(node.config), must_exist=bool(len(before)))
        except KeyringError as error:
            kept = f"the {len(before)} keys that were read last hold until then"
            self._failed("keyring", error.lines, kept)
            return
        self._met("keyring")
        if fresh == before:
            return
        node.exchange.replace_book(node.book.with_keyring(fresh))
        for warning in fresh.warnings:
            log.warning("keyring.doubtful", reason=warning)
        log.info("keyring.loaded", keys=len(fresh), agents=len(fresh.agents), before=len(before))
        if fresh.tag != before.tag:
            node.links.read_again()

    def identity(self) -> None:
        """Take in a rotated certificate, key or CA bundle; a pair that does not match changes nothing.

        Where a CA was taken out of the bundle every connection is closed: who may still come, comes again.
        """
        node = self._node
        before = node.gate.identity
        try:
            is_new = node.gate.reload_identity()
        except IdentityError as error:
            self._failed("identity", [str(error)], f"the certificate {before.fingerprint.short} is shown until then")
            return
        self._met("identity")
        if is_new:
            node.calls.forget_contexts()
            identity = node.gate.identity
            dropped = 0
            if set(before.authorities) - set(identity.authorities):
                dropped = node.door.drop_all("a CA was taken out of the bundle")
                node.begin(node.links.hang_up_all(), "peer.hang_up")
            self._call_again(self._called())
            log.info(
                "identity.loaded", fingerprint=identity.fingerprint.text, days_left=identity.days_left(),
                dropped=dropped,
            )  # fmt: skip
        node.warn_of_expiry()

    def config(self) -> None:
        """Take in the rights of peers and strangers; every other setting waits for the next start, and that is told."""
        node = self._node
        try:
            fresh = configuration.load(node.home.config, node.config.environment)
        except ConfigError as error:
            kept = f"the {len(node.book.peers)} peers that were read last, and their rights, hold until then"
            self._failed("config", error.problems, kept)
            return
        self._met("config")
        if fresh.peers == self._written.peers and not fresh.differences(self._written):
            return
        later, told = self._at_next_start(fresh), self._at_next_start(self._written)
        self._written = fresh
        if later and later != told:
            log.warning("config.restart_needed", reason=f"{', '.join(later)} take effect at the next start")
        now = node.config.with_values({name: fresh[name] for name in RIGHTS})
        book = book_of(now, fresh.peers, node.book.keyring)
        node.exchange.replace_book(book.held_back(node.book))
        node.links.take_away(book)
        self._wanted = book
        self._note("peers", "pending", (GIVING,))
        self._news.set()

    def tokens(self) -> None:
        """Look at edited tokens. Who lets clients in reads the file anew each time; a broken one lets nobody in."""
        try:
            load_tokens(self._node.home.tokens)
        except ConfigError as error:
            self._failed("tokens", error.problems, "no token lets anybody in until then")
        else:
            self._met("tokens")

    def secrets(self) -> None:
        """Look who may read the secrets: a start refuses one that others could, and a node that runs says so as well.

        One that is not there is no fault: a passphrase may lie on a stick that is taken along.
        """
        faults = [fault for path in self._secrets if (fault := _exposed(path)) is not None]
        if faults:
            self._failed("secrets", faults, "until then the node goes on, and a start may be refused")
        else:
            self._met("secrets")

    @property
    def _secrets(self) -> tuple[Path, ...]:
        home, config = self._node.home, self._node.config
        named = (config["store", "passphrase_file"], config["local", "api_key_file"])
        return (home.passphrase, home.ca_key, *(home.under(one) for one in named if one is not None))

    def note(self) -> None:
        """Write `run.json` again where it is gone, or names a node that is none: commands here would not find this."""
        home = self._node.home
        try:
            if home.running() is None and not _is_ours(home):
                self._node.tell_where()
                log.warning("node.noted", reason="run.json was gone, or named a node that does not run; it is written")
        except ConfigError:
            return  # others can read it, or it is no file: each command says so, and what to do
        except OSError as error:
            kept = "commands in this folder do not find the node until then"
            self._failed("note", [f"{home.run} cannot be written: {error.strerror}"], kept)
        else:
            self._met("note")

    def _called(self) -> set[str]:
        """The peers that have an address."""
        return {one.fingerprint for one in self._node.book.peers if one.url is not None}

    def _call_again(self, peers: Collection[str]) -> None:
        """These may be let in, or accepted, from now on: whoever of them could not be called is called at once."""
        for one in peers:
            self._node.links.heard_from(one)

    async def _open_or_close(self) -> None:
        """The federation listener, as the allowlist has it; where that fails it is an alarm, and tried again."""
        try:
            await self._node.door.settle()
        except (ConfigError, TlsError) as error:
            if self._note("listener", "failed", (str(error), "peers cannot connect until then")):
                log.error("federation.listen.failed", reason=str(error))
                self._news.set()
        else:
            self._met("listener")

    # --- giving

    async def keep(self) -> None:
        """Give what edits give, and look again at what could not be read, until it is done; then wait for the next."""
        wait = FIRST_RETRY
        while True:
            if self._wanted is not None:
                wait = min(LONGEST_RETRY, 2 * wait) if not await self._give(self._wanted) else FIRST_RETRY
            self._read_again()
            if "listener" in self._unmet:
                await self._open_or_close()
            retry = wait if self._wanted is not None else READ_AGAIN if self._unmet else None
            try:
                async with asyncio.timeout(retry):
                    await self._news.wait()
                wait = FIRST_RETRY
            except TimeoutError:
                continue
            self._news.clear()

    async def _give(self, book: PeerBook) -> bool:
        """True where it is done, or is not wanted any more."""
        try:
            await self._node.settle_links(book, lambda: self._wanted is book)
        except (ConfigError, TlsError, StoreError, OSError) as error:
            self._given_up(str(error))
            return False
        except Exception as error:  # a bug of ours: told as one, and no reason to leave it at that
            log.error("peer.links.bug", exc_info=error)
            self._given_up(f"{type(error).__name__}; the log has it")
            return False
        if self._wanted is book:
            self._wanted = None
            self._met("peers")
        return True

    def _given_up(self, why: str) -> None:
        text = f"what the edit takes away is in force; what it gives could not be given yet, and is tried again: {why}"
        if self._note("peers", "pending", (text,)):
            log.error("peer.links.failed", reason=why)

    def _read_again(self) -> None:
        """A file that could not be read may be readable now, though nobody touched it."""
        readers: dict[Subject, Callable[[], None]] = {
            "allowlist": self.allowlist, "keyring": self.keyring, "identity": self.identity, "config": self.config,
            "tokens": self.tokens, "secrets": self.secrets, "note": self.note,
        }  # fmt: skip
        for name, read in readers.items():
            if name in self._unmet:
                read()

    # --- what is not in force

    def _failed(self, name: Subject, problems: Sequence[str], kept: str) -> None:
        if self._note(name, "failed", (*problems, kept)):
            for problem in problems:
                log.error(f"{name}.broken", reason=problem, kept=kept)
            self._news.set()  # only then: what is looked at again and still broken is no news

    def _note(self, name: Subject, state: Literal["failed", "pending"], reasons: tuple[str, ...]) -> bool:
        """True where that is news."""
        before = self._unmet.get(name)
        is_news = before is None or (before.state, before.reasons) != (state, reasons)
        since = time.monotonic() if before is None or before.state != state else before.since
        self._unmet[name] = Unmet(state, reasons, since)
        return is_news

    def _met(self, name: Subject) -> None:
        if self._unmet.pop(name, None) is not None:
            log.info(f"{name}.in_force")

    def _at_next_start(self, fresh: Config) -> list[str]:
        """The settings that differ from those that this process runs with, and are read at a start only."""
        running = self._node.config.as_written
        return sorted(f"[{name[0]}] {name[1]}" for name in fresh.differences(running) if name not in RIGHTS)

    def status(self) -> list[dict[str, Any]]:
        """For `sync status`: what stands in a file and is not in force, or not yet."""
        now = time.monotonic()
        told = [_told(what, one.state, one.reasons, now - one.since) for what, one in self._unmet.items()]
        if later := self._at_next_start(self._written):
            text = f"{', '.join(later)} take effect at the next start: start the node again, or take the edit back"
            told.append(_told("config", "restart", [text], None))
        return told

    def alarms(self) -> list[Alarm]:
        """One for each file that cannot be taken in, and for each reason why `/health` is not ok: while that is so."""
        failed = [
            Alarm("not_in_force", "", f"{name}: {plain.clauses(one.reasons)}")
            for name, one in self._unmet.items()
            if one.state == "failed"
        ]
        body, _ = self._node.health()
        return [*failed, *health.alarms(body)]


def _is_ours(home: Home) -> bool:
    """Whether the note in a node's folder is of this process. Raises ConfigError where it must not be used."""
    if not os.path.lexists(home.run):
        return False
    try:
        told = json.loads(read_private(home.run))
        return bool(told["pid"] == os.getpid() and home.path.samefile(told[FOLDER]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _exposed(path: Path) -> str | None:
    try:
        return secret_fault(path, path.stat(), pipe=True)
    except OSError:
        return None


def _told(what: str, state: str, reasons: Sequence[str], seconds: float | None) -> dict[str, Any]:
    since = None if seconds is None else round(seconds, 1)
    return {"what": what, "state": state, "reason": plain.clauses(reasons), "for_seconds": since}
