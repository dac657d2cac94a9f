"""The program without the bridge to the older protocol: whole, and honest about it."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("node/legacy", "sync/legacy")
SCRIPT = """
import asyncio, sys
from pathlib import Path
from certs import Mesh
from nodes import QUIET, eventually, has, pair, serving, write
from node import bridge, config

async def main(folder):
    assert Path(bridge.__file__).is_relative_to(Path.cwd())
    assert not bridge.is_there()
    a, b = pair(Mesh(folder), QUIET)
    async with serving(a, b) as ((_, at_a), (_, at_b)):
        await write(at_a, "of a")
        await write(at_b, "of b")
        await eventually(has(at_a, "of b"))
        await eventually(has(at_b, "of a"))
    text = "[federation]\\ndefault_legacy = true\\n[[peer]]\\nname='old'\\nlegacy = true\\n"
    text += "fingerprint='sha256:" + 64 * "a" + "'\\n"
    try:
        config.parse(text, "config.toml", {})
    except config.ConfigError as error:
        print("\\n".join(error.problems))

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
def native(tmp_path: Path) -> Path:
    """A copy of the program without the two packages."""
    for room in ("node", "sync", "tls"):
        shutil.copytree(
            ROOT / room, tmp_path / "program" / room, ignore=shutil.ignore_patterns("__pycache__", "legacy")
        )
    return tmp_path / "program"


def test_two_nodes_without_it_start_and_agree(native: Path, tmp_path: Path) -> None:
    """Importing, starting, syncing: nothing needs it. A configuration that asks for it is refused, with the reason."""
    assert not any((native / package).exists() for package in PACKAGES)
    (tmp_path / "mesh").mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "mesh")],
        env={**os.environ, "PYTHONPATH": f"{native}{os.pathsep}{ROOT / 'tests' / 'support'}"},
        cwd=native,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    problems = [line for line in ran.stdout.splitlines() if line.startswith("config.toml:")]
    assert len(problems) == 2
    assert all("was built without the bridge to the older protocol" in problem for problem in problems)


def test_nothing_outside_imports_it() -> None:
    """The one name by which it is found stands in `node/bridge.py`, as text."""
    for room in ("node", "sync", "tls"):
        for path in (ROOT / room).rglob("*.py"):
            if "legacy" in path.relative_to(ROOT).parts:
                continue
            for item in ast.walk(ast.parse(path.read_text())):
                names = [item.module or ""] if isinstance(item, ast.ImportFrom) else []
                names += [alias.name for alias in item.names] if isinstance(item, ast.Import) else []
                assert not any(name.startswith(("node.legacy", "sync.legacy")) for name in names), path
