"""The secret scan: a planted key is found, what was reviewed is not, and what was not looked at has not passed."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from node.release import scan
from node.release.locks import ReleaseError

ROOT = Path(__file__).parent.parent.parent
# Put together here, so that no scan of this file finds them.
PLANTED = {
    "a private key": "-----BEGIN " + "PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END " + "PRIVATE KEY-----\n",
    "a forge's token": "token = 'ghp_" + "aB3dE5fG7h" * 3 + "iJ9kLm'\n",
    "a passphrase": "pass" + "word = 'correct horse battery 9'\n",
    "a random text": "value = '" + "8f3a1c9e" + "7b2d4056e1a9" + "4c7d03b8f625'\n",
}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A small repository with the baseline of this one."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    shutil.copy(ROOT / scan.BASELINE, tmp_path / scan.BASELINE)
    (tmp_path / "module.py").write_text("nothing = 1\n")
    return tmp_path


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_secret_is_found(clone: Path, kind: str) -> None:
    """In a file that is not committed yet, by its place and never by its value; without it nothing is found."""
    assert scan.found(clone, scan.tracked(clone)) == ""
    (clone / "planted.py").write_text(PLANTED[kind])
    text = scan.found(clone, scan.tracked(clone))
    assert "planted.py:1" in text
    assert PLANTED[kind].strip() not in text


def test_what_was_reviewed_is_not_found_again_and_another_is(clone: Path) -> None:
    """A baseline knows a secret in a file, wherever its line is; a second one in the same file is new."""
    secrets = list(PLANTED.values())
    (clone / "planted.py").write_text(secrets[2])
    subprocess.run(["git", "-C", str(clone), "add", "-A"], check=True)
    scan.review(clone)
    (clone / "planted.py").write_text("\n\n" + secrets[2])
    assert scan.found(clone, scan.tracked(clone)) == ""
    (clone / "planted.py").write_text("\n\n" + secrets[2] + secrets[1])
    assert "planted.py:4" in scan.found(clone, scan.tracked(clone))


def test_a_scan_changes_nothing(clone: Path) -> None:
    """Also where lines have moved: the baseline is written by who reviews it."""
    before = (clone / scan.BASELINE).read_bytes()
    scan.found(clone, scan.tracked(clone))
    assert (clone / scan.BASELINE).read_bytes() == before


def test_what_was_not_looked_at_has_not_passed(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No repository, no baseline, a broken baseline: each is an error of its own."""
    with pytest.raises(ReleaseError, match="git lists no files"):
        scan.tracked(tmp_path_factory.mktemp("empty"))
    (clone / scan.BASELINE).write_text("{")
    with pytest.raises(ReleaseError, match="the scanner failed"):
        scan.found(clone, ["module.py"])
    (clone / scan.BASELINE).unlink()
    with pytest.raises(ReleaseError, match="is missing"):
        scan.found(clone, ["module.py"])


def test_the_baseline_leaves_out_what_is_public_and_nothing_else() -> None:
    """The patterns that it was made with are those of the table; it holds digests, and of files that exist."""
    baseline = json.loads((ROOT / scan.BASELINE).read_text())
    (patterns,) = (one["pattern"] for one in baseline["filters_used"] if one["path"].endswith("should_exclude_file"))
    assert tuple(patterns) == scan.PUBLIC
    assert all((ROOT / name).is_file() for name in baseline["results"])
