"""What a release depends on by hash: the pins of the lock files, and the build tools as they were fetched."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from node.release.locks import normalised, parse

BUILD, RUNTIME = LOCKS = ("build.lock", "requirements.lock")


def dependencies(source: Path, wheels: Sequence[Path]) -> list[dict[str, Any]]:
    """Resource descriptors for SLSA's resolvedDependencies: the locks, and every package by SHA-256.

    A build tool has the digest of the wheel that was used. What an installation takes has all digests of its pin: of
    which file it will be, the platform decides. Raises ReleaseError where a lock cannot be read.
    """
    found: list[dict[str, Any]] = []
    for name in LOCKS:
        found.append({"name": name, "digest": {"sha256": hashlib.sha256((source / name).read_bytes()).hexdigest()}})
    for wheel in sorted(wheels, key=lambda one: one.name):
        package, version = wheel.name.split("-")[:2]
        uri = f"pkg:pypi/{normalised(package)}@{version}"
        digest = {"sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}
        found.append({"name": wheel.name, "uri": uri, "digest": digest, "annotations": {"lock": BUILD}})
    for pin in parse((source / RUNTIME).read_text(), RUNTIME).values():
        annotations = {"lock": RUNTIME, "sha256": list(pin.digests)}
        found.append({"name": pin.name, "uri": f"pkg:pypi/{pin.name}@{pin.version}", "annotations": annotations})
    return found
