"""Is this node well? One answer for both listeners: `ok` only while writer, disk and gate are.

Whoever watches over a node acts on it, so it says nothing that was not looked at just now, and names no path: a peer
may ask, too. Each of its reasons is an alarm in `sync status`, with what the operator can do. Of a node that runs and
is not to be found its lock tells.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from node.home import Home, is_locked
from node.store import condition, lock
from node.store.errors import StoreLocked, StoreReplaced
from sync.receive import Alarm

CODE = "unwell"
NEXT_STEPS: Mapping[str, str] = {
    condition.ENDED: "see the log, and start the node again",
    condition.REPLACED: StoreReplaced.DO,
    condition.FULL: "make room on that disk; no restart is needed",
    condition.READ_ONLY: "look how that disk is mounted, and whether it fails; no restart is needed",
}
"""By reason. For every other one the log has more."""
SEE_THE_LOG = "the log of this node says more"


def answer(troubles: Sequence[str], *, version: str, federation_enabled: bool) -> tuple[dict[str, Any], int]:
    """The body and the HTTP status: 200, or 503 with every reason."""
    told = {
        "status": "failing" if troubles else "ok",
        "service": "ai-memory",
        "version": version,
        "federation_enabled": federation_enabled,
        "embedder_ready": False,
    }
    if not troubles:
        return told, 200
    return told | {"error": "; ".join(troubles), "code": CODE, "reasons": list(troubles)}, 503


def alarms(told: Mapping[str, Any]) -> list[Alarm]:
    """One for each reason for which an answer is not `ok`; they end with the reasons."""
    return [
        Alarm("unwell", "", f"{reason}: {NEXT_STEPS.get(reason, SEE_THE_LOG)}; `/health` answers 503 until it is over")
        for reason in told.get("reasons", ())
    ]


# --- seen from outside


def holder(store: Path) -> StoreLocked | None:
    """Who has the lock of a store at this moment, if anybody has; nobody waits for it."""
    try:
        if is_locked(store):
            lock.take(store, lock.COMMAND).close()
    except StoreLocked as error:
        return error
    return None


def unseen(home: Home, held: StoreLocked | None) -> str | None:
    """What to say where a node has the store, and commands do not find it; None where no node has it."""
    if held is None or held.holder != lock.NODE:
        return None
    found = "leads to nobody who answers" if home.run.exists() else "is not there"
    return (
        f"{str(held).removesuffix(held.next_step).strip()} But {home.run}, which tells commands where that node is,"
        f" {found}. Either the node begins or ends just now, or somebody changed the file. Try again in a few seconds;"
        " if it stays so, end that process, and start the node with `ai-memory serve`"
    )
