"""The smallest client that can be measured with: blocking sockets, HTTP/1.1 by hand, TLS of the standard library."""

import json
import socket
import ssl
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from node.demo.mesh import MeshNode


class Connection:
    """One kept connection. `context` None: plain HTTP. `key`: the API key."""

    def __init__(self, url: str, context: ssl.SSLContext | None = None, key: str | None = None) -> None:
        parts = urlsplit(url)
        raw = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(raw) if context is not None else raw
        named = f"X-Api-Key: {key}\r\n" if key is not None else ""
        self._host = f"Host: {parts.netloc}\r\n{named}".encode()

    @classmethod
    def to(cls, node: MeshNode) -> Self:
        """A client of a node's local listener."""
        return cls(node.local_url, key=node.api_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The answer's body. Raises RuntimeError for anything but success."""
        return self.send(self.prepared(method, path, body))

    def prepared(self, method: str, path: str, body: bytes | None = None) -> bytes:
        head = b"%b /api/v1%b HTTP/1.1\r\n%b" % (method.encode(), path.encode(), self._host)
        if body is None:
            return head + b"\r\n"
        return b"%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)

    def send(self, request: bytes) -> bytes:
        """The answer's body. Raises RuntimeError for anything but success."""
        status, answer = self._exchanged(request)
        if status // 100 != 2:
            raise RuntimeError(f"{request[:60]!r} answered {status}: {answer[:200]!r}")
        return answer

    def finds(self, request: bytes) -> bool:
        """True for success, False for 404."""
        status, answer = self._exchanged(request)
        if status not in (200, 404):
            raise RuntimeError(f"{request[:60]!r} answered {status}: {answer[:200]!r}")
        return status == 200

    def _exchanged(self, request: bytes) -> tuple[int, bytes]:
        self._socket.sendall(request)
        received = self._socket.recv(262_144)
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        head = received[:end].lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        parts, size = [received[end + 4 :]], len(received) - end - 4
        while size < length:
            part = self._more()
            parts.append(part)
            size += len(part)
        return int(head[9:12]), b"".join(parts)

    def json(self, method: str, path: str, value: Any = None) -> Any:
        return json.loads(self.request(method, path, None if value is None else json.dumps(value).encode()))

    def _more(self) -> bytes:
        part = self._socket.recv(262_144)
        if not part:
            raise ConnectionResetError("the node hung up")
        return part


def client_context(ca: Path, cert: Path, key: Path) -> ssl.SSLContext:
    """TLS with a client certificate; the chain is checked, the name is not (nodes are pinned, not named)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca)
    context.load_cert_chain(cert, key)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
