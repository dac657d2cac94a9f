"""The certificate and key that lie in a folder before `init`: it completes a node with them, or leaves them alone."""

import ipaddress
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from node.config import ConfigError
from tls.authority import Authority, KeyType
from tls.errors import IdentityError
from tls.fingerprint import Fingerprint
from tls.identity import IdentityFiles, Loaded

CERT, KEY, CA, CA_KEY = "node.pem", "node.key", "ca.pem", "ca.key"
_KINDS: dict[KeyType, type] = {
    "ec": ec.EllipticCurvePrivateKey, "rsa": rsa.RSAPrivateKey, "ed25519": ed25519.Ed25519PrivateKey,
}  # fmt: skip
assert set(_KINDS) == set(get_args(KeyType))


def found(
    folder: Path, authority: Authority, name: str, hosts: Sequence[str], key_type: KeyType, now: datetime | None = None
) -> Fingerprint | None:
    """The certificate of the pair that lies there, where it is what `init` would make; None where no pair is there.

    Raises ConfigError for a key that belongs to anything else: to make another would destroy what cannot be made again.
    A certificate without a key is none: an interrupted `init` leaves it, and it is of no use to anybody.
    """
    cert, key = folder / CERT, folder / KEY
    if not os.path.lexists(key):
        return None
    if not os.path.lexists(cert):
        told = f"the key of a node lies here without its certificate {CERT}: put that back from a backup"
        raise ConfigError([f"{key}: {told}, or move the key away to have another pair made"])
    try:
        loaded = IdentityFiles(cert, key, cert).load()  # which CA it is of is looked at below
    except IdentityError as error:
        raise ConfigError([f"{error} Or move {cert} and {key} away, to have another pair made"]) from None
    leaf = x509.load_pem_x509_certificate(authority.cert_pem)
    if faults := list(misfits(loaded, leaf, name, hosts, key_type, now or datetime.now(UTC))):
        told = f"a node's certificate and key lie here, and are not what is asked for: {'; '.join(faults)}"
        do = f"ask for what is there, or move {CERT} and {KEY} away to have another pair made, or name another --home"
        raise ConfigError([f"{cert} and {key}: {told}. Nothing was changed: {do}"])
    return loaded.fingerprint


def misfits(
    pair: Loaded, authority: x509.Certificate, name: str, hosts: Sequence[str], key_type: KeyType, now: datetime
) -> Iterator[str]:
    """What a pair has otherwise than `init` was asked for, each with what was found and what is expected."""
    leaf = pair.leaf
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        yield f"it is of the CA {leaf.issuer.rfc4514_string()!r}, not of the one that signs here (--ca-cert, --ca-key)"
    names = [str(one.value) for one in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [name[:64]]:
        yield f"its name is {', '.join(names) or 'none'!r}, expected {name!r}"
    if _hosts(leaf) != (wanted := {_plain(host) for host in hosts}):
        yield f"its hosts are {_listed(_hosts(leaf))}, expected {_listed(wanted)}"
    if not isinstance(pair.key, _KINDS[key_type]):
        kind = next((one for one, kind in _KINDS.items() if isinstance(pair.key, kind)), "another")
        yield f"its key is of the type {kind}, expected {key_type}"
    if now > pair.expires:
        yield f"it ended at {pair.expires:%Y-%m-%d}, expected one that is valid"


def require_no_other(folder: Path, authority: Authority) -> None:
    """Raises ConfigError where the key of a CA lies in a folder that is to get another one's certificate."""
    cert, key = folder / CA, folder / CA_KEY
    if not os.path.lexists(key):
        return
    if not cert.exists():
        told = f"the key of a CA lies here without its certificate {CA}: put that back (each node of the mesh has it)"
        raise ConfigError([f"{key}: {told}, or move the key away to have another CA made"])
    if not has(cert, authority):
        told = "a CA lies here already, and is not the one that was named: name this one, or none"
        raise ConfigError([f"{cert} and {key}: {told}; or move both away, or name another --home"])


def has(bundle: Path, authority: Authority) -> bool:
    """Whether a CA is in the bundle that lies there."""
    try:
        return x509.load_pem_x509_certificate(authority.cert_pem) in x509.load_pem_x509_certificates(
            bundle.read_bytes()
        )
    except (OSError, ValueError):
        return False


def _hosts(leaf: x509.Certificate) -> set[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(one.value) for one in names}


def _plain(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def _listed(hosts: set[str]) -> str:
    return ", ".join(sorted(hosts)) or "none"
