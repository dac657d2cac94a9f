"""Advisories from a file: which versions they affect, and which files are none."""

import json
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest

from node.release import advisories
from node.release.advisories import affects, load, matching
from node.release.locks import ReleaseError


def record(name: str = "thing", **fields: Any) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}]
    entry = {"package": {"ecosystem": "PyPI", "name": name}, "ranges": ranges}
    return {"id": "TEST-1", "schema_version": "1.7.0", "affected": [entry], **fields}


def ranged(*events: dict[str, str]) -> dict[str, Any]:
    return {"ranges": [{"type": "ECOSYSTEM", "events": list(events)}]}


@pytest.mark.parametrize(
    ("affected", "version", "expected"),
    [
        (ranged({"introduced": "0"}, {"fixed": "2.0"}), "1.9", True),
        (ranged({"introduced": "0"}, {"fixed": "2.0"}), "2.0", False),
        (ranged({"introduced": "0"}, {"fixed": "2.0"}), "2.0rc1", True),
        (ranged({"introduced": "0"}), "0.0.1.dev1", True),
        (ranged({"introduced": "1.0"}, {"fixed": "2.0"}), "0.9", False),
        (ranged({"introduced": "1.0"}, {"fixed": "2.0"}), "1.10", True),
        (ranged({"introduced": "1.0"}, {"last_affected": "1.5"}), "1.5", True),
        (ranged({"introduced": "1.0"}, {"last_affected": "1.5"}), "1.5.post1", False),
        (ranged({"fixed": "2.0"}, {"introduced": "3.0"}, {"introduced": "1.0"}, {"fixed": "3.5"}), "3.1", True),
        (ranged({"fixed": "2.0"}, {"introduced": "3.0"}, {"introduced": "1.0"}, {"fixed": "3.5"}), "2.5", False),
        ({"versions": ["1.0", "1.1"]}, "1.1", True),
        ({"versions": ["1.0", "1.1"]}, "1.2", False),
        ({**ranged({"introduced": "5"}), "versions": ["1.0"]}, "1.0", True),
        ({"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}, "1.0", True),  # cannot be decided
        (ranged({"introduced": "not a version"}), "1.0", True),  # nor this
    ],
)
def test_a_version_is_affected_or_not(affected: dict[str, Any], version: str, expected: bool) -> None:
    """Ranges end before they begin at one version; pre-releases come before their release; doubt counts as affected."""
    assert affects(affected, version) is expected


def test_only_records_of_this_package_match() -> None:
    """Names are compared normalised; another package, another ecosystem and what was withdrawn do not match."""
    other = record()
    other["affected"][0]["package"]["ecosystem"] = "npm"
    records = [record("Some.Thing"), record("another"), record("some-thing", withdrawn="2026-01-01T00:00:00Z"), other]
    assert matching(records, "some-thing", "1.0") == [records[0]]
    assert matching(records, "some-thing", "2.0") == []


def test_every_form_of_the_file_is_read(tmp_path: Path) -> None:
    """A record, a list, an answer of the API, an archive."""
    for number, document in enumerate((record(), [record()], {"vulns": [record()]})):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(document))
        assert load(path) == [record()]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("TEST-1.json", json.dumps(record()))
        archive.writestr("README", "not a record")
    assert load(tmp_path / "all.zip") == [record()]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no advisories"),
        ("<html>", "holds no advisories"),
        ("[]", "no advisory for"),
        ('{"vulns": []}', "no advisory for"),
        ("{}", "without an id"),
        ("[17]", "without an id"),
        (json.dumps(record(schema_version="2.0.0")), "schema 2.0.0"),
        (json.dumps(record(affected=[])), "affects nothing"),
        (json.dumps(record()).replace("PyPI", "npm"), "no advisory for"),
    ],
)
def test_a_file_in_which_nothing_can_be_found_is_refused(tmp_path: Path, text: str, says: str) -> None:
    """It would let everything pass without having looked."""
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(ReleaseError, match=says):
        load(tmp_path / "file.json")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """By its name, without its folder."""
    with pytest.raises(ReleaseError, match=r"^absent\.json holds no advisories"):
        load(tmp_path / "absent.json")


BOUNDS = {
    "a long record": ("MAX_RECORD", 5_000),
    "many bytes in all": ("MAX_UNPACKED", 5_000),
    "many records": ("MAX_RECORDS", 1),
    "many values": ("MAX_VALUES", 50),
    "deep": ("MAX_DEPTH", 3),
    "a long file": ("MAX_FILE", 200),
}


@pytest.mark.parametrize("case", BOUNDS)
def test_a_file_that_costs_too_much_is_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bound by itself, made small. Control: with all of them as they are it is read."""
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(2):
            archive.writestr(f"{number}.json", json.dumps(record(versions=["1"] * 100, details="x" * 10_000)))
    assert len(load(path)) == 2
    monkeypatch.setattr(advisories, *BOUNDS[case])
    with pytest.raises(ReleaseError, match=r"all\.zip holds no advisories"):
        load(path)


@pytest.mark.parametrize(
    "body", [b"", b"[", b"[1]", b'{"package": 1}', b"[" * 1_000, b" " * (advisories.MAX_QUERY + 1)]
)
def test_a_query_that_is_none_is_an_answer_and_no_trace(body: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """Control: a query is answered."""
    with advisories.serve([record()]) as url:
        with pytest.raises(urllib.error.HTTPError, match="HTTP Error 4") as refused:
            urllib.request.urlopen(urllib.request.Request(url, body))
        refused.value.close()
        asked = json.dumps({"package": {"name": "thing"}, "version": "1.0"}).encode()
        with urllib.request.urlopen(urllib.request.Request(url, asked)) as answer:
            assert len(json.loads(answer.read())["vulns"]) == 1
    assert capfd.readouterr().err == ""
