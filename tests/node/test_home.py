"""A node's folder: where it is, what runs in it, and files that a crash leaves whole."""

import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.config import ConfigError, parse
from node.files import write_kept, write_private
from node.home import Home, Running, is_locked, lock_of, require_private

WRITERS = pytest.mark.parametrize("write", [write_private, write_kept])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- where it is


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"AI_MEMORY_HOME": "/data/node", "XDG_DATA_HOME": "/xdg"}, "/data/node"),
        ({"AI_MEMORY_HOME": "~/node"}, "/home/me/node"),
        ({"XDG_DATA_HOME": "/xdg"}, "/xdg/ai-memory"),
        ({"XDG_DATA_HOME": ""}, "/home/me/.local/share/ai-memory"),
        ({}, "/home/me/.local/share/ai-memory"),
    ],
)
def test_the_folder_is_named_or_the_users(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AI_MEMORY_HOME, else the user's data folder as the XDG base directory specification has it."""
    for name in ("AI_MEMORY_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    assert Home.default().path == Path(expected)


def test_paths_of_the_configuration_are_relative_to_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """An absolute one, or one that begins with ~, is taken as it is."""
    monkeypatch.setenv("HOME", "/home/me")
    config = parse("[store]\npath = '~/s.db'\n[tls]\nca = '/etc/ca.pem'\nallowlist = 'x/friends'\n", "c", {})
    home = Home(Path("/node"))
    files = home.identity(config)
    assert (home.store(config), home.allowlist(config)) == (Path("/home/me/s.db"), Path("/node/x/friends"))
    assert (files.cert, files.key, files.ca) == (Path("/node/node.pem"), Path("/node/node.key"), Path("/etc/ca.pem"))


# --- what runs in it


URL, SECRET = "http://127.0.0.1:9077", "5e" * 32
"""Of a node that is none: nobody is asked here whether anything listens."""


def note(folder: Path, **changes: object) -> Running:
    return replace(Running(os.getpid(), URL, None, str(folder / "store.db"), SECRET), **changes)  # type: ignore[arg-type]


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A store's file whose lock a process holds: this one."""
    with lock_of(tmp_path / "store.db").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield tmp_path / "store.db"


def test_a_running_node_is_found(tmp_path: Path, locked: Path) -> None:
    """What it wrote about itself is what others read, until it takes it back."""
    home = Home(tmp_path)
    assert home.running() is None
    home.write_run(note(tmp_path, federation_url="https://127.0.0.1:1"))
    assert home.running() == note(tmp_path, federation_url="https://127.0.0.1:1")
    assert mode(home.run) == 0o600
    assert SECRET not in repr(home.running())
    home.clear_run()
    home.clear_run()
    assert home.running() is None


def test_what_a_dead_node_left_behind_does_not_count(tmp_path: Path, locked: Path) -> None:
    """Its process is gone, though another has its store by now."""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait(30)
    home = Home(tmp_path)
    home.write_run(note(tmp_path, pid=gone.pid))
    assert home.running() is None


def test_a_process_number_that_is_used_again_does_not_count(tmp_path: Path, locked: Path) -> None:
    """The process lives, and holds no lock: it is another program, as number 1 is in every container."""
    home = Home(tmp_path)
    home.write_run(note(tmp_path, store=str(tmp_path / "another.db")))
    assert home.running() is None
    home.write_run(note(tmp_path))
    assert home.running() is not None


def test_to_ask_for_a_lock_changes_nothing(tmp_path: Path) -> None:
    """It makes no file, holds nothing, and says yes for exactly as long as somebody has the store."""
    store = tmp_path / "store.db"
    assert not is_locked(store)
    assert list(tmp_path.iterdir()) == []
    with lock_of(store).open("w") as lock:
        assert not is_locked(store)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert is_locked(store)
    assert not is_locked(store)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"pid": "x", "local_url": "", "federation_url": null, "store": "", "secret": ""}',
        '{"pid": 1e40}',
        '{"pid": 1, "local_url": 1}',
        '{"pid": 1, "local_url": "", "federation_url": null, "store": "", "secret": "no hex"}',
    ],
)
def test_a_damaged_note_does_not_count(tmp_path: Path, text: str) -> None:
    """Whatever stands in the file, the answer is that no node runs."""
    home = Home(tmp_path)
    home.run.touch(0o600)
    for whole in (text, text.replace("{", f'{{"folder": {json.dumps(str(tmp_path))}, ')):
        home.run.write_text(whole)
        assert home.running() is None


def test_the_note_of_a_node_in_another_folder_does_not_count(tmp_path: Path, locked: Path) -> None:
    """It came here with a copy of that folder; that node runs, and would be given what is meant for this one."""
    one, copy = Home(tmp_path / "one"), Home(tmp_path / "copy")
    for home in (one, copy):
        home.path.mkdir()
    one.write_run(note(tmp_path))
    write_private(copy.run, one.run.read_bytes())
    assert one.running() is not None
    assert copy.running() is None


def test_a_node_is_found_by_any_name_of_its_folder(tmp_path: Path, locked: Path) -> None:
    """By a symbolic link, say, as the home of a user often is."""
    (tmp_path / "link").symlink_to(tmp_path)
    Home(tmp_path).write_run(note(tmp_path))
    assert Home(tmp_path / "link").running() == note(tmp_path)


@pytest.mark.parametrize("exposed", [0o644, 0o620])
def test_a_note_that_others_can_touch_is_refused(tmp_path: Path, locked: Path, exposed: int) -> None:
    """Who reads it could answer in the node's place, who writes it could send commands anywhere."""
    home = Home(tmp_path)
    home.write_run(note(tmp_path))
    home.run.chmod(exposed)
    with pytest.raises(ConfigError, match=rf"run.json: mode is {exposed:04o}, expected 0600"):
        home.running()


def test_a_proof_is_of_one_run_one_address_and_one_nonce(tmp_path: Path) -> None:
    """Whichever of them differs, the proof does: so none can be kept, or be had from the node for somebody else."""
    one = note(tmp_path)
    others = [replace(one, secret="5f" * 32), replace(one, local_url="http://127.0.0.1:9078")]
    proofs = [one.proof("00" * 32), one.proof("01" * 32), *(other.proof("00" * 32) for other in others)]
    assert len({*proofs}) == 4
    assert one.proof("00" * 32) == proofs[0]


# --- secret files


@pytest.mark.parametrize("allowed", [0o600, 0o400])
def test_a_secret_that_only_its_owner_reads_is_taken(tmp_path: Path, allowed: int) -> None:
    """No complaint."""
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(allowed)
    require_private(path)


@pytest.mark.parametrize("forbidden", [0o640, 0o604, 0o620, 0o644, 0o601])
def test_a_secret_that_others_can_touch_is_refused(tmp_path: Path, forbidden: int) -> None:
    """The error has the mode, and the command that corrects it."""
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(forbidden)
    with pytest.raises(ConfigError, match=rf"mode is {forbidden:04o}, expected 0600; run: chmod 600 {path}$"):
        require_private(path)


def test_a_secret_that_is_missing_is_refused(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(ConfigError, match=r"no-such: No such file or directory; expected a file with mode 0600"):
        require_private(tmp_path / "no-such")


# --- files that are replaced whole


@WRITERS
def test_a_file_is_made_and_replaced(write: object, tmp_path: Path) -> None:
    """And nothing else is left in the folder."""
    path = tmp_path / "file"
    for data in (b"first", b"second, longer", b""):
        write(path, data)  # type: ignore[operator]
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_modes_are_kept_or_private(tmp_path: Path) -> None:
    """A secret is private from its first byte on, whatever it was before; other files keep what the operator set."""
    secret, other = tmp_path / "secret", tmp_path / "other"
    old = os.umask(0)
    try:
        write_private(secret, b"")
        write_kept(other, b"")
    finally:
        os.umask(old)
    assert (mode(secret), mode(other)) == (0o600, 0o644)
    secret.chmod(0o666)
    other.chmod(0o640)
    write_private(secret, b"")
    write_kept(other, b"")
    assert (mode(secret), mode(other)) == (0o600, 0o640)


@WRITERS
@pytest.mark.parametrize("step", ["fsync", "fchmod", "replace"])
def test_a_write_that_fails_leaves_the_old_file(
    write: object, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at any step: the old content stands, and no half-written file beside it."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path if step == "replace" else os, step, full)
    with pytest.raises(OSError, match="No space left"):
        write(path, b"new and longer")  # type: ignore[operator]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@WRITERS
def test_the_new_file_is_on_disk_before_it_takes_the_name(
    write: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data, then the rename, then the folder: in another order a power cut could leave an empty file."""
    path, steps = tmp_path / "file", []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        steps.append(
            "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else f"{os.fstat(descriptor).st_size} bytes"
        )
        fsync(descriptor)

    def replaced(source: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write(path, b"four")  # type: ignore[operator]
    assert steps == ["4 bytes", "rename", "folder"]


@WRITERS
def test_a_symbolic_link_stays_one(write: object, tmp_path: Path) -> None:
    """An operator who keeps the file elsewhere finds the change there."""
    real, link = tmp_path / "elsewhere" / "real", tmp_path / "link"
    real.parent.mkdir()
    real.write_bytes(b"old")
    link.symlink_to(real)
    write(link, b"new")  # type: ignore[operator]
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert sorted(tmp_path.rglob("*")) == [real.parent, real, link]
