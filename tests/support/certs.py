"""Throw-away certificates for tests: one mesh CA, and every kind of visitor that can knock."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

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
        key.write_bytes(identity.key_pem)
        return Visitor(IdentityFiles(cert, key, self.ca), identity.fingerprint)

    def _foreign(self) -> Visitor:
        """From another CA altogether, and listed all the same."""
        leaf = trustme.CA().issue_cert("127.0.0.1")
        pem = leaf.cert_chain_pems[0].bytes()
        return self.put("foreign", Identity(pem, leaf.private_key_pem.bytes(), Fingerprint.of_pem(pem)))

    def listing(self, *visitors: Visitor) -> Allowlist:
        return parse("".join(f"{v.fingerprint.text}  # {v.files.cert.stem}\n" for v in visitors), "test")

    def everyone_but_the_stranger(self) -> Allowlist:
        return self.listing(self.node, self.friend, self.expired, self.early, self.server_only, self.foreign)
