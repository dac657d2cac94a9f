"""Look-ups limited to the namespaces that a client may see: one SQL function, and the condition that asks it."""

from functools import lru_cache
from typing import Any

from node.store.connection import Connection
from sync.scope import Globs

MEMORIES = "kind IN ('m', 't')"
"""Of memories and their tombstones. Links have two ends, which no condition on one row knows."""


def register(connection: Connection) -> None:
    """Let a connection's statements ask for scopes."""
    connection.create_function("in_scope", 2, _in_scope, deterministic=True)


def within(scope: Globs | None, column: str = "namespace") -> tuple[str, list[Any]]:
    """A condition on a namespace, to be appended to others, and its values; nothing where nothing is hidden."""
    if scope is None:
        return "", []
    return f" AND in_scope(?, {column})", ["\n".join(scope.patterns)]


def _in_scope(patterns: str, namespace: str | bytes) -> bool:
    if isinstance(namespace, bytes):
        namespace = namespace.decode(errors="replace")
    return _globs(patterns).allows(namespace)


@lru_cache(maxsize=256)
def _globs(patterns: str) -> Globs:
    # A line's end is in no pattern: `namespace_fault` takes none.
    return Globs(tuple(patterns.split("\n")) if patterns else ())
