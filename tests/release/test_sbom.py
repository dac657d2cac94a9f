"""The bill of materials: valid, whole, free of addresses, the same everywhere, and inside the wheel."""

import json
import os
import re
import subprocess
import sys
import uuid
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from node.release import inventory, sbom
from node.release.locks import ReleaseError, parse
from node.release.sbom import NAME, SPECS, bill, epoch_of

ROOT = Path(__file__).parent.parent.parent
ADDRESS = re.compile(rb"[a-z]+://|www\.|[a-z]+_url|\"/[a-z]")


def made(**options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bill(ROOT, **options))
    return found


def packages(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in document["components"]}


def complaint(document: dict[str, Any]) -> object:
    """What the official schema has against it."""
    version = SchemaVersion.from_version(document["specVersion"])
    return JsonStrictValidator(version).validate_str(json.dumps(document))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("epoch", [None, 1_700_000_000])
def test_it_is_valid(spec: str, epoch: int | None) -> None:
    """By the official schema of its version, strictly; and the schema is really looked at."""
    document = made(spec=spec, epoch=epoch)
    assert document["specVersion"] == spec
    assert complaint(document) is None
    assert complaint({**document, "serialNumber": "urn:uuid:17"}) is not None
    packages(document)["attrs"]["licenses"] = [{"license": {"id": "Nobodys-Licence"}}]
    assert complaint(document) is not None


def test_it_lists_every_pin_with_version_and_digests() -> None:
    """What runs is required, what only builds is excluded from running; nothing more, nothing less."""
    runtime, build = (parse((ROOT / name).read_text()) for name in ("requirements.lock", "build.lock"))
    listed = packages(made())
    assert listed.keys() == runtime.keys() | build.keys()
    for name, pin in {**build, **runtime}.items():
        assert listed[name]["version"] == pin.version
        assert [one["content"] for one in listed[name]["hashes"]] == list(pin.digests)
        assert {one["alg"] for one in listed[name]["hashes"]} == {"SHA-256"}
        assert listed[name]["scope"] == ("required" if name in runtime else "excluded")
        assert listed[name]["licenses"]


def test_it_names_the_libraries_inside_the_wheels() -> None:
    """Two different OpenSSLs among them, each where it is."""
    listed = packages(made())
    inside = {name: {lib["name"] for lib in one.get("components", ())} for name, one in listed.items()}
    assert {name: libraries for name, libraries in inside.items() if libraries} == {
        "aiohttp": {"llhttp"},
        "cffi": {"libffi"},
        "cryptography": {"openssl"},
        "pynacl": {"libsodium"},
        "sqlcipher3": {"openssl", "sqlcipher", "sqlite"},
        "uvloop": {"libuv"},
    }


def test_its_graph_is_closed() -> None:
    """Every reference is of something listed, every listed thing has its place, and all is reached from the program."""
    document = made()
    nested = [lib for one in document["components"] for lib in one.get("components", ())]
    refs = [one["bom-ref"] for one in (document["metadata"]["component"], *document["components"], *nested)]
    assert len(refs) == len(set(refs))
    graph = {one["ref"]: one.get("dependsOn", []) for one in document["dependencies"]}
    assert graph.keys() == set(refs)
    waiting, seen = [document["metadata"]["component"]["bom-ref"]], set[str]()
    while waiting:
        ref = waiting.pop()
        if ref not in seen:
            seen.add(ref)
            waiting += graph[ref]
    assert seen == set(refs)
    assert "pkg:pypi/cryptography@" in " ".join(
        graph[f"pkg:pypi/pyopenssl@{packages(document)['pyopenssl']['version']}"]
    )


@pytest.mark.parametrize("spec", SPECS)
def test_it_holds_no_address(spec: str) -> None:
    """No host, no registry, no path of the machine that made it; and each of them would be seen."""
    assert ADDRESS.search(bill(ROOT, spec=spec)) is None
    for planted in ("https://example.org", "pkg:generic/openssl@1?download_url=x", "/wheels"):
        assert ADDRESS.search(json.dumps({**made(spec=spec), "planted": planted}).encode())


def test_it_is_the_same_bytes_from_another_folder_and_another_process(tree: Path, tmp_path: Path) -> None:
    """Another place, another day, another locale and time zone; only the time of the release may change it."""
    out = tmp_path / "bill.json"
    surroundings = {
        **os.environ,
        "LC_ALL": "C",
        "TZ": "Asia/Tokyo",
        "PYTHONHASHSEED": "7",
        "SOURCE_DATE_EPOCH": "1700000000",
    }
    command = [sys.executable, "-m", "node.release.sbom", "--out", str(out)]
    subprocess.run(command, cwd=tree, env=surroundings, check=True)
    assert out.read_bytes() == bill(ROOT, epoch=1_700_000_000)
    assert out.read_bytes() != bill(ROOT, epoch=1_700_000_001)


def test_its_serial_number_comes_from_its_content(tree: Path) -> None:
    """The same content has the same number whenever it is made, other content another."""
    serial = made()["serialNumber"]
    assert uuid.UUID(serial.removeprefix("urn:uuid:")).version == 5
    assert made(epoch=1_700_000_000)["serialNumber"] == serial
    project = tree / "pyproject.toml"
    project.write_text(project.read_text().replace('\nversion = "', '\nversion = "9.'))
    assert json.loads(bill(tree))["serialNumber"] != serial


def test_a_time_that_is_no_number_is_refused() -> None:
    """And none is none."""
    assert epoch_of({}) is None
    assert epoch_of({"SOURCE_DATE_EPOCH": "17"}) == 17
    with pytest.raises(ReleaseError, match="SOURCE_DATE_EPOCH"):
        epoch_of({"SOURCE_DATE_EPOCH": "yesterday"})


# --- what does not fit is refused


LOCK, TABLE = "requirements.lock", "node/release/inventory.toml"
PINNED = {name: pin.version for name, pin in parse((ROOT / LOCK).read_text()).items()}
ATTRS, IDNA, TOMLKIT = PINNED["attrs"], PINNED["idna"], PINNED["tomlkit"]
EDITS = [
    (LOCK, f"attrs=={ATTRS}", "attrs==0.1", f"attrs is pinned at 0.1, the table has {ATTRS}"),
    (LOCK, "attrs==", "attrz==", "attrz is pinned and not in the table"),
    (TABLE, f'[idna]\nversion = "{IDNA}"', '[idna]\nversion = "0.1"', f"idna is pinned at {IDNA}, the table has 0.1"),
    (TABLE, "[idna]", "[idnb]", "idnb is in the table and not pinned"),
    (TABLE, 'licence = "Zlib"', 'licence = "NOASSERTION"', "sqlcipher3 is NOASSERTION"),
    (TABLE, 'needs = ["mdurl"]', "needs = []", "needed by nothing: mdurl"),
    (TABLE, 'needs = ["mdurl"]', 'needs = ["strange"]', "markdown-it-py needs strange, which is not pinned"),
    (TABLE, "needs = []", "", "not as it was written"),
    (TABLE, "needs = []", "needs = [", "not as it was written"),
    ("build.lock", f"tomlkit=={TOMLKIT}", "tomlkit==0.1", f"tomlkit is {TOMLKIT} in {LOCK}, 0.1 in build.lock"),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), EDITS)
def test_a_table_that_does_not_fit_the_locks_is_refused(tree: Path, name: str, old: str, new: str, says: str) -> None:
    """Nothing is listed that was not reviewed; the text names the package. Without the edit the bill is made."""
    assert bill(tree) == bill(ROOT)
    path = tree / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ReleaseError, match=re.escape(says)):
        bill(tree)


def test_it_is_these_checks_that_refuse(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: without them, a bill is made of a table that does not fit."""
    path = tree / "node/release/inventory.toml"
    text = path.read_text()
    path.write_text(text.replace('needs = ["mdurl"]', "needs = []"))
    monkeypatch.setattr(sbom, "_reached", lambda *_: None)
    assert bill(tree) != bill(ROOT)
    path.write_text(text.replace(f'version = "{IDNA}"', 'version = "0.1"'))
    monkeypatch.setattr(inventory, "differences", lambda *_: [])
    assert json.loads(bill(tree))


# --- the reviewed table


def test_the_table_is_what_is_installed_here() -> None:
    """Written anew from this environment, it is the same text: versions, stated licences, needs, linked libraries."""
    runtime, build = inventory.pins(ROOT)
    installed = inventory.installed_here()
    old = inventory.read(ROOT)
    written = inventory.written(inventory.renewed({**runtime, **build}, old, installed, inventory.linked()))
    assert written == (ROOT / inventory.FILE).read_text()
    other = inventory.written(inventory.renewed({**runtime, **build}, old, installed, {"uvloop": {"libuv": "1.0.0"}}))
    assert other != written


def test_what_was_looked_up_for_an_older_version_has_to_be_looked_up_again() -> None:
    """A library that cannot be asked does not silently keep the version that it had in another wheel."""
    runtime, build = inventory.pins(ROOT)
    old = {**inventory.read(ROOT)}
    assert inventory.open_questions(old) == []
    old["pynacl"] = inventory.replace(old["pynacl"], version="1.0.0")
    entries = inventory.renewed({**runtime, **build}, old, inventory.installed_here(), inventory.linked())
    assert inventory.open_questions(entries) == ["pynacl"]
    (sodium,) = entries["pynacl"].bundled
    assert (sodium.version, sodium.licence) == ("", "ISC")


def test_needs_leave_out_extras_and_what_the_lock_does_not_serve() -> None:
    """The names alone, normalised."""
    wanted = [
        "B.b>=1; python_version > '3'",
        "c (>=2)",
        "d[x]==1",
        "e; extra == 'speed'",
        "tomli<2; python_version < '3.11'",
    ]
    assert inventory.needs(wanted, {"a", "b-b", "c", "d", "e"}) == ("b-b", "c", "d")


# --- in the wheel


def wheel(tree: Path, out: Path) -> zipfile.ZipFile:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
    ]
    surroundings = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run([*command, "--no-build-isolation", "-w", str(out), str(tree)], env=surroundings, check=True)
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_it_where_installers_look(tree: Path, tmp_path: Path) -> None:
    """PEP 770: below `.dist-info/sboms/`, the same bytes as beside the wheel. Without the hook there is none."""
    with wheel(tree, tmp_path / "with") as built:
        (name,) = [one for one in built.namelist() if ".dist-info/sboms/" in one]
        assert name.endswith(f".dist-info/sboms/{NAME}")
        assert built.read(name) == bill(ROOT, epoch=1_700_000_000)
    project = tree / "pyproject.toml"
    project.write_text(project.read_text().replace("[tool.hatch.build.targets.wheel.hooks.custom]", "[tool.nothing]"))
    with wheel(tree, tmp_path / "without") as built:
        assert not [one for one in built.namelist() if "sboms" in one]
