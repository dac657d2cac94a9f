"""Alarms about a state of this node: each is there for as long as whoever looks finds it so."""

from collections.abc import Collection, Iterator
from datetime import datetime

from cryptography import x509

from node.peers import PeerBook
from sync.receive import Alarm
from tls.allowlist import Allowlist
from tls.contexts import TIME


def of_certificate(leaf: x509.Certificate, now: datetime) -> Iterator[Alarm]:
    """This node's own certificate, where no peer can accept it: or is it the clock?"""
    begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    clock = f"this node's clock says {now:{TIME}}"
    if now < begins:
        text = f"{clock}, and its certificate began at {begins:{TIME}}: set the clock of this machine"
        yield Alarm("certificate", "", text)
    elif now > ends:
        text = f"{clock}, and its certificate ended at {ends:{TIME}}: if the clock is right, issue a new certificate"
        yield Alarm("certificate", "", text)


def of_peers(allowlist: Allowlist, book: PeerBook, known: Collection[str]) -> Iterator[Alarm]:
    """Peers whose `[[peer]]` is gone: what is left of a configuration that was cut off is in order as it stands.

    `known`: fingerprints of certificates whose feed this node has read. Who was never one of them may be listed to look
    at `health` alone; and who has the rights of strangers needs no table.
    """
    for entry in allowlist.entries:
        fingerprint = entry.fingerprint.text
        found = book.find(fingerprint)
        if fingerprint not in known or book.name_of(fingerprint) is not None:
            continue
        if not found.read.patterns and not found.write.patterns:
            told = (
                f"{fingerprint} ({entry.label or 'no label'}) is on the allowlist, this node has read from it, and no"
                " [[peer]] in config.toml is for it: it gets in, and nothing is exchanged. Was that file cut off? Put"
                " the [[peer]] back (`ai-memory peer add` writes one), or end it: `ai-memory allowlist remove"
                f" {fingerprint}`"
            )
            yield Alarm("no_peer", "", told)
