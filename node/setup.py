"""Making a node's folder, and editing what the operator edits: configuration and allowlist, comments kept."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import tomlkit
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tomlkit import TOMLDocument
from tomlkit.items import AoT

from node import config as configuration
from node.config import ConfigError, PeerConfig
from node.files import write_kept, write_private
from node.home import Home
from node.settings import PEER_SETTINGS, SETTINGS, Setting
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

    Raises ConfigError where there is a node already, or the CA cannot be used.
    """
    if home.config.exists():
        raise ConfigError([f"{home.config}: there is a node in this folder already; name another --home, or remove it"])
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.path.chmod(0o700)
    if ca is not None:
        authority = Authority.load(_bytes(ca[0]), _bytes(ca[1]))
    else:
        authority = Authority.create(f"{name} mesh CA", key_type=key_type)
        write_private(home.ca_key, authority.key_pem)
    identity = authority.issue(name, hosts=hosts, key_type=key_type, days=days, not_after=not_after)
    write_kept(home.path / "ca.pem", authority.cert_pem)
    write_kept(home.path / "node.pem", identity.cert_pem)
    write_private(home.path / "node.key", identity.key_pem)
    write_kept(home.path / "allowlist", ALLOWLIST_INTRODUCTION.encode())
    passphrase = None
    if write_passphrase:
        write_private(home.passphrase, secrets.token_urlsafe(32).encode() + b"\n")
        passphrase = home.passphrase
    write_kept(home.config, default_config(name).encode())  # last: with it the folder is a node
    return Made(identity.fingerprint, ca is None, passphrase)


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
        lines += [f"# # {setting.doc}", f"# {_line(setting, None).removeprefix('# ')}"]
    return "\n".join(lines) + "\n"


def _line(setting: Setting, value: str | None) -> str:
    if value is not None:
        return f"{setting.key} = {tomlkit.item(value).as_string()}"
    example = setting.default if setting.default is not None else _EXAMPLES.get(setting.key, "")
    return f"# {setting.key} = {tomlkit.item(example).as_string()}"


_EXAMPLES = {
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
    document = _document(home)
    config = configuration.load(home.config)
    clash = next((one for one in config.peers if one.name == peer.name and one.fingerprint != peer.fingerprint), None)
    if clash is not None:
        raise ConfigError([f"peer {peer.name} has another fingerprint; run `ai-memory peer remove {peer.name}` first"])
    bundle = home.identity(config).ca
    merged = _merged(bundle, ca) if ca is not None else None
    listed = allowlist.add(allowlist.read(home.allowlist(config)), peer.fingerprint, peer.name)
    _drop(document, peer.name)
    document.setdefault("peer", tomlkit.aot()).append(_table(peer))
    text = tomlkit.dumps(document)
    configuration.parse(text, str(home.config), {})
    if merged is not None:
        write_kept(bundle, merged)
    write_kept(home.allowlist(config), listed.encode())
    write_kept(home.config, text.encode())


def remove_peer(home: Home, name: str) -> PeerConfig:
    """Take a peer out of the configuration and the allowlist. Its CA stays. Raises ConfigError where there is none."""
    config = configuration.load(home.config)
    peer = next((one for one in config.peers if one.name == name), None)
    if peer is None:
        known = ", ".join(one.name for one in config.peers) or "none"
        raise ConfigError([f"there is no peer {name!r}; known are: {known}"])
    document = _document(home)
    _drop(document, name)
    path = home.allowlist(config)
    write_kept(path, allowlist.remove(allowlist.read(path), peer.fingerprint).encode())
    write_kept(home.config, tomlkit.dumps(document).encode())
    return peer


def _document(home: Home) -> TOMLDocument:
    try:
        return tomlkit.parse(home.config.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{home.config}: {error.strerror}; run `ai-memory init` first, or name a --home"]) from None


def _drop(document: TOMLDocument, name: str) -> None:
    peers = document.get("peer")
    if isinstance(peers, AoT):
        for index in reversed(range(len(peers))):
            if peers[index].get("name") == name:
                del peers[index]
        if not len(peers):
            del document["peer"]


def _table(peer: PeerConfig) -> tomlkit.items.Table:
    table = tomlkit.table()
    table["name"] = peer.name
    if peer.url is not None:
        table["url"] = peer.url
    table["fingerprint"] = peer.fingerprint.text
    if peer.direction != "both":
        table["direction"] = peer.direction
    for key, patterns in (("read", peer.read), ("write", peer.write)):
        if patterns != ("**",):
            table[key] = list(patterns)
    return table


def _merged(bundle: Path, added: Path) -> bytes:
    """The bundle with the certificates of another file, each once."""
    have = bundle.read_bytes()
    try:
        known = {one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(have)}
        fresh = x509.load_pem_x509_certificates(_bytes(added))
    except ValueError:
        raise ConfigError([f"{added}: no certificate in it, a CA's PEM file expected"]) from None
    new = [one for one in fresh if one.public_bytes(Encoding.DER) not in known]
    for one in new:
        constraints = [e.value for e in one.extensions if isinstance(e.value, x509.BasicConstraints)]
        if not constraints or not constraints[0].ca:
            raise ConfigError([f"{added}: a certificate of a node, the certificate of its CA expected (its ca.pem)"])
    return have.rstrip() + b"\n" + b"".join(one.public_bytes(Encoding.PEM) for one in new)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: {(error.strerror or 'cannot be read').lower()}"]) from None
