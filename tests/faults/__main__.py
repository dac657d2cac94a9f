"""`make test-faults`: rounds of faults over a network with delay and loss; `FAULT_SEED`, `FAULT_ROUNDS` choose them."""

import itertools
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from netns import obstacle, private_mounts

from tests.faults.campaign import Broken, mesh
from tests.faults.controls import CONTROLS, played
from tests.faults.script import ROUNDS_OF_A_MESH, script, topology_of

ROUNDS = 200


def main() -> int:
    """Play the rounds; 1 where a promise was broken."""
    if problem := obstacle():
        print(f"the faults cannot be played: {problem}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    private_mounts()
    first, count = int(os.environ.get("FAULT_SEED", "0")), int(os.environ.get("FAULT_ROUNDS", str(ROUNDS)))
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        try:
            if count >= ROUNDS:  # a round that is played again needs no proof that it could fail
                for number, name in enumerate(CONTROLS):
                    print(played(name, Path(folder) / f"control-{number}"), flush=True)
            _play(range(first, first + count), Path(folder))
        except Broken as broken:
            print(f"\nBROKEN: {broken}")
            return 1
    return 0


def _play(seeds: Sequence[int], folder: Path) -> None:
    """One mesh for each run of seeds that share one. Raises Broken with all that is needed to find out why."""
    began, reasons, arrivals, died = time.monotonic(), 0, 0, 0
    closed: list[float] = []
    for number, some in itertools.groupby(seeds, lambda seed: seed // ROUNDS_OF_A_MESH):
        with mesh(topology_of(number * ROUNDS_OF_A_MESH), folder / f"mesh-{number}") as campaign:
            for seed in some:
                try:
                    report = campaign.play(script(seed))
                except Exception as broken:  # whatever it is, the seed and what the nodes say must be told
                    start = max(seeds[0], number * ROUNDS_OF_A_MESH)
                    again = (
                        f"play it again: FAULT_SEED={seed} FAULT_ROUNDS=1 make test-faults; on a mesh as old as this: "
                        f"FAULT_SEED={start} FAULT_ROUNDS={seed - start + 1}"
                    )
                    why = str(broken) if isinstance(broken, Broken) else traceback.format_exc()
                    raise Broken(f"round {seed}: {why}\n{script(seed)}\n{campaign.evidence()}\n{again}") from broken
                reasons, died = reasons + report.told, died + report.died
                closed += report.closed_after
                print(report, flush=True)
            try:
                campaign.finish()
            except Broken as broken:
                raise Broken(f"after round {seed}, the last of its mesh: {broken}") from broken
            arrivals += campaign.by_arrival
    print(
        f"{len(seeds)} rounds in {time.monotonic() - began:.0f} s: nothing lost, all alike, {reasons} reasons told; "
        f"{arrivals} writes superseded as they arrived, {died} whose only copy was on a disk that was lost"
    )
    if closed:
        print(f"connections of removed certificates: closed after {median(closed):.2f} s, at most {max(closed):.2f} s")


if __name__ == "__main__":
    sys.exit(main())
