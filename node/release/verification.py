"""Is a downloaded release what its tag's signer and its builder vouch for? Offline, all findings at once."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from node.release import contents, dsse, openpgp, provenance, tag
from node.release.errors import Finding, ReleaseError
from node.release.folder import MANIFEST, PROVENANCE, SIGNATURE, SUMS, Names, complete, listed, manifest, version_of
from node.release.keys import Builder, Keyring, Signer
from node.release.provenance import Origin


@dataclass(frozen=True, slots=True)
class Report:
    """What was found; the release is what it says where there are no findings. None is what could not be found out."""

    version: str | None
    origin: Origin | None
    signer: Signer | None
    builder: Builder | None
    findings: tuple[Finding, ...]


def verify(folder: Path, keyring: Keyring) -> Report:
    """Check every file of a release against the keyring.

    A file that was found changed is not looked into, so that its contents blame no other file. Raises ReleaseError
    where the check itself cannot be made: no gpg, no keyring, no folder.
    """
    if not (keyring.signers and keyring.builders and keyring.repository):
        raise ReleaseError(
            f"the keyring {keyring.folder} has no repository, no signer or no builder, so nothing can be"
            " verified with it; name another: --keys DIR"
        )
    files, findings = _read(folder)
    version = version_of(frozenset(files))
    if isinstance(version, Finding):
        return Report(None, None, None, None, (*findings, version))
    names = Names(version)
    strange = {one.about for one in findings}
    findings += [one for one in complete(frozenset(files), names) if one.about not in strange]
    vouching, told = _sums(files, names, keyring)
    findings += told
    changed = {one.about for one in findings}
    sound = {name: data for name, data in files.items() if name not in changed}
    origin, signer, told = _tag(sound, names, keyring)
    findings += told
    if origin is not None:
        if vouching is not None and (fault := vouching.span.fault(origin.tagged)):
            findings.append(Finding(SIGNATURE, f"made with the key of {vouching.id}, {fault}"))
        builder, told = _origins(sound, names, keyring, origin)
        findings += told
        if builder is not None and MANIFEST in sound and all(name in sound for name in names.artefacts):
            expected = manifest(origin, builder.id, {name: sound[name] for name in names.artefacts})
            if sound[MANIFEST] != expected:
                findings.append(Finding(MANIFEST, "does not say what tag, provenance and artefacts say"))
    findings += _contents(sound, names)
    return Report(version, origin, signer, vouching, tuple(dict.fromkeys(findings)))


def _read(folder: Path) -> tuple[dict[str, bytes], list[Finding]]:
    """The plain files by name, and what else lies there."""
    if not folder.is_dir():
        raise ReleaseError(f"{folder} is no folder; expected the folder of a release")
    files, findings = {}, []
    for path in sorted(folder.iterdir()):
        if _plain(path):
            files[path.name] = path.read_bytes()
        else:
            findings.append(Finding(path.name, "is no plain file, and does not belong to the release"))
    return files, findings


def _plain(path: Path) -> bool:
    """A link could be another file tomorrow."""
    return path.is_file() and not path.is_symlink()


def _sums(files: Mapping[str, bytes], names: Names, keyring: Keyring) -> tuple[Builder | None, list[Finding]]:
    """Who signed the list of digests, and which files are not what it says."""
    if SUMS not in files or SIGNATURE not in files:
        return None, []
    builder = next((one for one in keyring.builders if dsse.genuine(one, files[SIGNATURE], files[SUMS])), None)
    if builder is None:
        text = "do not belong together under any builder's key of the keyring: one was changed, or a stranger signed"
        return None, [Finding(SUMS, f"and {SIGNATURE} {text}"), Finding(SIGNATURE, f"and {SUMS} {text}")]
    table = listed(files[SUMS])
    if isinstance(table, Finding):
        return builder, [table]
    if tuple(sorted(table)) != names.summed:
        return builder, [Finding(SUMS, f"lists {', '.join(sorted(table))}; expected {', '.join(names.summed)}")]
    findings = []
    for name, expected in table.items():
        if name in files and (found := hashlib.sha256(files[name]).hexdigest()) != expected:
            findings.append(Finding(name, f"was changed: its SHA-256 is {found}, {SUMS} says {expected}"))
    return builder, findings


def _tag(
    files: Mapping[str, bytes], names: Names, keyring: Keyring
) -> tuple[Origin | None, Signer | None, list[Finding]]:
    """What the signed tag says, and who signed it."""
    if names.tag not in files or names.commit not in files:
        return None, None, []
    read = tag.read(names.tag, files[names.tag])
    if isinstance(read, Finding):
        return None, None, [read]
    findings = tag.named(read, names.version) + tag.unmoved(read, names.version, keyring)
    signature = openpgp.verify(names.tag, read.payload, read.signature, keyring.signers)
    signer = signature if isinstance(signature, Finding) else tag.trusted(read, signature, keyring)
    if isinstance(signer, Finding):
        findings.append(signer)
    epoch = tag.commit_time(files[names.commit])
    if epoch is None or tag.object_id("commit", files[names.commit], read.target) != read.target:
        findings.append(Finding(names.commit, f"is not the commit {read.target} that the tag names"))
    else:
        findings += [one for one in tag.dated(read, epoch, read.when) if one]
    # The findings name the tag as a file.
    findings = [Finding(names.tag, one.text) if one.about == read.name else one for one in findings]
    if epoch is None or isinstance(signer, Finding):
        return None, None, findings
    origin = Origin(keyring.repository, names.version, read.name, read.id, read.target, read.when, epoch)
    return origin, signer, findings


def _origins(
    files: Mapping[str, bytes], names: Names, keyring: Keyring, origin: Origin
) -> tuple[Builder | None, list[Finding]]:
    """Each artefact's provenance; and who built, where all say the same."""
    found = contents.locks(names, files[names.sdist]) if names.sdist in files else {}
    digests = {} if isinstance(found, Finding) else contents.digests(found)
    builders: dict[str, Builder] = {}
    findings: list[Finding] = []
    for name in names.artefacts:
        about = name + PROVENANCE
        if name not in files or about not in files:
            continue
        opened = dsse.unseal(about, files[about], keyring)
        if isinstance(opened, Finding):
            findings.append(opened)
            continue
        payload, builder = opened
        builders[builder.keyid] = builder
        sha256 = hashlib.sha256(files[name]).hexdigest()
        findings += provenance.judged(about, payload, builder, origin, name, sha256, digests)
    return (next(iter(builders.values())) if len(builders) == 1 else None), findings


def _contents(files: Mapping[str, bytes], names: Names) -> list[Finding]:
    """Whether the artefacts agree with their names and with each other."""
    findings: list[Finding] = []
    inside: bytes | None = None
    lock: bytes | None = None
    if names.wheel in files:
        held = contents.embedded(names, files[names.wheel])
        if isinstance(held, Finding):
            findings.append(held)
        else:
            inside = held
    if names.sdist in files:
        found = contents.locks(names, files[names.sdist])
        if isinstance(found, Finding):
            findings.append(found)
        else:
            lock = found["requirements.lock"]
    if names.sbom in files:
        findings += contents.sbom_faults(names, files[names.sbom], inside, lock)
    return findings
