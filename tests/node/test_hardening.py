"""No core dump of the program, and no look into its memory: asked of the processes themselves, as they end."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from commands import PATIENCE, clean_environment, new_home

from node import hardening
from node.hardening import Exposure, exposure

TOLD = "from node.hardening import exposure; print(exposure().is_closed, exposure().core_bytes)"
AS_THE_PROGRAM = "from node.cli import main\ntry: main()\nexcept SystemExit: pass\n"
THE_VERIFIER = "import runpy; runpy.run_module('node.verifying', run_name='__main__')\n"
UNGUARDED = "import node.hardening; node.hardening.harden = lambda: None\n"
LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="PR_SET_DUMPABLE is Linux's; elsewhere there are limits alone"
)


def told_by(script: str, *arguments: str) -> list[str]:
    """What a process says of itself after it ran `script`, as one that may leave a core dump begins."""

    def allow_cores() -> None:
        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))

    ran = subprocess.run(
        [sys.executable, "-c", script + TOLD, *arguments],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
        preexec_fn=allow_cores,
    )
    return ran.stdout.decode().splitlines()[-1].split()


@LINUX
@pytest.mark.parametrize("command", [("stats",), ("list",), ("identity", "list"), ("fingerprint",), ("init",)])
def test_no_command_can_be_dumped(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Every command: those that open the store or read its passphrase are among them."""
    home = str(new_home(tmp_path).path)
    assert told_by(AS_THE_PROGRAM, *command, "--home", home) == ["True", "0"]


@LINUX
def test_the_verifiers_process_cannot_be_dumped() -> None:
    """An exec makes a process dumpable again, so it asks for itself."""
    assert told_by(THE_VERIFIER) == ["True", "0"]


@LINUX
@pytest.mark.parametrize("script", [AS_THE_PROGRAM, THE_VERIFIER], ids=["a command", "the verifier"])
def test_without_the_guard_both_can_be_dumped(tmp_path: Path, script: str) -> None:
    """Control: the same processes without `harden`."""
    assert told_by(UNGUARDED + script, "stats", "--home", str(new_home(tmp_path).path))[0] == "False"


def test_a_process_that_merely_uses_this_code_is_left_alone() -> None:
    """Such as this one, which runs commands by their arguments: a test must be able to look at itself."""
    before = exposure()
    from commands import run

    assert run("--version").code == 0
    assert exposure() == before


@pytest.mark.parametrize(
    ("core", "dumpable", "closed"),
    [(0, False, True), (0, None, True), (0, True, False), (1, False, False), (sys.maxsize, None, False)],
)
def test_what_is_closed(core: int, dumpable: bool | None, closed: bool) -> None:
    """No core, and not dumpable where a system has such a thing."""
    assert Exposure(core, dumpable).is_closed is closed


def test_a_system_without_prctl_has_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is is done, and what there is not is said."""
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: set_to.append(limits))
    hardening.harden()
    assert set_to == [(0, 0)]
    assert exposure().is_dumpable is None
