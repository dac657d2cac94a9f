"""What is installed against what is listed, both ways."""

import copy
import json
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from node.release import installed as module
from node.release.installed import differences, inspect
from node.release.sbom import bill

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bill(ROOT))
    return found


@pytest.fixture(scope="module")
def here(document: dict[str, Any]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """This environment, without the tools that are for development."""
    installed, linked = inspect(Path(sys.executable))
    listed = {one["name"] for one in document["components"]}
    return {name: version for name, version in installed.items() if name in listed}, linked


def test_what_is_listed_is_what_is_installed(document: dict[str, Any], here: Any) -> None:
    """The bill of this tree and this environment agree; linked libraries were asked, and none of them is missing."""
    installed, linked = here
    assert differences(document, installed, linked) == []
    assert {name: set(one) for name, one in linked.items()} == {
        "cryptography": {"openssl"},
        "sqlcipher3": {"openssl", "sqlcipher", "sqlite"},
        "uvloop": {"libuv"},
    }


def test_each_difference_is_found(document: dict[str, Any], here: Any) -> None:
    """A planted extra, a missing package, another version, another linked library: each is named, and nothing else."""
    installed, linked = here
    fewer = {name: version for name, version in installed.items() if name != "idna"}
    assert differences(document, {**installed, "planted": "6.6.6"}, linked) == [
        "installed and not listed: planted 6.6.6"
    ]
    assert differences(document, fewer, linked) == [f"listed and not installed: idna {installed['idna']}"]
    (other,) = differences(document, {**installed, "idna": "1.0"}, linked)
    assert other == f"idna: {installed['idna']} is listed, 1.0 is installed"
    (older,) = differences(document, installed, {**linked, "cryptography": {"openssl": "3.0.0"}})
    assert older.startswith("cryptography: openssl") and older.endswith("is listed, 3.0.0 is linked")
    (more,) = differences(document, installed, {**linked, "pynacl": {"planted": "1.0.0"}})
    assert more == "pynacl links planted 1.0.0, which is not listed"
    (silent,) = differences(document, installed, {**linked, "uvloop": {}})
    assert silent.startswith("uvloop does not link libuv")


def test_a_package_of_another_environment_has_to_be_absent(document: dict[str, Any], here: Any) -> None:
    """A marker that excludes this interpreter: not missing when it is absent, an extra when it is there."""
    installed, linked = here
    elsewhere = copy.deepcopy(document)
    (idna,) = (one for one in elsewhere["components"] if one["name"] == "idna")
    idna["properties"] = [{"name": "ai-memory:marker", "value": "python_version < '3'"}]
    absent = {name: version for name, version in installed.items() if name != "idna"}
    assert differences(elsewhere, absent, linked) == []
    assert differences(elsewhere, installed, linked) == [f"installed and not listed: idna {installed['idna']}"]


def test_a_real_environment_is_looked_into(tmp_path: Path, document: dict[str, Any]) -> None:
    """A planted package is seen by what lies in its folder, and an empty environment lacks all that is listed."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    installed, linked = inspect(python)
    assert (installed, linked) == ({}, {})
    missing = differences(document, installed, linked)
    assert missing and all(line.startswith("listed and not installed: ") for line in missing)
    (packages,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    planted = packages / "planted-6.6.6.dist-info"
    planted.mkdir()
    (planted / "METADATA").write_text("Metadata-Version: 2.1\nName: Planted\nVersion: 6.6.6\n")
    installed, linked = inspect(python)
    assert installed == {"planted": "6.6.6"}
    assert set(differences(document, installed, linked)) - set(missing) == {"installed and not listed: planted 6.6.6"}


def test_an_environment_that_cannot_be_asked_has_not_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error in between is neither agreement nor a difference."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["installed"])
    monkeypatch.setattr(module, "fresh", lambda folder, root: Path(sys.executable))
    monkeypatch.setattr(module.probe, "__file__", str(tmp_path / "absent.py"))
    with pytest.raises(SystemExit, match="not checked"):
        module.main()
