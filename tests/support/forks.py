"""Commands as processes of their own that cost no start: a server that has imported the program forks one for each.

So a command can be run many times at once, or be killed with -9 at a chosen step or moment, hundreds of times over.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import clean_environment

SERVER = """
import json, os, signal, sys
from node.cli import main

exec(sys.argv[1])

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
STEPS = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "fcntl.flock"}

def counting(kill_at):
    count = 0
    def hook(event, arguments):
        nonlocal count
        if event in STEPS or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING):
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
    sys.addaudithook(hook)
    return lambda: count

def run(told):
    os.environ.update(told["env"])
    for number, name in ((0, os.devnull), (1, told["out"]), (2, told["err"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
    steps = counting(told["kill_at"])
    try:
        main(told["arguments"], prog_name="ai-memory")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else bool(error.code)
    else:
        code = 0
    done = steps()
    sys.stdout.flush(), sys.stderr.flush()
    with open(told["out"] + ".steps", "w") as file:
        file.write(str(done))
    os._exit(code)

for line in sys.stdin:
    told = json.loads(line)
    if "wait" in told:
        _, status = os.waitpid(told["wait"], 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        try:
            run(told)
        except BaseException:
            import traceback
            traceback.print_exc()
        os._exit(120)
    print(json.dumps(pid), flush=True)
"""


@dataclass
class Forked:
    """A command that runs."""

    server: "Forks"
    pid: int
    out: Path
    err: Path

    def kill(self) -> None:
        """As a power cut would: no chance to finish anything. It is no other's number: nobody has waited for it yet."""
        os.kill(self.pid, 9)

    def wait(self) -> int:
        """Its exit status; -9 where it was killed."""
        return int(self.server.ask({"wait": self.pid}))

    @property
    def said(self) -> str:
        return self.out.read_text() + self.err.read_text()

    @property
    def steps(self) -> int:
        """How many steps it took, once it has ended by itself."""
        return int(Path(f"{self.out}.steps").read_text())


class Forks:
    """The server."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process, self._folder, self._count = process, folder, 0

    def ask(self, told: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def begin(
        self, arguments: Sequence[str], kill_at: int | None = None, env: Mapping[str, str] | None = None
    ) -> Forked:
        """Begin a command. `kill_at`: it is killed before this step; 0 is the first."""
        self._count += 1
        out, err = self._folder / f"{self._count}.out", self._folder / f"{self._count}.err"
        told = {
            "arguments": list(arguments),
            "kill_at": kill_at,
            "env": dict(env or {}),
            "out": str(out),
            "err": str(err),
        }
        return Forked(self, int(self.ask(told)), out, err)


@contextmanager
def forks(folder: Path, without: str = "") -> Iterator[Forks]:
    """A server, gone at the end; `folder` takes what the commands print. `without`: code that takes a guard away."""
    folder.mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, without],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_environment(), text=True,
    ) as process:  # fmt: skip
        try:
            yield Forks(process, folder)
        finally:
            process.kill()
