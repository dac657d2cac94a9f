"""TLS 1.3 records made by hand, with the keys of a real connection (RFC 8446 sections 4.6.3, 5.2, 7.1 to 7.3)."""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

ALERT, HANDSHAKE, APPLICATION_DATA = 21, 22, 23
CLOSE_NOTIFY = b"\x01\x00"
UPDATE_REQUESTED = b"\x18\x00\x00\x01\x01"
UPDATE_NOT_REQUESTED = b"\x18\x00\x00\x01\x00"


def expanded(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label without a context, by SHA-384."""
    name = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes((len(name),)) + name + b"\x00"
    return HKDFExpand(hashes.SHA384(), length, info).derive(secret)


class Sealer:
    """Seals what one side sends, with TLS_AES_256_GCM_SHA384, from its traffic secret on."""

    def __init__(self, secret: bytes) -> None:
        self._next(secret)

    @classmethod
    def of_client(cls, keylog: list[bytes]) -> "Sealer":
        """The client's, by the lines that a connection logged of its keys."""
        line = next(line for line in keylog if line.startswith(b"CLIENT_TRAFFIC_SECRET_0 "))
        return cls(bytes.fromhex(line.split()[2].decode()))

    def _next(self, secret: bytes) -> None:
        self._secret, self._number = secret, 0
        self._key, self._iv = AESGCM(expanded(secret, b"key", 32)), expanded(secret, b"iv", 12)

    def record(self, kind: int, content: bytes) -> bytes:
        inner = content + bytes((kind,))
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        nonce = bytes(a ^ b for a, b in zip(self._iv, self._number.to_bytes(12, "big"), strict=True))
        self._number += 1
        return header + self._key.encrypt(nonce, inner, header)

    def update(self, message: bytes = UPDATE_REQUESTED) -> bytes:
        """A key update; whatever follows is sealed with the new key."""
        sealed = self.record(HANDSHAKE, message)
        self._next(expanded(self._secret, b"traffic upd", 48))
        return sealed
