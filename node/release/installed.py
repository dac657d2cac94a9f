"""What is really installed, compared with what the bill of materials says: both ways, down to the linked libraries.

Run `python -m node.release.installed` to build a fresh environment from the locks and compare (`make sbom-check`).
"""

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.markers import Marker

from node.release import bounded
from node.release import linked as probe
from node.release.inventory import BUILD, RUNTIME
from node.release.locks import ReleaseError, normalised
from node.release.sbom import bill

PACKAGE = "pkg:pypi/"
MAX_SBOM = 16 << 20


def differences(
    document: Mapping[str, Any], installed: Mapping[str, str], linked: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Where a bill and an environment disagree, in words; empty where they agree.

    `installed` is name to version, `linked` as `node.release.linked` answers. A package whose marker excludes this
    interpreter has to be absent.
    """
    listed = {one["name"]: one for one in document["components"] if one["purl"].startswith(PACKAGE)}
    own = normalised(document["metadata"]["component"]["name"])
    here = {name: one["version"] for name, one in listed.items() if _belongs(one)}
    found = [f"installed and not listed: {name} {installed[name]}" for name in sorted(installed.keys() - here - {own})]
    found += [f"listed and not installed: {name} {here[name]}" for name in sorted(here.keys() - installed)]
    for name in sorted(here.keys() & installed.keys()):
        if here[name] != installed[name]:
            found.append(f"{name}: {here[name]} is listed, {installed[name]} is installed")
    for name in sorted(here.keys() & installed.keys()):
        found += _inside(name, listed[name].get("components", []), linked.get(name, {}))
    return found


def _belongs(component: Mapping[str, Any]) -> bool:
    markers = [one["value"] for one in component.get("properties", ()) if one["name"] == "ai-memory:marker"]
    return all(Marker(text).evaluate() for text in markers)


def _inside(name: str, listed: list[Mapping[str, Any]], linked: Mapping[str, str]) -> list[str]:
    """Of the libraries inside a wheel: only what can be asked is compared, and what can be asked has to be listed."""
    asked = {
        one["name"]: one["version"]
        for one in listed
        if {"name": "ai-memory:version-from", "value": "asked at run time"} in one["properties"]
    }
    found = [f"{name} links {one} {linked[one]}, which is not listed" for one in sorted(linked.keys() - asked.keys())]
    found += [
        f"{name} does not link {one} {asked[one]}, which is listed" for one in sorted(asked.keys() - linked.keys())
    ]
    for one in sorted(linked.keys() & asked.keys()):
        if linked[one] != asked[one]:
            found.append(f"{name}: {one} {asked[one]} is listed, {linked[one]} is linked")
    return found


def fresh(folder: Path, root: Path) -> Path:
    """An environment that holds what the two locks say and nothing else, not even an installer. Its interpreter."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install", "--quiet"]
    flags = ["--require-hashes", "--only-binary", ":all:"]  # and what they need: a lock with a gap is refused by pip
    locks = [word for name in (RUNTIME, BUILD) for word in ("-r", str(root / name))]
    done = subprocess.run([*pip, *flags, *locks], check=False)
    if done.returncode:
        raise ReleaseError("the locks cannot be installed: see pip's message above")
    return python


def inspect(python: Path) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """What an interpreter's environment has installed, and what its wheels link."""
    where = _answer(python, "-c", "import json, sysconfig; print(json.dumps(sysconfig.get_path('purelib')))")
    installed = {
        normalised(one.metadata["Name"]): one.version for one in importlib.metadata.distributions(path=[where])
    }
    return installed, _answer(python, str(probe.__file__))


def _answer(python: Path, *arguments: str) -> Any:
    done = subprocess.run([str(python), "-I", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"the fresh environment cannot be asked:\n{done.stderr}")
    return json.loads(done.stdout)


def main() -> int:
    """Compare, and say what differs."""
    parser = argparse.ArgumentParser(prog="python -m node.release.installed", description=main.__doc__)
    parser.add_argument("--sbom", type=Path, metavar="FILE", help="another bill than that of this tree")
    chosen = parser.parse_args()
    try:
        document = bounded.parsed(bounded.data(chosen.sbom, MAX_SBOM) if chosen.sbom else bill(Path()))
        with tempfile.TemporaryDirectory(prefix="sbom-check-") as folder:
            installed, linked = inspect(fresh(Path(folder) / "env", Path()))
        found = differences(document, installed, linked)
    except (ReleaseError, OSError, ValueError, KeyError) as error:
        sys.exit(f"not checked: {error}")
    for line in found:
        print(line)
    libraries = sum(len(one) for one in linked.values())
    print(f"{len(installed)} packages installed, {libraries} linked libraries asked, {len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
