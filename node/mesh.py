"""A whole mesh's folders, made in one place: one CA, a folder for each node with a key of its own, all paired.

    FOLDER/ca/      ca.pem, ca.key, and `members.json`: the nodes that were paired from here
    FOLDER/NAME/    what `ai-memory init` makes, the passphrase of its store and an API key among it

Each node's folder then goes to where that node runs; `FOLDER/ca` goes to none of them. A node that is among
them is never paired again unasked: whom an operator has shut out stays out, however often this runs.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from node import config as configuration
from node import editing as edits
from node import setup
from node.config import ConfigError, InvalidInput, PeerConfig, typed_url_fault
from node.editing import editing
from node.files import write_kept, write_private
from node.home import Home, read_private
from node.passphrase import VARIABLE
from node.settings import name_fault
from tls.authority import Authority
from tls.fingerprint import Fingerprint

CA = "ca"
MEMBERS = "members.json"
_LOST = "{folder}: no node there, but {name} was paired before; to make and pair it anew: `ai-memory mesh renew`"


@dataclass(frozen=True, slots=True)
class Member:
    """One node as the mesh is to know it."""

    name: str
    url: str
    """https://host:port where the others reach it."""
    is_stranger: bool = False
    """It has a certificate of the CA and knows the others, and nobody lists it."""

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What became of a member."""

    member: Member
    home: Path
    fingerprint: Fingerprint
    is_new: bool
    """It was made or renewed, and paired, in this run."""


def make(folder: Path, members: Sequence[Member], renew: Collection[str] = ()) -> tuple[Standing, ...]:
    """Make and pair what was not paired from here before, and what is to be renewed; leave everything else as it is.

    `renew`: names of members that get a new certificate, and are paired anew. An interrupted run is completed by the
    next. Raises ConfigError or IdentityError, naming what is in the way.
    """
    faults = list(_faults(members, renew))
    if faults:
        raise InvalidInput(faults)
    (folder / CA).mkdir(mode=0o700, parents=True, exist_ok=True)
    with editing(folder / CA):
        return _make_all(folder, members, renew)


def _make_all(folder: Path, members: Sequence[Member], renew: Collection[str]) -> tuple[Standing, ...]:
    known = paired(folder)
    new = [one for one in members if one.name not in known or one.name in renew]
    gone = [one for one in members if one not in new and not Home(folder / one.name).config.exists()]
    if gone:
        raise ConfigError([_LOST.format(folder=folder / one.name, name=one.name) for one in gone])
    authority = _authority(folder / CA, is_paired=bool(known)) if new else None
    for one in new:
        assert authority is not None, "there is something to make"
        _make(folder, one, authority, is_renewed=one.name in renew and one.name in known)
    for one in members:
        for other in members:
            if other is not one and not other.is_stranger and (one in new or other in new):
                _know(Home(folder / one.name), other, _fingerprint(folder, other))
    if new:
        everybody = known | {one.name: one for one in new}
        note = msgspec.json.format(msgspec.json.encode(list(everybody.values())))
        write_kept(folder / CA / MEMBERS, note + b"\n")  # last: who is in it is paired
    return tuple(Standing(one, folder / one.name, _fingerprint(folder, one), one in new) for one in members)


def paired(folder: Path) -> dict[str, Member]:
    """Whom this folder's mesh has, by name. Raises ConfigError."""
    note = folder / CA / MEMBERS
    if not note.exists():
        return {}
    try:
        return {one.name: one for one in msgspec.json.decode(note.read_bytes(), type=list[Member])}
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ConfigError([f"{note}: not what `ai-memory mesh init` wrote; put it back from a copy"]) from None


def _faults(members: Sequence[Member], renew: Collection[str]) -> list[str]:
    names = [one.name for one in members]
    faults = []
    for one in members:
        # The name is a folder's, too.
        if name_fault(one.name) or one.name in (CA, ".", "..") or "/" in one.name:
            faults.append(f"node {one.name!r}, expected a name that a folder can have, and not {CA!r}")
        faults += [fault for fault in (typed_url_fault(one.url), setup.host_fault(one.host)) if fault][:1]
    faults += [
        f"node {name!r} is named {names.count(name)} times" for name in sorted({*names}) if names.count(name) > 1
    ]
    faults += [f"node {name!r} is to be renewed, and not named as a node" for name in renew if name not in names]
    if sum(not one.is_stranger for one in members) < 2:
        faults.append("a mesh of fewer than 2 nodes; name each as NAME=HOST:PORT")
    return faults


def _authority(folder: Path, *, is_paired: bool) -> Authority:
    """The mesh's CA: the one that lies there, or a new one where there is no node of it yet.

    Raises ConfigError where only a half of it lies there that somebody may still have the other half of.
    """
    cert, key = folder / "ca.pem", folder / "ca.key"
    if cert.exists() and key.exists():
        return Authority.load(cert.read_bytes(), read_private(key))
    lost = [path for path in (cert, key) if not path.exists()]
    if is_paired or key.exists():
        told = "not there, expected the CA that the nodes of this mesh have their certificates of"
        raise ConfigError([f"{path}: {told}; put it back from where you keep it" for path in lost])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = Authority.create("ai-memory mesh CA")
    write_kept(cert, authority.cert_pem)
    # Last: where a key is, its certificate is, and nothing else can be made of it.
    write_private(key, authority.key_pem)
    return authority


def _make(folder: Path, member: Member, authority: Authority, *, is_renewed: bool) -> None:
    home = Home(folder / member.name)
    hosts = (member.host, "localhost", "127.0.0.1")
    if not home.config.exists():
        # Each has a passphrase of its own; one that is given here could only be that of one of them.
        given = {name: value for name, value in os.environ.items() if name != VARIABLE}
        ca = folder / CA / "ca.pem", folder / CA / "ca.key"
        setup.init(home, member.name, hosts, ca=ca, environment=given, anew=is_renewed)
    elif is_renewed:
        files = home.identity(configuration.load(home.config))
        identity = authority.issue(member.name, hosts=hosts)
        with editing(home.path):
            if not files.key.exists():
                write_private(files.key, b"")  # where it was lost: an edit keeps the mode that a file has
            edits.write(home.path, {files.key: identity.key_pem, files.cert: identity.cert_pem})


def _know(home: Home, other: Member, fingerprint: Fingerprint) -> None:
    """Make `other` a peer in this folder; one of the same name with another certificate goes."""
    for known in configuration.load(home.config).peers:
        if known.name == other.name and known.fingerprint != fingerprint:
            setup.remove_peer(home, known.name)
    setup.add_peer(home, PeerConfig(other.name, other.url, fingerprint, "both", ("**",), ("**",)), None)


def _fingerprint(folder: Path, member: Member) -> Fingerprint:
    home = Home(folder / member.name)
    return home.identity(configuration.load(home.config)).load().fingerprint
