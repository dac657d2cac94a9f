"""Where the passphrase comes from, in which order, and that it goes nowhere else."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import pytest

from node import passphrase
from node.cli import main
from node.config import Config, ConfigError, parse
from node.home import Home
from node.passphrase import MAX_BYTES, VARIABLE, find, from_file

Maker = Callable[..., Path]


def configured(**settings: str | Sequence[str]) -> Config:
    return parse("[store]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()), "c", {})


def printing(code: str) -> list[str]:
    """A command that runs a line of Python."""
    return [sys.executable, "-c", code]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def put(tmp_path: Path) -> Maker:
    """Makes a file in the folder, private unless told otherwise."""

    def make(name: str, data: bytes, mode: int = 0o600) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
        return path

    return make


# --- the order of the sources


def test_the_sources_have_an_order(home: Home, put: Maker, tmp_path: Path) -> None:
    """Variable, configured file, systemd credential, command, the file of `init`: the first that there is decides."""
    put("named", b"from the named file\n")
    put("credentials/ai-memory-passphrase", b"from the credential")
    put("passphrase", b"from the file of init\n")
    environment = {VARIABLE: "from the variable", "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    command = printing("print('from the command')")
    everything = configured(passphrase_file="named", passphrase_command=command)
    assert find(everything, home, environment) == "from the variable"
    assert find(everything, home, environment) == "from the named file"
    only_command = configured(passphrase_command=command)
    assert find(only_command, home, environment) == "from the credential"
    assert find(only_command, home, {}) == "from the command"
    assert find(configured(), home, environment) == "from the credential"
    assert find(configured(), home, {}) == "from the file of init"


def test_a_source_that_fails_is_not_passed_over(home: Home, put: Maker) -> None:
    """A configured file that is missing is an error, even where another source would have a passphrase."""
    put("passphrase", b"from the file of init\n")
    with pytest.raises(ConfigError, match=r"named: No such file or directory"):
        find(configured(passphrase_file="named"), home, {})
    with pytest.raises(ConfigError, match=r"passphrase_command .* ended with status 1, expected 0"):
        find(configured(passphrase_command=printing("exit(1)")), home, {})


def test_without_any_source_all_of_them_are_named(home: Home) -> None:
    """The operator sees the choice."""
    with pytest.raises(ConfigError) as caught:
        find(configured(), home, {"CREDENTIALS_DIRECTORY": str(home.path)})
    (problem,) = caught.value.problems
    for source in (VARIABLE, "passphrase_file", "ai-memory-passphrase", "passphrase_command", str(home.passphrase)):
        assert source in problem


# --- the variable


def test_the_variable_is_gone_once_it_was_read(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this process's environment nor a child's has it afterwards.

    /proc/self/environ still shows it, to this user and to root: the kernel keeps the text that the process was started
    with, and no program can change that. Whoever minds uses a file, a credential or a command.
    """
    look = printing(f"import os; print(os.environ.get({VARIABLE!r}))")
    monkeypatch.setenv(VARIABLE, "hunter2")
    assert subprocess.run(look, capture_output=True, check=True, text=True).stdout == "hunter2\n"  # control
    assert find(configured(), home) == "hunter2"
    assert VARIABLE not in os.environ
    assert subprocess.run(look, capture_output=True, check=True, text=True).stdout == "None\n"


def test_the_command_does_not_see_the_variable(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs only where the variable was not set, and what it inherits is the rest of the environment."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("LOOKED_FOR", "inherited")
    code = f"import os; print(os.environ['LOOKED_FOR'], {VARIABLE!r} in os.environ)"
    assert find(configured(passphrase_command=printing(code)), home) == "inherited False"


def test_no_command_takes_a_passphrase_as_an_argument() -> None:
    """Arguments are read by every user of the machine; so there is no option for it, in any command."""

    def options(command: click.Command) -> list[str]:
        own = [name for parameter in command.params for name in parameter.opts]
        below = command.commands.values() if isinstance(command, click.Group) else ()
        return own + [name for one in below for name in options(one)]

    found = options(main)
    assert len(found) > 40  # control: the walk reaches the commands
    assert [name for name in found if "pass" in name.lower() or "key" in name.lower() or "secret" in name.lower()] == [
        "--ca-key",  # a path
        "--key-type",
        "--no-passphrase-file",  # a switch
        "--no-api-key",  # a switch
        "--key-type",
        "--api-key-file",  # a path
        "--passphrase-file",  # of `identity export`: a path
        "--passphrase-file",  # of `identity import`: a path
        "--keys",  # of a release: a path
        "--passphrase-file",  # a path
    ]


# --- files, credential, command


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o660, 0o604])
def test_a_file_that_others_can_read_is_refused(put: Maker, mode: int) -> None:
    """With the command that corrects it, and without what is in it; and it is the mode for which it is refused."""
    path = put("secret", b"hunter2", mode)
    with pytest.raises(ConfigError, match=rf"mode is {mode:04o}, expected 0600; run: chmod 600 ") as caught:
        from_file(path)
    assert "hunter2" not in str(caught.value)
    path.chmod(0o600)
    assert from_file(path) == "hunter2"  # control


def test_a_credential_may_have_any_mode(home: Home, put: Maker, tmp_path: Path) -> None:
    """Systemd makes it 0440 at times; its folder is what keeps others out."""
    put("credentials/ai-memory-passphrase", b"hunter2\n", 0o444)
    assert find(configured(), home, {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}) == "hunter2"


CONTENTS = {
    "a line": (b"hunter2\n", "hunter2"),
    "no newline": (b"hunter2", "hunter2"),
    "a Windows line": (b"hunter2\r\n", "hunter2"),
    "spaces are part of it": (b"  two words \n", "  two words "),
    "other alphabets": ("пароль\n".encode(), "пароль"),
    "as long as can be": (b"x" * MAX_BYTES, "x" * MAX_BYTES),
    "nothing": (b"", "is empty"),
    "only a newline": (b"\r\n", "is empty"),
    "too long": (b"x" * (MAX_BYTES + 1), f"is longer than {MAX_BYTES} bytes, or has a NUL in it"),
    "a NUL": (b"hun\0ter2", f"is longer than {MAX_BYTES} bytes, or has a NUL in it"),
    "no UTF-8": (b"hunter\xff", "is not UTF-8 text"),
}


SOURCES = ("variable", "file", "credential", "command")
READ = [(source, case) for source in SOURCES for case in CONTENTS if (source, case) != ("variable", "a NUL")]
"""An environment cannot hold a NUL."""


@pytest.mark.parametrize(("source", "case"), READ)
def test_every_source_is_read_alike(source: str, case: str, home: Home, put: Maker, tmp_path: Path) -> None:
    """The newline at the end is no part of it; what cannot be a passphrase is an error that does not repeat it."""
    data, expected = CONTENTS[case]
    path = put("credentials/ai-memory-passphrase", data)
    config, environment = {
        "variable": (configured(), {VARIABLE: os.fsdecode(data)}),
        "file": (configured(passphrase_file=str(path)), {}),
        "credential": (configured(), {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}),
        "command": (configured(passphrase_command=["cat", str(path)]), {}),
    }[source]
    if expected.startswith(("is empty", "is longer", "is not")):
        with pytest.raises(ConfigError) as caught:
            find(config, home, environment)
        (problem,) = caught.value.problems
        assert problem.endswith(expected)
        assert "hunter" not in problem
    else:
        assert find(config, home, environment) == expected


def test_a_path_that_is_no_file_is_refused(home: Home) -> None:
    """A folder, say."""
    (home.path / "folder").mkdir(mode=0o700)
    with pytest.raises(ConfigError, match=r"folder: is a directory, expected a secret in it"):
        find(configured(passphrase_file="folder"), home, {})


COMMANDS = {
    "fails": (printing("exit(3)"), "ended with status 3, expected 0"),
    "is killed": (printing("import os; os.kill(os.getpid(), 9)"), "ended with status -9, expected 0"),
    "prints nothing": (printing(""), "the secret from [store] passphrase_command is empty"),
    "does not exist": (["/no/such/program"], "failed: FileNotFoundError"),
    "has an impossible name": (["a\0b"], "failed: ValueError"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_that_fails_is_a_clear_error(case: str, home: Home) -> None:
    """One line that names the setting and what happened."""
    command, expected = COMMANDS[case]
    with pytest.raises(ConfigError) as caught:
        find(configured(passphrase_command=command), home, {})
    (problem,) = caught.value.problems
    assert "[store] passphrase_command" in problem
    assert problem.endswith(expected)


def test_a_command_that_does_not_end_is_given_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that waits for a person who is not there does not hang the node for ever."""
    monkeypatch.setattr(passphrase, "COMMAND_TIMEOUT", 0.2)
    with pytest.raises(ConfigError, match="failed: TimeoutExpired"):
        find(configured(passphrase_command=printing("import time; time.sleep(60)")), home, {})


def test_what_a_command_prints_on_the_way_is_not_taken(home: Home) -> None:
    """Only standard output is the passphrase."""
    code = "import sys; print('please touch the key', file=sys.stderr); print('hunter2')"
    assert find(configured(passphrase_command=printing(code)), home, {}) == "hunter2"
