"""What a command says where nothing is under the id that it was given: what was looked for, and what shows ids."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from node.cli.output import NO, CommandError
from node.memories import MIN_PREFIX
from node.plain import field
from sync.errors import RemoteError

What = Literal["memory", "conflict", "proof"]
_TEXTS: dict[What, tuple[str, str]] = {
    "memory": ("no memory here has the id {}", ", nor one that begins so; `ai-memory list` shows ids"),
    "conflict": (
        "no conflict under {}",
        ": at most one version of it is kept; `ai-memory conflicts list` shows all conflicts",
    ),
    "proof": (
        "nothing is kept under the id {}",
        ", nor under one that begins so; `ai-memory list` shows ids, `ai-memory links ID` a memory's links",
    ),
}
"""What was looked for, and what to say and do where the id is long enough."""


@contextmanager
def sought(what: What, record_id: str) -> Iterator[None]:
    """Whatever is asked for within, of a running node or of the store: where it is not there, the answer says so."""
    try:
        yield
    except (CommandError, RemoteError) as error:  # of a running node, of the store
        if error.code != "not_found":
            raise
        told, then = _TEXTS[what]
        if len(record_id) < MIN_PREFIX:
            then = f"; of an id at least {MIN_PREFIX} characters are needed" + then[then.index("; `") :]
        raise CommandError(NO, "not_found", told.format(field(record_id) or "''") + then) from None


@contextmanager
def named(then: str) -> Iterator[None]:
    """The same where the node's own sentence says which of several ids it means; `then`: what to do."""
    try:
        yield
    except (CommandError, RemoteError) as error:
        if error.code != "not_found":
            raise
        raise CommandError(NO, "not_found", f"{error}; {then}") from None
