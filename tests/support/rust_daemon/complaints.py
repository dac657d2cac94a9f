"""What a well-behaved peer of the older daemon never does, noted while it does it."""

from dataclasses import dataclass

from rust_daemon.messages import MAX_BODY, Answer, Request
from rust_daemon.serde import Refused, parsed
from rust_daemon.store import Store

MOST_ROWS = 100
"""Rows in one push: at 131 ms each (0.7.0, encrypted) more of them outlast a caller's patience."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a push was about to do, before it was done."""

    rows: int = 0
    known: tuple[str, ...] = ()
    """Ids of rows that were sent although exactly these were here already."""


def looked_at(store: Store, request: Request) -> Looked:
    """Look at a push before it is carried out."""
    try:
        body = parsed(request.body)
        rows = body["memories"]
        known = tuple(str(row["id"]) for row in rows if _is_here(store, row))
    except (Refused, KeyError, TypeError):
        return Looked()  # its status will be noted
    return Looked(len(rows), known)


def _is_here(store: Store, row: dict[str, object]) -> bool:
    here = store.titled(str(row["title"]), str(row["namespace"]))
    if here is None:
        return False
    # Members that this release does not know, and those that it fills in, say nothing about the sender.
    return all(here[name] == value for name, value in row.items() if name in here)


def about(request: Request, looked: Looked, answer: Answer) -> list[str]:
    """The complaints about one push, in words."""
    found = []
    if len(request.body) > MAX_BODY:
        found.append(f"a body of {len(request.body)} bytes, at most {MAX_BODY} are taken")
    if looked.rows > MOST_ROWS:
        found.append(f"{looked.rows} rows in one push, at most {MOST_ROWS} are wise")
    if answer.status != 200:
        found.append(f"a push was answered {answer.status}: {answer.data.decode()}")
    elif isinstance(answer.body, dict) and answer.body["skipped"]:
        found.append(f"{answer.body['skipped']} items of a push were skipped: {request.body[:400]!r}")
    found += [f"{identifier} was sent although exactly this was here" for identifier in looked.known]
    return found
