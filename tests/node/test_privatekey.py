"""A private key in a file: for its owner alone, never over anything, and never of a name that an agent chose."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from keys import pair

from node import privatekey
from node.config import ConfigError
from sync import ed25519

ALICE = pair("ai:alice")


def pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def private(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.touch(mode)
    path.chmod(mode)
    path.write_bytes(data)
    return path


def problem(path: Path, passphrase: str | None = None) -> str:
    with pytest.raises(ConfigError) as raised:
        privatekey.read(path, "ai:alice", passphrase)
    return str(raised.value)


@pytest.mark.parametrize("passphrase", [None, "of the file"])
def test_what_was_written_is_read(tmp_path: Path, passphrase: str | None) -> None:
    """With or without a passphrase, as PKCS#8 in PEM, which nobody else can read whatever the umask."""
    before = os.umask(0)
    try:
        privatekey.write(tmp_path / "key", ALICE, passphrase)
    finally:
        os.umask(before)
    assert privatekey.read(tmp_path / "key", "ai:alice", passphrase) == ALICE
    text = (tmp_path / "key").read_text()
    assert text.startswith(f"-----BEGIN {'ENCRYPTED ' if passphrase else ''}PRIVATE KEY-----\n")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_nothing_is_overwritten_and_no_link_followed(tmp_path: Path) -> None:
    """A file, a symbolic link to one, and one that leads nowhere stay as they are."""
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "nowhere").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link", "nowhere"):
        with pytest.raises(ConfigError, match="something already"):
            privatekey.write(tmp_path / name, ALICE, None)
    assert (tmp_path / "file").read_text() == "kept"
    assert not (tmp_path / "elsewhere").exists()


def test_without_exclusion_a_link_would_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the same call with plain writing writes the key where the link leads."""
    (tmp_path / "nowhere").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(privatekey, "write_new", Path.write_bytes)
    privatekey.write(tmp_path / "nowhere", ALICE, None)
    assert (tmp_path / "elsewhere").read_text().startswith("-----BEGIN PRIVATE KEY-----")


def test_a_key_that_could_not_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: half a key is taken away again."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="no space left on device"):
        privatekey.write(tmp_path / "key", ALICE, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o700, 0o644])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the mode that it has, and what to do. (Control: a look that sees 0600 takes it.)"""
    path = private(tmp_path / "key", pem(Ed25519PrivateKey.generate()), mode)
    assert f"mode is {mode:04o}, expected 0600; run: chmod 600" in problem(path)
    monkeypatch.setattr(privatekey.stat, "S_IMODE", lambda mode: 0o600)
    assert privatekey.read(path, "ai:alice", None)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_narrower_mode_will_do(tmp_path: Path, mode: int) -> None:
    """The owner alone, for writing or not."""
    assert privatekey.read(private(tmp_path / "key", pem(Ed25519PrivateKey.generate()), mode), "ai:alice", None)


def test_somebody_elses_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who could give it to us could change it. (Control: read by the user whose it is.)"""
    path = private(tmp_path / "key", pem(Ed25519PrivateKey.generate()))
    ours = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: ours + 1)
    assert f"belongs to user {ours}, user {ours + 1} expected" in problem(path)
    monkeypatch.setattr(os, "geteuid", lambda: ours)
    assert privatekey.read(path, "ai:alice", None)


def test_a_symbolic_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its target may be changed by whoever has the link's folder. (Control: without O_NOFOLLOW it is read.)"""
    path = private(tmp_path / "key", pem(Ed25519PrivateKey.generate()))
    (tmp_path / "link").symlink_to(path)
    assert "a symbolic link, a regular file expected" in problem(tmp_path / "link")
    monkeypatch.setattr(os, "O_NOFOLLOW", 0)
    assert privatekey.read(tmp_path / "link", "ai:alice", None)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    """A pipe, which would be waited for, a folder, and nothing at all."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(0o700)
    assert "not a regular file" in problem(tmp_path / "pipe")
    assert "not a regular file" in problem(tmp_path / "folder")
    assert "no such file" in problem(tmp_path / "none")
    assert "null byte" in problem(tmp_path / "a\0b")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (pem(ec.generate_private_key(ec.SECP256R1())), "of the type EC, Ed25519 expected"),
        (pem(x25519.X25519PrivateKey.generate()), "of the type X25519, Ed25519 expected"),
        (b"", "no private key in it, PKCS#8 in PEM expected"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key in it"),
        (b"x" * (privatekey.MAX_BYTES + 1), "more than 16384 bytes"),
    ],
)
def test_what_holds_no_such_key_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    """Keys of other kinds, no key, and no end."""
    assert says in problem(private(tmp_path / "key", data))


def test_the_passphrase_has_to_fit(tmp_path: Path) -> None:
    """None where one is needed, one where none is, and a wrong one are told apart."""
    privatekey.write(tmp_path / "plain", ALICE, None)
    privatekey.write(tmp_path / "sealed", ALICE, "right")
    assert "encrypted, its passphrase file expected" in problem(tmp_path / "sealed")
    assert "not encrypted, none expected" in problem(tmp_path / "plain", "right")
    assert "that this passphrase opens" in problem(tmp_path / "sealed", "wrong")


def test_a_key_of_small_order_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No private key has such a public half; a library that said so would not be believed. (Control: the same file.)"""
    path = private(tmp_path / "key", pem(Ed25519PrivateKey.generate()))
    assert privatekey.read(path, "ai:alice", None)
    monkeypatch.setattr(ed25519, "public_of", lambda seed: bytes(32))
    assert "small order" in problem(path)


@pytest.mark.parametrize("agent", ["", "a b", "a\0b", "ai:é", "a\nb", "x" * 129, "~", "a\\b", "*"])
def test_what_is_no_agent_id_is_refused(agent: str) -> None:
    """Before anything is done with it."""
    with pytest.raises(ConfigError, match="agent_id"):
        privatekey.checked_agent(agent)
