"""What can be wrong with a store, each told apart, each with what to do next. Nothing here is ever sent to a peer."""

from collections.abc import Mapping
from typing import Any


class StoreError(Exception):
    """Base of the store's errors. `next_step` tells the operator what to do."""

    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(f"{message} {next_step}")
        self.next_step = next_step


class WrongPassphrase(StoreError):
    """The file looks like an encrypted store, and this passphrase does not open it."""


class NotEncrypted(StoreError):
    """The file is a plain SQLite database."""


class Damaged(StoreError):
    """The file was a store, and a part of it is missing or altered."""


class NotADatabase(StoreError):
    """The file is something else."""


class StoreMissing(StoreError):
    """There is no file, and none was to be created."""


class StoreLocked(StoreError):
    """Another process owns the store."""

    def __init__(self, message: str, next_step: str, holder: str = "another program") -> None:
        super().__init__(message, next_step)
        self.holder = holder
        """What has it: `lock.NODE`, `lock.COMMAND`, or another program."""


class StoreTooNew(StoreError):
    """The store was written by a later version of this program."""


class StoreTooOld(StoreError):
    """The store was written before the first release."""


class StoreFull(StoreError):
    """No space is left where the store lies; nothing was written."""


class StoreReplaced(StoreError):
    """The file was removed, or exchanged for another, while it was open; nothing was written."""

    DO = (
        "Put the file back (is its disk mounted?), and the node goes on by itself; to go on with another file or a"
        " backup (`ai-memory restore FILE`), stop the node, put that there, and start the node again"
    )
    """What is true of a running node, wherever it is said: the one text of log, API, alarm and peers' status."""


class WrongFile(StoreError):
    """A file that a command was given cannot be read or written; the store itself is as it was."""


class NotABackup(StoreError):
    """What was to be put in the place of the store cannot be: `cause` is what is wrong with it."""

    def __init__(self, cause: StoreError, message: str, next_step: str) -> None:
        super().__init__(message, next_step)
        self.cause = cause


class StoreReadOnly(StoreError):
    """The store cannot be written; nothing was."""


class PartlyStored(StoreError):
    """A request of several transactions failed in a later one: what came before it is on disk. `told` says which."""

    def __init__(self, cause: StoreError, stored: int, count: int, told: Mapping[str, Any]) -> None:
        super().__init__(f"{stored} of {count} were stored, and the others were not:", str(cause))
        self.next_step = cause.next_step
        self.cause, self.stored, self.count, self.told = cause, stored, count, told
