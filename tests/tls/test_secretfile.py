"""Private files: who else could read one keeps it from being used, whichever way its path leads there."""

import os
import stat
import threading
from pathlib import Path

import pytest
from certs import Mesh

from tls import identity, secretfile
from tls.errors import IdentityError
from tls.secretfile import MAX_BYTES, SecretFileError, read_secret, secret_fault


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_bytes(b"a secret")
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_what_its_owner_alone_reads_is_read(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    assert read_secret(secret) == b"a secret"


@pytest.mark.parametrize("way", ["itself", "a symbolic link", "two links"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622, 0o601, 0o644, 0o4640])
def test_what_others_can_touch_is_refused(secret: Path, tmp_path: Path, mode: int, way: str) -> None:
    """A link's own mode says nothing: what counts is what it leads to."""
    secret.chmod(mode)
    path = secret
    for number in range({"itself": 0, "a symbolic link": 1, "two links": 2}[way]):
        link = tmp_path / f"link-{number}"
        link.symlink_to(path)
        path = link
    with pytest.raises(SecretFileError, match=rf"mode is {mode:04o}, expected 0600; run: chmod 600 "):
        read_secret(path)


def owned_by(path: Path, user: int) -> os.stat_result:
    found = list(path.stat())
    found[stat.ST_UID] = user
    return os.stat_result(found)


def test_another_users_file_is_refused(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can read the file at any time. Root's may be read: root reads everything anyway."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert secret_fault(secret, owned_by(secret, 1000)) is None
    assert secret_fault(secret, owned_by(secret, 0)) is None
    assert (secret_fault(secret, owned_by(secret, 1001)) or "").endswith(
        f"expected user 1000; run: chown 1000 {secret}"
    )


def test_roots_own_secret_is_nobody_elses(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that runs as root does not take a file that another user reads and replaces."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    fault = secret_fault(secret, owned_by(secret, 1001)) or ""
    assert fault.endswith("expected user 0; run this as user 1001, or take the files over by chown")


def test_a_pipe_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    """Nobody waits for whoever would write into the pipe."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, fault in (("pipe", "not a regular file"), (".", "is a directory")):
        with pytest.raises(SecretFileError, match=fault):
            read_secret(tmp_path / name)


def test_a_pipe_is_read_where_one_may_be() -> None:
    """As `<(command)` names one, until whoever writes is done."""
    reading, writing = os.pipe()
    os.write(writing, b"a ")

    def rest() -> None:
        os.write(writing, b"secret")
        os.close(writing)

    writer = threading.Timer(0.05, rest)
    writer.start()
    assert read_secret(Path(f"/dev/fd/{reading}"), pipe=True) == b"a secret"
    writer.join(30)
    os.close(reading)


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_pipe_that_nobody_writes_to_holds_nothing(tmp_path: Path, mode: int) -> None:
    """It is not waited for; its mode counts as a file's."""
    path = tmp_path / "pipe"
    os.mkfifo(path, mode)
    path.chmod(mode)
    if mode == 0o600:
        assert read_secret(path, pipe=True) == b""
    else:
        with pytest.raises(SecretFileError, match="mode is 0640"):
            read_secret(path, pipe=True)


def test_a_file_without_end_is_not_read(secret: Path) -> None:
    os.truncate(secret, MAX_BYTES)
    assert len(read_secret(secret)) == MAX_BYTES
    os.truncate(secret, MAX_BYTES + 1)
    with pytest.raises(SecretFileError, match="more than 1048576 bytes"):
        read_secret(secret)


def test_a_credential_of_the_unit_may_have_the_groups_bits(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd grants the unit's user an access list, which `stat` shows as the group's bits. No file elsewhere."""
    secret.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secret.parent))
    assert read_secret(secret) == b"a secret"
    secret.chmod(0o444)
    with pytest.raises(SecretFileError, match="mode is 0444"):
        read_secret(secret)
    secret.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secret.parent / "elsewhere"))
    with pytest.raises(SecretFileError, match="mode is 0440"):
        read_secret(secret)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_nodes_key_that_others_read_is_no_identity(tmp_path: Path, mode: int) -> None:
    """Whoever has it connects as this node: the error says what to run, and that a new key is due."""
    files = Mesh(tmp_path).node.files
    files.key.chmod(mode)
    with pytest.raises(IdentityError, match=f"chmod 600 {files.key}") as caught:
        files.load()
    assert "make a new key" in caught.value.next_step


def test_a_nodes_key_that_nobody_read_is_no_reason_for_a_new_one(tmp_path: Path) -> None:
    """Something else lies in its place: that is told, and no new key is asked for."""
    files = Mesh(tmp_path).node.files
    files.key.unlink()
    files.key.mkdir()
    with pytest.raises(IdentityError, match="is a directory, expected a secret in it") as caught:
        files.load()
    assert "make a new key" not in str(caught.value)


def test_whose_a_secret_is_is_told(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be opened."""

    def denied(path: Path, *_: int) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(secretfile.os, "open", denied)
    monkeypatch.setattr(secretfile.os, "geteuid", lambda: 4_321)
    with pytest.raises(SecretFileError, match=r"Permission denied; it belongs to user .*, and this is user 4321"):
        read_secret(secret)


def test_without_the_check_it_would_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the same file, read by a function that does not look."""
    files = Mesh(tmp_path).node.files
    files.key.chmod(0o644)
    monkeypatch.setattr(identity, "read_secret", Path.read_bytes)
    assert files.load().fingerprint
    monkeypatch.setattr(secretfile, "secret_fault", lambda path, found, pipe: None)
    assert read_secret(files.key)


def test_a_device_is_no_pipe() -> None:
    """Where one may be named, nothing else may that is no file."""
    for pipe in (False, True):
        with pytest.raises(SecretFileError, match="/dev/null: not a regular file, expected a secret in it"):
            read_secret(Path("/dev/null"), pipe=pipe)


def test_without_a_unit_no_folder_is_that_of_its_credentials(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one either that a command is run in."""
    secret.chmod(0o640)
    monkeypatch.chdir(secret.parent)
    for folder in (None, ""):
        if folder is None:
            monkeypatch.delenv(secretfile.CREDENTIALS, raising=False)
        else:
            monkeypatch.setenv(secretfile.CREDENTIALS, folder)
        with pytest.raises(SecretFileError, match="mode is 0640, expected 0600"):
            read_secret(Path(secret.name))


@pytest.mark.parametrize(
    ("verb", "error", "told"),
    [
        ("open", OSError(), "cannot be opened; expected a file with mode 0600"),
        ("open", OSError(5, "Input/output error"), "Input/output error; expected a file with mode 0600"),
        ("set_blocking", OSError(5, "Input/output error"), "Input/output error, expected a secret in it"),
        ("set_blocking", OSError(), "cannot be opened, expected a secret in it"),
    ],
    ids=["no word", "open", "read", "read, no word"],
)
def test_a_disk_that_fails_is_told(
    secret: Path, monkeypatch: pytest.MonkeyPatch, verb: str, error: OSError, told: str
) -> None:
    """With what is known of it."""

    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(secretfile.os, verb, failing)
    with pytest.raises(SecretFileError) as caught:
        read_secret(secret)
    assert str(caught.value) == f"{secret}: {told}"
