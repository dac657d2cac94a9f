"""The same cause has the same exit code, whichever command meets it, and the code is what its table says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import disks
import pytest
from commands import new_home, run
from keys import pair

from node.cli import output
from node.cli.output import EXIT_CODES
from node.config import ConfigError
from node.home import Home
from sync.keyline import key_text

HEX = "a" * 64
KEY = key_text(pair("ai:y").key)


def broken_allowlist(home: Home) -> None:
    (home.path / "allowlist").write_text("oops\n")


def broken_keyring(home: Home) -> None:
    (home.path / "keyring").write_text("oops\n")


def nothing(home: Home) -> None:
    pass


CAUSES: dict[str, tuple[Callable[[Home], None], int, str, list[tuple[str, ...]]]] = {
    "a broken allowlist": (
        broken_allowlist,
        1,
        "a broken allowlist or keyring",
        [
            ("allowlist", "list"),
            ("allowlist", "check"),
            ("allowlist", "add", HEX),
            ("allowlist", "remove", HEX),
            ("peer", "add", "x", "--fingerprint", HEX),
            ("serve",),
        ],
    ),
    "a broken keyring": (
        broken_keyring,
        1,
        "a broken allowlist or keyring",
        [
            ("keyring", "list"),
            ("keyring", "check"),
            ("identity", "list"),
            ("identity", "enroll", KEY, "ai:x"),
            ("identity", "revoke", "ai:x"),
            ("serve",),
        ],
    ),
    "what is not there": (
        nothing,
        1,
        "not found",
        [
            ("identity", "revoke", "ai:nobody"),
            ("identity", "revoke", KEY),
            ("token", "revoke", "ai:nobody"),
            ("peer", "remove", "nobody"),
            ("allowlist", "remove", HEX),
            ("get", "3f2a9c04"),
            ("conflicts", "show", "3f2a9c04"),
        ],
    ),
    "an agent's id that is none": (
        nothing,
        5,
        "the input is not valid",
        [
            ("identity", "generate", "a b"),
            ("identity", "rotate", "a b"),
            ("identity", "export", "a b", "--to", "NEW"),
            ("identity", "import", "a b", "WRONG"),
            ("identity", "enroll", KEY, "a b"),
            ("identity", "revoke", "a b"),
            ("token", "add", "a b"),
            ("store", "title", "content", "--agent-id", "a b"),
        ],
    ),
    "a key, a fingerprint, a time, a name or a pattern that is none": (
        nothing,
        5,
        "the input is not valid",
        [
            ("identity", "enroll", "oops"),
            ("identity", "enroll", "ed25519:oops", "ai:x"),
            ("identity", "revoke", "ed25519:oops"),
            ("identity", "revoke", "ai:x", "--at", "soon"),
            ("allowlist", "add", "oops"),
            ("allowlist", "remove", "oops"),
            ("peer", "add", "x", "--fingerprint", "oops"),
            ("peer", "add", "a#b", "--fingerprint", HEX),
            ("peer", "add", "x", "http://x:1", "--fingerprint", HEX),
            ("peer", "add", "x", "--fingerprint", HEX, "--read", "a//b"),
            ("token", "add", "ai:x", "--read", "a//b"),
            ("token", "add", "ai:x", "--write", "["),
            ("peer", "add", "x", "--fingerprint", HEX, "--read", "["),
            ("peer", "add", "x", "https://x", "--fingerprint", HEX),
            ("mesh", "init", "NEW", "--node", "a=a.mesh", "--node", "b=b.mesh:1"),
            ("init", "--name", "a#b", "--home", "NEW"),
            ("store", "title", "content", "-n", "a//b"),
        ],
    ),
    "a file that is no such thing": (
        nothing,
        5,
        "the input is not valid",
        [
            ("restore", "WRONG"),
            ("identity", "import", "ai:x", "WRONG"),
            ("import", "--from-rust", "WRONG"),
            ("peer", "add", "x", "--fingerprint", HEX, "--ca", "WRONG"),
        ],
    ),
    "a file that cannot be read": (
        nothing,
        2,
        "a file that cannot be read or written",
        [
            ("restore", "MISSING"),
            ("restore", "FOLDER"),
            ("identity", "import", "ai:x", "MISSING"),
            ("import", "--from-rust", "MISSING"),
            ("peer", "add", "x", "--fingerprint", HEX, "--ca", "MISSING"),
        ],
    ),
    "a file that cannot be written": (
        nothing,
        2,
        "a file that cannot be read or written",
        [
            ("backup", "WRONG"),
            ("backup", "MISSING/copy"),
            ("backup", "/dev/full"),
            ("identity", "export", "host:desk", "--to", "WRONG"),
            ("identity", "export", "host:desk", "--to", "MISSING/key"),
        ],
    ),
}
CASES = [(cause, words) for cause, (_, _, _, commands) in CAUSES.items() for words in commands]


@pytest.mark.parametrize(("cause", "words"), CASES, ids=[f"{cause}: {' '.join(words)}" for cause, words in CASES])
def test_a_cause_has_one_exit_code(home: Home, tmp_path: Path, cause: str, words: tuple[str, ...]) -> None:
    """And the table of exit codes names it."""
    spoil, code, meaning, _ = CAUSES[cause]
    assert meaning in EXIT_CODES[code]
    (tmp_path / "wrong").write_text("what is no backup, no key, no database and no certificate\n")
    (tmp_path / "wrong").chmod(0o600)
    places = {"WRONG": "wrong", "MISSING": "missing", "FOLDER": "", "NEW": "new"}
    spoil(home)
    given = [
        str(tmp_path / word.replace(first, places[first])) if (first := word.partition("/")[0]) in places else word
        for word in words
    ]
    ran = run(*given, "--json", home=home)
    assert (ran.code, ran.out) == (code, ""), ran.err
    assert ran.error["error"]


def test_without_the_difference_invalid_input_is_taken_for_the_configuration(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: the code would be that of another cause."""
    for name, words, before, after in (
        ("InvalidInput", ("token", "add", "a b"), 5, 2),
        ("NotThere", ("peer", "remove", "nobody"), 1, 2),
        ("AllowlistError", ("allowlist", "list"), 1, 2),
        ("WrongFile", ("backup", "/dev/full"), 2, 4),
    ):
        if name == "AllowlistError":
            broken_allowlist(home)
        assert run(*words, home=home).code == before
        with monkeypatch.context() as patch:
            patch.setattr(output, name, type("Nothing", (ConfigError,), {}))
            assert run(*words, home=home).code == after


# --- disks


def backs_up(disk: disks.Disk) -> dict[str, Any]:
    home = new_home(disk.folder.parent)
    file = disk.folder / "copy.db"
    disk.fill()
    ran = run("backup", str(file), home=home)
    return {"code": ran.code, "said": ran.err.replace(str(disk.folder), "DISK"), "left": file.exists()}


SAID = {
    "small disk": "no space is left for DISK/copy.db; nothing is there. Free as much as the store has on the disk of"
    " DISK, or name a file on another disk.",
    "read-only disk": "DISK/copy.db cannot be written: the disk of DISK is mounted read-only. Name a file on a disk"
    " that can be written, or mount that one so.",
}


@pytest.mark.parametrize("kind", SAID)
def test_what_is_wrong_with_the_disk_of_a_backup_is_told(kind: str, tmp_path: Path) -> None:
    """The store is well: it is the file that cannot be written, and the advice is about its disk."""
    if (why := disks.obstacle()) is not None:
        pytest.skip(why)
    folder = tmp_path / "disk"
    folder.mkdir()
    told = disks.run(backs_up, folder, kind)
    assert told == {"code": 2, "said": f"ai-memory: {SAID[kind]}\n", "left": False}
