"""Releases to verify: a small one made in this process, and ways to alter it."""

import io
import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from signing import Entry, Gpg, keyring, work

from node.release import keys as keyrings
from node.release import materials
from node.release.build import Built
from node.release.errors import Finding
from node.release.keys import Keyring
from node.release.making import assembled, signing_key
from node.release.repository import Repository, Verified, verify_tag
from node.release.sbom import bill
from node.release.verification import verify

ROOT = Path(__file__).parent.parent.parent
METADATA = b"Metadata-Version: 2.4\nName: ai-memory\nVersion: 0.1.0\n\n"


@dataclass(frozen=True)
class Maker:
    """Who makes releases in a test: what signs tags, what signs what was built, and all that went into one release."""

    gpg: Gpg
    signer: str
    key: Ed25519PrivateKey
    keys: Path
    verified: Verified
    built: Built

    @property
    def keyring(self) -> Keyring:
        return keyrings.load(self.keys)

    def files(self, built: Built | None = None) -> dict[str, bytes]:
        file = self.keys.parent / "builder.key"
        key, builder = signing_key(file, self.keyring)
        return assembled(
            self.verified, self.keyring, builder, key, built or self.built, materials.dependencies(ROOT, [])
        )


def maker(folder: Path, gpg: Gpg, private: bytes, key: Ed25519PrivateKey) -> Maker:
    """A signed tag in a repository of one file; a wheel and an sdist that hold what a verifier reads, and no more."""
    folder.mkdir(parents=True, exist_ok=True)
    signer = gpg.new_key(f"Ada {folder.name}")
    keys = keyring(folder / "keys", Entry(signer, gpg.public(signer)), builder=key)
    (folder / "builder.key").write_bytes(private)
    made = work(folder / "work", gpg)
    made.tag("v0.1.0", signer)
    found = verify_tag(Repository(made.root), "0.1.0", keyrings.load(keys), None)
    assert isinstance(found, Verified), found
    return Maker(gpg, signer, key, keys, found, artefacts(folder / "built", bill(ROOT)))


def artefacts(folder: Path, sbom: bytes, metadata: bytes = METADATA) -> Built:
    folder.mkdir(parents=True)
    built = Built(folder / "ai_memory-0.1.0-py3-none-any.whl", folder / "ai_memory-0.1.0.tar.gz")
    with zipfile.ZipFile(built.wheel, "w") as wheel:
        wheel.writestr("ai_memory-0.1.0.dist-info/METADATA", metadata)
        wheel.writestr("ai_memory-0.1.0.dist-info/sboms/ai-memory.cdx.json", sbom)
    with tarfile.open(built.sdist, "w:gz") as sdist:
        for name, data in (("PKG-INFO", metadata), *((name, (ROOT / name).read_bytes()) for name in materials.LOCKS)):
            info = tarfile.TarInfo(f"ai_memory-0.1.0/{name}")
            info.size = len(data)
            sdist.addfile(info, io.BytesIO(data))
    return built


def put(folder: Path, files: dict[str, bytes]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def findings(folder: Path, ring: Keyring) -> tuple[Finding, ...]:
    return verify(folder, ring).findings


def flipped(data: bytes, place: int) -> bytes:
    """With one bit changed; `place` counts bits."""
    changed = bytearray(data)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)
