"""Making a release of a signed tag: built twice from the tag's own files, vouched for, verified, then put in place."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from node.release import archives, build, contents, dsse, materials, provenance, verification
from node.release.build import Built
from node.release.errors import Finding, ReleaseError
from node.release.folder import MANIFEST, PROVENANCE, SIGNATURE, SUMS, Names, manifest, sums, version_fault
from node.release.keys import Builder, Keyring, keyid
from node.release.provenance import Origin
from node.release.repository import Repository, Verified, verify_tag


@dataclass(frozen=True, slots=True)
class Made:
    """A finished release; `is_new` is false where the same bytes had been there."""

    folder: Path
    verified: Verified
    is_new: bool
    digests: dict[str, str]


def release(
    repository: Repository, version: str, keyring: Keyring, key_file: Path, out: Path, remote: str | None
) -> Made | list[Finding]:
    """The folder `out`/release-VERSION; or all reasons against it. Raises ReleaseError where something is missing."""
    if fault := version_fault(version):
        raise ReleaseError(fault)
    if not keyring.repository:
        raise ReleaseError(f"{keyring.folder}/keys.toml does not say of which repository: see keys/README.md")
    verified = verify_tag(repository, version, keyring, remote)
    if isinstance(verified, list):
        return verified
    key, builder = signing_key(key_file, keyring)
    if fault := builder.span.fault(verified.tag.when):
        return [Finding(key_file.name, f"the key of {builder.id}, {fault}")]
    with build.open_folder() as name:
        work = Path(name)
        tools = build.tools(repository.root, work / "fetched")
        first, second = (
            _from_tag(repository, verified, tools, work / one.name, one) for one in (build.ours(), build.others())
        )
        if findings := compare(first, second):
            return findings
        wheels = sorted((work / "fetched" / "wheels").glob("*.whl"))
        files = assembled(
            verified, keyring, builder, key, first, materials.dependencies(work / "first" / "source", wheels)
        )
    return _put(files, verified, keyring, out / f"release-{version}")


def signing_key(file: Path, keyring: Keyring) -> tuple[Ed25519PrivateKey, Builder]:
    """The builder's private key, and who the keyring says that it is."""
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = error.strerror if isinstance(error, OSError) else "cannot be read"
        raise ReleaseError(f"{file}: {reason}; expected a private Ed25519 key in PEM, without a passphrase") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ReleaseError(f"{file}: another kind of key, expected Ed25519")
    builder = keyring.builder(keyid(key.public_key()))
    if builder is None:
        raise ReleaseError(f"{file}: this key is not on the keyring {keyring.folder}; see keys/README.md")
    return key, builder


def compare(first: Built, second: Built) -> list[Finding]:
    """What differs between two builds."""
    findings = []
    for one, other in ((first.wheel, second.wheel), (first.sdist, second.sdist)):
        if lines := archives.differences(one, other):
            findings.append(Finding(one.name, "\n  ".join(("was built twice, and differs:", *lines))))
    return findings


def assembled(
    verified: Verified,
    keyring: Keyring,
    builder: Builder,
    key: Ed25519PrivateKey,
    built: Built,
    dependencies: list[dict[str, object]],
) -> dict[str, bytes]:
    """All files of the release by name: they follow from the artefacts, the tag and the key, and from nothing else."""
    tag = verified.tag
    version = tag.name.removeprefix("v")
    names = Names(version)
    origin = Origin(keyring.repository, version, tag.name, tag.id, tag.target, tag.when, verified.commit_time)
    wheel = built.wheel.read_bytes()
    sbom = contents.embedded(names, wheel)
    if isinstance(sbom, Finding):
        raise ReleaseError(str(sbom))
    files = {names.wheel: wheel, names.sdist: built.sdist.read_bytes(), names.sbom: sbom}
    listed = manifest(origin, builder.id, files)
    for name, data in tuple(files.items()):
        text = provenance.statement(origin, builder.id, name, hashlib.sha256(data).hexdigest(), dependencies)
        files[name + PROVENANCE] = dsse.seal(text, key)
    files |= {names.tag: verified.tag_body, names.commit: verified.commit_body, MANIFEST: listed}
    files[SUMS] = sums(files)
    files[SIGNATURE] = key.sign(files[SUMS])
    return files


def _from_tag(repository: Repository, verified: Verified, tools: Path, folder: Path, one: build.Circumstances) -> Built:
    folder.mkdir()
    (folder / "source").mkdir()
    repository.unpack(verified.tag.target, folder / "source")
    return build.build(folder / "source", tools, folder / "built", verified.commit_time, one)


def _put(files: dict[str, bytes], verified: Verified, keyring: Keyring, folder: Path) -> Made | list[Finding]:
    """Into place, once it verifies; a release that is there already is compared, never replaced."""
    digests = contents.digests(files)
    if folder.exists():
        there = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        differing = sorted(name for name in there.keys() | files.keys() if there.get(name) != files.get(name))
        text = "differs from the release that was just built of the tag; compare them, and take it away if it is wrong"
        found = [Finding(f"{folder.name}/{name}", text) for name in differing]
        return found or Made(folder, verified, False, digests)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".release-", dir=folder.parent) as name:
        place = Path(name) / "made"
        place.mkdir()
        for each, data in files.items():
            (place / each).write_bytes(data)
        if findings := list(verification.verify(place, keyring).findings):
            return findings
        place.rename(folder)
    return Made(folder, verified, True, digests)
