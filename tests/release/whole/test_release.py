"""`make release` on a signed tag in throw-away clones, verified, then every file of it altered.

It takes minutes, so `make test` leaves it out: `make test-release`.
"""

import os
import random
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import run
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from releases import findings, flipped, put
from signing import Entry, Work, gpg, keyring, private

from node.release import keys as keyrings
from node.release.folder import SIGNATURE, SUMS, Names

ROOT = Path(__file__).parent.parent.parent.parent
BITS = int(os.environ.get("RELEASE_BITS", "6"))
"""How many bits of each file are flipped, one at a time."""


@dataclass(frozen=True)
class Made:
    """Two clones with the same signed tag, the keyring that knows its signer, and the builder's key."""

    first: Work
    second: Work
    keys: Path
    key: Path
    version: str

    def make(self, work: Work, target: str, *variables: str) -> subprocess.CompletedProcess[str]:
        """Both clones share the first one's environment, which is newer than their locks."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "AI_MEMORY_"))}
        command = ["make", target, f"VENV={self.first.root / '.venv'}", f"VERSION={self.version}", *variables]
        return subprocess.run(command, cwd=work.root, env=environment, capture_output=True, text=True)

    def release(self, work: Work) -> subprocess.CompletedProcess[str]:
        return self.make(work, "release", f"KEYS={self.keys}", f"RELEASE_KEY={self.key}")

    def folder(self, work: Work) -> Path:
        return work.root / "dist" / f"release-{self.version}"


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    """Not below the run's own folder: that is searched for the marker, which stands in a clone's sources."""
    key = Ed25519PrivateKey.generate()
    with tempfile.TemporaryDirectory(prefix="clones-") as name, gpg() as home:
        folder = Path(name)
        ada = home.new_key("Ada")
        keys = keyring(folder / "keys", Entry(ada, home.public(ada)), builder=key)
        (folder / "builder.key").write_bytes(private(key))
        first, second = Work(folder / "first", home), Work(folder / "a second one", home)
        Work(ROOT, home).git("clone", "-q", "--no-hardlinks", str(ROOT), str(first.root))
        version = next(
            line.split('"')[1]
            for line in (first.root / "pyproject.toml").read_text().splitlines()
            if "version =" in line
        )
        first.tag(f"v{version}", ada)
        first.git("clone", "-q", "--no-hardlinks", str(first.root), str(second.root))
        second.git("checkout", "-q", f"v{version}")
        yield Made(first, second, keys, folder / "builder.key", version)


def test_a_signed_tag_is_released_and_one_flipped_bit_in_any_file_is_found(made: Made, tmp_path: Path) -> None:
    """Made in two clones it is the same bytes; each altered file is named, and no other."""
    refused = made.make(made.first, "release", f"RELEASE_KEY={made.key}")
    assert refused.returncode and "keys/README.md" in refused.stderr, refused  # nobody is on the keyring of the project
    for work in (made.first, made.second):
        done = made.release(work)
        assert done.returncode == 0 and "made and verified" in done.stdout, done.stdout + done.stderr
    files = {path.name: path.read_bytes() for path in made.folder(made.first).iterdir()}
    assert set(files) == Names(made.version).all
    assert files == {path.name: path.read_bytes() for path in made.folder(made.second).iterdir()}
    again = made.release(made.first)
    assert "was there, and is the same" in again.stdout, again.stderr
    with zipfile.ZipFile(made.folder(made.first) / Names(made.version).wheel) as wheel:
        assert "node/release/keys/keys.toml" in wheel.namelist()

    done = run("verify-release", str(made.folder(made.first)), "--keys", str(made.keys))
    assert done.code == 0, done
    print("\n" + done.out)
    ring, bits, count = keyrings.load(made.keys), random.Random(6), 0
    for name in sorted(files):
        expected = {SUMS, SIGNATURE} if name in (SUMS, SIGNATURE) else {name}
        for _ in range(BITS):
            place = bits.randrange(len(files[name]) * 8)
            altered = put(tmp_path / "altered", files | {name: flipped(files[name], place)})
            assert {one.about for one in findings(altered, ring)} == expected, (name, place)
            count += 1
        lacking = put(tmp_path / "altered", {other: data for other, data in files.items() if other != name})
        assert {one.about for one in findings(lacking, ring)} == {name}
    assert {one.about for one in findings(put(tmp_path / "altered", files | {"x": b""}), ring)} == {"x"}
    print(f"{len(files)} files, {count} flipped bits, each found in its file and in no other")


def test_a_tree_that_changed_since_the_tag_is_not_released(made: Made) -> None:
    """Also through `make`, with the exit code and the words."""
    (made.second.root / "README.md").open("a").write("more\n")
    done = made.make(made.second, "verify-tag", f"KEYS={made.keys}")
    assert done.returncode and "working tree: differs from its commit: README.md" in done.stderr
    made.second.git("checkout", "-q", "README.md")
    done = made.make(made.second, "verify-tag", f"KEYS={made.keys}")
    assert done.returncode == 0 and "the remote origin has the same tag" in done.stdout, done.stderr


def test_a_build_does_not_show_where_when_and_by_whom(made: Made) -> None:
    """`make reproduce`: two clones and the packed files, in unlike circumstances."""
    done = made.make(made.first, "reproduce")
    assert done.returncode == 0 and done.stdout.rstrip().endswith("identical"), done.stdout + done.stderr
    print("\n" + done.stdout)
