"""What the locks do not say: licence, needs and bundled libraries of each pin, in a table that people review.

`inventory.toml` lies beside this file. `python -m node.release.inventory` writes it anew from what is installed:
versions, needs and what the linked libraries say of themselves are taken over, while licences that no metadata state,
and libraries that cannot be asked, stay as they were reviewed. The bill of materials is made from files alone, so that
it is the same wherever it is made.
"""

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import tomlkit

from node.release.linked import linked
from node.release.locks import Pin, ReleaseError, normalised, parse

FILE = Path("node/release/inventory.toml")
RUNTIME, BUILD = "requirements.lock", "build.lock"
ASKED = "the linked library"
"""The source of a version that was asked at run time."""
UNKNOWN = "NOASSERTION"
HEAD = """\
Licence (SPDX), needs and bundled libraries of every pin. Written by `python -m node.release.inventory`, and reviewed:
what is NOASSERTION has to be looked up by a person."""


@dataclass(frozen=True, slots=True)
class Bundled:
    """A library that a wheel brings along."""

    name: str
    version: str
    """Empty where nobody says."""
    licence: str
    source: str
    """Who says so: `ASKED`, or where it was looked up."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One package."""

    version: str
    licence: str
    """An SPDX expression."""
    needs: tuple[str, ...]
    """Names of the pins that it needs itself, ascending."""
    bundled: tuple[Bundled, ...] = ()


def pins(root: Path) -> tuple[dict[str, Pin], dict[str, Pin]]:
    """What runs, and what only builds. Raises ReleaseError where the two pin one package differently."""
    runtime, build = (parse(_text(root, name), name) for name in (RUNTIME, BUILD))
    for name in runtime.keys() & build.keys():
        if runtime[name].version != build[name].version:
            found = f"{runtime[name].version} in {RUNTIME}, {build[name].version} in {BUILD}"
            raise ReleaseError(f"{name} is {found}: pin one version")
    return runtime, {name: pin for name, pin in build.items() if name not in runtime}


def read(root: Path) -> dict[str, Entry]:
    """The reviewed table. Raises ReleaseError where it does not fit the locks, naming every difference."""
    try:
        table = tomllib.loads(_text(root, FILE))
        entries = {name: _entry(row) for name, row in table.items()}
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ReleaseError(f"{FILE} is not as it was written ({error!r}): restore it from the repository") from error
    runtime, build = pins(root)
    trouble = differences({**runtime, **build}, entries)
    trouble += [f"something about {name} is {UNKNOWN}" for name in open_questions(entries)]
    if trouble:
        raise ReleaseError(f"{FILE}: {'; '.join(trouble)}: run `python -m node.release.inventory` and review it")
    return entries


def differences(locked: Mapping[str, Pin], entries: Mapping[str, Entry]) -> list[str]:
    """Where the table does not fit the locks, in words."""
    found = [f"{name} is pinned and not in the table" for name in sorted(locked.keys() - entries.keys())]
    found += [f"{name} is in the table and not pinned" for name in sorted(entries.keys() - locked.keys())]
    for name in sorted(locked.keys() & entries.keys()):
        if locked[name].version != entries[name].version:
            found.append(f"{name} is pinned at {locked[name].version}, the table has {entries[name].version}")
        found += [f"{name} needs {need}, which is not pinned" for need in entries[name].needs if need not in locked]
    return found


def needs(requirements: Iterable[str] | None, locked: Iterable[str]) -> tuple[str, ...]:
    """The pins among the requirements (PEP 508) of a package, those of its extras left out.

    A requirement that is not pinned is one of an environment that the lock does not serve: an older Python.
    """
    found = set()
    for text in requirements or ():
        requirement, _, marker = text.partition(";")
        name = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
        if name is not None and not re.search(r"\bextra\s*==", marker):
            found.add(normalised(name[1]))
    return tuple(sorted(found & set(locked)))


def renewed(
    locked: Mapping[str, Pin],
    old: Mapping[str, Entry],
    installed: Mapping[str, importlib.metadata.PackageMetadata],
    versions: Mapping[str, Mapping[str, str]],
) -> dict[str, Entry]:
    """The table for these pins: what is installed speaks first, then what was reviewed.

    Raises ReleaseError for a pin that is not installed in its version and not in the old table either.
    """
    entries: dict[str, Entry] = {}
    for name, pin in sorted(locked.items()):
        before = old.get(name)
        metadata = installed.get(name)
        if metadata is None or metadata["Version"] != pin.version:
            if before is None or before.version != pin.version:
                raise ReleaseError(f"{name} {pin.version} is not installed here: run `make env` first")
            entries[name] = before
            continue
        stated = metadata.get_all("License-Expression")
        licence = stated[0] if stated else before.licence if before is not None else UNKNOWN
        said = versions.get(name, {})
        reviewed = {one.name: one for one in before.bundled} if before is not None else {}
        bundled = [one for one in reviewed.values() if one.name not in said and one.source != ASKED]
        if before is not None and before.version != pin.version:  # what was looked up was looked up for another version
            bundled = [replace(one, version="", source=UNKNOWN) for one in bundled]
        for library, version in said.items():
            licence_of = reviewed[library].licence if library in reviewed else UNKNOWN
            bundled.append(Bundled(library, version, licence_of, ASKED))
        own = needs(metadata.get_all("Requires-Dist"), locked)
        entries[name] = Entry(pin.version, licence, own, tuple(sorted(bundled, key=lambda one: one.name)))
    return entries


def open_questions(entries: Mapping[str, Entry]) -> list[str]:
    """The packages of which something has to be looked up by a person."""
    return [
        name
        for name, one in sorted(entries.items())
        if UNKNOWN in (one.licence, *(text for library in one.bundled for text in (library.licence, library.source)))
    ]


def installed_here() -> dict[str, importlib.metadata.PackageMetadata]:
    """The metadata of everything that this interpreter has installed, by name."""
    return {normalised(one.metadata["Name"]): one.metadata for one in importlib.metadata.distributions()}


def written(entries: Mapping[str, Entry]) -> str:
    """The table as text."""
    document = tomlkit.document()
    for line in HEAD.splitlines():
        document.add(tomlkit.comment(line))
    for name, entry in sorted(entries.items()):
        row = tomlkit.table()
        row.update({"version": entry.version, "licence": entry.licence, "needs": list(entry.needs)})
        if entry.bundled:
            libraries = tomlkit.aot()
            for one in entry.bundled:
                fields = {"name": one.name, "version": one.version, "licence": one.licence, "source": one.source}
                libraries.append(tomlkit.item(fields))
            row.add("bundled", libraries)
        document.add(name, row)
    return tomlkit.dumps(document)


def _entry(row: Mapping[str, object]) -> Entry:
    needed, bundled = row["needs"], row.get("bundled", [])
    if not isinstance(needed, list) or not isinstance(bundled, list):
        raise TypeError("needs and bundled are lists")
    libraries = tuple(Bundled(one["name"], one["version"], one["licence"], one["source"]) for one in bundled)
    return Entry(str(row["version"]), str(row["licence"]), tuple(needed), libraries)


def _text(root: Path, name: Path | str) -> str:
    try:
        return (root / name).read_text(encoding="utf-8")
    except OSError as error:
        raise ReleaseError(f"{name} cannot be read ({error.strerror}): run this where it lies") from error


def main(root: Path) -> int:
    """Write the table anew, and say what has to be looked up."""
    runtime, build = pins(root)
    locked = {**runtime, **build}
    old: dict[str, Entry] = {}
    if (root / FILE).exists():
        old = {name: _entry(row) for name, row in tomllib.loads(_text(root, FILE)).items()}
    entries = renewed(locked, old, installed_here(), linked())
    (root / FILE).write_text(written(entries), encoding="utf-8")
    for name in (unknown := open_questions(entries)):
        print(f"{FILE}: something about {name} is {UNKNOWN}: look it up and write it there")
    return 1 if unknown else 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path()))
    except ReleaseError as error:
        sys.exit(str(error))
