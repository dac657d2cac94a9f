"""This node's certificate, key and trusted CAs, read from files and checked before use."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding

from tls.errors import IdentityError
from tls.fingerprint import Fingerprint
from tls.ownership import SharedFileError, advice, read_own
from tls.secretfile import SecretFileError, read_secret

ANOTHER = (
    'docs/recovery.md, "The key of the node is lost", says how `ai-memory init` in an empty folder makes another pair'
    " of the same CA"
)
_LOST = f"put it back from a backup; where there is none, {ANOTHER}"
_LOST_CA = "put it back from a backup, or from another node of the mesh, whose ca.pem has the same CA"

_BEGIN = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class IdentityFiles:
    """Where the PEM files lie."""

    cert: Path
    """The leaf first, then intermediates, if any."""
    key: Path
    ca: Path
    """The CAs whose certificates are trusted to be genuine; the allowlist says who may come."""

    def load(self) -> "Loaded":
        """Raises IdentityError, naming the file and what is wrong with it: also that others can read the key, or change
        one of the others."""
        return load(_read(self.cert, _LOST), _read_key(self.key), _read(self.ca, _LOST_CA), self)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files hold, parsed and found to belong together."""

    chain: tuple[x509.Certificate, ...]
    key: object = field(repr=False, compare=False)
    """A private key of `cryptography`; it belongs to the leaf, so two that hold the same leaf are equal without it."""
    authorities: tuple[x509.Certificate, ...]

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint.of_der(self.leaf.public_bytes(Encoding.DER))

    @property
    def expires(self) -> datetime:
        return self.leaf.not_valid_after_utc

    def days_left(self, now: datetime | None = None) -> int:
        """Whole days until the certificate expires; negative when it has."""
        return (self.expires - (now or datetime.now(UTC))).days


def load(cert_pem: bytes, key_pem: bytes, ca_pem: bytes, files: IdentityFiles | None = None) -> Loaded:
    """Parse and match. Raises IdentityError."""
    cert_name, key_name, ca_name = (
        (str(files.cert), str(files.key), str(files.ca)) if files else ("the certificate", "the key", "the CA bundle")
    )
    chain = _certificates(cert_pem, cert_name, _LOST)
    authorities = _certificates(ca_pem, ca_name, _LOST_CA)
    try:
        key = serialization.load_pem_private_key(key_pem, None)
        matching = chain[0].public_key() == key.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        told = f"{key_name} holds no usable key, PEM without a passphrase expected."
        raise IdentityError(told, f"{_LOST[0].upper()}{_LOST[1:]}.") from None
    if not matching:
        raise IdentityError(f"{key_name} does not belong to {cert_name}.", "Put both files of one rotation in place.")
    return Loaded(chain, key, authorities)


def _certificates(pem: bytes, name: str, lost: str) -> tuple[x509.Certificate, ...]:
    """`lost`: what to do where the file has none."""
    try:
        found = tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        told = f"{name} holds no usable certificate, PEM expected: {_BEGIN.decode()} and so on."
        raise IdentityError(told, f"{lost[0].upper()}{lost[1:]}.") from None
    begun = pem.count(_BEGIN)
    if begun > len(found):  # the library leaves out what has no end
        told = f"{begun} certificates begin in {name}, and {len(found)} of them are whole: it was cut off."
        raise IdentityError(told, "Put the file back from a copy, or take out what is left of the last one.")
    return found


def _read(path: Path, lost: str) -> bytes:
    """`lost`: what to do where the file is gone."""
    try:
        return read_own(path)
    except OSError as error:
        do = lost if isinstance(error, FileNotFoundError) else advice(error, path) or "look what lies there"
        raise IdentityError(f"{path} cannot be read: {error.strerror}.", f"{do[0].upper()}{do[1:]}.") from None
    except SharedFileError as error:
        raise IdentityError(str(error).removesuffix(f" {error.advice}"), error.advice) from None


def _read_key(path: Path) -> bytes:
    if not path.exists():
        return _read(path, _LOST)  # says so as for the others
    try:
        return read_secret(path)
    except SecretFileError as error:
        if not error.is_exposed:
            do = f"This node cannot show its certificate without its key: {_LOST}."
            raise IdentityError(f"{error}.", do) from None
        raise IdentityError(
            f"{error}.", f"If others could read it, make a new key: whoever has it connects as this node ({ANOTHER})."
        ) from None
