"""A store that another process has for a moment: who comes later waits, says what for, and not for ever."""

import signal
from pathlib import Path
from typing import Any

import pytest
from commands import ended, new_home, process, run, serving

from node import opening
from node.cli import backend
from node.cli.backend import HttpBackend, node_or_store
from node.cli.context import Invocation
from node.home import Home, Running
from node.opening import Patience, patiently
from node.store import lock
from node.store.errors import StoreLocked


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return new_home(tmp_path)


def store_of(home: Home) -> Path:
    return home.path / "store.db"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits says so at the first moment."""
    monkeypatch.setattr(opening, "QUIET", 0.0)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("arguments", [("list",), ("identity", "list"), ("store", "a title", "text"), ("stats",)])
def test_a_command_waits_for_another(arguments: tuple[str, ...], home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says who has the store, and goes on once that one is done."""
    held, told = lock.take(store_of(home), lock.COMMAND), []

    def tell(_: Invocation, text: str) -> None:
        told.append(text)
        held.close()

    monkeypatch.setattr(Invocation, "tell", tell)
    ran = run(*arguments, home=home)
    assert ran.code == 0, ran.err
    (text,) = told
    assert "store.db is in use by another process (a command, process " in text
    assert text.endswith("Waiting for it, 30 s at most.")


def test_without_patience_it_fails(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: it is the wait that makes the difference."""
    monkeypatch.setattr(Patience.__init__, "__defaults__", (0.0,))
    with lock.take(store_of(home), lock.COMMAND):
        ran = run("list", home=home)
    assert ran.code == 3
    assert "is in use by another process (a command, process " in ran.err


@pytest.mark.parametrize("as_json", [False, True])
def test_what_it_waits_for_is_no_answer(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told on standard error, as a line or as an object."""
    Invocation(Home(Path()), as_json).tell("a sentence")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ('{"waiting": "a sentence"}\n' if as_json else "ai-memory: a sentence\n")


@pytest.mark.usefixtures("at_once")
def test_a_node_waits_for_a_command(home: Home) -> None:
    """As at boot, when a job of cron has the store open: it says so, and comes up once that one is done."""
    held = lock.take(store_of(home), lock.COMMAND)
    with process("serve", "--home", str(home.path), "--json") as started:
        assert started.stderr is not None
        line = started.stderr.readline().decode()
        assert "store.waiting" in line
        assert "is in use by another process (a command, process " in line
        held.close()
        while "node.ready" not in started.stderr.readline().decode():
            assert started.poll() is None
        assert ended(started)[0] == 0


def test_a_node_that_waits_can_be_stopped(home: Home) -> None:
    """It need not have its store for that."""
    with (
        lock.take(store_of(home), lock.COMMAND),
        process("serve", "--home", str(home.path), "--json") as started,
    ):
        assert started.stderr is not None
        assert "store.waiting" in started.stderr.readline().decode()
        assert ended(started, signal.SIGTERM)[0] == 0


def test_nobody_waits_for_a_node_that_serves(home: Home) -> None:
    """A second one in its folder, and a restore, are refused at once."""
    with serving(home):
        for arguments in (("serve",), ("restore", str(store_of(home)))):
            ran = run(*arguments, home=home)
            assert ran.code in (3, 4), ran.err
            assert "waiting" not in ran.err.lower()


@pytest.mark.usefixtures("at_once")
def test_a_node_that_comes_up_meanwhile_is_asked(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took the lock before its listener was there."""
    node, asked = HttpBackend(Running(1, "http://127.0.0.1:1", None, "store", "00" * 32), None), []

    def running(_: Invocation) -> HttpBackend | None:
        asked.append(1)
        return node if len(asked) > 3 else None

    monkeypatch.setattr(backend, "noted_node", running)
    with lock.take(store_of(home), lock.NODE):
        assert node_or_store(Invocation(home, False)) is node


class Clock:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("holder", "waited"), [(lock.NODE, opening.PATIENCE), (lock.COMMAND, opening.PATIENCE), ("another program", 0.0)]
)
def test_a_wait_ends(holder: str, waited: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the error that there was from the start; it is told once, and another program is not waited for at all."""
    clock, told = Clock(), []
    monkeypatch.setattr(opening, "time", clock)

    def task() -> Any:
        raise StoreLocked("in use.", "Stop it.", holder)

    with pytest.raises(StoreLocked, match="in use"):
        patiently(task, Patience(told.append))
    assert clock.now - 100 == pytest.approx(waited, abs=2 * opening.LOOK_EVERY)
    assert len(told) == (waited > 0)
