"""A store that another process may have for a moment: who comes later waits a while, and says what for."""

import time
from collections.abc import Callable
from typing import TypeVar

from node.store.errors import StoreLocked
from node.store.lock import COMMAND, NODE

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds that a node or a command waits; a command has the store open for much less, a node stops in less."""
QUIET = 0.5
"""Seconds of waiting that nobody is told of."""
LOOK_EVERY = 0.05
"""Seconds."""


class Patience:
    """One wait for a store. `tell`: takes a sentence for the operator, at most once."""

    def __init__(self, tell: Callable[[str], None], seconds: float = PATIENCE) -> None:
        self._tell = tell
        self._begun = time.monotonic()
        self._seconds = seconds
        self._told = False

    def after(self, error: StoreLocked) -> float:
        """Seconds to the next attempt. Raises the error itself where waiting is over, or is of no use."""
        waited = time.monotonic() - self._begun
        if waited >= self._seconds or error.holder not in (NODE, COMMAND):
            raise error
        if waited >= QUIET and not self._told:
            self._told = True
            sentence = str(error).removesuffix(error.next_step).strip()
            self._tell(f"{sentence} Waiting for it, {self._seconds:.0f} s at most.")
        return LOOK_EVERY


def patiently(task: Callable[[], T], patience: Patience) -> T:
    """What a task returns that needs the lock of a store. Raises StoreLocked as `Patience.after` does."""
    while True:
        try:
            return task()
        except StoreLocked as error:
            pause = patience.after(error)
        time.sleep(pause)
