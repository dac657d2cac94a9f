"""Inside the artefacts: do wheel, sdist and SBOM say that they are this version, and agree with each other?"""

import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from email.parser import BytesParser
from typing import Any

from node.release import bounded, unpacked
from node.release.errors import Finding, ReleaseError
from node.release.folder import Names
from node.release.locks import normalised, parse
from node.release.materials import LOCKS, RUNTIME

_BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, ValueError, KeyError, NotImplementedError,
)  # fmt: skip
_SPECS = ("1.6", "1.7")
NAME = "ai-memory"
MAX_METADATA = 1 << 18
MAX_LOCK = 1 << 20
MAX_SBOM = 2 << 20
"""Bytes; those of today have 15, 180 and 160 KB."""


def locks(names: Names, sdist: bytes) -> dict[str, bytes] | Finding:
    """The lock files of an sdist; a finding where it is not the sdist of this version."""
    root = names.sdist.removesuffix(".tar.gz")
    try:
        limits = {f"{root}/PKG-INFO": MAX_METADATA, **{f"{root}/{name}": MAX_LOCK for name in LOCKS}}
        members = unpacked.sdist(sdist, lambda name: limits.get(name, 0))
        found = {name: members[f"{root}/{name}"] for name in (*LOCKS, "PKG-INFO")}
    except _BROKEN as error:
        return Finding(names.sdist, f"cannot be read: {error}")
    if fault := _metadata(names, found.pop("PKG-INFO")):
        return Finding(names.sdist, fault)
    return found


def embedded(names: Names, wheel: bytes) -> bytes | Finding:
    """The SBOM inside a wheel (PEP 770); a finding where it is not the wheel of this version, or has not just one."""
    info = f"{names.wheel.removesuffix('-py3-none-any.whl')}.dist-info"
    try:
        limits = {f"{info}/METADATA": MAX_METADATA}
        members = unpacked.wheel(
            wheel, lambda name: MAX_SBOM if name.startswith(f"{info}/sboms/") else limits.get(name, 0)
        )
        if fault := _metadata(names, members.pop(f"{info}/METADATA")):
            return Finding(names.wheel, fault)
        if len(members) != 1:
            return Finding(names.wheel, f"one SBOM expected in {info}/sboms, found {len(members)}")
        return members.popitem()[1]
    except _BROKEN as error:
        return Finding(names.wheel, f"cannot be read: {error}")


def sbom_faults(names: Names, sbom: bytes, inside: bytes | None, lock: bytes | None) -> list[Finding]:
    """Is the SBOM beside the wheel the one inside, of this version, and do its packages have the lock's hashes?

    What is None could not be read, and was found elsewhere.
    """
    if inside is not None and inside != sbom:
        return [Finding(names.sbom, f"is not the SBOM that the wheel {names.wheel} holds")]
    try:
        told = bounded.parsed(sbom)
        subject = told["metadata"]["component"]
        facts: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
            ("bomFormat", told["bomFormat"], ("CycloneDX",)),
            ("specVersion", told["specVersion"], _SPECS),
            ("name", subject["name"], (NAME,)),
            ("version", subject["version"], (names.version,)),
        )
        findings = [
            Finding(names.sbom, f"says {what} {said!r}, expected {' or '.join(expected)}")
            for what, said, expected in facts
            if said not in expected
        ]
        return findings + (_packages(names, told["components"], lock) if lock is not None else [])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ReleaseError) as error:
        return [Finding(names.sbom, f"is not an SBOM as CycloneDX has it ({type(error).__name__}: {error})")]


def _packages(names: Names, components: list[Mapping[str, Any]], lock: bytes) -> list[Finding]:
    """Each pin of the lock is listed under its version, with the digests that the lock has, no more and no fewer."""
    listed: dict[str, tuple[str, set[str]]] = {}
    for one in components:
        if str(one.get("purl", "")).startswith("pkg:pypi/"):
            hashes = {each["content"] for each in one["hashes"] if each["alg"] == "SHA-256"}
            listed[normalised(one["name"])] = (one["version"], hashes)
    findings = []
    for pin in parse(lock.decode(), RUNTIME).values():
        version, hashes = listed.get(pin.name, ("", set()))
        if version != pin.version:
            findings.append(Finding(names.sbom, f"lists {pin.name} {version or 'not'}, the lock has {pin.version}"))
        elif hashes != set(pin.digests):
            findings.append(Finding(names.sbom, f"lists {pin.name} {version} with other SHA-256 than the lock has"))
    return findings


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def _metadata(names: Names, text: bytes) -> str | None:
    found = BytesParser().parsebytes(text, headersonly=True)
    if (found["Name"], found["Version"]) != (NAME, names.version):
        return f"is {found['Name']} {found['Version']}, expected {NAME} {names.version}"
    return None
