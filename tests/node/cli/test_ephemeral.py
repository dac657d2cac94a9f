"""`serve --ephemeral`: a throw-away node, tried with curl as the README shows it."""

import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import PATIENCE, ended, first_line, process
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from node import ephemeral
from tls import allowlist
from tls.fingerprint import Fingerprint

KEYS = {
    "home", "federation_url", "local_url", "fingerprint", "ca", "client_cert", "client_key", "stranger_cert",
    "stranger_key", "expired_cert", "expired_key",
}  # fmt: skip
KINDS = {"ec": ec.EllipticCurvePublicKey, "rsa": rsa.RSAPublicKey, "ed25519": ed25519.Ed25519PublicKey}
HOW = {"ec": signal.SIGTERM, "rsa": signal.SIGINT, "ed25519": signal.SIGTERM}


@dataclass(frozen=True)
class Node:
    """What the ready line told, and what else was seen."""

    key_type: str
    told: dict[str, str]
    line: str

    def curl(self, visitor: str | None, *options: str) -> tuple[str, str]:
        """What curl got for the health page: status, bytes of headers, bytes of body; and its complaint."""
        identity = (
            () if visitor is None else ("--cert", self.told[f"{visitor}_cert"], "--key", self.told[f"{visitor}_key"])
        )
        form = ("-o", "/dev/null", "-w", "%{http_code} %{size_header} %{size_download}")
        url = f"{self.told['federation_url']}/api/v1/health"
        ran = subprocess.run(
            ["curl", "-sS", "--noproxy", "*", "--cacert", self.told["ca"], *identity, *form, *options, url],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        return ran.stdout, ran.stderr


@pytest.fixture(scope="module", params=KINDS)
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A running throw-away node, beside which the environment is full of another node's settings."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    folder = tmp_path_factory.mktemp("ephemeral")
    environment = {
        "TMPDIR": str(folder),
        "AI_MEMORY_STORE_PATH": str(folder / "precious.db"),
        "AI_MEMORY_DB_KEY": "another's",
        "AI_MEMORY_LOCAL_LISTEN": "127.0.0.1:1",
        "AI_MEMORY_HOME": str(folder / "precious"),
    }
    with process("serve", "--ephemeral", "--key-type", request.param, env=environment) as started:
        line = first_line(started).decode()
        told = json.loads(line)
        yield Node(request.param, told, line)
        assert Path(told["home"]).is_dir()
        code, out, err = ended(started, HOW[request.param])
    assert (code, out) == (0, "")
    assert "Traceback" not in err
    assert list(folder.iterdir()) == []  # the node's folder is gone, and another's store was never made


def test_one_line_has_everything(node: Node) -> None:
    """Exactly one line of JSON, with exactly these keys; every file is there, keys only for their owner."""
    assert node.line.endswith("}\n")
    assert set(node.told) == KEYS
    home = Path(node.told["home"])
    assert home.stat().st_mode & 0o777 == 0o700
    for name in KEYS - {"home", "federation_url", "local_url", "fingerprint"}:
        path = Path(node.told[name])
        assert path.parent == home
        assert path.is_file()
        if name.endswith("_key"):
            assert path.stat().st_mode & 0o777 == 0o600
    assert node.told["local_url"].startswith("http://127.0.0.1:")


def test_the_certificates_are_what_they_are_called(node: Node) -> None:
    """Of the kind that was asked for, all from one CA; client and expired listed, the stranger not."""
    certificates = {
        name: x509.load_pem_x509_certificate(Path(node.told[f"{name}_cert"]).read_bytes())
        for name in ("client", "stranger", "expired")
    }
    ca = x509.load_pem_x509_certificate(Path(node.told["ca"]).read_bytes())
    for one in certificates.values():
        one.verify_directly_issued_by(ca)
        assert isinstance(one.public_key(), KINDS[node.key_type])
    listed = allowlist.load(Path(node.told["home"]) / "allowlist")
    labels = {
        name: listed.label_of(Fingerprint.of_pem(Path(node.told[f"{name}_cert"]).read_bytes())) for name in certificates
    }
    assert labels == {"client": "client", "stranger": None, "expired": "expired"}
    own = Fingerprint.of_pem((Path(node.told["home"]) / "node.pem").read_bytes())
    assert node.told["fingerprint"] == own.text


def test_the_listed_client_gets_in(node: Node) -> None:
    """By TLS 1.3, with the health page as the answer."""
    out, err = node.curl("client")
    assert err == ""
    status, headers, body = map(int, out.split())
    assert (status, headers > 0, body > 0) == (200, True, True)


@pytest.mark.parametrize(
    ("visitor", "options", "alert"),
    [
        ("stranger", (), "certificate unknown"),
        ("expired", (), "certificate expired"),
        (None, (), "certificate required"),
        ("client", ("--tls-max", "1.2"), "protocol version"),
    ],
    ids=["the stranger", "the expired", "no certificate", "TLS 1.2"],
)
def test_others_get_an_alert_and_no_byte_of_http(
    node: Node, visitor: str | None, options: tuple[str, ...], alert: str
) -> None:
    """The same command as for the client, which is the control; and the alert says what is wrong."""
    out, err = node.curl(visitor, *options)
    assert out == "000 0 0"
    assert "alert" in err or alert in err.lower()
    assert alert in err.lower()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_node_that_is_stopped_while_it_is_made_leaves_nothing(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C or SIGTERM while keys are generated: no folder with private keys stays behind."""

    def stopped(*_: object) -> None:
        raise error

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(ephemeral, "_write", stopped)
    with pytest.raises(error):
        ephemeral.prepare("ec")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(ephemeral, "_write", lambda *_: None)
    assert ephemeral.prepare("ec").home.path.parent == tmp_path  # control: this is where it would be
