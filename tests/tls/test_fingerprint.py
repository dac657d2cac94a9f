"""The fingerprint: its one form, and what may be read as one."""

import hashlib
import ssl
import subprocess

import pytest
from certs import Mesh

from tls.fingerprint import Fingerprint

HEX = "0123456789abcdef" * 4
COLONS = ":".join(HEX[i : i + 2] for i in range(0, 64, 2))


@pytest.mark.parametrize(
    "text",
    [HEX, HEX.upper(), f"sha256:{HEX}", f"SHA256:{HEX.upper()}", COLONS, f"Sha256:{COLONS.upper()}"],
    ids=["bare", "upper case", "prefix", "upper-case prefix", "colons", "all of it"],
)
def test_every_spelling_is_the_same_fingerprint(text: str) -> None:
    """Prefix, case and colons make no difference."""
    assert Fingerprint.parse(text) == Fingerprint(HEX)
    assert Fingerprint.parse(text).text == f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("line", "label"),
    [
        (f"sha256:{HEX}  # desk", "desk"),
        (f"  sha256:{HEX}\t#  the desk \r\n", "the desk"),
        (f"{COLONS.upper()}", ""),
        (f"sha256 Fingerprint={COLONS.upper()}\n", ""),
        (f"SHA-256 Fingerprint={COLONS}", ""),
        (f"'sha256:{HEX}'", ""),
        (f"\ufeffsha256:{HEX} # a # b", "a # b"),
        (f"sha256:{HEX} # a\x1b]0;x\x07b\u202ec", "a ]0;x b c"),
    ],
)
def test_a_line_that_was_copied_is_understood(line: str, label: str) -> None:
    """As `ai-memory fingerprint`, an allowlist and `openssl x509 -fingerprint` have it; the label cannot be code."""
    assert Fingerprint.of_line(line) == (Fingerprint(HEX), label)


@pytest.mark.parametrize("line", ["# desk", f"desk sha256:{HEX}", f"sha256:{HEX} desk", f"sha1 Fingerprint={COLONS}"])
def test_a_line_that_is_none_is_refused(line: str) -> None:
    """Control: no more is taken away than what such lines have."""
    with pytest.raises(ValueError, match="is no fingerprint"):
        Fingerprint.of_line(line)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        HEX[:-1],
        HEX + "0",
        HEX[:-1] + "g",
        f" {HEX}",
        f"{HEX}\n",
        f"sha256:sha256:{HEX}",
        f"sha1:{HEX}",
        f":{HEX}",
        f"{HEX}:",
        HEX[:2] + "::" + HEX[2:],
        HEX[:-1] + "\u0661",
        "\u017fha256:" + HEX,
        "0x" + HEX[2:],
    ],
)
def test_anything_else_is_refused_by_name(text: str) -> None:
    """The error shows what was given and says what is expected."""
    with pytest.raises(ValueError, match="64 hex digits expected") as caught:
        Fingerprint.parse(text)
    assert repr(text[:80])[1:-1] in str(caught.value)


def test_an_endless_text_is_not_repeated_whole() -> None:
    """The error stays short, whatever was given."""
    with pytest.raises(ValueError, match="no fingerprint") as caught:
        Fingerprint.parse("f" * 100_000)
    assert len(str(caught.value)) < 200


def test_it_is_the_sha_256_of_the_der(mesh: Mesh) -> None:
    """The same number as any other tool prints: checked with hashlib and, where it is there, with openssl."""
    pem = mesh.node.files.cert.read_bytes()
    der = ssl.PEM_cert_to_DER_cert(pem.decode())
    assert Fingerprint.of_pem(pem) == Fingerprint.of_der(der) == mesh.node.fingerprint
    assert mesh.node.fingerprint.hex == hashlib.sha256(der).hexdigest()
    try:
        command = ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", str(mesh.node.files.cert)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        return
    assert Fingerprint.parse(printed.strip().partition("=")[2]) == mesh.node.fingerprint


def test_of_a_bundle_the_first_counts(mesh: Mesh) -> None:
    """A file with leaf and intermediates has the leaf's fingerprint."""
    bundle = mesh.friend.files.cert.read_bytes() + mesh.ca.read_bytes()
    assert Fingerprint.of_pem(bundle) == mesh.friend.fingerprint


@pytest.mark.parametrize(
    "pem", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_has_no_fingerprint(pem: bytes) -> None:
    """Empty, text and a damaged certificate raise the documented error."""
    with pytest.raises(ValueError, match=r"."):
        Fingerprint.of_pem(pem)


def test_the_short_form_is_for_people_only() -> None:
    """It shows the beginning, and cannot be read back."""
    short = Fingerprint(HEX).short
    assert short.startswith(HEX[:12])
    with pytest.raises(ValueError, match="no fingerprint"):
        Fingerprint.parse(short)
