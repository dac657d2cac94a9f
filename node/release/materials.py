"""What a release depends on by hash: the pins of the lock files, and the build tools as they were fetched."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.release.errors import ReleaseError

LOCKS = ("build.lock", "requirements.lock")
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^ ;\\]+)[^\\]*\\?")
_HASH = re.compile(r"\s+--hash=sha256:([0-9a-f]{64})(?: \\)?")


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock: any of its files, each by SHA-256, in hex."""

    name: str
    version: str
    hashes: tuple[str, ...]


def pins(name: str, text: str) -> list[Pin]:
    """The pins of a lock file. Raises ReleaseError at a line of another form, and at a pin without a hash."""
    found: list[tuple[str, str, list[str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if match := _PIN.fullmatch(line):
            found.append((match[1], match[2], []))
        elif (match := _HASH.fullmatch(line)) and found:
            found[-1][2].append(match[1])
        elif line.strip() and not line.lstrip().startswith("#"):
            raise ReleaseError(f"{name}:{number}: {line!r}, expected `name==version` and its --hash=sha256:…")
    for pin, version, hashes in found:
        if not hashes:
            raise ReleaseError(f"{name}: {pin}=={version} has no SHA-256; make lock")
    return [Pin(pin, version, tuple(hashes)) for pin, version, hashes in found]


def dependencies(source: Path, wheels: Sequence[Path]) -> list[dict[str, Any]]:
    """Resource descriptors (SLSA 1.2, resolvedDependencies): the locks, the build tools' wheels, and the pins that an
    installation takes, each with all hashes of which one is its own: which one, its platform decides."""
    found: list[dict[str, Any]] = []
    for name in LOCKS:
        found.append({"name": name, "digest": {"sha256": hashlib.sha256((source / name).read_bytes()).hexdigest()}})
    for wheel in sorted(wheels, key=lambda one: one.name):
        package, version = wheel.name.split("-")[:2]
        digest = {"sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}
        found.append(
            {"name": wheel.name, "uri": _purl(package, version), "digest": digest, "annotations": {"lock": LOCKS[0]}}
        )
    for pin in pins(LOCKS[1], (source / LOCKS[1]).read_text()):
        annotations = {"lock": LOCKS[1], "sha256": list(pin.hashes)}
        found.append({"name": pin.name, "uri": _purl(pin.name, pin.version), "annotations": annotations})
    return found


def _purl(name: str, version: str) -> str:
    return f"pkg:pypi/{re.sub('[-_.]+', '-', name).lower()}@{version}"
