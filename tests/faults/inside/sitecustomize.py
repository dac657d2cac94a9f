"""Loaded by Python itself into every node under test: moves its wall clock, and can take one guard away.

`FAULT_CLOCK` names a file of eight bytes, the clock's error in nanoseconds, which may change at any time. The clock is
moved here and not by a preloaded library, as that one breaks `time.sleep` (docs/decisions/0034). `FAULT_SABOTAGE` names
one of the functions below: the controls that show that a campaign would notice (tests/faults/controls.py).
"""

import mmap
import os
import struct
import time
from pathlib import Path


def move_clock(path: str) -> None:
    """Add what the file says to every reading of the wall clock."""
    with Path(path).open("r+b") as file:
        error = mmap.mmap(file.fileno(), 8)
    seconds, nanoseconds = time.time, time.time_ns
    time.time_ns = lambda: nanoseconds() + struct.unpack("<q", error[:8])[0]
    time.time = lambda: seconds() + struct.unpack("<q", error[:8])[0] / 1e9


def replace(owner: object, name: str, new: object) -> None:
    """Raises AttributeError where nothing has this name any more: setting it would take nothing away."""
    getattr(owner, name)
    setattr(owner, name, new)


def deaf() -> None:
    """The receiver moves its cursor without applying anything."""
    from sync.receive import Receiver

    replace(Receiver, "accept", lambda *_, **__: True)


def last_writer_wins() -> None:
    """Of versions that do not know each other only the greatest is kept."""
    from sync import merge, receive

    original = merge.merge

    def merged(kept, new):  # type: ignore[no-untyped-def]
        result = original(kept, new)
        return merge.Added(result.kept[:1], result.dropped) if isinstance(result, merge.Added) else result

    replace(receive, "merge", merged)


def vague() -> None:
    """Whatever goes wrong with a connection is called a timeout."""
    from tls import explain

    def always(*_: object) -> explain.Explanation:
        return explain.Explanation("timeout", "something went wrong")

    import node.calls

    replace(node.calls, "explain", always)


SABOTAGES = {one.__name__: one for one in (deaf, last_writer_wins, vague)}

if "FAULT_CLOCK" in os.environ:
    move_clock(os.environ["FAULT_CLOCK"])
if "FAULT_SABOTAGE" in os.environ:
    SABOTAGES[os.environ["FAULT_SABOTAGE"]]()
