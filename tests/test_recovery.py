"""The ways back that docs/recovery.md shows, run as printed, each after the loss that it is for."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import clean_environment, new_home, run
from documents import read

from node.home import Home

TEXT = read("docs/recovery.md")
TITLES = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)


def blocks(title: str) -> list[str]:
    """The shell blocks below a heading."""
    part = TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", part, re.DOTALL)


def typed(block: str, home: Home, backups: Path) -> str:
    """Run a block; every command of it has to succeed. Returns what it printed."""
    environment = clean_environment() | {"AI_MEMORY_HOME": str(home.path)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    text = block.replace("/mnt/backup", str(backups))
    done = subprocess.run(["bash", "-ec", text], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    return done.stdout


def titles(home: Home) -> set[str]:
    ran = run("list", "--json", home=home)
    assert ran.code == 0, ran.err
    return {one["title"] for one in ran.json["memories"]}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A node with one memory, backed up as the page says, and another written since."""
    made = new_home(tmp_path)
    assert run("store", "one", "in the backup", home=made).code == 0
    (tmp_path / "backups").mkdir()
    (kept,) = blocks("What to keep")
    typed(kept, made, tmp_path / "backups")
    assert run("store", "two", "after the backup", home=made).code == 0
    return made


def damage(home: Home) -> None:
    store = home.path / "store.db"
    store.write_bytes(store.read_bytes()[:9_000])


def lose_store(home: Home) -> None:
    for path in home.path.glob("store.db*"):
        path.unlink()


def lose_passphrase(home: Home) -> None:
    home.passphrase.unlink()


def lose_key(home: Home) -> None:
    (home.path / "node.key").unlink()


def lose_all(home: Home) -> None:
    shutil.rmtree(home.path)


def nothing(home: Home) -> None:
    pass


Losses = tuple[Callable[[Home], None], set[str]]
WAYS: dict[str, list[Losses]] = {
    "What to keep": [],
    "The store is damaged, or an older state is wanted": [(damage, {"one"}), (nothing, {"one"})],
    "The disk of the store is lost": [(lose_store, set())],
    "The whole machine is lost": [(lose_all, {"one"})],
    "The passphrase is lost": [(lose_passphrase, {"one", "two"}), (lose_passphrase, set())],
    "The key of the node is lost": [(lose_key, {"one", "two"}), (lose_key, {"one", "two"})],
    "A command was killed in the middle": [(nothing, {"one", "two"})],
}
"""For each heading the losses before its blocks, and what the node has after each."""
CASES = [(title, number) for title, losses in WAYS.items() for number in range(len(losses))]


def test_every_way_is_tried() -> None:
    """The page's headings, and their blocks, are those that are run here."""
    assert list(WAYS) == TITLES
    assert len(blocks("What to keep")) == 1
    for title, losses in WAYS.items():
        assert title == "What to keep" or len(blocks(title)) == len(losses), title


def test_the_page_says_first_which_folder_is_meant(tmp_path: Path) -> None:
    """Each of its commands needs the variable; it is the folder of a node for which nobody named one."""
    first = TEXT.partition("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", first, re.DOTALL)
    environment = {name: value for name, value in clean_environment().items() if name != "XDG_DATA_HOME"}
    done = subprocess.run(
        ["bash", "-euc", f'{block}printf %s "$AI_MEMORY_HOME"'],
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == str(tmp_path / ".local" / "share" / "ai-memory")
    assert "$AI_MEMORY_HOME" in TEXT.partition("\n## ")[2]


def test_the_last_restore_is_undone_where_there_were_several(home: Home, tmp_path: Path) -> None:
    """What the newest of them put aside comes back. Control: there are two that the name fits."""
    restore, undo = blocks("The store is damaged, or an older state is wanted")
    typed(restore, home, tmp_path / "backups")
    assert run("store", "three", "after the first restore", home=home).code == 0
    typed(restore, home, tmp_path / "backups")
    assert titles(home) == {"one"}
    assert len(list(home.path.glob("store.db.before-*/store.db"))) == 2
    typed(undo, home, tmp_path / "backups")
    assert titles(home) == {"one", "three"}


@pytest.mark.parametrize(("title", "number"), CASES)
def test_a_way_back_leads_back(title: str, number: int, home: Home, tmp_path: Path) -> None:
    """The commands succeed, and the node has what the page says; without them it has not."""
    lose, expected = WAYS[title][number]
    lose(home)
    if lose is not nothing:
        # The control: something was lost.
        assert {run("stats", home=home).code, run("fingerprint", home=home).code} != {0}
    if title == "The store is damaged, or an older state is wanted" and number == 1:
        typed(blocks(title)[0], home, tmp_path / "backups")
        expected = {"one", "two"}  # the restore is undone
    typed(blocks(title)[number], home, tmp_path / "backups")
    assert titles(home) == expected
