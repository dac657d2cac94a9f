"""SHA-256 of a certificate's DER: the only identity that a peer has, and the one way to print and compare it."""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

_TEXT = re.compile(r"(?:sha256:)?([0-9a-f](?::?[0-9a-f]){63})", re.IGNORECASE | re.ASCII)
_OF_OPENSSL = re.compile(r"\Asha-?256 fingerprint=", re.IGNORECASE)
_BLANK = " \t\r\n\ufeff\"'`"
"""What clings to a line that was copied."""


@dataclass(frozen=True, slots=True, order=True)
class Fingerprint:
    """32 bytes, as 64 lower-case hex digits."""

    hex: str

    @property
    def text(self) -> str:
        """`sha256:` and 64 hex digits, as the allowlist has it."""
        return f"sha256:{self.hex}"

    @property
    def short(self) -> str:
        """Enough for a person to recognise it in a log; never to compare."""
        return f"{self.hex[:12]}…"

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `sha256:` (any case, optional) and 64 hex digits, colons between them allowed. Raises ValueError."""
        found = _TEXT.fullmatch(text)
        if not found:
            raise ValueError(f"{text[:80]!r} is no fingerprint: sha256: and 64 hex digits expected")
        return cls(found[1].replace(":", "").lower())

    @classmethod
    def of_line(cls, text: str) -> tuple[Self, str]:
        """With its label, from whatever a person has at hand. Raises ValueError.

        The line that `ai-memory fingerprint` prints, a line of an allowlist, or what `openssl x509 -fingerprint` says.
        """
        body, _, label = text.partition("#")
        words = "".join(one if one.isprintable() else " " for one in label).split()
        return cls.parse(_OF_OPENSSL.sub("", body.strip(_BLANK))), " ".join(words)

    @classmethod
    def of_der(cls, der: bytes) -> Self:
        return cls(hashlib.sha256(der).hexdigest())

    @classmethod
    def of_pem(cls, pem: bytes) -> Self:
        """Of the first certificate in a PEM file. Raises ValueError."""
        return cls.of_der(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER))
