"""The program as a person runs it: in this process where one command is enough, as a process where it has to live."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from stores import key_of

from node import config as configuration
from node import setup
from node.cli import main
from node.files import write_private
from node.home import Home
from node.store import making

PATIENCE = 30.0
"""Seconds after which a wait that should end by itself is given up."""
PASSPHRASE = "a passphrase of forty characters or more, say"
PROGRAM = (sys.executable, "-m", "node")


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on standard output. Fails where there is anything else."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The one JSON object on standard error. Fails where there is anything else, or anything on standard output."""
        assert self.out == "", self.out
        told = json.loads(self.err)
        assert set(told) == {"error", "code"}, told
        return dict(told)


def clean_environment() -> dict[str, str]:
    """This process's environment without a variable that is ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AI_MEMORY_")}


def run(
    *arguments: str, home: Home | None = None, env: Mapping[str, str] | None = None, stdin: str | bytes = ""
) -> Ran:
    """Run a command in this process. An exception that a command lets out is raised here, as the bug that it is."""
    changes: dict[str, str | None] = {name: None for name in os.environ if name.startswith("AI_MEMORY_")}
    changes |= dict(env or {})
    if home is not None:
        changes["AI_MEMORY_HOME"] = str(home.path)
    ran = CliRunner().invoke(main, list(arguments), input=stdin, env=changes, prog_name="ai-memory")
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return Ran(ran.exit_code, ran.stdout, ran.stderr)


def new_home(
    folder: Path, name: str = "desk", environment: Mapping[str, str] | None = None, *, api_key: bool = True
) -> Home:
    """A node's folder, made as `ai-memory init` makes it, with listeners on ports that the system chooses.

    All have one passphrase and one salt, so that the key of their stores is derived once. `environment`: of the node.
    `api_key`: whether its local listener asks for one.
    """
    home, given = Home(folder / f"home-{name}"), dict(environment or {})
    setup.init(home, name, ("localhost", "127.0.0.1"), write_passphrase=False, api_key=api_key, environment=given)
    write_private(home.passphrase, f"{PASSPHRASE}\n".encode())
    making.make(home.store(configuration.load(home.config, given)), key_of(PASSPHRASE, b"one salt for all"))
    edit(home, "local", "listen", '"127.0.0.1:0"')
    edit(home, "federation", "listen", '"127.0.0.1:0"')
    return home


def edit(home: Home, section: str, key: str, value: str) -> None:
    """Set a key of the configuration that `init` made; `value` is TOML."""
    lines, found = [], ""
    for line in home.config.read_text().splitlines(keepends=True):
        if line.startswith("["):
            found = line.strip().strip("[]")
        if found == section and line.removeprefix("# ").startswith(f"{key} = "):
            line = f"{key} = {value}\n"
        lines.append(line)
    home.config.write_text("".join(lines))


@contextmanager
def process(*arguments: str, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """The program as a process of its own, gone at the end."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*PROGRAM, *arguments],
        env=clean_environment() | dict(env or {}),
        stdin=subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
    ) as started:
        try:
            yield started
        finally:
            if started.poll() is None:
                started.kill()


@contextmanager
def serving(home: Home, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """`ai-memory serve` in this folder, once it answers."""
    with process("serve", "--home", str(home.path), *arguments, env=env) as started:
        end = time.monotonic() + PATIENCE
        while (running := home.running()) is None or running.pid != started.pid:
            assert started.poll() is None, (started.stderr or sys.stderr).read()
            assert time.monotonic() < end, "the node does not come up"
            time.sleep(0.02)
        yield started


def first_line(started: subprocess.Popen[bytes]) -> bytes:
    """The first line that a process prints, as soon as it does."""
    assert started.stdout is not None
    ready, _, _ = select.select([started.stdout], [], [], PATIENCE)
    assert ready, "nothing was printed"
    return started.stdout.readline()


def ended(started: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> tuple[int, str, str]:
    """Stop a process by a signal: its exit status, and what it still printed on both outputs."""
    started.send_signal(number)
    out, err = started.communicate(timeout=PATIENCE)
    return started.returncode, out.decode(), err.decode()


def finished(arguments: Sequence[str], env: Mapping[str, str] | None = None) -> Ran:
    """Run a command as a process until it ends by itself."""
    with process(*arguments, env=env) as started:
        out, err = started.communicate(timeout=PATIENCE)
        return Ran(started.returncode, out.decode(), err.decode())


WAYS = ("the store", "a node")
"""How a command reaches what is stored: it opens the store itself, or asks the node that runs."""


@contextmanager
def reached_by(way: str, folder: Path) -> Iterator[Home]:
    """A folder where no node runs, or one where a node does: one of `WAYS`."""
    made = new_home(folder)
    if way == "the store":
        yield made
        return
    with serving(made):
        yield made
