"""A node's certificate, key and CA bundle: what is read from the files, and what is refused by name."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certs import Mesh
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa, x25519

from tls.allowlist import EMPTY
from tls.authority import Authority
from tls.contexts import build
from tls.errors import IdentityError
from tls.gate import Gate
from tls.identity import IdentityFiles, Loaded, load


@pytest.fixture
def own(tmp_path: Path) -> Mesh:
    """A mesh whose files the test may spoil."""
    return Mesh(tmp_path)


def _pem(key: rsa.RSAPrivateKey | x25519.X25519PrivateKey, passphrase: bytes | None = None) -> bytes:
    lock = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


def test_files_that_belong_together_load(mesh: Mesh) -> None:
    """Leaf, fingerprint, key and CAs are those of the files."""
    loaded = mesh.node.files.load()
    assert loaded.fingerprint == mesh.node.fingerprint
    assert len(loaded.chain) == 1
    assert len(loaded.authorities) == 1


def test_a_chain_and_a_bundle_of_several_load(own: Mesh) -> None:
    """The leaf is the first; text between certificates is skipped; several CAs may be trusted."""
    files = own.node.files
    files.cert.write_bytes(b"leaf\n" + files.cert.read_bytes() + b"issuer\n" + own.authority.cert_pem)
    own.ca.write_bytes(own.authority.cert_pem + b"\n# and\n" + Authority.create("another").cert_pem)
    loaded = files.load()
    assert loaded.fingerprint == own.node.fingerprint
    assert (len(loaded.chain), len(loaded.authorities)) == (2, 2)


SPOILED: dict[str, tuple[str, Callable[[Mesh], bytes], str]] = {
    "another's key": ("key", lambda mesh: mesh.friend.files.key.read_bytes(), "node.key does not belong to"),
    "a CA's key": ("key", lambda mesh: mesh.authority.key_pem, "does not belong to"),
    "an encrypted key": ("key", lambda mesh: _pem(rsa.generate_private_key(65537, 2048), b"x"), "no usable key"),
    "garbage for a key": ("key", lambda mesh: b"garbage", "no usable key"),
    "an empty key": ("key", lambda mesh: b"", "no usable key"),
    "a certificate for a key": ("key", lambda mesh: mesh.node.files.cert.read_bytes(), "no usable key"),
    "a key that cannot sign": ("key", lambda mesh: _pem(x25519.X25519PrivateKey.generate()), "does not belong to"),
    "an empty certificate": ("cert", lambda mesh: b"", "node.pem holds no usable certificate"),
    "garbage for a certificate": ("cert", lambda mesh: b"\x00\xff" * 99, "no usable certificate"),
    "half a certificate": ("cert", lambda mesh: mesh.node.files.cert.read_bytes()[:300], "no usable certificate"),
    "damaged base64": (
        "cert",
        lambda mesh: mesh.node.files.cert.read_bytes().replace(b"M", b"A"),
        "no usable certificate",
    ),
    "an empty bundle": ("ca", lambda mesh: b"", "ca.pem holds no usable certificate"),
    "a bundle that was cut off": (
        "ca",
        lambda mesh: mesh.node.files.ca.read_bytes() * 2 + mesh.node.files.ca.read_bytes()[:-30],
        "3 certificates begin in .*ca.pem, and 2 of them are whole: it was cut off",
    ),
    "a key for a bundle": ("ca", lambda mesh: mesh.node.files.key.read_bytes(), "no usable certificate"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_spoiled_file_is_refused_by_name(own: Mesh, case: str) -> None:
    """The error names the file and what is wrong with it, and says what to do; a gate keeps what it had."""
    which, content, words = SPOILED[case]
    gate = Gate(own.node.files, EMPTY)
    getattr(own.node.files, which).write_bytes(content(own))
    for attempt in (own.node.files.load, gate.reload_identity):
        with pytest.raises(IdentityError, match=words) as caught:
            attempt()
        assert caught.value.next_step
    assert gate.own_fingerprint == own.node.fingerprint


@pytest.mark.parametrize("which", ["cert", "key", "ca"])
def test_a_missing_file_is_refused_by_name(own: Mesh, which: str) -> None:
    """The error names the path and the way out."""
    path: Path = getattr(own.node.files, which)
    path.unlink()
    with pytest.raises(IdentityError, match="cannot be read: No such file") as caught:
        own.node.files.load()
    assert str(path) in str(caught.value)
    assert "ut it back from a backup" in caught.value.next_step
    if which == "ca":
        assert "another node of the mesh" in caught.value.next_step
    else:
        assert "`ai-memory init` in an empty folder makes another pair" in caught.value.next_step
        assert '"The key of the node is lost"' in caught.value.next_step


def test_a_key_that_openssl_finds_too_small_is_refused_by_name(own: Mesh) -> None:
    """What parses but cannot be used for TLS is an error of the identity, not a crash of whoever reloads it."""
    files, weak = own.node.files, own.weak("weak").files
    gate = Gate(files, EMPTY)
    files.cert.write_bytes(weak.cert.read_bytes())
    files.key.write_bytes(weak.key.read_bytes())
    assert isinstance(files.load(), Loaded)
    with pytest.raises(IdentityError, match="OpenSSL does not take"):
        gate.reload_identity()
    assert gate.own_fingerprint == own.node.fingerprint


def test_a_reload_says_whether_anything_changed(own: Mesh) -> None:
    """Unchanged files are no change; another certificate or another bundle is one."""
    gate = Gate(own.node.files, EMPTY)
    assert not gate.reload_identity()
    own.issue("node")
    assert gate.reload_identity()
    assert not gate.reload_identity()
    own.ca.write_bytes(own.authority.cert_pem + Authority.create("another").cert_pem)
    assert gate.reload_identity()


def test_days_left_are_whole_days_and_negative_once_it_expired(own: Mesh) -> None:
    """What a warning needs."""
    now = datetime.now(UTC).replace(microsecond=0)
    loaded = own.issue("short", not_after=now + timedelta(days=10)).files.load()
    assert loaded.expires == now + timedelta(days=10)
    assert loaded.days_left(now) == 10
    assert loaded.days_left(now + timedelta(seconds=1)) == 9
    assert loaded.days_left(now + timedelta(days=10, seconds=1)) == -1
    assert own.expired.files.load().days_left() < 0


def test_without_files_the_parts_are_named(mesh: Mesh) -> None:
    """Where PEM comes from elsewhere, errors say which part they mean; the key is never printed."""
    files = mesh.node.files
    cert, key, ca = (path.read_bytes() for path in (files.cert, files.key, files.ca))
    with pytest.raises(IdentityError, match="the CA bundle holds no usable certificate"):
        load(cert, key, b"")
    loaded = load(cert, key, ca)
    assert "PRIVATE" not in repr(loaded)
    assert "key=" not in repr(loaded)
    build(loaded, server=True, allowed=lambda fingerprint: False)


def test_a_file_with_certificate_and_key_serves_as_both(own: Mesh) -> None:
    """Operators keep both in one file; each part is found in it."""
    files = own.node.files
    both = own.folder / "both.pem"
    both.touch(0o600)
    both.write_bytes(files.key.read_bytes() + files.cert.read_bytes())
    loaded = IdentityFiles(both, both, files.ca).load()
    assert loaded.fingerprint == own.node.fingerprint
