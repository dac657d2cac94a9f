"""What a well-behaved peer of the older daemon never does, noted while it does it."""

from dataclasses import dataclass, field
from typing import Any

from rust_daemon.messages import MAX_BODY, Answer, Request
from rust_daemon.serde import Refused, parsed
from rust_daemon.store import Memory, Store, compact

MOST_ROWS = 100
"""Rows in one push: at 131 ms each (0.7.0, encrypted) more of them outlast a caller's patience."""
_TIERS = {"short": 0, "mid": 1, "long": 2}


@dataclass(frozen=True, slots=True)
class Looked:
    """What a push was about to do, before it was done."""

    rows: int = 0
    needless: tuple[str, ...] = ()
    """Ids of rows that were here exactly so, or that came before and change nothing now."""


@dataclass
class Watcher:
    """Looks at each push before it is carried out, and says afterwards what was wrong with it."""

    store: Store
    came: set[str] = field(default_factory=set)
    """Every row that ever came, as compact JSON."""

    def look(self, request: Request) -> Looked:
        """Before a push is carried out."""
        try:
            rows = parsed(request.body)["memories"]
            needless = tuple(str(row["id"]) for row in rows if self._needless(row))
            self.came.update(compact(row) for row in rows)
        except (Refused, KeyError, TypeError):
            return Looked()  # its status will be noted
        return Looked(len(rows), needless)

    def _needless(self, row: dict[str, Any]) -> bool:
        here = self.store.titled(str(row["title"]), str(row["namespace"]))
        if here is None:
            return False
        # Members that this release does not know, and those that it fills in, say nothing about the sender.
        if all(here[name] == value for name, value in row.items() if name in here):
            return True
        return compact(row) in self.came and not _changes(here, row)


def _changes(here: Memory, row: dict[str, Any]) -> bool:
    """Whether the merge rule would change anything."""
    newer = (row["updated_at"], row["id"]) > (here["updated_at"], here["id"])
    more = any(row[name] > here[name] for name in ("priority", "confidence", "access_count"))
    expires = row.get("expires_at") not in (None, here["expires_at"]) and here["tier"] != "long"
    if row["updated_at"] == here["updated_at"] and row["content"] == here["content"]:
        newer = False  # another id, the same text: what is written over it is what was there
    return newer or more or expires or _TIERS[row["tier"]] > _TIERS[here["tier"]]


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
    found += [f"{identifier} was sent although it changes nothing here" for identifier in looked.needless]
    return found
