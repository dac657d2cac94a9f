"""Who calls the local listener: the owner by the API key, or a client by its token. Looked up for each request.

Both files are looked at each time, and read again where they changed: a key that was changed, and a token that was made
or revoked, counts from the next request on. A file that cannot be used lets nobody in.
"""

import hmac
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

import structlog
from aiohttp import web

from node import tokens
from node.config import ConfigError
from node.passphrase import from_file
from node.rights import OWNER, Rights

log = structlog.get_logger("local")
T = TypeVar("T")
READ_AGAIN = 1.0
"""Seconds between two looks at a file that could not be used: nothing about it need change before it can be."""


class Callers:
    """`key_file`: where the API key lies; None: none is asked for. `token_file` need not be there."""

    def __init__(self, key_file: Path | None, token_file: Path | None) -> None:
        self._key = _Fresh(key_file, lambda path: from_file(path).encode(), b"")
        self._tokens: _Fresh[Mapping[str, Rights]] = _Fresh(token_file, _by_hash, {})
        self._is_open = key_file is None

    def rights(self, request: web.Request) -> Rights | None:
        """What a request may do; None: it is let in to nothing.

        The key or token is sent as `X-Api-Key`, or as `Authorization: Bearer`. One that is wrong is refused even where
        none is asked for: a client whose token was revoked must not get more than it had.
        """
        given = {*request.headers.getall("X-Api-Key", ())}
        for text in request.headers.getall("Authorization", ()):
            scheme, _, value = text.partition(" ")
            if scheme.lower() == "bearer":  # any other scheme is for a proxy in front
                given.add(value.strip())
        if not given:
            return OWNER if self._is_open else None
        return self._known(given.pop()) if len(given) == 1 else None

    def _known(self, given: str) -> Rights | None:
        key = self._key.now()
        if key and hmac.compare_digest(given.encode("utf-8", "replace"), key):
            return OWNER
        # Found by its hash: how long that takes tells nothing of those that are there.
        return self._tokens.now().get(tokens.hash_of(given)) if given.startswith(tokens.PREFIX) else None


def _by_hash(path: Path) -> Mapping[str, Rights]:
    return {one.hash: one.rights for one in tokens.load(path)}


class _Fresh(Generic[T]):
    """What a private file says now; `nothing` where there is none, or it cannot be used."""

    def __init__(self, path: Path | None, read: Callable[[Path], T], nothing: T) -> None:
        self._path, self._read, self._nothing = path, read, nothing
        self._seen: object = None
        self._value = nothing
        self._said = ""
        self._again_at: float | None = None

    def now(self) -> T:
        if self._path is None:
            return self._nothing
        try:
            found = self._path.stat()
        except OSError as error:
            seen: object = error.errno
        else:
            # An edit renames a new file into the place, so that the number alone changes with each.
            seen = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_mode, found.st_uid)
        is_due = self._again_at is not None and time.monotonic() >= self._again_at
        if seen != self._seen or is_due:
            # Whatever goes wrong from here on, nobody is let in by what was read before.
            self._seen, self._value, self._again_at = seen, self._nothing, time.monotonic() + READ_AGAIN
            try:
                self._value = self._read(self._path)
            except ConfigError as error:
                self._tell(str(error))
            else:
                self._said, self._again_at = "", None
        return self._value

    def _tell(self, reason: str) -> None:
        """Once for each reason, however often the file is looked at."""
        if reason != self._said:
            self._said = reason
            log.error("access.broken", reason=reason, kept="nothing: nobody is let in by it")
