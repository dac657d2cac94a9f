"""Writing files: whole or not at all, private from the first byte on, through no link that somebody else put there."""

import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from node import files
from node.files import publish, sweep, workshop, write_kept, write_new, write_private

WRITERS: dict[str, Callable[[Path, bytes], None]] = {
    "private": write_private,
    "kept": write_kept,
    "new": write_new,
}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a part of the file nor its scratch; what was there is as it was."""
    path = tmp_path / "file"
    if name != "new":
        path.write_bytes(b"old")
    before = names(tmp_path)
    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        WRITERS[name](path, b"new")
    assert names(tmp_path) == before
    assert name == "new" or path.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["private", "new"])
def test_a_secret_is_private_from_the_first_byte_on(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the umask, and also before it has its name."""
    seen: list[int] = []
    real = files._fill

    def look(descriptor: int, data: bytes, mode: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        real(descriptor, data, mode)

    monkeypatch.setattr(files, "_fill", look)
    before = os.umask(0)
    try:
        WRITERS[name](tmp_path / "secret", b"x")
    finally:
        os.umask(before)
    assert seen == [0o600]
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


@pytest.mark.parametrize("what", ["file", "folder", "link", "dangling link"])
def test_a_new_file_takes_the_place_of_nothing(what: str, tmp_path: Path) -> None:
    """Least of all through a symbolic link."""
    target, elsewhere = tmp_path / "new", tmp_path / "elsewhere"
    if what == "file":
        target.write_bytes(b"precious")
    elif what == "folder":
        target.mkdir()
    else:
        target.symlink_to(elsewhere)
        if what == "link":
            elsewhere.write_bytes(b"precious")
    before = names(tmp_path)
    with pytest.raises(FileExistsError) as refused:
        write_new(target, b"new")
    assert refused.value.filename == str(target)
    assert names(tmp_path) == before
    assert not elsewhere.exists() or elsewhere.read_bytes() == b"precious"


def test_a_name_that_is_taken_meanwhile_is_left_to_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first look and the end somebody else may have made it; and so with every other way to publish."""
    finished, target = tmp_path / "finished", tmp_path / "target"
    finished.write_bytes(b"new")
    target.write_bytes(b"precious")
    for link in (os.link, without_links):
        monkeypatch.setattr(files.os, "link", link)
        with pytest.raises(FileExistsError):
            publish(finished, target)
    assert target.read_bytes() == b"precious"


def without_links(*_: object, **__: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stick with FAT, say."""
    monkeypatch.setattr(files.os, "link", without_links)
    write_new(tmp_path / "new", b"x")
    assert (tmp_path / "new").read_bytes() == b"x"
    assert names(tmp_path) == {"new"}


def test_the_scratch_of_a_killed_writer_is_swept(tmp_path: Path) -> None:
    """Files and folders, by the next writer of the same file; those of one that lives, and of other files, stay."""
    dead = [tmp_path / f".file.{'0' * 15}{digit}.new" for digit in "12"]
    dead[0].write_bytes(b"half")
    dead[1].mkdir()
    (dead[1] / "store.db").write_bytes(b"half")
    other, alive = tmp_path / f".other.{'0' * 16}.new", tmp_path / f".file.{'a' * 16}.new"
    link = tmp_path / f".file.{'b' * 16}.new"
    link.symlink_to(tmp_path / "elsewhere")
    other.touch()
    with alive.open("w") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        write_private(tmp_path / "file", b"x")
        assert names(tmp_path) == {"file", other.name, alive.name, link.name}
    sweep(tmp_path / "file")
    assert names(tmp_path) == {"file", other.name, link.name}


def test_without_the_sweep_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    (tmp_path / f".file.{'0' * 16}.new").write_bytes(b"half")
    monkeypatch.setattr(files, "sweep", lambda target: None)
    write_private(tmp_path / "file", b"x")
    assert len(names(tmp_path)) == 2


def test_a_workshop_is_private_and_goes(tmp_path: Path) -> None:
    """With all that is in it, whatever went wrong."""
    with pytest.raises(KeyError), workshop(tmp_path / "store.db") as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.parent == tmp_path
        (folder / "half").write_bytes(b"x")
        sweep(tmp_path / "store.db")  # another one begins meanwhile
        raise KeyError((folder / "half").read_bytes())
    assert names(tmp_path) == set()


def test_a_link_of_the_operators_stays_one(tmp_path: Path) -> None:
    """Its file is replaced where it lies, with the mode that it has."""
    (tmp_path / "etc").mkdir()
    real, link = tmp_path / "etc" / "list", tmp_path / "list"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    write_kept(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert names(tmp_path / "etc") == {"list"}


@pytest.mark.parametrize("length", [1, 255])
def test_a_name_may_have_any_length(length: int, tmp_path: Path) -> None:
    """The scratch's name is no longer than a name may be."""
    write_private(tmp_path / ("x" * length), b"x")
    write_new(tmp_path / ("ü" * (length // 2) + "y"), b"x")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for somebody else")
def test_what_root_writes_stays_the_users(tmp_path: Path) -> None:
    """The node, which is not root, has to read it."""
    tmp_path.chmod(0o755)
    os.chown(tmp_path, 1_234, 1_235)
    write_private(tmp_path / "secret", b"x")
    found = (tmp_path / "secret").stat()
    assert (found.st_uid, found.st_gid) == (1_234, 1_235)
