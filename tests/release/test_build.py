"""Builds in chosen circumstances: these are what they claim to be, and what differs between two archives is told."""

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from signing import gpg, work

from node.release import archives, build
from node.release import repository as repositories
from node.release.errors import ReleaseError
from node.release.making import compare
from node.release.repository import Repository


def wheel(path: Path, *members: tuple[str, bytes, int], when: tuple[int, ...] = (2020, 1, 1, 0, 0, 0)) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data, mode in members:
            info = zipfile.ZipInfo(name, when)  # type: ignore[arg-type]
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return path


def sdist(path: Path, *members: tuple[str, bytes, int], owner: int = 0) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data, mode in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid = len(data), mode, owner
            archive.addfile(info, io.BytesIO(data))
    return path


A, B, X = ("a", b"1", 0o644), ("b", b"2", 0o644), ("a", b"1", 0o600)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ((A, B), (A,), "b: only in the first"),
        ((A,), (A, B), "b: only in the second"),
        ((A,), (X,), "a: mode 0o644 and 0o600"),
        ((A,), (("a", b"2", 0o644),), "a: sha256"),
        ((A, B), (B, A), "order: member 0 is a and b"),
    ],
)
def test_what_differs_is_told(
    first: tuple[tuple[str, bytes, int], ...],
    second: tuple[tuple[str, bytes, int], ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Member by member, in wheels and in sdists; the same bytes differ in nothing."""
    monkeypatch.setattr(archives.shutil, "which", lambda name: None)
    for make, end in ((wheel, ".whl"), (sdist, ".tar.gz")):
        one, other = make(tmp_path / f"1{end}", *first), make(tmp_path / f"2{end}", *second)
        assert any(words in line for line in archives.differences(one, other)), end
        assert archives.differences(one, one) == []


def test_two_builds_that_differ_are_a_finding(tmp_path: Path) -> None:
    """Also where only the time of a member, or its owner, differs."""
    files = [(tmp_path / str(n) / "x.whl", tmp_path / str(n) / "x.tar.gz") for n in range(2)]
    for number, (one, other) in enumerate(files):
        one.parent.mkdir()
        wheel(one, A, when=(2020 + number, 1, 1, 0, 0, 0))
        sdist(other, A, owner=number)
    first, second = (build.Built(*pair) for pair in files)
    assert [one.about for one in compare(first, second)] == ["x.whl", "x.tar.gz"]
    assert compare(first, first) == []


def test_the_clock_of_a_build_is_wrong_by_days(tmp_path: Path) -> None:
    """Control for the circumstances: what is started with these variables really reads another day."""
    command = [sys.executable, "-c", "import time; print(time.time())"]
    read = [
        float(subprocess.run(command, env=build.clock(tmp_path, days), capture_output=True, check=True).stdout)
        for days in (0, 400)
    ]
    assert 399 * 86_400 < read[1] - read[0] < 401 * 86_400


def test_circumstances_differ_in_everything() -> None:
    """No field of the second is that of the first; the user only where this process may choose one."""
    first, second = build.ours(), build.others()
    for field in ("umask", "locale", "zone", "seed", "days", "from_sdist"):
        assert getattr(first, field) != getattr(second, field), field
    assert (second.user is not None) == (os.geteuid() == 0)


def test_files_that_git_archive_changes_or_leaves_out_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attribute of this clone alone is seen by nobody else. Control: without the comparison nothing is said."""
    with gpg() as home:
        made = work(tmp_path / "work", home)
        (made.root / "kept.py").write_text("$Format:%H$\n")
        commit = made.commit("Two")
    repository, attributes = Repository(made.root), made.root / ".git" / "info" / "attributes"
    repository.unpack(commit, tmp_path / "good")
    assert (tmp_path / "good" / "kept.py").read_text() == "$Format:%H$\n"
    attributes.parent.mkdir(exist_ok=True)
    for word, found in (("export-ignore", "lacks kept.py"), ("export-subst", "changed kept.py")):
        attributes.write_text(f"kept.py {word}\n")
        with pytest.raises(ReleaseError, match=found):
            repository.unpack(commit, tmp_path / word)
        with monkeypatch.context() as patch:
            patch.setattr(repositories, "unlike", lambda *a: None)
            repository.unpack(commit, tmp_path / f"{word} unseen")
    assert not (tmp_path / "export-ignore unseen" / "kept.py").exists()
    assert (tmp_path / "export-subst unseen" / "kept.py").read_text() == f"{commit}\n"


def test_a_link_is_not_released(tmp_path: Path) -> None:
    """It would be whatever lies there when somebody unpacks it."""
    with gpg() as home:
        made = work(tmp_path / "work", home)
        (made.root / "link").symlink_to("pyproject.toml")
        commit = made.commit("Two")
    with pytest.raises(ReleaseError, match="link has the mode 120000: only plain files"):
        Repository(made.root).unpack(commit, tmp_path / "out")


@pytest.mark.parametrize(("code", "expected"), [(1, "what it says"), (2, "a: sha256"), (0, "a: sha256")])
def test_diffoscope_is_asked_where_it_is_installed(
    code: int, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says is shown; where it fails, or sees no difference between unlike files, the members are told."""
    program = tmp_path / "diffoscope"
    program.write_text(f"#!/bin/sh\n[ -f $3 ] && [ -f $4 ] && echo what it says\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    one, other = wheel(tmp_path / "1.whl", A), wheel(tmp_path / "2.whl", ("a", b"2", 0o644))
    assert any(expected in line for line in archives.differences(one, other))
