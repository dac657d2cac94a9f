"""Every key of the configuration, as one table: its type, default, limits and meaning.

The reader, the default file, the environment's names and the documentation's test are all made from it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sync.memory import agent_fault, namespace_fault

MAX_NAME = 64
_FOREIGN = re.compile(r"[\[\]{}?]")
"""What is special in the patterns of other programs, and is not in ours."""
Check = Callable[[Any], str | None]
"""What is wrong with a value, in words; None where nothing is."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key."""

    section: str
    key: str
    kind: type
    default: Any
    """None: not set."""
    doc: str
    check: Check | None = None

    @property
    def variable(self) -> str:
        """The environment variable that overrides it."""
        return f"AI_MEMORY_{self.section}_{self.key}".upper()


def _between(low: float, high: float) -> Check:
    def check(value: float) -> str | None:
        return None if low <= value <= high else f"{value}, expected {low:g} to {high:g}"

    return check


def _one_of(*allowed: str) -> Check:
    def check(value: str) -> str | None:
        return None if value in allowed else f"{value!r}, expected one of {', '.join(allowed)}"

    return check


def name_fault(value: str) -> str | None:
    """What is wrong with the name of a node. It is the label of a line in other operators' allowlists."""
    if 0 < len(value) <= MAX_NAME and value.isprintable() and value == value.strip() and "#" not in value:
        return None
    return f"{value[:MAX_NAME]!r}, expected 1 to {MAX_NAME} printable characters without #, no space at either end"


def _agent(value: str) -> str | None:
    return agent_fault(value)


def _address(value: str) -> str | None:
    host, _, port = value.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65_535:
        return f"{value!r}, expected host:port with a port from 0 to 65535"
    return None


def globs_fault(value: list[str]) -> str | None:
    """What is wrong with a list of namespace patterns."""
    for pattern in value:
        fault = namespace_fault(pattern.replace("*", "x") or "")
        if fault:
            return f"{pattern!r} is no namespace pattern ({fault})"
    return None


def typed_globs_fault(value: list[str]) -> str | None:
    """The same for patterns that somebody types, who may mean what other programs take them for."""
    for pattern in value:
        if foreign := _FOREIGN.search(pattern):
            return (
                f"{pattern!r} is no namespace pattern ({foreign[0]!r} stands for nothing else here, expected * for a"
                " segment or a part of one, ** for any depth; where a namespace has that character, write * for it)"
            )
    return globs_fault(value)


SETTINGS: tuple[Setting, ...] = (
    Setting("node", "name", str, None, "What this node calls itself in logs and in the line for other operators."
            " Default: the host's name.", name_fault),
    Setting("node", "agent_id", str, None, "The agent that writes where a client names none. Default: host:<name>.", _agent),
    Setting("store", "path", str, "store.db", "The encrypted store; relative to the home folder."),
    Setting("store", "passphrase_file", str, None, "A file (mode 0600) with the passphrase, if it does not come from"
            " AI_MEMORY_DB_KEY or a systemd credential."),
    Setting("store", "passphrase_command", list, None, "A program and its arguments that prints the passphrase."),
    Setting("store", "readers", int, 2, "Connections that read beside the writer.", _between(1, 16)),
    Setting("federation", "listen", str, "0.0.0.0:9443", "Where peers connect (TLS 1.3, mutual, allowlisted).", _address),
    Setting("federation", "handshake_timeout", float, 5.0, "Seconds that a handshake may take; a fifth of it where every place is taken.", _between(0.1, 60)),
    Setting("federation", "max_handshakes", int, 64, "Handshakes pending at one time; four times as many may wait that have said nothing yet.", _between(1, 4096)),
    Setting("federation", "max_handshakes_per_address", int, 32, "The same, for one address (IPv6: a /56 network; four times as many for an IPv4 /24, an IPv6 /48).", _between(1, 4096)),
    Setting("federation", "max_connections", int, 256, "Connections of peers open at one time.", _between(1, 65_536)),
    Setting("federation", "max_connections_per_peer", int, 16, "The same, for one certificate.", _between(1, 65_536)),
    Setting("federation", "default_read", list, [], "Namespaces that an allowlisted certificate which is no configured"
            " peer may read. Empty: none.", globs_fault),
    Setting("federation", "default_write", list, [], "Namespaces that such a certificate may write. Empty: none.", globs_fault),
    Setting("federation", "default_legacy", bool, False, "Such a certificate is a daemon of the older protocol."),
    Setting("federation", "default_allow_unsigned", bool, None, "Take from such a certificate what nobody signed."
            " Default: as default_legacy."),
    Setting("local", "listen", str, "127.0.0.1:9077", "Where agents on this machine connect (plain HTTP).", _address),
    Setting("local", "api_key_file", str, None, "A file (mode 0600) with a key that clients must send as X-Api-Key;"
            " `ai-memory init` makes one. Not set: every user of this machine is served."),
    Setting("local", "allow_non_loopback", bool, False, "Listen beyond loopback; needs api_key_file."),
    Setting("local", "hosts", list, [], "Names that Host and Origin may have besides those of loopback. With"
            " allow_non_loopback and none named: any."),
    Setting("local", "max_body", int, 16_777_216, "Bytes of one request, decompressed.", _between(1_024, 268_435_456)),
    Setting("tls", "cert", str, "node.pem", "This node's certificate; relative to the home folder."),
    Setting("tls", "key", str, "node.key", "Its private key (mode 0600)."),
    Setting("tls", "ca", str, "ca.pem", "The CAs of the peers; one file with all of them."),
    Setting("tls", "allowlist", str, "allowlist", "The certificates that may connect, one fingerprint a line."),
    Setting("trust", "keyring", str, "keyring", "Which key belongs to which agent, one key a line; no file is an empty"
            " keyring."),
    Setting("trust", "policy", str, "any", "What is taken from agents that have no key in the keyring: any (what their own"
            " keys signed) or enrolled (nothing).", _one_of("any", "enrolled")),
    Setting("sync", "pull_interval", float, 30.0, "Seconds between pulls from a peer that has nothing new.",
            _between(0.1, 86_400)),
    Setting("sync", "page_records", int, 500, "Records of one page.", _between(1, 2_000)),
    Setting("sync", "page_bytes", int, 4_194_304, "Bytes of one page.", _between(65_536, 8_388_608)),
    Setting("sync", "retry_first", float, 0.25, "Seconds before the first retry; it doubles from there.", _between(0.01, 60)),
    Setting("sync", "retry_longest", float, 60.0, "The longest wait between retries, in seconds.", _between(0.1, 86_400)),
    Setting("sync", "request_timeout", float, 60.0, "Seconds that a request to a peer may take.", _between(1, 3_600)),
    Setting("log", "format", str, "console", "console or json.", _one_of("console", "json")),
    Setting("log", "level", str, "info", "debug, info, warning or error.", _one_of("debug", "info", "warning", "error")),
)  # fmt: skip

PEER_SETTINGS: tuple[Setting, ...] = (
    Setting("peer", "name", str, None, "What you call it.", name_fault),
    Setting("peer", "url", str, None, "https://host:port where it listens; leave out for a peer that only calls here."),
    Setting("peer", "fingerprint", str, None, "sha256:… of its certificate; it must be on the allowlist too."),
    Setting("peer", "direction", str, "both", "push (data goes there), pull (data comes from there) or both.",
            _one_of("push", "pull", "both")),
    Setting("peer", "read", list, ["**"], "Namespaces that it may read here.", globs_fault),
    Setting("peer", "write", list, ["**"], "Namespaces that are taken from it.", globs_fault),
    Setting("peer", "allow_unsigned", bool, None, "Take from it what nobody signed: anybody there can write it in any"
            " agent's name. Default: as legacy."),
    Setting("peer", "legacy", bool, False, "It is a daemon of the older protocol (v0.6, v0.7): see legacy.md."),
    Setting("peer", "api_key_file", str, None, "A file (mode 0600) with the key that such a daemon asks for; sent as X-Api-Key."),
)  # fmt: skip
