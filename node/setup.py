"""Making a node's folder, and editing what the operator edits: configuration and allowlist, comments kept."""

import contextlib
import ipaddress
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from node import config as configuration
from node import peerfile
from node.config import ConfigError, PeerConfig
from node.files import write_kept, write_private
from node.home import Home
from node.peerfile import toml
from node.settings import PEER_SETTINGS, SETTINGS, Setting, name_fault
from tls import allowlist
from tls.authority import Authority, KeyType
from tls.fingerprint import Fingerprint

ALLOWLIST_INTRODUCTION = """\
# Who may connect to this node: one certificate a line, by its SHA-256 fingerprint.
#
#   sha256:<64 hex digits>   # what you call it
#
# The other operator gets theirs with `ai-memory fingerprint` and sends it to you by a way that you trust.
# The node notices an edit of this file by itself. A line that is taken out closes that peer's connections within a
# second; a line that is wrong changes nothing, and the log says which. An empty list lets nobody in.
"""


class NoSuchPeer(ConfigError):
    """No peer of that name is configured."""


@dataclass(frozen=True, slots=True)
class Made:
    """What `init` made."""

    fingerprint: Fingerprint
    minted_ca: bool
    passphrase_file: Path | None


def init(
    home: Home,
    name: str,
    hosts: Sequence[str],
    *,
    ca: tuple[Path, Path] | None = None,
    key_type: KeyType = "ec",
    days: int = 825,
    not_after: datetime | None = None,
    write_passphrase: bool = True,
) -> Made:
    """Make a node in an empty folder: CA (or the given certificate and key), identity, configuration, allowlist.

    Raises ConfigError or IdentityError before anything is written where there is a node already, or the name, a host
    or the CA cannot be used. What cannot be made again, a CA's key or a passphrase that lies there, is kept.
    """
    if home.config.exists():
        raise ConfigError([f"{home.config}: there is a node in this folder already; name another --home, or remove it"])
    faults = [fault for fault in (name_fault(name), *map(host_fault, hosts)) if fault]
    if faults:
        raise ConfigError(faults)
    ca_cert = home.path / "ca.pem"
    ours = ca_cert.exists() and home.ca_key.exists()  # of an `init` that was interrupted, or of a node taken down
    if ca is None and ours:
        ca = ca_cert, home.ca_key
    minted = ca is None or ca == (ca_cert, home.ca_key)
    if ca is not None:
        authority = Authority.load(_bytes(ca[0]), _bytes(ca[1]))
    else:
        authority = Authority.create(f"{name[:50]} mesh CA", key_type=key_type)
    identity = authority.issue(name, hosts=hosts, key_type=key_type, days=days, not_after=not_after)
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.path.chmod(0o700)
    if ca is None:
        write_private(home.ca_key, authority.key_pem)
    write_kept(ca_cert, authority.cert_pem)
    write_kept(home.path / "node.pem", identity.cert_pem)
    write_private(home.path / "node.key", identity.key_pem)
    write_kept(home.path / "allowlist", ALLOWLIST_INTRODUCTION.encode())
    if write_passphrase and not home.passphrase.exists():
        write_private(home.passphrase, secrets.token_urlsafe(32).encode() + b"\n")
    write_kept(home.config, default_config(name).encode())  # last: with it the folder is a node
    return Made(identity.fingerprint, minted, home.passphrase if write_passphrase else None)


def host_fault(host: str) -> str | None:
    """What is wrong with a name for the certificate."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return None
    if len(host) <= 253 and re.fullmatch(r"[A-Za-z0-9_*-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", host):
        return None
    return f"host {host[:80]!r}, expected a DNS name (in its ASCII form) or an IP address"


def default_config(name: str) -> str:
    """A configuration in which every key is explained, and only what differs from its default is set."""
    lines = ["# ai-memory: the configuration of one node. Every key may also come from the environment,"]
    lines += ["# as AI_MEMORY_<SECTION>_<KEY>. Paths are relative to this folder. `ai-memory serve` checks it all.", ""]
    section = ""
    for setting in SETTINGS:
        if setting.section != section:
            section = setting.section
            lines += [f"[{section}]"]
        value = name if (setting.section, setting.key) == ("node", "name") else None
        lines += [f"# {setting.doc}", _line(setting, value)]
        if setting is SETTINGS[-1] or SETTINGS[SETTINGS.index(setting) + 1].section != section:
            lines.append("")
    lines += [
        "# One [[peer]] for each node that this one talks to: see `ai-memory peer add`.",
        "#",
        "# [[peer]]",
    ]
    for setting in PEER_SETTINGS:
        line = _line(setting, None)
        # The example is a peer once the # is taken away; what few peers need stays out of it.
        lines += [f"# # {setting.doc}", f"# {line if setting.key in _RARE else line.removeprefix('# ')}"]
    return "\n".join(lines) + "\n"


def _line(setting: Setting, value: str | None) -> str:
    if value is not None:
        return f"{setting.key} = {toml(value)}"
    example = setting.default if setting.default is not None else _EXAMPLES.get(setting.key, "")
    return f"# {setting.key} = {toml(example)}"


_RARE = ("api_key_file", "allow_unsigned")
_EXAMPLES = {
    "default_allow_unsigned": True,
    "allow_unsigned": True,
    "agent_id": "host:laptop",
    "passphrase_file": "passphrase",
    "passphrase_command": ["pass", "show", "ai-memory"],
    "api_key_file": "api-key",
    "url": "https://desk.local:9443",
    "fingerprint": "sha256:…",
    "name": "desk",
}


def add_peer(home: Home, peer: PeerConfig, ca: Path | None) -> None:
    """Write a peer into the configuration, its fingerprint into the allowlist, its CA into the bundle.

    Everything is checked before anything is written; adding the same peer again changes nothing. Raises ConfigError.
    """
    config = configuration.load(home.config)
    known = next((one for one in config.peers if one.name == peer.name), None)
    if known is not None and known.fingerprint != peer.fingerprint:
        raise ConfigError([f"peer {peer.name} has another fingerprint; run `ai-memory peer remove {peer.name}` first"])
    bundle = home.identity(config).ca
    merged = _merged(bundle, ca) if ca is not None else None
    path = home.allowlist(config)
    listing = allowlist.read(path)
    allowlist.parse(listing, str(path))  # so that an error names the file
    listed = allowlist.add(listing, peer.fingerprint, peer.name)
    text = _text(home.config)
    if peer != known:
        kept = [one for one in config.peers if one != known]
        text = _checked(peerfile.with_peer(text, peer), [*kept, peer], home.config)
    if merged is not None:
        write_kept(bundle, merged)
    write_kept(path, listed.encode())
    write_kept(home.config, text.encode())


def remove_peer(home: Home, name: str) -> PeerConfig:
    """Take a peer out of the configuration and the allowlist. Its CA stays. Raises ConfigError, NoSuchPeer."""
    config = configuration.load(home.config)
    peer = next((one for one in config.peers if one.name == name), None)
    if peer is None:
        known = ", ".join(one.name for one in config.peers) or "none"
        raise NoSuchPeer([f"there is no peer {name!r}; known are: {known}"])
    kept = [one for one in config.peers if one != peer]
    text = _checked(peerfile.without_peer(_text(home.config), name), kept, home.config)
    path = home.allowlist(config)
    listing = allowlist.read(path)
    allowlist.parse(listing, str(path))
    write_kept(path, allowlist.remove(listing, peer.fingerprint).encode())
    write_kept(home.config, text.encode())
    return peer


def _text(path: Path) -> str:
    return path.read_bytes().decode()  # not read_text, which would change the line ends


def _checked(text: str, peers: Sequence[PeerConfig], path: Path) -> str:
    """The edited text, if it says what it was meant to say. Raises ConfigError where only a person can edit it."""
    unknown_form = f"{path}: nothing was changed: its peers are in a form that only a person can edit"
    try:
        found = configuration.parse(text, str(path), os.environ).peers
    except ConfigError as error:
        raise ConfigError([*error.problems, f"{path}: nothing was changed"]) from None
    if sorted(found, key=lambda one: one.name) != sorted(peers, key=lambda one: one.name):
        raise ConfigError([unknown_form])
    return text


def _merged(bundle: Path, added: Path) -> bytes:
    """The bundle with the certificates of another file, each once."""
    have = _bytes(bundle)
    known = {one.public_bytes(Encoding.DER) for one in _certificates(bundle, have)}
    fresh = {one.public_bytes(Encoding.DER): one for one in _certificates(added, _bytes(added))}
    new = [one for der, one in fresh.items() if der not in known]
    if not new:
        return have
    for one in new:
        constraints = [e.value for e in one.extensions if isinstance(e.value, x509.BasicConstraints)]
        if not constraints or not constraints[0].ca:
            raise ConfigError([f"{added}: a certificate of a node, the certificate of its CA expected (its ca.pem)"])
    return have.rstrip() + b"\n" + b"".join(one.public_bytes(Encoding.PEM) for one in new)


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ConfigError([f"{path}: no certificate in it, a CA's PEM file expected"]) from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: {(error.strerror or 'cannot be read').lower()}"]) from None
