"""Commands run in this process, and what they change for a whole process is put back."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from commands import new_home

from node.home import Home


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """`serve` sets up logs and the switching of threads, once for a process that does nothing else."""
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)
    structlog.reset_defaults()
    gc.unfreeze()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A node that does not run."""
    return new_home(tmp_path)
