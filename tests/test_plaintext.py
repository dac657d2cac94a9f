"""The look through all files at the end of a run (`conftest.py`) sees what it is meant to see."""

import subprocess
import sys
from pathlib import Path

import pytest
from marker import MARKER, holding

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_the_marker_is_found_wherever_it_stands(tmp_path: Path, encoding: str) -> None:
    """In any folder, in the middle of other bytes; a file without it is none of them."""
    there = tmp_path / "deep" / "store.db-wal"
    there.parent.mkdir()
    there.write_bytes(bytes(5_000) + MARKER.encode(encoding) + bytes(5_000))
    (tmp_path / "store.db").write_bytes(bytes(5_000))
    assert list(holding(tmp_path)) == [there]
    there.unlink()


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_run_that_leaves_plain_text_behind_fails(processes: str, tmp_path: Path) -> None:
    """Control: a test that passes, and writes the marker to a file, makes the whole run fail; without it, it passes."""
    codes = []
    for word in (MARKER[:-1], MARKER):
        (tmp_path / "test_leak.py").write_text(
            f"def test_leak(tmp_path):\n    (tmp_path / 'node.log').write_text({word!r}[::-1][::-1])\n"
        )
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"),
             "--confcutdir", str(ROOT / "tests"), "-p", "conftest", "-n", processes,
             "--basetemp", str(tmp_path / "run"), str(tmp_path / "test_leak.py")],
            capture_output=True, text=True, cwd=ROOT / "tests",
        )  # fmt: skip
        codes.append((ran.returncode, "PLAIN TEXT of a memory" in ran.stdout))
        for path in holding(tmp_path):
            path.unlink()
    assert codes == [(0, False), (1, True)]
