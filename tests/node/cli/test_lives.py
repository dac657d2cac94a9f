"""Lives that commands begin where no node runs: one for each that writes, and none to read."""

from pathlib import Path

import pytest
from commands import new_home, run

from node import config as configuration
from node import passphrase
from node.cli import backend
from node.home import Home
from node.store import Store

READS = (("list",), ("search", "tea"), ("stats",), ("identity", "list"), ("conflicts", "list"), ("verify", "--all"))


def lives_of(home: Home) -> int:
    config = configuration.load(home.config, {})
    store = Store.open(home.store(config), passphrase.find(config, home), create=False)
    try:
        return len(store.reader.call(lambda reader: reader.lives()))
    finally:
        store.close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = new_home(tmp_path)
    assert run("store", "tea", "green", home=made).code == 0
    return made


@pytest.mark.parametrize("command", READS, ids=lambda command: command[0])
def test_a_command_that_only_reads_begins_no_life(home: Home, command: tuple[str, ...]) -> None:
    """So what runs every minute makes nothing longer."""
    before = lives_of(home)
    ran = run(*command, home=home)
    assert ran.code == 0, ran
    assert lives_of(home) == before == 1


def test_a_command_that_writes_begins_one(home: Home) -> None:
    """An older copy may have been put in place since: what this one issues must not be what was issued before."""
    for title in ("one", "two"):
        assert run("store", title, "text", home=home).code == 0
    assert lives_of(home) == 3


def test_without_that_look_every_command_would(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a life that begins when the store is opened."""
    true = backend.StoreBackend.__init__

    def opened(self: backend.StoreBackend, memories: object, *rest: object) -> None:
        import asyncio

        asyncio.run(memories._before_write())  # type: ignore[attr-defined]  # a test looks behind the wall
        true(self, memories, *rest)  # type: ignore[arg-type]  # what the true one was called with

    monkeypatch.setattr(backend.StoreBackend, "__init__", opened)
    before = lives_of(home)
    assert run("list", home=home).code == 0
    assert lives_of(home) == before + 1
