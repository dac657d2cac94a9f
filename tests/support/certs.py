"""Throw-away certificates for tests: one mesh CA, and every kind of visitor that can knock."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tls.allowlist import Allowlist, parse
from tls.authority import Authority, Identity, KeyType
from tls.fingerprint import Fingerprint
from tls.identity import IdentityFiles


@dataclass(frozen=True)
class Visitor:
    """A certificate on disk."""

    files: IdentityFiles
    fingerprint: Fingerprint


class Mesh:
    """A CA and the certificates that it signed, in a folder."""

    def __init__(self, folder: Path, key_type: KeyType = "ec") -> None:
        self.folder = folder
        self.authority = Authority.create("test mesh")
        self.key_type: KeyType = key_type
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self.authority.cert_pem)
        now = datetime.now(UTC)
        self.node = self.issue("node")
        self.friend = self.issue("friend")
        self.stranger = self.issue("stranger")
        self.expired = self.issue("expired", not_before=now - timedelta(days=9), not_after=now - timedelta(days=1))
        self.early = self.issue("early", not_before=now + timedelta(days=1), not_after=now + timedelta(days=9))
        self.server_only = self.issue("server-only", purposes=("server",))
        self.foreign = self._foreign()

    def issue(self, name: str, **options: object) -> Visitor:
        identity = self.authority.issue(name, hosts=("127.0.0.1", "localhost"), key_type=self.key_type, **options)  # type: ignore[arg-type]
        return self.put(name, identity)

    def put(self, name: str, identity: Identity) -> Visitor:
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert.write_bytes(identity.cert_pem)
        key.touch(0o600)
        key.write_bytes(identity.key_pem)
        return Visitor(IdentityFiles(cert, key, self.ca), identity.fingerprint)

    def _foreign(self) -> Visitor:
        """From another CA altogether, and listed all the same."""
        leaf = trustme.CA().issue_cert("127.0.0.1")
        pem = leaf.cert_chain_pems[0].bytes()
        return self.put("foreign", Identity(pem, leaf.private_key_pem.bytes(), Fingerprint.of_pem(pem)))

    def self_signed(self, name: str) -> Visitor:
        """Signed by nobody but itself."""
        authority = bare(name, ca=False)
        pem = authority.cert_pem
        return self.put(name, Identity(pem, authority.key_pem, Fingerprint.of_pem(pem)))

    def weak(self, name: str) -> Visitor:
        """Signed by the mesh's CA, with a key that is too short for our time."""
        key = rsa.generate_private_key(65537, 1024)
        leaf = x509.load_pem_x509_certificate(self.node.files.cert.read_bytes())
        begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        builder = x509.CertificateBuilder(
            leaf.issuer, leaf.subject, key.public_key(), 1, begin, end, list(leaf.extensions)
        )
        pem = builder.sign(self.authority._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        form, lock = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return self.put(
            name, Identity(pem, key.private_bytes(serialization.Encoding.PEM, form, lock), Fingerprint.of_pem(pem))
        )

    def puppet_of(self, signer: Visitor) -> Visitor:
        """Signed with the key of another node, which is no CA; its chain is sent along."""
        return self.below(as_authority(signer), "puppet", with_issuer=True)

    def below(self, authority: Authority, name: str, *, with_issuer: bool) -> Visitor:
        """Issued by an authority that is itself only signed by another; `with_issuer`: its certificate is sent too."""
        issued = authority.issue(name, hosts=("127.0.0.1",))
        chain = issued.cert_pem + (authority.cert_pem if with_issuer else b"")
        return self.put(name, Identity(chain, issued.key_pem, issued.fingerprint))

    def listing(self, *visitors: Visitor) -> Allowlist:
        return parse("".join(f"{v.fingerprint.text}  # {v.files.cert.stem}\n" for v in visitors), "test")

    def everyone_but_the_stranger(self) -> Allowlist:
        return self.listing(self.node, self.friend, self.expired, self.early, self.server_only, self.foreign)


def bare(name: str, issuer: Authority | None = None, *, ca: bool, path_length: int | None = None) -> Authority:
    """A certificate with nothing but basic constraints, and its key; self-signed without an issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer._certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    )
    return Authority(builder.sign(issuer._key if issuer else key, hashes.SHA256()), key)


def as_authority(visitor: Visitor) -> Authority:
    """What somebody can do who uses a node's key to sign."""
    key = serialization.load_pem_private_key(visitor.files.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Authority(x509.load_pem_x509_certificate(visitor.files.cert.read_bytes()), key)
