"""A throw-away node: everything that anyone needs to try the gate with curl, in a folder that vanishes with it."""

import json
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from node import setup
from node.home import Home
from tls import allowlist
from tls.authority import Authority, Identity, KeyType
from tls.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class Ephemeral:
    """The folder and the visitors' certificates in it."""

    home: Home
    fingerprint: Fingerprint

    def ready_line(self, federation_url: str, local_url: str) -> str:
        """One JSON object that tells where everything is."""
        folder = self.home.path
        told = {
            "home": str(folder),
            "federation_url": federation_url,
            "local_url": local_url,
            "fingerprint": self.fingerprint.text,
            "ca": str(folder / "ca.pem"),
        }
        for name in ("client", "stranger", "expired"):
            told[f"{name}_cert"] = str(folder / f"{name}.pem")
            told[f"{name}_key"] = str(folder / f"{name}.key")
        return json.dumps(told)


def prepare(key_type: KeyType) -> Ephemeral:
    """Mint a node, a listed client, an unlisted one of the same CA, and a listed one that has expired."""
    home = Home(Path(tempfile.mkdtemp(prefix="ai-memory-")))
    try:
        return _fill(home, key_type)
    except BaseException:  # Ctrl-C while keys are made
        shutil.rmtree(home.path)
        raise


def _fill(home: Home, key_type: KeyType) -> Ephemeral:
    # Without an API key: it is for trying, what is in it vanishes with it, and its line says all that one needs.
    made = setup.init(home, "ephemeral", ("localhost", "127.0.0.1"), key_type=key_type, api_key=False, environment={})
    authority = Authority.load((home.path / "ca.pem").read_bytes(), home.ca_key.read_bytes())
    now = datetime.now(UTC)
    client = authority.issue("client", key_type=key_type, days=30)
    stranger = authority.issue("stranger", key_type=key_type, days=30)
    expired = authority.issue(
        "expired", key_type=key_type, not_before=now - timedelta(days=9), not_after=now - timedelta(days=1)
    )
    for name, identity in (("client", client), ("stranger", stranger), ("expired", expired)):
        _write(home.path, name, identity)
    text = (home.path / "allowlist").read_text()
    for name, identity in (("client", client), ("expired", expired)):
        text = allowlist.add(text, identity.fingerprint, name)
    (home.path / "allowlist").write_text(text)
    return Ephemeral(home, made.fingerprint)


def _write(folder: Path, name: str, identity: Identity) -> None:
    (folder / f"{name}.pem").write_bytes(identity.cert_pem)
    key = folder / f"{name}.key"
    key.touch(0o600)
    key.write_bytes(identity.key_pem)
