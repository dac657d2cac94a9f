"""A mesh's own certificate authority: what `ai-memory init` and the tests use to mint certificates.

Leaves carry both extended key usages, since a node is a client and a server (RFC 5280 section 4.2.1.12).
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tls.errors import IdentityError
from tls.fingerprint import Fingerprint

KeyType = Literal["ec", "rsa", "ed25519"]
Purpose = Literal["server", "client"]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
BACKDATE = timedelta(minutes=10)
"""So that a machine whose clock is a little behind accepts a fresh certificate."""
_PURPOSES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its key, both PEM."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    fingerprint: Fingerprint


class Authority:
    """A CA: its certificate and its private key."""

    def __init__(self, certificate: x509.Certificate, key: PrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, name: str, *, days: int = 3650, key_type: KeyType = "ec") -> Self:
        """Mint a CA that may sign leaves and nothing else."""
        key = _new_key(key_type)
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, _digest(key))
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, cert_pem: bytes, key_pem: bytes) -> Self:
        """Raises IdentityError where the two are no CA, or do not belong together."""
        try:
            certificate = x509.load_pem_x509_certificate(cert_pem)
            key = serialization.load_pem_private_key(key_pem, None)
            is_ca = any(isinstance(one.value, x509.BasicConstraints) and one.value.ca for one in certificate.extensions)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise IdentityError(
                f"the CA's certificate or key cannot be read: {error}.", "Give PEM files, the key without a passphrase."
            ) from None
        if not isinstance(key, PrivateKey) or certificate.public_key() != key.public_key():
            raise IdentityError("the CA's key does not belong to its certificate.", "Give the matching pair.")
        if not is_ca:
            raise IdentityError("the certificate is not a CA's.", "Give the certificate of the mesh's CA.")
        return cls(certificate, key)

    @property
    def cert_pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return _pem(self._key)

    def issue(
        self,
        name: str,
        *,
        hosts: Sequence[str] = (),
        days: int = 825,
        key_type: KeyType = "ec",
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        purposes: Sequence[Purpose] = ("server", "client"),
    ) -> Identity:
        """A certificate for a node. `hosts`: DNS names and IP addresses that it may be reached under."""
        key = _new_key(key_type)
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before or now - BACKDATE)
            .not_valid_after(not_after or now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([_PURPOSES[purpose] for purpose in purposes]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False
            )
        certificate = builder.sign(self._key, _digest(self._key))
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        return Identity(pem, _pem(key), Fingerprint.of_pem(pem))


def _new_key(key_type: KeyType) -> PrivateKey:
    match key_type:
        case "ec":
            return ec.generate_private_key(ec.SECP256R1())
        case "rsa":
            return rsa.generate_private_key(65537, 3072)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()


def _digest(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()  # RFC 8410: EdDSA hashes itself


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
