"""`make mutate-guards`: takes every guard of `tls/` and `sync/` away, one at a time, and says whose tests stay green.

`python -m tests.guards [--only tls/channel.py] [--limit 50] [--book FILE] [--again] [--hasty] [--list]`. A copy of this
tree is changed, never the tree. What was found is kept in the book, so that a run goes on where one ended. For each
mutant the tests of its module come first, then all of its room. A survivor that changes nothing is listed, with the
reason, in `equivalent.toml`. Exit code 1 where another one survived.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from tests.guards.mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
ROOMS = ("tls", "sync")
PATIENCE = 300.0
"""Seconds that the tests of one mutant may take; one that hangs is noticed."""
REVIEWED = ROOT / "tests" / "guards" / "equivalent.toml"
Key = tuple[str, str, str, int]


def all_mutants(only: str) -> list[Mutant]:
    """Of every module whose path begins with `only`."""
    files = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    names = [str(path.relative_to(ROOT)) for path in files]
    return [one for name in names if name.startswith(only) for one in mutants(name, (ROOT / name).read_text())]


def near(tree: Path, file: str, is_hasty: bool) -> list[list[str]]:
    """The tests to be tried, those of the module first: of its own name, then all others of its room."""
    room, stem = file.split("/")[0], Path(file).stem
    tests = sorted((tree / "tests" / room).rglob("test_*.py"))
    names = re.compile(rf"\b{file.removesuffix('.py').replace('/', '.')}\b|\bfrom {room} import .*\b{stem}\b")
    first = [path for path in tests if path.stem == f"test_{stem}"]
    second = [path for path in tests if path not in first and names.search(path.read_text())]
    third = [path for path in tests if path not in first and path not in second]
    groups = (first or second,) if is_hasty and first + second else (first, second, third)
    return [[str(path.relative_to(tree)) for path in group] for group in groups if group]


def is_killed(tree: Path, mutant: Mutant, is_hasty: bool) -> bool:
    """Whether a test fails, or does not end, without this guard."""
    target = tree / mutant.file
    whole = target.read_text()
    target.write_text(mutant.text)
    try:
        end = time.monotonic() + PATIENCE
        return any(_fails(tree, tests, end - time.monotonic()) for tests in near(tree, mutant.file, is_hasty))
    finally:
        target.write_text(whole)


def _fails(tree: Path, tests: list[str], seconds: float) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout", "60", *tests]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree)}
    process = subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return process.wait(max(seconds, 1)) != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def copied(folder: Path) -> Path:
    """This tree as it is on disk, without what git does not know."""
    tree = folder / "tree"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    return tree


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutate-guards")
    parser.add_argument("--only", default="", help="modules whose path begins so")
    parser.add_argument("--limit", type=int, default=10**9, help="end after so many that were not in the book")
    parser.add_argument("--book", type=Path, default=ROOT / "guards.book", help="what was found, a line each")
    parser.add_argument("--again", action="store_true", help="try those anew that survived, after tests were written")
    parser.add_argument("--hasty", action="store_true", help="only the module's own tests: more will survive")
    parser.add_argument("--list", action="store_true", help="only say which there are")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that tests and copy are gone with it
    wanted = all_mutants(asked.only)
    if asked.list:
        print(*(f"{one.file}:{one.line}: {one.kind}: {one.guard}" for one in wanted), sep="\n")
        return 0
    book = _read(asked.book)
    reviewed = {_key(one) for one in tomllib.loads(REVIEWED.read_text())["mutant"]}
    open_ = [one for one in wanted if one.key not in reviewed]
    left = [one for one in open_ if one.key not in book or (asked.again and not book[one.key])][: asked.limit]
    with tempfile.TemporaryDirectory() as folder, asked.book.open("a") as out:
        tree = copied(Path(folder))
        for number, one in enumerate(left, start=1):
            book[one.key] = is_killed(tree, one, asked.hasty)
            out.write(json.dumps([*one.key, book[one.key]]) + "\n")
            out.flush()
            told = "killed" if book[one.key] else "SURVIVED"
            print(f"{number}/{len(left)} {told} {one.file}:{one.line}: {one.kind}: {one.guard}", flush=True)
    known = [one for one in open_ if one.key in book]
    alive = [one for one in known if not book[one.key]]
    print(f"\n{len(wanted)} guards, {len(wanted) - len(open_)} reviewed; {len(known)} tried, {len(alive)} survived:")
    for one in alive:
        print(f"  {one.file}:{one.line}: {one.kind}: {one.guard}")
    return 1 if alive else 0


def _read(path: Path) -> dict[Key, bool]:
    if not path.exists():
        return {}
    lines = (json.loads(line) for line in path.read_text().splitlines())
    return {(file, kind, guard, which): killed for file, kind, guard, which, killed in lines}


def _key(one: dict[str, object]) -> Key:
    return str(one["file"]), str(one["kind"]), str(one["guard"]), int(str(one.get("which", 0)))


if __name__ == "__main__":
    raise SystemExit(main())
