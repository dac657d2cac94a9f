"""The secret scan: no file of the repository holds a key, a token or a passphrase that nobody has reviewed.

Run `python -m node.release.scan` (`make scan`). What `detect-secrets` finds and a person has found harmless stands in
`.secrets.baseline`, as digests; `python -m node.release.scan --review` writes it anew.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from node.release.locks import ReleaseError

BASELINE = Path(".secrets.baseline")
PUBLIC = (r"\.lock$", r"^\.secrets\.baseline$", r"^tests/(vectors|recordings)/")
"""Digests, and keys that are published for tests: noise without end for a search by entropy."""
CLEAN, MOVED = 0, 3
"""The hook's exit codes where nothing is new; 3 says that known findings have moved to other lines."""


def tracked(root: Path) -> list[str]:
    """The files of the repository, those included that are about to be. Raises ReleaseError where there are none."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=root, check=False, capture_output=True)
    names = [name for name in done.stdout.decode().split("\0") if name and (root / name).is_file()]
    if done.returncode or not names:
        raise ReleaseError("git lists no files here: run this in a clone")
    return names


def found(root: Path, names: Sequence[str]) -> str:
    """What is in these files and not in the baseline, as the scanner puts it; empty where there is nothing.

    Raises ReleaseError where it could not look. Nothing that it finds is sent anywhere to be verified.
    """
    if not (root / BASELINE).is_file():
        raise ReleaseError(f"{BASELINE} is missing: restore it from the repository")
    with tempfile.TemporaryDirectory(prefix="scan-") as folder:
        known = Path(folder) / "baseline"  # the scanner rewrites it when lines have moved
        shutil.copy(root / BASELINE, known)
        command = [sys.executable, "-m", "detect_secrets.pre_commit_hook", "--no-verify", "--baseline", str(known)]
        done = subprocess.run([*command, *names], cwd=root, check=False, capture_output=True, text=True)
    if done.returncode in (CLEAN, MOVED):
        return ""
    if done.returncode == 1 and done.stdout.strip():
        return done.stdout.strip()
    raise ReleaseError(f"the scanner failed: {done.stderr.strip() or done.returncode}")


def review(root: Path) -> None:
    """Write the baseline anew, for somebody to read what it takes in."""
    command = [sys.executable, "-m", "detect_secrets", "scan", "--no-verify"]
    command += [word for pattern in PUBLIC for word in ("--exclude-files", pattern)]
    done = subprocess.run(command, cwd=root, check=False, capture_output=True)
    if done.returncode:
        raise ReleaseError(f"the scanner failed: {done.stderr.decode().strip()}")
    (root / BASELINE).write_bytes(done.stdout)


def main() -> int:
    """Scan the repository in which it is started."""
    parser = argparse.ArgumentParser(prog="python -m node.release.scan", description=main.__doc__)
    parser.add_argument("--review", action="store_true", help=f"write {BASELINE} anew instead; read what it changed")
    chosen = parser.parse_args()
    try:
        names = tracked(Path())
        if chosen.review:
            review(Path())
            return 0
        text = found(Path(), names)
    except ReleaseError as error:
        sys.exit(f"secrets NOT SCANNED: {error}")
    if text:
        print(text)
        print("A secret that was committed is public: replace it. What is none: python -m node.release.scan --review")
        return 1
    print(f"secrets: {len(names)} files, nothing that was not reviewed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
