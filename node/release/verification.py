"""Is a downloaded release what its tag's signer and its builder vouch for? Offline, all findings at once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from node.release import bounded, contents, dsse, openpgp, provenance, tag
from node.release.errors import Finding, ReleaseError, Unfit, shown
from node.release.folder import (
    MANIFEST,
    MAX_FILES,
    PROVENANCE,
    SIGNATURE,
    SUMS,
    Names,
    complete,
    listed,
    manifest,
    version_of,
)
from node.release.keys import Builder, Keyring, Signer
from node.release.materials import RUNTIME
from node.release.provenance import Origin

_MOST = 50
"""Findings of one report."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found; the release is what it says where there are no findings. None is what could not be found out."""

    version: str | None
    origin: Origin | None
    signer: Signer | None
    builder: Builder | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Inside:
    """What the artefacts hold: the wheel's SBOM, None where none can be read, and the sdist's lock files."""

    sbom: bytes | None
    locks: Mapping[str, bytes]


def verify(folder: Path, keyring: Keyring) -> Report:
    """Check every file of a release against the keyring.

    First who vouches for it: the signature over the list of digests, then each file's digest. What nobody vouches for
    is not looked into, so a stranger's archive is never unpacked; what was found changed is not either, so that its
    contents blame no other file. Raises ReleaseError where the check itself cannot be made: no gpg, no keyring, no
    folder.
    """
    if not (keyring.signers and keyring.builders and keyring.repository):
        raise ReleaseError(
            f"the keyring {keyring.folder} has no repository, no signer or no builder, so nothing can be"
            " verified with it; name another: --keys DIR"
        )
    there, findings = _there(folder)
    version = version_of(there)
    if isinstance(version, Finding):
        return _report(None, None, None, None, [*findings, version])
    names = Names(version)
    strange = {one.about for one in findings}
    findings += [one for one in complete(there, names) if one.about not in strange]
    vouching, digests, told = _sums(folder, there, names, keyring)
    findings += told
    if vouching is None:
        return _report(version, None, None, None, findings)
    sound, told = _unchanged(folder, there & digests.keys(), names, digests)
    findings += told
    origin, signer, told = _tag(sound, names, keyring)
    findings += told
    if origin is None:
        return _report(version, None, None, vouching, findings)
    if fault := vouching.span.fault(origin.tagged):
        findings.append(Finding(SIGNATURE, f"made with the key of {vouching.id}, {fault}"))
        return _report(version, origin, signer, vouching, findings)
    inside, told = _inside(sound, names)
    findings += told
    builder, told = _origins(sound, names, keyring, origin, digests, inside)
    findings += told
    if builder is not None and MANIFEST in sound and all(name in sound for name in names.artefacts):
        expected = manifest(origin, builder.id, {name: sound[name] for name in names.artefacts})
        if sound[MANIFEST] != expected:
            findings.append(Finding(MANIFEST, "does not say what tag, provenance and artefacts say"))
    if names.sbom in sound:
        findings += contents.sbom_faults(names, sound[names.sbom], inside.sbom, inside.locks.get(RUNTIME))
    return _report(version, origin, signer, vouching, findings)


def _report(
    version: str | None, origin: Origin | None, signer: Signer | None, builder: Builder | None, found: list[Finding]
) -> Report:
    """Bounded: there can be a finding for each line of a long file. Nothing passes that nobody vouches for."""
    findings = list(dict.fromkeys(Finding(shown(one.about), shown(one.text)) for one in found))
    if not findings and not (origin and signer and builder):
        findings.append(Finding(SUMS, "or the tag is missing: nobody vouches for this release"))
    more = len(findings) - _MOST
    if more > 0:
        findings[_MOST:] = [Finding("release", f"{more} more findings")]
    return Report(version, origin, signer, builder, tuple(findings))


def _there(folder: Path) -> tuple[frozenset[str], list[Finding]]:
    """The names of the plain files, and what else lies there."""
    if not folder.is_dir():
        raise ReleaseError(f"{folder} is no folder; expected the folder of a release")
    try:
        plain, strange = bounded.names(folder, MAX_FILES)
    except Unfit as error:
        return frozenset(), [Finding("release", str(error))]
    text = "is no plain file, and does not belong to the release"
    return frozenset(plain), [Finding(name, text) for name in strange]


def _sums(
    folder: Path, there: frozenset[str], names: Names, keyring: Keyring
) -> tuple[Builder | None, Mapping[str, str], list[Finding]]:
    """Who signed the list of digests, and what it says: SHA-256 by name. Nobody where it says something else."""
    if SUMS not in there or SIGNATURE not in there:
        return None, {}, []
    files: dict[str, bytes] = {}
    for name in (SUMS, SIGNATURE):
        try:
            files[name] = bounded.data(folder / name, names.limit(name))
        except Unfit as error:
            return None, {}, [Finding(name, str(error))]
    builder = next((one for one in keyring.builders if dsse.genuine(one, files[SIGNATURE], files[SUMS])), None)
    if builder is None:
        text = "do not belong together under any builder's key of the keyring: one was changed, or a stranger signed"
        return None, {}, [Finding(SUMS, f"and {SIGNATURE} {text}"), Finding(SIGNATURE, f"and {SUMS} {text}")]
    table = listed(files[SUMS])
    if isinstance(table, Finding):
        return None, {}, [table]
    if tuple(sorted(table)) != names.summed:
        return None, {}, [Finding(SUMS, f"lists {', '.join(sorted(table))}; expected {', '.join(names.summed)}")]
    return builder, table, []


def _unchanged(
    folder: Path, there: Iterable[str], names: Names, digests: Mapping[str, str]
) -> tuple[dict[str, bytes], list[Finding]]:
    """The files that are what the list of digests says. Each is read once without being kept, however long it is."""
    files: dict[str, bytes] = {}
    findings: list[Finding] = []
    for name in sorted(there):
        path, limit = folder / name, names.limit(name)
        try:
            if (found := bounded.digest(path, limit)) != digests[name]:
                text = f"was changed: its SHA-256 is {found}, {SUMS} says {digests[name]}"
                findings.append(Finding(name, text))
            else:
                files[name] = bounded.data(path, limit, found)
        except Unfit as error:
            findings.append(Finding(name, str(error)))
    return files, findings


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
    files: Mapping[str, bytes],
    names: Names,
    keyring: Keyring,
    origin: Origin,
    digests: Mapping[str, str],
    inside: Inside,
) -> tuple[Builder | None, list[Finding]]:
    """Each artefact's provenance; and who built, where all say the same."""
    locks = contents.digests(inside.locks)
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
        findings += provenance.judged(about, payload, builder, origin, name, digests[name], locks)
    return (next(iter(builders.values())) if len(builders) == 1 else None), findings


def _inside(files: Mapping[str, bytes], names: Names) -> tuple[Inside, list[Finding]]:
    """The artefacts, each unpacked once."""
    findings: list[Finding] = []
    sbom: bytes | None = None
    locks: Mapping[str, bytes] = {}
    if names.wheel in files:
        held = contents.embedded(names, files[names.wheel])
        if isinstance(held, Finding):
            findings.append(held)
        else:
            sbom = held
    if names.sdist in files:
        found = contents.locks(names, files[names.sdist])
        if isinstance(found, Finding):
            findings.append(found)
        else:
            locks = found
    return Inside(sbom, locks), findings
