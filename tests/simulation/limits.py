"""Limits of the code under test, made so small that histories reach them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from sync import context, merge, receive


@dataclass(frozen=True)
class Limits:
    """As the code has them, if nothing else is said."""

    entries: int = context.MAX_ENTRIES
    """Of a context: at least the kept versions and three more."""
    kept: int = merge.MAX_KEPT
    wanted: int = receive.MAX_WANTED
    """Offers that are asked for in one answer."""
    waiting: int = receive.WAITING_LIMIT
    """Bytes that may wait for one peer."""


TINY = (
    Limits(6, 3, 2, 1_500), Limits(7, 4, 2, 1_500), Limits(8, 4, 2, 3_000), Limits(12, 4, 2, 1_500),
    Limits(35, 4, 2, 1_500),
)  # fmt: skip
"""The last is the floor for 32 kept versions; the first ones are full in many histories."""


@contextmanager
def in_force(limits: Limits) -> Iterator[None]:
    """Play under these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "MAX_ENTRIES", limits.entries)
        for module in (merge, receive):
            patch.setattr(module, "MAX_KEPT", limits.kept)
        patch.setattr(receive, "MAX_WANTED", limits.wanted)
        patch.setattr(receive, "WAITING_LIMIT", limits.waiting)
        yield
