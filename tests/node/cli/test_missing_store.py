"""A store that is not there, an unmounted volume say: only `init` makes one, and all else says what was expected."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import new_home, run

from node import setup
from node.home import Home
from node.store import Store, making

COMMANDS = (
    ("serve",),
    ("store", "title", "text"),
    ("get", "some-id"),
    ("list",),
    ("search", "word"),
    ("stats",),
    ("backup", "backup.db"),
    ("verify", "--all"),
    ("conflicts", "list"),
    ("identity", "generate", "ai:bob"),
    ("identity", "list"),
    ("identity", "rotate", "ai:bob"),
    ("identity", "export", "ai:bob", "--to", "bob.pem"),
    ("settle", "--future"),
)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """Where the store's disk is mounted."""
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume"


@pytest.fixture
def env(volume: Path) -> dict[str, str]:
    return {"AI_MEMORY_STORE_PATH": str(volume / "store.db")}


@pytest.fixture
def home(tmp_path: Path, env: dict[str, str]) -> Home:
    """A node whose store lies on a disk of its own, on which it has one memory; the disk is not mounted."""
    made = new_home(tmp_path, environment=dict(env))
    assert run("store", "one", "text", home=made, env=env).code == 0
    return made


def unmount(volume: Path) -> None:
    volume.rename(volume.with_name("the disk"))
    volume.mkdir()


def test_no_command_makes_a_store(
    home: Home, env: dict[str, str], volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each says what it expected where, and what to do; nothing is written below the mount point."""
    monkeypatch.chdir(home.path)
    unmount(volume)
    for arguments in COMMANDS:
        ran = run(*arguments, home=home, env=env)
        assert ran.code == 4, ran.err
        assert f"there is no store at {volume / 'store.db'}, where this node's is expected." in ran.err
        assert "Is its disk mounted? Else `ai-memory restore FILE`" in ran.err
        assert list(volume.iterdir()) == []
    volume.rmdir()
    volume.with_name("the disk").rename(volume)
    assert {one["title"] for one in run("list", "--json", home=home, env=env).json["memories"]} == {"one"}


def test_without_the_look_an_empty_one_would_be_served(
    home: Home, env: dict[str, str], volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: a store that is opened as it was before, made where there is none."""
    unmount(volume)
    real = Store.open
    monkeypatch.setattr(making, "require", lambda path: None)
    monkeypatch.setattr(Store, "open", lambda *arguments, **options: real(*arguments, **options | {"create": True}))
    ran = run("list", "--json", home=home, env=env)
    assert ran.code == 0, ran.err
    assert ran.json["memories"] == []


def test_a_log_without_its_store_is_kept_for_it(home: Home, env: dict[str, str], volume: Path) -> None:
    """What was written last may be in it: it is named, and no new store is put beside it."""
    (volume / "store.db").rename(volume / "away.db")
    (volume / "store.db-wal").write_bytes(b"the last writes")
    ran = run("list", home=home, env=env)
    assert ran.code == 4
    assert f"What was written last is in {volume / 'store.db-wal'}: keep that file with its store." in ran.err
    ran = run("init", "--store", home=home, env=env)
    assert ran.code == 4
    assert "store.db-wal lies there without its store: it may hold what was written last." in ran.err
    assert (volume / "store.db-wal").read_bytes() == b"the last writes"


GONE: dict[str, tuple[Callable[[Home], object], int, str]] = {
    "the folder": (lambda home: shutil.rmtree(home.path), 2, "config.toml: No such file or directory; run"),
    "the configuration": (lambda home: home.config.unlink(), 2, "config.toml: No such file or directory"),
    "a folder as configuration": (lambda home: (home.config.unlink(), home.config.mkdir()), 2, "Is a directory"),
    "the passphrase": (lambda home: home.passphrase.unlink(), 2, "no passphrase for the store: expected the variable"),
    "a folder as passphrase": (
        lambda home: (home.passphrase.unlink(), home.passphrase.mkdir(mode=0o700)), 2, "passphrase: is a directory",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", GONE)
def test_whatever_else_is_gone_is_named(what: str, home: Home, env: dict[str, str]) -> None:
    """The same for who serves and for who asks; and nothing is made in its place."""
    spoil, code, text = GONE[what]
    spoil(home)
    for arguments in (("serve",), ("list",), ("backup", str(home.path.with_name("backup.db")))):
        ran = run(*arguments, home=home, env=env)
        assert ran.code == code, ran.err
        assert text in ran.err
    assert home.path.exists() == (what != "the folder")


def test_init_makes_the_store_of_a_node_that_lost_it(home: Home, env: dict[str, str], volume: Path) -> None:
    """Only when asked for just that, and never over one that is there."""
    unmount(volume)
    assert run("init", home=home, env=env).code == 2  # there is a node already
    ran = run("init", "--store", "--json", home=home, env=env)
    assert ran.json == {"store": str(volume / "store.db")}
    assert run("list", "--json", home=home, env=env).json["memories"] == []
    again = run("init", "--store", home=home, env=env)
    assert again.code == 2
    assert "there is a store already; `ai-memory restore FILE` would put a backup there" in again.err
    assert run("init", "--store", "--name", "x", home=home, env=env).code == 2


def test_a_store_waits_for_its_passphrase(tmp_path: Path) -> None:
    """Where none is known yet `init` makes all else, and says how to go on."""
    home = Home(tmp_path / "node")
    ran = run("init", "--name", "desk", "--no-passphrase-file", home=home)
    assert ran.code == 0
    assert "there is no store yet: once its passphrase is there, make it with `ai-memory init --store`" in ran.out
    assert not (home.path / "store.db").exists()
    assert run("init", "--store", home=home).code == 2
    secret = {"AI_MEMORY_DB_KEY": "a secret"}
    assert run("init", "--store", home=home, env=secret).code == 0
    assert run("stats", home=home, env=secret).code == 0


def test_a_passphrase_that_is_given_is_the_stores(tmp_path: Path) -> None:
    """Then no other one is written beside it."""
    home, secret = Home(tmp_path / "node"), {"AI_MEMORY_DB_KEY": "a secret"}
    ran = run("init", "--name", "desk", home=home, env=secret)
    assert ran.code == 0
    assert "back it up" not in ran.out
    assert not home.passphrase.exists()
    assert run("stats", home=home, env=secret).code == 0


def test_a_store_without_its_passphrase_is_not_taken_over(tmp_path: Path) -> None:
    """`init` in an emptied folder whose store lies elsewhere: a new passphrase would not open it."""
    env = {"AI_MEMORY_STORE_PATH": str(tmp_path / "elsewhere.db")}
    first = Home(tmp_path / "first")
    setup.init(first, "desk", ("localhost",), environment=dict(env))
    second = Home(tmp_path / "second")
    ran = run("init", "--name", "desk", home=second, env=env)
    assert ran.code == 2
    assert "there is a store already, and no passphrase for it: put its own into" in ran.err
    assert not second.path.exists()
