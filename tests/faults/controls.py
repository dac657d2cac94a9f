"""The controls of the campaign: meshes in which a guard of the program is off, each noticed within a few rounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.faults.campaign import Broken, mesh
from tests.faults.script import script, topology_of

PATIENCE = 8.0
ROUNDS = 6
"""In how many it must be noticed."""


@dataclass(frozen=True, slots=True)
class Control:
    """`sabotaged`: place of a node to a function of `inside/sitecustomize.py`."""

    sabotaged: Mapping[int, str]
    kinds: tuple[str, ...]
    """Faults that bring it to light."""
    noticed: str
    """What the campaign has to say."""


CONTROLS = {
    "a receiver that applies nothing": Control({1: "deaf"}, ("cut", "crash"), "digests"),
    "the last writer wins": Control(dict.fromkeys(range(3), "last_writer_wins"), ("cut",), "lost: "),
    "every reason is a timeout": Control({0: "vague", 1: "vague", 2: "vague"}, ("stop",), "should say of"),
}


def played(name: str, folder: Path) -> str:
    """In which round it was noticed, in words. Raises Broken where it was not, or for another reason."""
    control = CONTROLS[name]
    with mesh(topology_of(0), folder, PATIENCE, control.sabotaged) as campaign:
        for seed in range(ROUNDS):
            try:
                campaign.play(script(seed, control.kinds))
            except Broken as broken:
                if control.noticed in str(broken):
                    return f"control: {name}: noticed in round {seed + 1}: {str(broken).splitlines()[0][:100]}"
                raise Broken(f"control: {name}: {control.noticed!r} expected, found: {broken}") from broken
    raise Broken(f"control: {name}: not noticed in {ROUNDS} rounds")
