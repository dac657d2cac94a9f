"""The files of a release: their names, what the list of digests says, and what is missing or too many."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from node.release.errors import Finding
from node.release.keys import moment
from node.release.provenance import Origin

SUMS, SIGNATURE, MANIFEST = "SHA256SUMS", "SHA256SUMS.sig", "release.json"
PROVENANCE = ".intoto.json"
MAX_FILES = 64
"""Entries of a release's folder that are looked at; it has 11."""
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*(?:(?:a|b|rc)[0-9]+)?(?:\.post[0-9]+)?")
_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9._-]+)")


@dataclass(frozen=True, slots=True)
class Names:
    """What the files of one version's release are called."""

    version: str

    @property
    def wheel(self) -> str:
        return f"ai_memory-{self.version}-py3-none-any.whl"

    @property
    def sdist(self) -> str:
        return f"ai_memory-{self.version}.tar.gz"

    @property
    def sbom(self) -> str:
        return f"ai_memory-{self.version}.cdx.json"

    @property
    def tag(self) -> str:
        return f"v{self.version}.tag"

    @property
    def commit(self) -> str:
        return f"v{self.version}.commit"

    @property
    def artefacts(self) -> tuple[str, str, str]:
        """What is built, each with its provenance."""
        return self.wheel, self.sdist, self.sbom

    @property
    def summed(self) -> tuple[str, ...]:
        """All files whose digests are listed."""
        proofs = (name + PROVENANCE for name in self.artefacts)
        return tuple(sorted((*self.artefacts, *proofs, self.tag, self.commit, MANIFEST)))

    def limit(self, name: str) -> int:
        """How many bytes the file of this name may have: several times those of a release of today."""
        if name in (self.wheel, self.sdist):
            return 16 << 20
        if name == self.sbom:
            return 2 << 20
        return 1 << 20 if name.endswith(PROVENANCE) else 1 << 16

    @property
    def all(self) -> frozenset[str]:
        return frozenset((*self.summed, SUMS, SIGNATURE))


def version_fault(version: str) -> str | None:
    """Why this cannot be a version; None where it can. The form is PEP 440's, normalised, without local parts."""
    return None if _VERSION.fullmatch(version) else f"{version!r} is no version, expected such as 1.2.0 or 1.2.0rc1"


def version_of(names: frozenset[str]) -> str | Finding:
    """Which version's release has files of these names: that of its tag, wheel or sdist, whichever is there."""
    for pattern in (r"v(.+)\.tag", r"ai_memory-(.+)-py3-none-any\.whl", r"ai_memory-(.+)\.tar\.gz"):
        found = {match[1] for name in names if (match := re.fullmatch(pattern, name)) and not version_fault(match[1])}
        if len(found) == 1:
            return found.pop()
    return Finding("release", f"no folder of one release: neither tag nor wheel in {', '.join(sorted(names)) or 'it'}")


def sums(files: Mapping[str, bytes]) -> bytes:
    """The list of digests, as `sha256sum --check` reads it."""
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)).encode()


def listed(text: bytes) -> dict[str, str] | Finding:
    """Name to SHA-256; a finding where a line has another form."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.decode(errors="replace").splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in found:
            return Finding(
                SUMS, f"line {number} is {line[:80]!r}, expected a SHA-256, two spaces and a name, each name once"
            )
        found[match[2]] = match[1]
    return found


def complete(found: frozenset[str], names: Names) -> list[Finding]:
    """Files that are missing, and files that nobody vouches for."""
    lacking = [Finding(name, "is missing") for name in sorted(names.all - found)]
    return lacking + [Finding(name, "does not belong to the release") for name in sorted(found - names.all)]


def manifest(origin: Origin, builder: str, files: Mapping[str, bytes]) -> bytes:
    """What the release is, in one file for programs; `files` are its artefacts."""
    artefacts = [
        {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
    ]
    told = {
        "version": origin.version,
        "repository": origin.repository,
        "tag": origin.tag,
        "tag_id": origin.tag_id,
        "commit": origin.commit,
        "tagged": moment(origin.tagged),
        "source_date_epoch": origin.epoch,
        "builder": builder,
        "artefacts": artefacts,
    }
    return json.dumps(told, indent=2).encode() + b"\n"
