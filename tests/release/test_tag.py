"""`make verify-tag`: only what somebody on the keyring signed, in time, for this version and this commit."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from signing import DAY, Entry, Gpg, Work, gpg, keyring, work

from node.release import keys as keyrings
from node.release import openpgp, repository, tag
from node.release.errors import Finding, ReleaseError
from node.release.keys import Span
from node.release.openpgp import KeyLife, Signature
from node.release.repository import Repository, Verified, verify_tag

NOW = int(time.time())


@dataclass(frozen=True)
class Keys:
    """What a keyring may say of the keys of one gpg."""

    gpg: Gpg
    ada: str
    stranger: str
    ended: str
    ended_public: bytes
    revoked: str

    @property
    def entry(self) -> Entry:
        return Entry(self.ada, self.gpg.public(self.ada))


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    """Ada's key; a stranger's; one that ended five days ago, and was prolonged where nobody saw it; a revoked one."""
    with gpg() as made:
        ended = made.new_key("Ended", "5d", NOW - 10 * DAY)
        public = made.public(ended)
        made.run("--quick-set-expire", ended, "1y")
        revoked = made.new_key("Revoked")
        yield Keys(made, made.new_key("Ada"), made.new_key("Stranger"), ended, public, revoked)


def revoke(keys: Keys) -> bytes:
    """The export of the key after its owner revoked it."""
    text = (keys.gpg.home / "openpgp-revocs.d" / f"{keys.revoked}.rev").read_text()
    keys.gpg.run("--import", stdin=text[text.index(":-----BEGIN") + 1 :].encode())
    return keys.gpg.public(keys.revoked)


@dataclass
class Scene:
    """A repository, its keyring, and what the remote is."""

    work: Work
    keys: Keys
    folder: Path
    signers: tuple[Entry, ...]
    released: str = ""
    remote: str | None = None
    version: str = "0.1.0"

    def judge(self) -> Verified | list[Finding]:
        if not self.folder.exists():
            keyring(self.folder, *self.signers, released=self.released)
        return verify_tag(Repository(self.work.root), self.version, keyrings.load(self.folder), self.remote)


@pytest.fixture
def scene(tmp_path: Path, keys: Keys) -> Scene:
    return Scene(work(tmp_path / "work", keys.gpg), keys, tmp_path / "keys", (keys.entry,))


def accepted(found: Verified | list[Finding]) -> bool:
    return isinstance(found, Verified)


def test_a_tag_of_somebody_on_the_keyring_is_accepted(scene: Scene) -> None:
    """Its ids, its signer and its commit's time come back; nobody's own folder of keys is read."""
    made = scene.work.tag("v0.1.0", scene.keys.ada)
    found = scene.judge()
    assert isinstance(found, Verified), found
    assert (found.tag.id, found.tag.target) == (made, scene.work.git("rev-parse", "HEAD"))
    assert found.signer.fingerprint == scene.keys.ada
    assert found.notes == ("there is no remote `origin` to compare the tag with",)


def test_a_key_that_ended_since_is_good_for_what_it_signed_in_time(scene: Scene) -> None:
    """gpg compares a key's end with today; what counts is the day of the signature."""
    scene.work.commit("Two", when=NOW - 9 * DAY)
    scene.work.tag("v0.1.0", scene.keys.ended, when=NOW - 8 * DAY)
    scene.signers = (Entry(scene.keys.ended, scene.keys.ended_public, valid_from=-20 * DAY),)
    assert accepted(scene.judge())


# --- what is refused; each with the guard that, taken away, lets it pass


def unsigned(s: Scene) -> None:
    s.work.git("tag", "-a", "-m", "A release", "v0.1.0")


def lightweight(s: Scene) -> None:
    s.work.git("tag", "v0.1.0")


def stranger(s: Scene) -> None:
    s.work.tag("v0.1.0", s.keys.stranger)


def ended_key(s: Scene) -> None:
    s.work.tag("v0.1.0", s.keys.ended)
    s.signers = (Entry(s.keys.ended, s.keys.ended_public, valid_from=-20 * DAY),)


def revoked_key(s: Scene) -> None:
    s.work.tag("v0.1.0", s.keys.ada)
    s.signers = (Entry(s.keys.ada, s.keys.entry.public, revoked="2026-05-01: laptop stolen"),)


def not_yet_valid(s: Scene) -> None:
    s.work.tag("v0.1.0", s.keys.ada)
    s.signers = (Entry(s.keys.ada, s.keys.entry.public, valid_from=DAY),)


def no_longer_valid(s: Scene) -> None:
    s.work.tag("v0.1.0", s.keys.ada)
    s.signers = (Entry(s.keys.ada, s.keys.entry.public, valid_from=-9 * DAY, valid_until=-DAY),)


def another_version(s: Scene) -> None:
    """A genuine tag of 0.1.0 under the name of 0.2.0, where the files call themselves 0.2.0."""
    (s.work.root / "pyproject.toml").write_text('[project]\nname = "ai-memory"\nversion = "0.2.0"\n')
    s.work.commit("Two")
    s.work.git("update-ref", "refs/tags/v0.2.0", s.work.tag("v0.1.0", s.keys.ada))
    s.version = "0.2.0"


def wrong_version_in_files(s: Scene) -> None:
    s.version = "0.2.0"
    s.work.tag("v0.2.0", s.keys.ada)


def put(s: Scene, body: str) -> None:
    made = s.work.git("hash-object", "-t", "tag", "-w", "--stdin", stdin=body.encode())
    s.work.git("update-ref", "refs/tags/v0.1.0", made)


def rewritten(s: Scene) -> None:
    """The message was changed after it was signed."""
    s.work.tag("v0.1.0", s.keys.ada)
    body = s.work.git("cat-file", "tag", "v0.1.0").replace("A release", "A different one") + "\n"
    put(s, body)


def more_after_the_signature(s: Scene) -> None:
    s.work.tag("v0.1.0", s.keys.ada)
    body = s.work.git("cat-file", "tag", "v0.1.0") + "\nand more\n"
    put(s, body)


def moved_at_the_remote(s: Scene) -> None:
    """It was published, then made anew on a later commit here."""
    s.work.tag("v0.1.0", s.keys.ada)
    origin = s.work.root.parent / "origin"
    s.work.git("clone", "-q", "--bare", str(s.work.root), str(origin))
    s.work.git("remote", "add", "origin", str(origin))
    s.work.commit("Two")
    s.work.tag("v0.1.0", s.keys.ada, "-f")


def moved_since_the_release(s: Scene) -> None:
    first = s.work.tag("v0.1.0", s.keys.ada)
    s.released = f"0.1.0 {first} {s.work.git('rev-parse', 'HEAD')}\n"
    s.work.commit("Two")
    s.work.tag("v0.1.0", s.keys.ada, "-f")


def dirty(s: Scene) -> None:
    s.work.tag("v0.1.0", s.keys.ada)
    (s.work.root / "pyproject.toml").open("a").write("# more\n")


def a_file_that_git_does_not_know(s: Scene) -> None:
    s.work.tag("v0.1.0", s.keys.ada)
    (s.work.root / "extra.py").write_text("")


def not_checked_out(s: Scene) -> None:
    s.work.tag("v0.1.0", s.keys.ada)
    s.work.commit("Two")


def weak(s: Scene) -> None:
    """Over SHA-1, for which two texts with one digest can be made."""
    program = s.keys.gpg.home / "gpg-sha1"
    program.write_text('#!/bin/sh\nexec gpg --digest-algo SHA1 "$@"\n')
    program.chmod(0o755)
    s.work.git("-c", f"gpg.program={program}", "tag", "-s", "-u", s.keys.ada, "-m", "A release", "v0.1.0")


def of_a_tree(s: Scene) -> None:
    s.work.tag("v0.1.0", s.keys.ada, "-f")
    s.work.git("tag", "-f", "-s", "-u", s.keys.ada, "-m", "A release", "v0.1.0", "HEAD^{tree}")


def of_the_future(s: Scene) -> None:
    s.work.tag("v0.1.0", s.keys.ada, when=NOW + 2 * DAY)


def missing(s: Scene) -> None:
    del s


Remove = Callable[[pytest.MonkeyPatch, Scene], None]


def without(module: Any, name: str, value: Any) -> Remove:
    return lambda patch, scene: patch.setattr(module, name, value)


def forgiving(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """Every signature is genuine, made by the first on the keyring at the tag's time."""

    def verify(about: str, payload: bytes, armor: bytes, signers: Any) -> Signature:
        when = int(payload.split(b"\ntagger ")[1].split(b"\n")[0].split()[-2])
        return Signature(signers[0].fingerprint, signers[0].fingerprint, when)

    patch.setattr(openpgp, "verify", verify)


def endless(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """Keys have no end of their own."""
    real = openpgp.lives
    patch.setattr(openpgp, "lives", lambda text: {k: KeyLife(v.created, 0) for k, v in real(text).items()})


def blind(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """Where no signature begins, one begins at the end; and it is genuine."""
    forgiving(patch, scene)
    patch.setattr(tag, "_BEGIN", re.compile(rb"\Z"))
    patch.setattr(tag, "_ARMOR", re.compile(rb""))


def talkative(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """What follows a signature is part of it, and a forgiving gpg does not mind; git would show it."""
    forgiving(patch, scene)
    patch.setattr(tag, "_ARMOR", re.compile(rb"(?s).*"))


REFUSED: dict[str, tuple[Callable[[Scene], None], str, Remove | None]] = {
    "no tag": (missing, "there is no such tag", None),
    "unsigned": (unsigned, "is not signed", blind),
    "lightweight": (lightweight, "lightweight", None),
    "a stranger": (stranger, "signed by a stranger", forgiving),
    "a key that had expired": (ended_key, "with a key that had expired on", endless),
    "a key revoked in the table": (revoked_key, "laptop stolen", without(Span, "fault", lambda *a: None)),
    "before its span": (not_yet_valid, "valid from", without(Span, "fault", lambda *a: None)),
    "after its span": (no_longer_valid, "valid from", without(Span, "fault", lambda *a: None)),
    "the tag of another version": (another_version, "calls itself v0.1.0", None),
    "files of another version": (
        wrong_version_in_files, "says version 0.1.0", without(Repository, "version_at", lambda *a: "0.2.0"),
    ),
    "rewritten": (rewritten, "does not belong to its text", forgiving),
    "more after the signature": (more_after_the_signature, "something else than one OpenPGP", talkative),
    "moved at the remote": (
        moved_at_the_remote, "at the remote origin", without(repository, "_published", lambda *a: ([], ())),
    ),
    "moved since it was released": (
        moved_since_the_release, "was moved: released were", without(tag, "unmoved", lambda *a: []),
    ),
    "a changed file": (dirty, "differs from its commit: pyproject.toml", without(Repository, "dirt", lambda s: [])),
    "an unknown file": (
        a_file_that_git_does_not_know, "differs from its commit: extra.py", without(Repository, "dirt", lambda s: []),
    ),
    "another commit checked out": (
        not_checked_out, "git checkout v0.1.0",
        without(Repository, "head", lambda s: s.line("rev-parse", "v0.1.0^{commit}")),
    ),
    "a weak digest": (
        weak, "expected one, with SHA-256 or better", without(openpgp, "_OPTIONS", ("--no-options", "--batch")),
    ),
    "of a tree": (of_a_tree, "names a tree, expected a commit", None),
    "of the future": (of_the_future, "in the future", without(tag, "dated", lambda *a: [])),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_nobody_vouches_for_is_refused(case: str, scene: Scene) -> None:
    """And the finding says what was found."""
    prepare, words, _ = REFUSED[case]
    prepare(scene)
    found = scene.judge()
    assert isinstance(found, list) and any(words in str(one) for one in found), found


@pytest.mark.parametrize("case", [name for name, (_, _, remove) in REFUSED.items() if remove])
def test_without_its_guard_it_would_be_released(case: str, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: that case differs from a good one in this alone, and that guard alone refuses it."""
    prepare, _, remove = REFUSED[case]
    prepare(scene)
    assert remove is not None
    remove(monkeypatch, scene)
    found = scene.judge()
    assert accepted(found), found


@pytest.mark.parametrize("case", ["no tag", "lightweight", "of a tree"])
def test_what_is_no_signed_tag_of_a_commit_has_nothing_to_be_released(
    case: str, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its look only says it better. Control: without that look git fails, and nobody is told what to do."""
    prepare, words, _ = REFUSED[case]
    prepare(scene)
    real = Repository.git

    def unlooked(self: Repository, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        if arguments[:2] == ("cat-file", "-t"):
            return subprocess.CompletedProcess(arguments, 0, b"tag")
        done = real(self, *arguments, check=check)
        return subprocess.CompletedProcess(arguments, 0, done.stdout or b"none", done.stderr)

    monkeypatch.setattr(Repository, "git", unlooked)
    monkeypatch.setattr(tag, "named", lambda *a: [])
    with pytest.raises(ReleaseError) as error:
        scene.judge()
    assert words not in str(error.value)


def test_only_the_name_inside_a_tag_tells_whose_it_is(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the files of 0.1.0 calling themselves 0.2.0. Control: without that look it would be released."""
    another_version(scene)
    scene.work.git("checkout", "-q", "v0.1.0^{commit}")
    monkeypatch.setattr(Repository, "version_at", lambda *a: "0.2.0")
    assert [one.text for one in refused(scene)] == ["the tag that stands under this name calls itself v0.1.0"]
    monkeypatch.setattr(tag, "named", lambda *a: [])
    assert accepted(scene.judge())


def refused(scene: Scene) -> list[Finding]:
    found = scene.judge()
    assert isinstance(found, list)
    return found


def test_a_tag_dated_before_its_commit_is_refused(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has an old key would date a new tag back into its span."""
    old = NOW - 8 * DAY
    scene.work.commit("Two", when=NOW)
    scene.work.tag("v0.1.0", scene.keys.ended, when=old)
    scene.signers = (Entry(scene.keys.ended, scene.keys.ended_public, valid_from=-20 * DAY),)
    assert "before its commit" in refused(scene)[0].text
    monkeypatch.setattr(tag, "dated", lambda *a: [])
    assert accepted(scene.judge())


def test_a_key_that_its_owner_revoked_is_refused(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signature was made before; nobody knows since when somebody else had the key."""
    scene.work.tag("v0.1.0", scene.keys.revoked)
    scene.signers = (Entry(scene.keys.revoked, scene.keys.gpg.public(scene.keys.revoked)),)
    assert accepted(scene.judge())
    keyring(scene.folder.with_name("later"), Entry(scene.keys.revoked, revoke(scene.keys)))
    scene.folder = scene.folder.with_name("later")
    assert refused(scene)[0].text == "signed with a key that its owner has revoked"
    monkeypatch.setattr(openpgp, "_REFUSALS", {})
    assert accepted(scene.judge())


# --- what cannot be checked is an error, never a pass


def test_without_gpg_nothing_is_checked(scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And it says so, with what to install."""
    scene.work.tag("v0.1.0", scene.keys.ada)
    (tmp_path / "bin").mkdir()
    git = next(Path(folder) / "git" for folder in os.environ["PATH"].split(":") if (Path(folder) / "git").exists())
    (tmp_path / "bin" / "git").symlink_to(git)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ReleaseError, match=r"gpg is not installed.*install GnuPG"):
        scene.judge()


def test_a_remote_that_does_not_answer_is_an_error(scene: Scene) -> None:
    """Unless the comparison is declined by name."""
    scene.work.tag("v0.1.0", scene.keys.ada)
    scene.work.git("remote", "add", "origin", str(scene.work.root / "nowhere"))
    with pytest.raises(ReleaseError, match=r"(?s)could not be compared.*REMOTE=none"):
        scene.judge()
    scene.remote = "none"
    found = scene.judge()
    assert isinstance(found, Verified) and found.notes == ("not compared with any remote, as asked",)


def test_a_keyring_that_names_nobody_refuses_everything(scene: Scene) -> None:
    """As the one does that this repository has, until a maintainer's key is in it."""
    scene.work.tag("v0.1.0", scene.keys.ada)
    scene.signers = ()
    with pytest.raises(ReleaseError, match=r"names nobody who may sign tags: keys/README.md"):
        scene.judge()
    assert keyrings.load(keyrings.shipped()).signers == ()


def test_a_key_file_with_another_key_is_an_error(scene: Scene) -> None:
    """Else whoever may add a file could add a signer."""
    scene.work.tag("v0.1.0", scene.keys.ada)
    both = scene.keys.gpg.run("--armor", "--export", scene.keys.ada, scene.keys.stranger)
    scene.signers = (Entry(scene.keys.ada, both),)
    with pytest.raises(ReleaseError, match="alone, found"):
        scene.judge()
