"""Throw-away keys, keyrings and repositories with signed tags; nobody's own keys are touched."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

DAY = 86_400
REPOSITORY = "https://example.org/ai-memory"
BUILDER = "https://example.org/builder"


@dataclass(frozen=True)
class Gpg:
    """A folder of secret keys without passphrases, and the agent that serves them."""

    home: Path

    def run(self, *arguments: str, stdin: bytes = b"", when: int | None = None) -> bytes:
        faked = [] if when is None else ["--faked-system-time", f"{datetime.fromtimestamp(when, UTC):%Y%m%dT%H%M%S}!"]
        command = ["gpg", "--batch", "--yes", "--quiet", "--passphrase", "", *faked, *arguments]
        done = subprocess.run(command, env=self.environment, input=stdin, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        return {"GNUPGHOME": str(self.home), "PATH": os.environ["PATH"], "LC_ALL": "C"}

    def new_key(self, owner: str, expire: str = "2y", when: int | None = None) -> str:
        """The fingerprint of a new key that can sign; made on `when`, in seconds since 1970."""
        self.run("--quick-gen-key", owner, "ed25519", "sign", expire, when=when)
        listing = self.run("--with-colons", "--list-keys", f"={owner}").decode()
        return next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))

    def public(self, fingerprint: str) -> bytes:
        return self.run("--armor", "--export", fingerprint)

    def program(self, when: int) -> Path:
        """A gpg for git that believes it is `when`."""
        path = self.home / f"gpg-{when}"
        path.write_text(f'#!/bin/sh\nexec gpg --faked-system-time {when}! "$@"\n')
        path.chmod(0o755)
        return path


@contextmanager
def gpg() -> Iterator[Gpg]:
    """In a folder with a short name: the agent's socket has to fit into 108 bytes."""
    home = Path(tempfile.mkdtemp(prefix="g-"))
    made = Gpg(home)
    try:
        yield made
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], env=made.environment, check=False)
        shutil.rmtree(home)


@dataclass(frozen=True)
class Entry:
    """A row of the table: by default a key that counts from yesterday until in a month."""

    fingerprint: str
    public: bytes
    valid_from: int = -DAY
    valid_until: int = 30 * DAY
    revoked: str = ""
    owner: str = "Ada <ada@example.org>"


def keyring(
    folder: Path, *signers: Entry, builder: Entry | Ed25519PrivateKey | None = None, released: str = ""
) -> Path:
    """A keyring in a new folder."""
    folder.mkdir(parents=True)
    rows = [f'repository = "{REPOSITORY}"']
    for number, one in enumerate(signers):
        (folder / f"{number}.asc").write_bytes(one.public)
        rows += [
            "[[signer]]", f'owner = "{one.owner}"', f'fingerprint = "{one.fingerprint}"', f'file = "{number}.asc"',
            *_span(one),
        ]  # fmt: skip
    if builder is not None:
        entry = builder if isinstance(builder, Entry) else builder_entry(builder)
        (folder / "builder.pem").write_bytes(entry.public)
        rows += ["[[builder]]", f'id = "{BUILDER}"', 'file = "builder.pem"', *_span(entry)]
    (folder / "keys.toml").write_text("\n".join(rows) + "\n")
    (folder / "released").write_text(released)
    return folder


def builder_entry(key: Ed25519PrivateKey, **changes: object) -> Entry:
    return Entry("", key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), **changes)  # type: ignore[arg-type]


def private(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _span(one: Entry) -> list[str]:
    now = int(time.time())
    first, last = (
        f"{datetime.fromtimestamp(now + days, UTC):%Y-%m-%dT%H:%M:%SZ}" for days in (one.valid_from, one.valid_until)
    )
    revoked = [f'revoked = "{one.revoked}"'] if one.revoked else []
    return [f"valid_from = {first}", f"valid_until = {last}", *revoked]


@dataclass(frozen=True)
class Work:
    """A repository with files checked out, whose commits and tags are made with the keys of `gpg`."""

    root: Path
    gpg: Gpg

    def git(self, *arguments: str, when: int | None = None, stdin: bytes = b"") -> str:
        environment = {
            **os.environ,
            **self.gpg.environment,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        environment |= {f"GIT_{who}_{what}": f"ada{'@example.org' if what == 'EMAIL' else ''}"
                        for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}  # fmt: skip
        options: list[str] = []
        if when is not None:
            environment |= {"GIT_COMMITTER_DATE": f"@{when} +0000", "GIT_AUTHOR_DATE": f"@{when} +0000"}
            options = ["-c", f"gpg.program={self.gpg.program(when)}"]
        command = ["git", "-C", str(self.root), *options, *arguments]
        done = subprocess.run(command, env=environment, input=stdin, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode(errors="replace").strip()

    def commit(self, message: str, when: int | None = None) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message, when=when)
        return self.git("rev-parse", "HEAD")

    def tag(self, name: str, key: str, *more: str, when: int | None = None) -> str:
        """A signed tag; its id."""
        self.git("tag", "-s", "-u", key, "-m", "A release", *more, name, when=when)
        return self.git("rev-parse", f"refs/tags/{name}")


def work(root: Path, gpg: Gpg, version: str = "0.1.0") -> Work:
    """A new repository with one commit that calls itself `version`."""
    root.mkdir(parents=True)
    made = Work(root, gpg)
    made.git("init", "-q", "-b", "main")
    (root / "pyproject.toml").write_text(f'[project]\nname = "ai-memory"\nversion = "{version}"\n')
    made.commit("One")
    return made
