"""What keeps the memory of this process from others: no core dump, and on Linux no look at it by other processes.

The passphrase, the keys and the memories are all there. `harden` comes first in the program's own process and in the
one that verifies; a process that another program has made out of this code, as a test does, is left as it is.
"""

import ctypes
import resource
import sys
from dataclasses import dataclass

PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4
"""prctl(2)."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """What others of this machine, root aside, could get of this process."""

    core_bytes: int
    """How long a core dump may get; 0: none is written."""
    is_dumpable: bool | None
    """Whether a process of the same user may attach to this one and read its memory; None: this system does not say."""

    @property
    def is_closed(self) -> bool:
        return self.core_bytes == 0 and not self.is_dumpable


def harden() -> None:
    """No core dump of this process and its children; on Linux it is not dumpable, so /proc/PID belongs to root.

    That takes a debugger, strace and py-spy from this user, too: root has them still. An exec undoes it for a child,
    which has to ask for itself. Where a system refuses, `exposure` says so.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(PR_SET_DUMPABLE, 0)


def exposure() -> Exposure:
    """How things are now, asked of the system."""
    dumpable = _prctl(PR_GET_DUMPABLE, 0)
    core = resource.getrlimit(resource.RLIMIT_CORE)[0]
    return Exposure(
        sys.maxsize if core == resource.RLIM_INFINITY else core, None if dumpable is None else dumpable != 0
    )


def _prctl(what: int, value: int) -> int | None:
    """None where there is no such call, or it fails."""
    if sys.platform != "linux":
        return None
    long = ctypes.c_ulong
    answer = int(ctypes.CDLL(None, use_errno=True).prctl(what, long(value), long(0), long(0), long(0)))
    return None if answer < 0 else answer
