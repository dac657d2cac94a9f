"""What the controls of the campaign take away is still there to be taken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.controls import CONTROLS

INSIDE = Path(__file__).parent / "inside"
NAMES = sorted({name for control in CONTROLS.values() for name in control.sabotaged.values()})


def begun(sabotage: str) -> str:
    """What an interpreter complains about that begins with a guard away: it goes on, as a node would."""
    environment = os.environ | {"PYTHONPATH": str(INSIDE), "FAULT_SABOTAGE": sabotage}
    done = subprocess.run([sys.executable, "-c", ""], env=environment, capture_output=True, text=True, check=True)
    return done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_each_guard_that_a_control_takes_away_is_there(name: str) -> None:
    """Moved elsewhere it would be replaced where nobody calls it, and its control would be a sound mesh."""
    assert begun(name) == ""


def test_a_guard_that_is_gone_is_complained_about() -> None:
    """Control: a name that nothing has."""
    assert "KeyError: 'moved'" in begun("moved")
    sabotage = "import sitecustomize, node.daemon; sitecustomize.replace(node.daemon, 'explain', None)"
    environment = os.environ | {"PYTHONPATH": str(INSIDE)}
    done = subprocess.run(
        [sys.executable, "-c", sabotage], env=environment, capture_output=True, text=True, check=False
    )
    assert "has no attribute 'explain'" in done.stderr
