"""Making a node's folder, and editing what the operator edits: configuration and allowlist, comments kept."""

import contextlib
import ipaddress
import os
import re
import secrets
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from node import config as configuration
from node import editing as edits
from node import pair, passphrase, peerfile
from node.config import Config, ConfigError, InvalidInput, NotThere, PeerConfig
from node.editing import editing
from node.files import write_kept, write_private
from node.home import API_KEY, Home, read_private
from node.peerfile import toml
from node.settings import PEER_SETTINGS, SETTINGS, Setting, name_fault
from node.store import Store
from tls import allowlist
from tls.authority import Authority, KeyType
from tls.fingerprint import Fingerprint
from tls.ownership import advice

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
    """Written, or found, and what the store is opened with; None where another source has the passphrase."""
    store: Path | None
    """None where no passphrase is known yet: then `new_store` makes it later."""
    api_key_file: Path | None


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
    api_key: bool = True,
    environment: MutableMapping[str, str] | None = None,
    anew: bool = False,
) -> Made:
    """Make a node in an empty folder: CA (or the given certificate and key), identity, allowlist, store, configuration.

    `api_key`: local clients must send one, which is written into a private file. Raises ConfigError, IdentityError or
    StoreError before anything is written where there is a node already, where the name, a host or the CA cannot be
    used, or where what lies there does not fit: a certificate and key, a CA, a store. What fits is kept, so that an
    `init` that was interrupted is completed with the same certificate, CA, passphrase, store, list and API key.
    `environment`: where variables and the passphrase are looked for; that of this process where it is left out.
    `anew`: another certificate was asked for, also where a pair, or a list of this node's peers, lies there.
    """
    environment = os.environ if environment is None else environment
    _refuse_second(home)
    faults = [fault for fault in (name_fault(name), *map(host_fault, hosts)) if fault]
    if faults:
        raise InvalidInput(faults)
    config = configuration.parse(default_config(name), str(home.config), environment)
    ca_cert, listing = home.path / pair.CA, home.path / "allowlist"
    ours = ca_cert.exists() and home.ca_key.exists()  # of an `init` that was interrupted, or of a node taken down
    if ca is None and ours:
        ca = ca_cert, home.ca_key
    minted = ca is None or ca == (ca_cert, home.ca_key)
    if ca is not None:
        authority = Authority.load(_bytes(ca[0]), read_private(ca[1]))
    else:
        authority = Authority.create(f"{name[:50]} mesh CA", key_type=key_type)

    def lying_there() -> Fingerprint | None:
        pair.require_no_other(home.path, authority)
        return None if anew else pair.found(home.path, authority, name, hosts, key_type)

    if not anew:
        _refuse_remains(home)
    lying_there()
    identity = authority.issue(name, hosts=hosts, key_type=key_type, days=days, not_after=not_after)
    secret = passphrase.sought(config, home, environment)
    _require_opening(home, config, secret)
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.path.chmod(0o700)
    with editing(home.path):
        _refuse_second(home)  # one that was made meanwhile
        kept = lying_there()
        # First what may still refuse: what was written until then serves whatever is asked for next.
        if write_passphrase and secret is None:
            secret = secrets.token_urlsafe(32)
            write_private(home.passphrase, secret.encode() + b"\n")
        if secret is not None:
            Store.open(home.store(config), secret, create=True, readers=1).close()
        # Of CA and node the key comes last: a certificate alone is what can be made again.
        if not pair.has(ca_cert, authority):
            write_kept(ca_cert, authority.cert_pem)
        if ca is None:
            write_private(home.ca_key, authority.key_pem)
        if kept is None:
            write_kept(home.path / pair.CERT, identity.cert_pem)
            write_private(home.path / pair.KEY, identity.key_pem)
        if anew or not listing.exists():
            write_kept(listing, ALLOWLIST_INTRODUCTION.encode())
        if api_key and not home.api_key.exists():
            write_api_key(home.api_key)
        # Last: with it the folder is a node.
        write_kept(home.config, default_config(name, API_KEY if api_key else None).encode())
    return Made(
        identity.fingerprint if kept is None else kept,
        minted,
        home.passphrase if home.passphrase.exists() else None,
        home.store(config) if secret is not None else None,
        home.api_key if api_key else None,
    )


def write_api_key(path: Path) -> None:
    """A new key for local clients, in place of any that is there; 32 random bytes as text."""
    write_private(path, secrets.token_urlsafe(32).encode() + b"\n")


def require_api_key(home: Home) -> tuple[Path, bool]:
    """Give the node another API key, in the file that its configuration names; where it names none, it will name one.

    A node that asks for a key already asks for the new one from its next request on; any other from its next start.
    Returns the file, and whether the configuration was changed. Raises ConfigError.
    """
    configuration.load(home.config)  # where there is no node, not even a lock is left behind
    with editing(home.path):
        config = configuration.load(home.config)
        named = config["local", "api_key_file"]
        path = home.under(named) if named else home.api_key
        if named:
            write_api_key(path)
            return path, False
        text = peerfile.with_setting(_text(home.config), "local", "api_key_file", API_KEY)
        found = configuration.parse(text, str(home.config), os.environ)
        if found["local", "api_key_file"] != API_KEY or found.differences(config) != [("local", "api_key_file")]:
            told = f'{home.config}: nothing was changed: write api_key_file = "{API_KEY}" below [local] there'
            raise ConfigError([told])
        write_api_key(path)  # first: a configuration that names a file which is not there starts no node
        write_kept(home.config, text.encode())
        return path, True


def _refuse_remains(home: Home) -> None:
    """Of a node whose configuration is gone: its peers know its certificate, and its list is nowhere else.

    An `init` that was interrupted leaves no entry in the list and no peer that knows its certificate.
    """
    listed = home.path / "allowlist"
    try:
        is_used = bool(allowlist.load(listed).entries) if listed.exists() else False
    except allowlist.AllowlistError:
        is_used = True  # somebody edited it
    if is_used:
        told = (
            f"{home.path} holds an allowlist with entries and a node's certificate, but no {home.config.name}: put that"
            " file back, from a backup or written anew (docs/configuration.md); `init` would make another certificate,"
            " which no peer knows. To begin anew, name another --home"
        )
        raise ConfigError([told])


def _refuse_second(home: Home) -> None:
    if os.path.lexists(home.config):
        told = "there is a node in this folder already; to make another, name another --home; to bring back what this"
        raise ConfigError([f"{home.config}: {told} one has lost, its certificate too, see docs/recovery.md"])


def _require_opening(home: Home, config: Config, secret: str | None) -> None:
    """Raises ConfigError or StoreError where there is a store that cannot be opened: before anything is written."""
    path = home.store(config)
    if not path.exists():
        return
    if secret is None:
        text = "there is a store already, and no passphrase for it: put its own into {}, or move the store away"
        raise ConfigError([f"{path}: {text.format(home.passphrase)}"])
    Store.open(path, secret, readers=1).close()


def new_store(home: Home, config: Config, secret: str) -> Path:
    """Make the store of a node that has none: `init` knew no passphrase, or it was lost.

    Raises StoreError, ConfigError. It begins empty; what peers have of the lost one they send.
    """
    path = home.store(config)
    with editing(home.path):
        if path.exists():
            raise ConfigError([f"{path}: there is a store already; `ai-memory restore FILE` would put a backup there"])
        Store.open(path, secret, create=True, readers=1).close()
    return path


def host_fault(host: str) -> str | None:
    """What is wrong with a name for the certificate."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return None
    if len(host) <= 253 and re.fullmatch(r"[A-Za-z0-9_*-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", host):
        return None
    return f"host {host[:80]!r}, expected a DNS name (in its ASCII form) or an IP address"


def default_config(name: str, api_key_file: str | None = None) -> str:
    """A configuration in which every key is explained, and only what differs from its default is set."""
    values = {("node", "name"): name, ("local", "api_key_file"): api_key_file}
    lines = ["# ai-memory: the configuration of one node. Every key may also come from the environment,"]
    lines += ["# as AI_MEMORY_<SECTION>_<KEY>. Paths are relative to this folder. `ai-memory serve` checks it all.", ""]
    section = ""
    for setting in SETTINGS:
        if setting.section != section:
            section = setting.section
            lines += [f"[{section}]"]
        lines += [f"# {setting.doc}", _line(setting, values.get((setting.section, setting.key)))]
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
    "api_key_file": API_KEY,
    "url": "https://desk.local:9443",
    "fingerprint": "sha256:…",
    "name": "desk",
}


def add_peer(home: Home, peer: PeerConfig, ca: Path | None) -> str | None:
    """Write a peer into the configuration, its fingerprint into the allowlist, its CA into the bundle.

    Everything is checked before anything is written; adding the same peer again changes nothing. Raises ConfigError.
    Returns the label of its line on the allowlist where there was one, which stays as it is; else None.
    """
    configuration.load(home.config)  # where there is no node, not even a lock is left behind
    with editing(home.path):
        config = configuration.load(home.config)
        _refuse_self(home, config, peer)
        known = next((one for one in config.peers if one.name == peer.name), None)
        if known is not None and known.fingerprint != peer.fingerprint:
            text = f"peer {peer.name} has another fingerprint; run `ai-memory peer remove {peer.name}` first"
            raise ConfigError([text])
        bundle = home.identity(config).ca
        changes = {bundle: _merged(bundle, ca)} if ca is not None else {}
        path = home.allowlist(config)
        listing = allowlist.read(path)
        listed = allowlist.parse(listing, str(path))  # before the edit, so that an error names the file
        changes[path] = allowlist.add(listing, peer.fingerprint, peer.name).encode()
        if peer != known:
            kept = [one for one in config.peers if one != known]
            added = peerfile.with_peer(_text(home.config), peer)
            changes[home.config] = _checked(added, [*kept, peer], home.config).encode()
        edits.write(home.path, changes)
        return listed.label_of(peer.fingerprint)


def _refuse_self(home: Home, config: Config, peer: PeerConfig) -> None:
    """Whoever pastes the wrong one of two lines would be in step with nobody but itself."""
    own = home.identity(config).cert
    if own.exists() and Fingerprint.of_pem(_bytes(own)) == peer.fingerprint:
        told = f"peer {peer.name}: {peer.fingerprint.text} is this node's own certificate"
        raise InvalidInput([f"{told}; the other node's is expected, as `ai-memory fingerprint` prints it there"])


def remove_peer(home: Home, name: str) -> PeerConfig:
    """Take a peer out of the configuration and the allowlist. Its CA stays. Raises ConfigError, NotThere."""
    configuration.load(home.config)
    with editing(home.path):
        config = configuration.load(home.config)
        peer = next((one for one in config.peers if one.name == name), None)
        if peer is None:
            known = ", ".join(one.name for one in config.peers) or "none"
            raise NotThere([f"there is no peer {name!r}; known are: {known}"])
        kept = [one for one in config.peers if one != peer]
        text = _checked(peerfile.without_peer(_text(home.config), name), kept, home.config)
        path = home.allowlist(config)
        listing = allowlist.read(path)
        allowlist.parse(listing, str(path))
        without = allowlist.remove(listing, peer.fingerprint)
        edits.write(home.path, {path: without.encode(), home.config: text.encode()})
        return peer


def list_certificate(home: Home, path: Path, fingerprint: Fingerprint, label: str) -> str | None:
    """Let a certificate in. Returns the label of its line where it was listed, which stays as it is; else None.

    Raises AllowlistError for a list that is broken.
    """
    with editing(home.path):
        listing = allowlist.read(path)
        listed = allowlist.parse(listing, str(path))
        edits.write(home.path, {path: allowlist.add(listing, fingerprint, label).encode()})
        return listed.label_of(fingerprint)


def unlist_certificate(home: Home, path: Path, fingerprint: Fingerprint) -> bool:
    """Shut a certificate out; False where it was not on the list. Raises AllowlistError for a list that is broken."""
    with editing(home.path):
        listing = allowlist.read(path)
        if fingerprint not in allowlist.parse(listing, str(path)):
            return False
        edits.write(home.path, {path: allowlist.remove(listing, fingerprint).encode()})
        return True


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
    fresh = {one.public_bytes(Encoding.DER): one for one in _certificates(added, _bytes(added), InvalidInput)}
    new = [one for der, one in fresh.items() if der not in known]
    if not new:
        return have
    for one in new:
        constraints = [e.value for e in one.extensions if isinstance(e.value, x509.BasicConstraints)]
        if not constraints or not constraints[0].ca:
            raise InvalidInput([f"{added}: a certificate of a node, the certificate of its CA expected (its ca.pem)"])
    return have.rstrip() + b"\n" + b"".join(one.public_bytes(Encoding.PEM) for one in new)


def _certificates(path: Path, pem: bytes, error: type[ConfigError] = ConfigError) -> list[x509.Certificate]:
    """Raises `error` where there is none."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise error([f"{path}: no certificate in it, a CA's PEM file expected"]) from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        do = f"; {told}" if (told := advice(error, path)) else ""
        raise ConfigError([f"{path}: {(error.strerror or 'cannot be read').lower()}{do}"]) from None
