"""Commands on a node whose disk is full or cannot be written: what is there is shown, and no write is half done."""

from pathlib import Path
from typing import Any

import disks
import pytest
from commands import Ran, new_home, run
from disks import Disk

from node.cli.backend import Store
from node.home import Home

READS = {
    "list": ("list",),
    "get": ("get", "{id}"),
    "search": ("search", "apple"),
    "stats": ("stats",),
    "conflicts": ("conflicts", "list"),
    "verify": ("verify", "{id}"),
    "verify all": ("verify", "--all"),
    "identity": ("identity", "list"),
}
WRITES = {
    "store": ("store", "another", "text"),
    "promote": ("promote", "{id}"),
    "identity": ("identity", "generate", "ai:ann"),
    "delete": ("delete", "{id}"),
}


def told(commands: dict[str, tuple[str, ...]], home: Home, record_id: str) -> dict[str, list[Any]]:
    def one(words: tuple[str, ...]) -> list[Any]:
        ran: Ran = run(*(word.format(id=record_id) for word in words), home=home)
        return [ran.code, ran.out, ran.err]

    return {name: one(words) for name, words in commands.items()}


def made(folder: Path) -> str:
    """A node with one memory; its id."""
    home = new_home(folder)
    assert run("store", "a title", "an apple", home=home).code == 0
    return str(run("list", "--json", home=home).json["memories"][0]["id"])


def commands_there(disk: Disk) -> dict[str, Any]:
    home = Home(disk.folder / "home-desk")
    if not home.path.exists():  # a disk that was mounted empty
        made(disk.folder)
        record_id = str(run("list", "--json", home=home).json["memories"][0]["id"])
        (disk.folder / "id").write_text(record_id)
        disk.fill()
    if disk.folder.stat().st_mode & 0o777 == 0o500:
        home.path.chmod(0o500)
    record_id = (disk.folder / "id").read_text()
    return {"reads": told(READS, home, record_id), "writes": told(WRITES, home, record_id)}


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize("kind", ["read-only disk", "no permission", "small disk"])
def test_what_is_there_is_shown_and_what_would_be_written_is_refused(kind: str, tmp_path: Path) -> None:
    """Each command that reads answers as ever, and says that it only reads; each that writes says what is wrong."""
    if kind != "small disk":
        (tmp_path / "id").write_text(made(tmp_path))
    try:
        found = disks.run(commands_there, tmp_path, kind)
    finally:
        tmp_path.chmod(0o700)
        if (tmp_path / "home-desk").exists():
            (tmp_path / "home-desk").chmod(0o700)
    cause = "no space is left" if kind == "small disk" else "cannot be"
    for name, (code, out, err) in found["reads"].items():
        assert code == 0, (name, out, err)
        assert out, name
        assert "the store is only read" in err
        assert cause in err
    for name in ("list", "get", "search"):
        assert "a title" in found["reads"][name][1]
    for name, (code, out, err) in found["writes"].items():
        assert code == 4, (name, out, err)
        assert out == ""
        assert cause in err.splitlines()[-1], name
        assert err.endswith(" Then run the command again.\n"), name  # its process has ended: nothing goes on by itself
        assert "no restart" not in err


def test_on_an_ordinary_disk_nothing_is_said(tmp_path: Path) -> None:
    """Control: the same commands without trouble."""
    record_id = made(tmp_path)
    every = READS | {f"{name}, written": words for name, words in WRITES.items()}
    found = told(every, Home(tmp_path / "home-desk"), record_id)
    assert {code for code, _, _ in found.values()} == {0}
    assert not any("only read" in err for _, _, err in found.values())


@pytest.mark.usefixtures("mounts")
def test_without_that_way_nothing_could_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: on a read-only disk the ordinary opening fails, and each command with it."""
    (tmp_path / "id").write_text(made(tmp_path))
    found = disks.run(ordinary_way_alone, tmp_path, "read-only disk")
    assert {code for code, _, _ in found["reads"].values()} == {4}


def ordinary_way_alone(disk: Disk) -> dict[str, Any]:
    def refuse(path: Path, passphrase: str, cause: Exception, **_: Any) -> None:
        raise cause

    Store.open_to_read = refuse  # type: ignore[method-assign,assignment]
    return commands_there(disk)
