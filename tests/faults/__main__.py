"""`make test-faults`: rounds of faults over a network with delay and loss; `FAULT_SEED`, `FAULT_ROUNDS` choose them."""

import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

from netns import obstacle, private_mounts

from tests.faults.campaign import Broken, mesh
from tests.faults.script import ROUNDS_OF_A_MESH, script, topology_of

ROUNDS = 200


def main() -> int:
    """Play the rounds; 1 where a promise was broken."""
    if problem := obstacle():
        print(f"the faults cannot be played: {problem}", file=sys.stderr)
        return 2
    private_mounts()
    first, count = int(os.environ.get("FAULT_SEED", "0")), int(os.environ.get("FAULT_ROUNDS", str(ROUNDS)))
    began, seeds, reasons = time.monotonic(), range(first, first + count), 0
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for number, some in itertools.groupby(seeds, lambda seed: seed // ROUNDS_OF_A_MESH):
            with mesh(topology_of(number * ROUNDS_OF_A_MESH), Path(folder) / f"mesh-{number}") as campaign:
                for seed in some:
                    try:
                        report = campaign.play(script(seed))
                    except Broken as broken:
                        print(f"\nBROKEN in round {seed}: {broken}\n{script(seed)}\n{campaign.evidence()}")
                        print(f"\nplay it again: FAULT_SEED={seed} FAULT_ROUNDS=1 make test-faults")
                        return 1
                    reasons += report.told
                    print(report, flush=True)
                campaign.finish()
    print(f"{count} rounds in {time.monotonic() - began:.0f} s: nothing lost, all alike, {reasons} reasons told")
    return 0


if __name__ == "__main__":
    sys.exit(main())
