"""Edits of a node's files: one after the other, none lost, and each whole."""

import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import new_home, run
from forks import Forks, forks

from node import config as configuration
from node import editing, files, keyfile
from node.config import ConfigError
from node.home import Home
from sync.attest import KeyPair
from sync.keyline import key_text
from sync.keyring import KeyringError
from tls import allowlist

MANY = 8
KEYS = [key_text(KeyPair.of(f"ai:{number}", bytes([number + 1]) * 32).key) for number in range(MANY)]
PRINTS = [f"sha256:{number + 1:064x}" for number in range(MANY)]
EDITS: dict[str, Callable[[int], list[str]]] = {
    "peer add": lambda n: ["peer", "add", f"peer-{n}", f"https://h{n}:9443", "--fingerprint", PRINTS[n]],
    "peer remove": lambda n: ["peer", "remove", f"peer-{n}"],
    "allowlist add": lambda n: ["allowlist", "add", PRINTS[n], "--label", f"peer-{n}"],
    "allowlist remove": lambda n: ["allowlist", "remove", PRINTS[n]],
    "identity enroll": lambda n: ["identity", "enroll", KEYS[n], f"ai:{n}"],
    "identity revoke": lambda n: ["identity", "revoke", f"ai:{n}"],
}
UNDONE = {"peer remove": "peer add", "allowlist remove": "allowlist add", "identity revoke": "identity enroll"}
UNLOCKED = """
import fcntl, os, time
from pathlib import Path
import node.editing
from tls import allowlist
real, folder = allowlist.read, Path({folder!r})

def read(path):
    text = real(path)
    (folder / str(os.getpid())).touch()
    end = time.monotonic() + 20
    while len(list(folder.iterdir())) < {many} and time.monotonic() < end:
        time.sleep(0.01)
    return text

allowlist.read = read
node.editing._wait = lambda *_: None
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with forks(tmp_path_factory.mktemp("said")) as made:
        yield made


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return new_home(tmp_path)


def standing(home: Home) -> dict[str, int]:
    """How many peers are configured, certificates listed, keys enrolled and keys revoked."""
    ring = keyfile.load(home.path / "keyring")
    return {
        "peer": len(configuration.load(home.config, {}).peers),
        "allowlist": len(allowlist.load(home.path / "allowlist")),
        "enrolled": len(ring),
        "revoked": sum(one.revoked is not None for one in ring.entries),
    }


AFTER = {
    "peer add": {"peer": MANY, "allowlist": MANY},
    "peer remove": {"peer": 0, "allowlist": 0},
    "allowlist add": {"allowlist": MANY},
    "allowlist remove": {"allowlist": 0},
    "identity enroll": {"enrolled": MANY},
    "identity revoke": {"enrolled": MANY, "revoked": MANY},
}


@pytest.mark.parametrize("name", EDITS)
def test_edits_at_one_time_lose_nothing(name: str, home: Home, server: Forks) -> None:
    """Eight processes at once; all say success, and all that they said is so."""
    for number in range(MANY if name in UNDONE else 0):
        assert run(*EDITS[UNDONE[name]](number), home=home).code == 0
    begun = [server.begin([*EDITS[name](number), "--home", str(home.path)]) for number in range(MANY)]
    assert [one.wait() for one in begun] == [0] * MANY
    assert standing(home).items() >= AFTER[name].items()


def test_edits_of_all_kinds_at_one_time_lose_nothing(home: Home, server: Forks) -> None:
    """Pairing, listing and revoking do not undo each other."""
    for number in range(4):
        assert run(*EDITS["identity enroll"](number), home=home).code == 0
    wanted = [EDITS["peer add"](n) for n in range(4)] + [EDITS["identity revoke"](n) for n in range(4)]
    wanted += [EDITS["allowlist add"](n) for n in range(4, 8)] + [EDITS["identity enroll"](n) for n in range(4, 8)]
    begun = [server.begin([*one, "--home", str(home.path)]) for one in wanted]
    assert [one.wait() for one in begun] == [0] * len(wanted)
    assert standing(home) == {"peer": 4, "allowlist": 8, "enrolled": 8, "revoked": 4}


def test_without_the_lock_they_lose_each_other(home: Home, tmp_path: Path) -> None:
    """Control: where each has read before any writes, every command says success, and one line is left."""
    (tmp_path / "read").mkdir()
    without = UNLOCKED.format(folder=str(tmp_path / "read"), many=MANY)
    with forks(tmp_path / "said", without) as server:
        begun = [server.begin([*EDITS["allowlist add"](n), "--home", str(home.path)]) for n in range(MANY)]
        assert [one.wait() for one in begun] == [0] * MANY
    assert standing(home)["allowlist"] < MANY


def test_two_at_once_make_one_node(tmp_path: Path, server: Forks) -> None:
    """Of several `init` in one folder one makes the node, and the others say that there is one."""
    folder = tmp_path / "node"
    begun = [server.begin(["init", "--name", "desk", "--home", str(folder)]) for _ in range(4)]
    codes = sorted(one.wait() for one in begun)
    assert codes == [0, 2, 2, 2], [one.said for one in begun]
    assert run("stats", home=Home(folder)).code == 0


def test_who_waits_too_long_says_for_what(home: Home) -> None:
    """An edit that another one keeps out names the lock, and changes nothing."""
    before = home.config.read_bytes()
    with (
        editing.editing(home.path),
        pytest.raises(ConfigError, match=r"edit\.lock: another command has been editing this node for 0 s"),
        editing.editing(home.path, patience=0.0),
    ):
        raise AssertionError("two at one time")
    assert home.config.read_bytes() == before


def test_an_edit_waits_for_the_one_before(home: Home) -> None:
    """And goes on once that is done."""
    order: list[str] = []
    held, go = threading.Event(), threading.Event()

    def first() -> None:
        with editing.editing(home.path):
            held.set()
            go.wait(20)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert held.wait(20)
    threading.Timer(0.1, go.set).start()
    with editing.editing(home.path):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def journal(home: Home, changes: dict[Path, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit that was killed once it had been written down."""

    def killed(folder: Path) -> None:
        if (folder / editing.JOURNAL).exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), editing.editing(home.path):
        patch.setattr(editing, "_carry_out", killed)
        editing.write(home.path, changes)


def test_what_was_written_down_happens(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next command of any kind carries it out, in the folder and outside of it, modes and links kept."""
    outside = tmp_path / "elsewhere" / "list"
    outside.parent.mkdir()
    outside.write_text("old")
    outside.chmod(0o640)
    (home.path / "link").symlink_to(outside)
    changes = {home.path / "link": b"new", home.config: home.config.read_bytes() + b"# an edit\n"}
    journal(home, changes, monkeypatch)
    assert outside.read_text() == "old"
    assert editing.is_unfinished(home.path)
    assert run("peer", "list", home=home).code == 0
    assert outside.read_text() == "new"
    assert (home.path / "link").is_symlink()
    assert outside.stat().st_mode & 0o777 == 0o640
    assert home.config.read_text().endswith("# an edit\n")
    assert not editing.is_unfinished(home.path)


def test_a_journal_that_nobody_wrote_is_named(home: Home) -> None:
    """It changes nothing."""
    (home.path / editing.JOURNAL).write_text(json.dumps([["config.toml", "not base64!"]]))
    before = home.config.read_bytes()
    ran = run("peer", "list", home=home)
    assert ran.code == 2
    assert "edit.journal: not what an edit wrote" in ran.err
    assert home.config.read_bytes() == before


def test_a_journal_that_others_could_change_is_not_carried_out(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what is written where. Control: with its own mode it is carried out."""
    other = home.path / "notes"
    other.write_text("old")
    journal(home, {other: b"new", home.config: home.config.read_bytes() + b"# an edit\n"}, monkeypatch)
    (home.path / editing.JOURNAL).chmod(0o666)
    ran = run("peer", "list", home=home)
    assert (ran.code, "edit.journal: mode is 0666" in ran.err, other.read_text()) == (2, True, "old")
    (home.path / editing.JOURNAL).chmod(0o600)
    assert run("peer", "list", home=home).code == 0
    assert other.read_text() == "new"


def test_a_lock_that_root_makes_is_the_owners(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the node, which is not root, could edit nothing any more. Who is not root gives nothing away."""
    (home.path / editing.LOCK).unlink()
    given: list[tuple[int, int]] = []
    real = Path.stat

    def of_bob(path: Path, **options: bool) -> os.stat_result:
        found = list(real(path, **options))
        found[stat.ST_UID], found[stat.ST_GID] = 1_001, 1_002
        return os.stat_result(found)

    monkeypatch.setattr(Path, "stat", of_bob)
    monkeypatch.setattr(files.os, "fchown", lambda descriptor, user, group: given.append((user, group)))
    for me, expected in ((1_001, []), (0, [(1_001, 1_002)])):
        monkeypatch.setattr(files.os, "geteuid", lambda me=me: me)
        with editing.editing(home.path):
            assert given == expected


def test_an_edit_that_changes_nothing_writes_nothing(home: Home) -> None:
    """Not even a journal, so no running node looks again."""
    before = home.config.stat().st_mtime_ns
    with editing.editing(home.path):
        editing.write(home.path, {home.config: home.config.read_bytes()})
    assert home.config.stat().st_mtime_ns == before


def test_a_keyring_that_others_could_write_is_not_taken_in(tmp_path: Path) -> None:
    """Whoever can write it says whose key is whose; the message says what to run."""
    path = tmp_path / "keyring"
    path.write_text("")
    path.chmod(0o666)
    told = f"every user of this machine can change it, expected 0644; .* chmod go-w {path}"
    with pytest.raises(KeyringError, match=told):
        keyfile.read(path)
    path.chmod(0o644)
    assert keyfile.read(path) == ""
