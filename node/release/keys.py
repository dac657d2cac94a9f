"""The keyring: who may sign a tag, which key signs what was built from it, and from when until when.

It is a folder with `keys.toml`, the public keys that this names, and `released`, the list of what was released so far.
docs/release.md has the form.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from node.release.errors import ReleaseError

TABLE, LEDGER = "keys.toml", "released"
_SIGNER: dict[str, type] = {
    "owner": str,
    "fingerprint": str,
    "file": str,
    "valid_from": datetime,
    "valid_until": datetime,
}
_BUILDER: dict[str, type] = {"id": str, "file": str, "valid_from": datetime, "valid_until": datetime}
_OPTIONAL: dict[str, type] = {"revoked": str}
_RELEASED = re.compile(r"(\S+) ([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Span:
    """From when until when a key's word counts, in seconds since 1970, the end outside; and why it counts no more."""

    valid_from: int
    valid_until: int
    revoked: str

    def fault(self, when: int) -> str | None:
        """Why what is dated `when` does not count; None where it does. Whoever has a stolen key chooses the date."""
        if self.revoked:
            return f"which is revoked ({self.revoked}): what it signed counts no more, whatever its date"
        if not self.valid_from <= when < self.valid_until:
            return f"valid from {moment(self.valid_from)} until {moment(self.valid_until)}, but dated {moment(when)}"
        return None


@dataclass(frozen=True, slots=True)
class Signer:
    """Somebody who may sign tags: the fingerprint of the OpenPGP primary key, 40 or 64 hex digits in capitals."""

    owner: str
    fingerprint: str
    file: Path
    span: Span


@dataclass(frozen=True, slots=True)
class Builder:
    """What builds releases, named by a URI, and its Ed25519 key; `keyid` is the SHA-256 of the key's DER, in hex."""

    id: str
    key: Ed25519PublicKey
    span: Span

    @property
    def keyid(self) -> str:
        return keyid(self.key)


@dataclass(frozen=True, slots=True)
class Keyring:
    """All that a verifier trusts; `released` maps a version to the ids of its tag and of its commit."""

    folder: Path
    repository: str
    signers: tuple[Signer, ...]
    builders: tuple[Builder, ...]
    released: Mapping[str, tuple[str, str]]

    def signer(self, fingerprint: str) -> Signer | None:
        return next((one for one in self.signers if one.fingerprint == fingerprint), None)

    def builder(self, key_id: str) -> Builder | None:
        return next((one for one in self.builders if one.keyid == key_id), None)


def shipped() -> Path:
    """The keyring that came with this program: beside it in an installed package, at the top of a checkout."""
    beside = Path(__file__).with_name("keys")
    return beside if beside.is_dir() else Path(__file__).parent.parent.parent / "keys"


def load(folder: Path) -> Keyring:
    """Raises ReleaseError where a part is missing or is not as docs/release.md says."""
    path = folder / TABLE
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise ReleaseError(f"{path}: {error.strerror}; expected a keyring, see docs/release.md") from None
    except ValueError as error:
        raise ReleaseError(f"{path}: {error}") from None
    unknown = set(table) - {"repository", "signer", "builder"}
    repository = table.get("repository", "")
    if unknown or not isinstance(repository, str):
        raise ReleaseError(f"{path}: repository, [[signer]] and [[builder]] expected, found {sorted(table)}")
    signers = tuple(_signer(path, row) for row in _rows(path, table, "signer", _SIGNER))
    builders = tuple(_builder(path, row) for row in _rows(path, table, "builder", _BUILDER))
    for name, values in (
        ("fingerprint", [one.fingerprint for one in signers]),
        ("builder's key", [b.keyid for b in builders]),
    ):
        if len(set(values)) != len(values):
            raise ReleaseError(f"{path}: one {name} stands there twice")
    return Keyring(folder, repository, signers, builders, _released(folder / LEDGER))


def keyid(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def moment(seconds: int) -> str:
    """A time as it is shown: UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _rows(path: Path, table: Mapping[str, Any], name: str, form: dict[str, type]) -> Iterator[dict[str, Any]]:
    rows = table.get(name, [])
    if not isinstance(rows, list):
        raise ReleaseError(f"{path}: {name} is one table, expected [[{name}]]")
    for number, row in enumerate(rows, 1):
        where = f"{path}, [[{name}]] {number}"
        if set(form) - set(row) or set(row) - set(form) - set(_OPTIONAL):
            raise ReleaseError(
                f"{where}: {', '.join(form)} expected (and revoked), found {', '.join(row) or 'nothing'}"
            )
        for key, kind in (form | _OPTIONAL).items():
            if key in row and (not isinstance(row[key], kind) or row[key] == ""):
                raise ReleaseError(f"{where}: {key} is {row[key]!r}, expected a {kind.__name__}")
            if kind is datetime and row[key].tzinfo is None:
                raise ReleaseError(f"{where}: {key} has no time zone, expected such as 2026-01-31T00:00:00Z")
        if row["valid_from"] >= row["valid_until"]:
            raise ReleaseError(f"{where}: valid_until is not after valid_from")
        if Path(row["file"]).name != row["file"]:
            raise ReleaseError(f"{where}: file is {row['file']!r}, expected the name of a file in this folder")
        yield row


def _span(row: Mapping[str, Any]) -> Span:
    return Span(int(row["valid_from"].timestamp()), int(row["valid_until"].timestamp()), row.get("revoked", ""))


def _signer(path: Path, row: Mapping[str, Any]) -> Signer:
    fingerprint = row["fingerprint"].replace(" ", "").upper()
    if not re.fullmatch("[0-9A-F]{40}|[0-9A-F]{64}", fingerprint):
        raise ReleaseError(
            f"{path}: fingerprint {row['fingerprint']!r}, expected 40 or 64 hex digits: not a short key id"
        )
    return Signer(row["owner"], fingerprint, path.parent / row["file"], _span(row))


def _builder(path: Path, row: Mapping[str, Any]) -> Builder:
    file = path.parent / row["file"]
    try:
        key = load_pem_public_key(file.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ReleaseError(f"{file}: {error}; expected an Ed25519 public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ReleaseError(f"{file}: another kind of key, expected Ed25519")
    return Builder(row["id"], key, _span(row))


def _released(path: Path) -> dict[str, tuple[str, str]]:
    """Lines `version tag commit`; a folder without the file has released nothing."""
    found: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), 1):
        if not line or line.startswith("#"):
            continue
        match = _RELEASED.fullmatch(line)
        if match is None or match[1] in found:
            raise ReleaseError(f"{path}:{number}: {line!r}, expected `version tag-id commit-id`, each version once")
        found[match[1]] = (match[2], match[3])
    return found
