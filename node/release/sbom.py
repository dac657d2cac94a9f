"""The bill of materials, CycloneDX as JSON: everything that a release consists of, down to the libraries inside wheels.

It is made from the locks, `pyproject.toml` and the reviewed table alone, so it is the same bytes on every machine. It
holds no address: where a package is fetched from is the business of whoever installs it; the digests say whether it is
the right one.
Format: ECMA-424, CycloneDX 1.6 and 1.7. Run `python -m node.release.sbom --out FILE [--spec 1.6|1.7]`.
"""

import argparse
import json
import os
import sys
import tomllib
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from node.release.inventory import ASKED, Bundled, Entry, needs, pins, read
from node.release.locks import Pin, ReleaseError

SPECS = ("1.6", "1.7")
NAME = "ai-memory.cdx.json"
"""The file's name inside the wheel (PEP 770: below `.dist-info/sboms/`) and beside it."""
CPE = {
    "openssl": "openssl:openssl",
    "sqlcipher": "zetetic:sqlcipher",
    "sqlite": "sqlite:sqlite",
    "libuv": "libuv_project:libuv",
    "llhttp": "llhttp:llhttp",
    "libsodium": "libsodium:libsodium",
}
"""Vendor and product by which advisories know a library that is in no package index."""


def bill(root: Path, *, spec: str = "1.6", epoch: int | None = None) -> bytes:
    """The bill of the tree below `root`, as UTF-8.

    `epoch` is its time in seconds; without it the bill has none, which the format allows. Raises ReleaseError where
    locks and table do not fit each other, or where a pin is needed by nothing.
    """
    if spec not in SPECS:
        raise ReleaseError(f"there is no CycloneDX {spec} here, only {' and '.join(SPECS)}")
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    runtime, build = pins(root)
    locked = {**runtime, **build}
    entries = read(root)
    refs = {name: f"pkg:pypi/{name}@{pin.version}" for name, pin in locked.items()}
    ours = _ours(project["project"])
    wanted = needs(project["project"]["dependencies"], runtime)
    tools = needs(project["build-system"]["requires"], locked)
    _reached((*wanted, *tools), locked, entries)
    graph = [_edges(ours["bom-ref"], (refs[name] for name in (*wanted, *tools)))]
    components = []
    for name, pin in sorted(locked.items()):
        entry = entries[name]
        inside = [_library(refs[name], one) for one in entry.bundled]
        components.append(_component(pin, entry, refs[name], "required" if name in runtime else "excluded", inside))
        libraries = [one["bom-ref"] for one in inside]
        graph.append(_edges(refs[name], [*(refs[need] for need in entry.needs), *libraries]))
        graph += [_edges(one, []) for one in libraries]
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": spec,
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "node.release.sbom", "version": ours["version"]}]},
            "component": ours,
        },
        "components": components,
        "dependencies": sorted(graph, key=lambda one: str(one["ref"])),
        # The packages are all there. What else a wheel with compiled code has linked, only its builders know.
        "compositions": [{"aggregate": "complete", "dependencies": sorted(refs.values())}],
    }
    return _numbered(document, epoch)


def _numbered(document: dict[str, Any], epoch: int | None) -> bytes:
    """With a serial number that the content alone decides (RFC 9562, version 5), and the time."""
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(document, sort_keys=True))
    if epoch is not None:
        stamp = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        document = {**document, "metadata": {"timestamp": stamp, **document["metadata"]}}
    head = {key: document[key] for key in ("bomFormat", "specVersion")}
    text = json.dumps({**head, "serialNumber": f"urn:uuid:{serial}", **document}, indent=1, ensure_ascii=False)
    return f"{text}\n".encode()


def _ours(project: dict[str, Any]) -> dict[str, Any]:
    ref = f"pkg:pypi/{project['name']}@{project['version']}"
    return {
        "type": "application",
        "bom-ref": ref,
        "name": project["name"],
        "version": project["version"],
        "description": project["description"],
        "licenses": _licences(project["license"]),
        "purl": ref,
    }


def _component(pin: Pin, entry: Entry, ref: str, scope: str, inside: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": ref,
        "name": pin.name,
        "version": pin.version,
        "scope": scope,
        # One for each file that the lock lets in: a source archive and a wheel for each platform.
        "hashes": [{"alg": "SHA-256", "content": digest} for digest in pin.digests],
        "licenses": _licences(entry.licence),
        "purl": ref,
    }
    if inside:
        found["components"] = inside
    if pin.marker:
        found["properties"] = [{"name": "ai-memory:marker", "value": pin.marker}]
    return found


def _library(holder: str, one: Bundled) -> dict[str, Any]:
    purl = f"pkg:generic/{one.name}@{one.version}" if one.version else f"pkg:generic/{one.name}"
    found: dict[str, Any] = {"type": "library", "bom-ref": f"{holder}#{one.name}", "name": one.name}
    if one.version:
        found["version"] = one.version
    found["licenses"] = _licences(one.licence)
    if one.version and one.name in CPE:
        found["cpe"] = f"cpe:2.3:a:{CPE[one.name]}:{one.version}:*:*:*:*:*:*:*"
    said = "asked at run time" if one.source == ASKED else one.source
    return {**found, "purl": purl, "properties": [{"name": "ai-memory:version-from", "value": said}]}


def _licences(expression: str) -> list[dict[str, Any]]:
    """An SPDX identifier, or an expression of several: the format writes them differently."""
    if " " in expression:
        return [{"expression": expression}]
    return [{"license": {"id": expression}}]


def _edges(ref: str, others: Iterable[str]) -> dict[str, Any]:
    found = sorted(set(others))
    return {"ref": ref, "dependsOn": found} if found else {"ref": ref}


def _reached(start: Iterable[str], locked: dict[str, Pin], entries: dict[str, Entry]) -> None:
    """Nothing is pinned that nothing needs: it would be in the lock for a reason that nobody knows."""
    waiting, seen = list(start), set[str]()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += entries[name].needs
    if idle := sorted(locked.keys() - seen):
        raise ReleaseError(f"pinned, and needed by nothing: {', '.join(idle)}: run `make lock`")


def epoch_of(environment: dict[str, str]) -> int | None:
    """The time of the release, from SOURCE_DATE_EPOCH (seconds)."""
    text = environment.get("SOURCE_DATE_EPOCH", "")
    if text and not (text.isascii() and text.isdigit()):
        raise ReleaseError(f"SOURCE_DATE_EPOCH is {text!r}, expected whole seconds: unset it or give a number")
    return int(text) if text else None


def main() -> int:
    """Write the bill of the tree in which it is started."""
    # Not `click`: the environment that builds a wheel has the build tools alone.
    parser = argparse.ArgumentParser(prog="python -m node.release.sbom", description="Write the bill of materials.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--spec", choices=SPECS, default=SPECS[0], help="of CycloneDX; default: %(default)s")
    chosen = parser.parse_args()
    try:
        chosen.out.write_bytes(bill(Path(), spec=chosen.spec, epoch=epoch_of(dict(os.environ))))
    except ReleaseError as error:
        sys.exit(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
