"""One base error for the room; `next_step` says what the operator has to do."""


class TlsError(Exception):
    """Something about certificates, keys or the allowlist is wrong."""

    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(f"{message} {next_step}")
        self.next_step = next_step


class IdentityError(TlsError):
    """A certificate, a key or a CA bundle cannot be used."""


class GateBrokenError(TlsError):
    """The self-test found that the gate does not gate. The listener must not open."""
