"""The demo's proofs: what a stranger sees at the gate, and that no file holds any memory in plain text."""

import re
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tls.authority import Identity

_PRINTABLE_RUN = re.compile(rb"[ -~]{32,}")
"""In ciphertext a run of 32 printable bytes occurs once in 10^14 bytes; stored text is full of them."""
_VERSION = re.compile(r"^(ssl|tls)v?[0-9]* alert ")
"""OpenSSL names each alert after the version that brought it, whatever version is spoken."""
_WORD = re.compile(r"[A-Za-z]{14,}")
MOST_WORDS = 200
SNIPPET = 32


@dataclass(frozen=True, slots=True)
class Knock:
    """What a visitor got."""

    refused: bool
    alert: str | None
    http_bytes: int


def knock(host: str, port: int, ca: Path, identity: Identity, folder: Path) -> Knock:
    """Try to get in with a certificate of the mesh's CA, by the standard library's TLS, and ask for the health page."""
    cert, key = folder / "stranger.pem", folder / "stranger.key"
    cert.write_bytes(identity.cert_pem)
    key.touch(0o600)
    key.write_bytes(identity.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca)
    context.load_cert_chain(cert, key)
    received = b""
    alert: str | None = None
    try:
        with socket.create_connection((host, port), timeout=10) as raw, context.wrap_socket(raw) as connection:
            connection.sendall(f"GET /api/v1/health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            received = connection.recv(4_096)
    except ssl.SSLError as error:
        alert = _VERSION.sub("", (error.reason or str(error)).lower().replace("_", " "))
    except ConnectionError as error:
        alert = type(error).__name__
    return Knock(not received, alert, len(received))


def plaintext_in(folders: Iterable[Path], contents: Sequence[str]) -> list[str]:
    """The pieces of memories that stand readable in the files below these folders, each with its place."""
    words = _rare_words(contents)
    snippets = {
        line.encode()[:SNIPPET] for content in contents for line in content.splitlines() if len(line) >= SNIPPET
    }
    found: list[str] = []
    for path in (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()):
        data = path.read_bytes()
        readable = b"\n".join(_PRINTABLE_RUN.findall(data))
        pieces = [word for word in words if word in data] + [one for one in snippets if one in readable]
        found += [f"{path.name}: …{_around(data, piece)}…" for piece in pieces]
    return found


def _around(data: bytes, piece: bytes) -> str:
    at = data.find(piece)
    return data[max(0, at - 200) : at + 200].decode(errors="replace")


def _rare_words(contents: Sequence[str]) -> list[bytes]:
    """Long words: the text index would hold them as they are."""
    found: set[str] = set()
    for content in contents:
        found.update(_WORD.findall(content))
        if len(found) >= MOST_WORDS:
            break
    return sorted(word.encode() for word in found)[:MOST_WORDS]
