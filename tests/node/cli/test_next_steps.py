"""An error says what was found, what was expected, and what to do next."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import disks
import pytest
from commands import new_home, run

from node.cli import given, sought
from node.home import Home

LIST, CONFLICTS = "`ai-memory list` shows ids", "`ai-memory conflicts list` shows all conflicts"
SHORT = "of an id at least 4 characters are needed"
PROOF = f"{LIST}, `ai-memory links ID` a memory's links"
LOST = (
    'docs/recovery.md, "The key of the node is lost", says how `ai-memory init` in an empty folder makes'
    " another pair of"
    " the same CA"
)
BACK = f"Put it back from a backup; where there is none, {LOST}."


def rubbish(name: str) -> Callable[[Home], Any]:
    def spoil(home: Home) -> None:
        (home.path / name).write_text("garbage\n")
        (home.path / name).chmod(0o600)

    return spoil


def nothing(home: Home) -> None:
    pass


SAID: dict[str, tuple[Callable[[Home], Any], tuple[str, ...], int, str]] = {
    "a certificate that is none": (
        rubbish("node.pem"),
        ("fingerprint",),
        2,
        f"HOME/node.pem holds no usable certificate, PEM expected: -----BEGIN CERTIFICATE----- and so on. {BACK}",
    ),
    "a key that is none": (
        rubbish("node.key"),
        ("fingerprint",),
        2,
        f"HOME/node.key holds no usable key, PEM without a passphrase expected. {BACK}",
    ),
    "a key that is a folder": (
        lambda home: [(home.path / "node.key").unlink(), (home.path / "node.key").mkdir()],
        ("fingerprint",),
        2,
        "HOME/node.key: is a directory, expected a secret in it. This node cannot show its certificate without its key:"
        f" put it back from a backup; where there is none, {LOST}.",
    ),
    "CAs that are none": (
        rubbish("ca.pem"),
        ("fingerprint",),
        2,
        "HOME/ca.pem holds no usable certificate, PEM expected: -----BEGIN CERTIFICATE----- and so on. Put"
        " it back from a"
        " backup, or from another node of the mesh, whose ca.pem has the same CA.",
    ),
    "a journal that is none": (
        rubbish("edit.journal"),
        ("stats",),
        2,
        "HOME/edit.journal: not what an edit wrote, which is carried out before anything else; look whether"
        " config.toml,"
        " allowlist, keyring and ca.pem beside it are as you left them, then run: rm HOME/edit.journal",
    ),
    "a keyring with a wrong line": (
        rubbish("keyring"),
        ("identity", "list"),
        1,
        "HOME/keyring:1:1: found 'garbage', expected ed25519: and a public key in base64url. Correct the"
        " line, or put a #"
        " before it.",
    ),
    "an allowlist with a wrong line": (
        rubbish("allowlist"),
        ("allowlist", "check"),
        1,
        "HOME/allowlist:1:1: found 'g', expected sha256: or a hex digit. Correct the line, or put a # before it.",
    ),
    "no passphrase": (
        lambda home: home.passphrase.unlink(),
        ("stats",),
        2,
        "no passphrase for the store: expected the variable AI_MEMORY_DB_KEY, [store] passphrase_file, the systemd"
        " credential ai-memory-passphrase, [store] passphrase_command, or the file HOME/passphrase. Put it"
        " back where it"
        ' was (README.md, "Where the passphrase comes from"); where it is lost, see docs/recovery.md, "The'
        " passphrase is"
        ' lost"',
    ),
    "a store that others may change": (
        lambda home: (home.path / "store.db").chmod(0o666),
        ("stats",),
        2,
        "HOME/store.db: mode is 0666, with which every user of this machine can change it, expected 0600;"
        " look whether it"
        " still is as you left it, then run: chmod 600 HOME/store.db",
    ),
    "no keyring where one is named": (
        nothing,
        ("keyring", "check", "HOME/none"),
        1,
        "HOME/none:1:1: found no such file or directory, expected a readable file; put it back from a backup, or name"
        " another",
    ),
    "an empty id of a conflict": (nothing, ("conflicts", "show", ""), 1, f"no conflict under ''; {SHORT}; {CONFLICTS}"),
    "no conflict": (
        nothing,
        ("conflicts", "resolve", "3f2a9c04", "--keep", "winner", "--yes"),
        1,
        f"no conflict under 3f2a9c04: at most one version of it is kept; {CONFLICTS}",
    ),
    "an empty id to verify": (nothing, ("verify", ""), 1, f"nothing is kept under the id ''; {SHORT}; {PROOF}"),
    "a short id to verify": (nothing, ("verify", "zz"), 1, f"nothing is kept under the id zz; {SHORT}; {PROOF}"),
    "an id to verify": (
        nothing,
        ("verify", "3f2a9c04"),
        1,
        f"nothing is kept under the id 3f2a9c04, nor under one that begins so; {PROOF}",
    ),
    "an empty id of a memory": (nothing, ("get", ""), 1, f"no memory here has the id ''; {SHORT}; {LIST}"),
    "an end of a link": (nothing, ("link", "", "zz"), 1, f"source_id: '': no memory here has this id; {LIST}"),
    "no link": (
        nothing,
        ("unlink", "3f2a9c04", "zz"),
        1,
        "there is no such link; `ai-memory links ID` shows those of a memory, `ai-memory list` ids",
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_an_error_ends_with_what_to_do(home: Home, case: str) -> None:
    """The whole sentence, and its exit code."""
    spoil, words, code, expected = SAID[case]
    spoil(home)
    ran = run(*(word.replace("HOME", str(home.path)) for word in words), home=home)
    assert (ran.code, ran.out, ran.err) == (code, "", f"ai-memory: {expected.replace('HOME', str(home.path))}\n")


def test_without_the_sentence_the_answer_would_be_bare(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: what the node says alone."""
    monkeypatch.setattr(sought, "MIN_PREFIX", 0)
    assert SHORT not in run("verify", "", home=home).err


def test_a_keyring_that_is_not_there_is_told(home: Home) -> None:
    """No error, as a node needs none; and no file without an error either. Control: an empty one is."""
    path = home.path / "keyring"
    ran = run("keyring", "check", home=home)
    assert (ran.code, ran.out) == (
        0,
        f"{path}: there is no such file, which is an empty keyring; `ai-memory identity enroll` makes it\n",
    )
    assert run("keyring", "check", "--json", home=home).json["exists"] is False
    path.touch()
    assert run("keyring", "check", home=home).out == f"{path}: 0 keys of 0 agents, no error\n"
    assert run("keyring", "check", "--json", home=home).json["exists"] is True


# --- where something lies


def test_an_empty_variable_is_no_folder(tmp_path: Path) -> None:
    """A script whose own variable was not set meant another folder than this user's. Control: without"
    " it that is asked."""
    env = {"AI_MEMORY_HOME": "", "HOME": str(tmp_path), "XDG_DATA_HOME": ""}
    ran = run("stats", "--json", env=env)
    assert (ran.code, ran.error["code"]) == (2, "config")
    assert ran.error["error"] == (
        "environment: AI_MEMORY_HOME is empty, expected the node's folder; name it, or unset the variable for"
        " ~/.local/share/ai-memory"
    )
    del env["AI_MEMORY_HOME"]
    assert str(tmp_path / ".local" / "share" / "ai-memory") in run("stats", "--json", env=env).error["error"]


EMPTY = [
    (("stats", "--home", ""), "folder"),
    (("backup", ""), "file"),
    (("restore", ""), "path"),
    (("keyring", "check", ""), "file"),
    (("allowlist", "check", ""), "file"),
    (("identity", "export", "host:desk", "--to", ""), "path"),
    (("identity", "import", "ai:x", ""), "path"),
    (("import", "--from-rust", ""), "file"),
    (("mesh", "init", "", "--node", "a=a:1"), "folder"),
    (("init", "--ca-cert", "", "--ca-key", "x"), "file"),
]


@pytest.mark.parametrize(("words", "what"), EMPTY, ids=[" ".join(words) for words, _ in EMPTY])
def test_an_empty_path_is_wrong_usage(home: Home, words: tuple[str, ...], what: str) -> None:
    """And not the folder in which the command was given."""
    ran = run(*words, "--json", home=home)
    assert (ran.code, ran.error["code"]) == (2, "usage")
    assert ran.error["error"].endswith(f": it is empty, expected the name of a {what}")


DENIED = [
    ("allowlist", "check", "FILE"),
    ("keyring", "check", "FILE"),
    ("restore", "FILE"),
    ("identity", "import", "ai:x", "FILE"),
    ("import", "--from-rust", "FILE"),
    ("peer", "add", "x", "--fingerprint", "a" * 64, "--ca", "FILE"),
    ("fingerprint", "--home", "FOLDER"),
]


def denied(disk: disks.Disk) -> list[list[Any]]:
    """Each of these commands, of a user who may not read what is named."""
    home = Home(disk.folder.parent / "home-desk")
    folder = disk.folder.parent / "closed"
    file = folder.with_name("file")
    places = {"FILE": str(file), "FOLDER": str(folder)}
    found = []
    for words in DENIED:
        ran = run(*(places.get(word, word) for word in words), home=home)
        found.append([" ".join(words), ran.code, ran.err])
    return found


@pytest.mark.parametrize("looks", [False, True])
def test_what_may_not_be_read_is_told_with_what_to_do(tmp_path: Path, looks: bool) -> None:
    """Whose it is, or how it is opened. Control: where click looks first, it says that it is not"
    " readable, and no more."""
    new_home(tmp_path)
    for name in ("disk", "closed"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "closed" / "config.toml").write_text("x")
    for path in (tmp_path / "file", tmp_path / "closed"):
        path.chmod(0)
    try:
        told = disks.run(denied_where_click_looks if looks else denied, tmp_path / "disk", "no permission")
    finally:
        (tmp_path / "closed").chmod(0o700)
    for words, code, err in told:
        assert code in (1, 2), (words, err)
        assert ("is not readable" in err) is looks, (words, err)
        assert ("chmod u+rw" in err) is not looks, (words, err)


def denied_where_click_looks(disk: disks.Disk) -> list[list[Any]]:
    convert = given.Place.convert

    def looking(self: given.Place, *rest: Any) -> Any:
        self.readable = True
        return convert(self, *rest)

    given.Place.convert = looking  # type: ignore[method-assign]
    return denied(disk)
