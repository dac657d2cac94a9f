"""A copy of what a release is made from, for tests that change it."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NAMES = ("pyproject.toml", "README.md", "LICENSE", "requirements.lock", "build.lock", "hatch_build.py")
ROOMS = ("node", "sync", "tls", "keys")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the tree as far as a wheel is built from it."""
    copy = tmp_path / "tree"
    copy.mkdir()
    for name in NAMES:
        shutil.copy(ROOT / name, copy / name)
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    return copy
