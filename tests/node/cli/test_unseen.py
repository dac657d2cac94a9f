"""Commands that do not find what they need to speak to the node: its API key, or the note that says where it is."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from commands import Ran, edit, run, serving

from node import health
from node.cli import backend
from node.home import Home, Running
from node.opening import Patience
from node.store import lock

WORDS = [("store", "title", "text"), ("list",), ("identity", "generate", "ai:x"), ("sync", "status")]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is in use is not waited for."""
    monkeypatch.setattr(Patience.__init__, "__defaults__", (0.0,))


def failed(home: Home, *words: str) -> tuple[int, str, str]:
    """Exit code, code and sentence."""
    ran = run(*words, "--json", home=home)
    return ran.code, ran.error["code"], ran.error["error"]


# --- the key


def test_a_key_that_is_not_there_is_named_with_what_to_do(home: Home) -> None:
    """It is a fault of the configuration, whichever command finds it; and what the sentence says to do mends it."""
    with serving(home):
        home.api_key.unlink()
        for words in WORDS:
            code, kind, text = failed(home, *words)
            assert (code, kind) == (2, "config"), words
            assert text.startswith(f"{home.api_key} is not there: expected is a file with the API key")
            assert "`ai-memory api-key rotate`" in text
        assert run("api-key", "rotate", home=home).code == 0
        assert [run(*words, home=home).code for words in WORDS] == [0] * len(WORDS)


def test_without_the_look_only_the_node_would_speak(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a command that sends no key hears that it is refused, and of no file."""
    monkeypatch.setattr(backend, "_api_key", lambda *_: None)
    with serving(home):
        home.api_key.unlink()
        for words in WORDS:
            assert str(home.api_key) not in failed(home, *words)[2]


def test_a_line_that_was_changed_does_not_hide_the_status(home: Home) -> None:
    """The node has the key that it had: what it has to tell is that the edit waits for a start."""
    with serving(home):
        edit(home, "local", "api_key_file", '"other"')
        code, kind, text = failed(home, "list")
        assert (code, kind) == (2, "config")
        assert text.startswith(f"{home.path / 'other'} is not there")
        ran: Ran = until_told(home)
        assert ran.code == 1
        assert "NOT IN FORCE config restart: [local] api_key_file take effect at the next start" in ran.out


def until_told(home: Home) -> Ran:
    """The status, once the node has noticed the edit; commands take their time, so a number of looks is a bound."""
    for _ in range(60):
        if "NOT IN FORCE" in (ran := run("sync", "status", home=home)).out:
            return ran
        time.sleep(0.1)
    raise AssertionError(f"never: {ran}")


def test_a_key_that_the_node_does_not_take_is_told_as_that(home: Home) -> None:
    """Where no file is named any more, or another: exit code 2, and where the right one is to be found."""
    with serving(home):
        edit(home, "local", "api_key_file", '"api-key"  # taken out below')
        text = home.config.read_text()
        home.config.write_text("".join(line for line in text.splitlines(keepends=True) if "api_key_file" not in line))
        for words in WORDS:
            assert failed(home, *words) == (2, "unauthorized", backend.KEY_REFUSED)


# --- the note


@contextmanager
def holding(home: Home, holder: str) -> Iterator[None]:
    """A process, this one, has the store."""
    with lock.take(home.path / "store.db", holder):
        yield


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_a_node_without_its_note_is_not_told_as_none(home: Home, words: tuple[str, ...]) -> None:
    """What has the store, what is missing, what it may mean, and what to do."""
    with holding(home, lock.NODE):
        code, kind, text = failed(home, *words)
    assert (code, kind) == (3, "store_locked")
    assert f"store.db is in use by another process (a node, process {os.getpid()})." in text
    assert f"But {home.run}, which tells commands where that node is, is not there." in text
    assert "Try again in a few seconds" in text
    assert "start the node with `ai-memory serve`" in text


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_a_note_that_leads_to_nobody_is_told(home: Home, words: tuple[str, ...]) -> None:
    """Of a node that begins or ends, say: it is there, and nobody listens where it says."""
    with holding(home, lock.NODE):
        home.write_run(Running(os.getpid(), "http://127.0.0.1:1", None, str(home.path / "store.db"), "5e" * 32))
        code, kind, text = failed(home, *words)
    assert (code, kind) == (3, "store_locked")
    assert "leads to nobody who answers" in text


def test_a_command_that_has_the_store_is_no_node(home: Home) -> None:
    """Then no node runs here, as the status says; and nobody has it once the lock is free."""
    with holding(home, lock.COMMAND):
        assert failed(home, "sync", "status")[1] == "not_running"
        assert "But " not in failed(home, "list")[2]
    assert health.holder(home.path / "store.db") is None
    assert failed(home, "sync", "status")[:2] == (3, "not_running")


def test_without_asking_the_lock_the_status_would_deny_the_node(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    monkeypatch.setattr(health, "unseen", lambda home, held: None)
    with holding(home, lock.NODE):
        assert failed(home, "sync", "status")[1] == "not_running"
