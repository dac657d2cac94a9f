"""One base error for the room. As in h11, an error says whose fault it is: ours (a bug) or theirs (illegal input)."""


class SyncError(Exception):
    """Base of everything that `sync` raises."""


class LocalError(SyncError):
    """Our own code broke a rule of this room: a bug here, never the peer's doing."""


class RemoteError(SyncError):
    """A peer or a client sent something illegal.

    `code` is a stable identifier for programs; `str(error)` is one sentence for a person, fit to be sent to that peer.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
