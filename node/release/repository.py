"""The repository that a release is made of: its tags and files as git gives them, and what is wrong with its state."""

import hashlib
import io
import os
import subprocess
import tarfile
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from node.release import openpgp, tag
from node.release.errors import Finding, ReleaseError
from node.release.keys import Keyring, Signer
from node.release.tag import PREFIX, Tag


@dataclass(frozen=True, slots=True)
class Verified:
    """A tag that may be released: both objects as git keeps them, and what was found on the way."""

    tag: Tag
    signer: Signer
    tag_body: bytes
    commit_body: bytes
    commit_time: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository with files checked out at `root`."""

    root: Path

    def git(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Raises ReleaseError with git's own words."""
        environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_REPLACE_OBJECTS": "1", "LC_ALL": "C"}
        command = ["git", "-C", str(self.root), *arguments]
        done = subprocess.run(command, capture_output=True, env=environment)
        if check and done.returncode:
            raise ReleaseError(f"git {' '.join(arguments[:3])}: {done.stderr.decode(errors='replace').strip()}")
        return done

    def line(self, *arguments: str) -> str:
        return self.git(*arguments).stdout.decode(errors="replace").strip()

    def head(self) -> str:
        return self.line("rev-parse", "HEAD")

    def time_of(self, commit: str) -> int:
        """When it was committed, in seconds since 1970: what SOURCE_DATE_EPOCH is set to."""
        return int(self.line("log", "-1", "--format=%ct", commit))

    def dirt(self) -> list[str]:
        """Files that differ from HEAD or are not known to git."""
        return self.git("status", "--porcelain", "--untracked-files=all").stdout.decode(errors="replace").splitlines()

    def version_at(self, commit: str) -> str:
        table = tomllib.loads(self.git("show", f"{commit}:pyproject.toml").stdout.decode())
        return str(table["project"]["version"])

    def unpack(self, commit: str, folder: Path) -> None:
        """The commit's files, through `git archive`, each compared with the commit's own list.

        An attribute, in the commit or in this clone alone, could leave a file out or rewrite it. Raises ReleaseError.
        """
        packed = self.git("-c", "core.autocrlf=false", "archive", "--format=tar", commit).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
        listed: dict[str, tuple[str, str]] = {}
        for row in self.git("ls-tree", "-r", "-z", commit).stdout.decode().split("\0")[:-1]:
            info, _, name = row.partition("\t")
            mode, _, blob = info.split(" ")
            listed[name] = (mode, blob)
        if fault := unlike(listed, folder):
            raise ReleaseError(fault)


def unlike(listed: Mapping[str, tuple[str, str]], folder: Path) -> str | None:
    """How the files in a folder differ from a commit's own list (name to mode and id of its blob); None where not."""
    found = {str(one.relative_to(folder)): one for one in folder.rglob("*") if one.is_symlink() or one.is_file()}
    for name in sorted(listed.keys() | found.keys()):
        if name not in listed or name not in found:
            side = "lacks" if name in listed else "has a file that the commit has not:"
            return f"git archive {side} {name}; look for export-ignore in .gitattributes and in .git/info"
        mode, blob = listed[name]
        if mode not in ("100644", "100755") or found[name].is_symlink():
            return f"{name} has the mode {mode}: only plain files are released"
        if tag.object_id("blob", found[name].read_bytes(), blob) != blob:
            return f"git archive changed {name}; look for attributes in .gitattributes and in .git/info"
    return None


def verify_tag(repository: Repository, version: str, keyring: Keyring, remote: str | None) -> Verified | list[Finding]:
    """May this version be released from here? All reasons against it, or the tag.

    `remote` is the name or address of the repository that others see, None for the remote `origin` where there is
    one, "none" for no comparison. Raises ReleaseError where something could not be checked.
    """
    name = f"{PREFIX}{version}"
    if not keyring.signers:
        raise ReleaseError(
            f"the keyring {keyring.folder} names nobody who may sign tags: keys/README.md says how to enter a key;"
            " another keyring: KEYS=folder"
        )
    known = repository.git("rev-parse", "--verify", "--quiet", f"refs/tags/{name}", check=False)
    if known.returncode:
        return [Finding(name, f"there is no such tag; make it: git tag -s {name}")]
    tag_id = known.stdout.decode().strip()
    if repository.line("cat-file", "-t", tag_id) != "tag":
        return [
            Finding(
                name, f"is a lightweight tag, which nobody can sign; make it anew: git tag -d {name}; git tag -s {name}"
            )
        ]
    body = repository.git("cat-file", "tag", tag_id).stdout
    read = tag.read(name, body)
    if isinstance(read, Finding):
        return [read]
    findings = tag.named(read, version)
    if findings:
        return findings
    commit_body = repository.git("cat-file", "commit", read.target).stdout
    commit_time = tag.commit_time(commit_body)
    if commit_time is None:
        raise ReleaseError(f"the commit {read.target} cannot be read")
    findings += tag.dated(read, commit_time, int(time.time()))
    findings += tag.unmoved(read, version, keyring)
    findings += _state(repository, read, version)
    told, notes = _published(repository, read, remote)
    findings += told
    signer: Signer | Finding
    signature = openpgp.verify(name, read.payload, read.signature, keyring.signers)
    signer = signature if isinstance(signature, Finding) else tag.trusted(read, signature, keyring)
    if isinstance(signer, Finding):
        return [signer, *findings]
    if findings:
        return findings
    return Verified(read, signer, body, commit_body, commit_time, notes)


def _state(repository: Repository, read: Tag, version: str) -> list[Finding]:
    """Is what lies here what the tag names, unchanged, and does it call itself this version?"""
    findings = []
    if (head := repository.head()) != read.target:
        findings.append(
            Finding(read.name, f"names commit {read.target}, checked out is {head}: git checkout {read.name}")
        )
    if dirt := repository.dirt():
        shown = ", ".join(line[3:] for line in dirt[:5]) + (f" and {len(dirt) - 5} more" if len(dirt) > 5 else "")
        findings.append(Finding("working tree", f"differs from its commit: {shown}; commit it or take it away"))
    if (found := repository.version_at(read.target)) != version:
        findings.append(Finding("pyproject.toml", f"says version {found} at {read.name}, expected {version}"))
    return findings


def _published(repository: Repository, read: Tag, remote: str | None) -> tuple[list[Finding], tuple[str, ...]]:
    """Do others see the same tag? A remote that cannot be asked is an error: then nobody knows."""
    if remote == "none":
        return [], ("not compared with any remote, as asked",)
    if remote is None:
        if "origin" not in repository.line("remote").split():
            return [], ("there is no remote `origin` to compare the tag with",)
        remote = "origin"
    asked = repository.git("ls-remote", "--tags", remote, f"refs/tags/{read.name}", check=False)
    if asked.returncode:
        raise ReleaseError(
            f"the tag could not be compared with that of the remote {remote}:"
            f" {asked.stderr.decode(errors='replace').strip()}; without the comparison: REMOTE=none"
        )
    found = [line.split("\t")[0] for line in asked.stdout.decode().splitlines()]
    if not found:
        return [], (f"the remote {remote} has no tag {read.name} yet",)
    if found != [read.id]:
        text = f"was moved: here it is {read.id}, at the remote {remote} {', '.join(found)}"
        return [Finding(read.name, f"{text}; find out who moved it, and release under a new version")], ()
    return [], (f"the remote {remote} has the same tag",)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
