"""What goes out of links to a daemon of the older protocol: those that are due, once it has both their memories.

It skips a link to a memory that it has not, and a newer one refuses a whole push for a relation that it does not know.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from node.legacy import linktables, ours, tables
from node.legacy.tables import Execute, Record
from node.store.reader import Reader
from sync.legacy.link import link_for
from sync.link import ends, load
from sync.ports import Ledger
from sync.version import Key

MOST = 200
"""Links of one request."""
FOREIGN = "it does not know the relation {relation}"


@dataclass(frozen=True, slots=True)
class LinkItem:
    """One link to send."""

    key: Key
    shown: str
    doc: bytes


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """What to do with links that are due."""

    items: tuple[LinkItem, ...]
    waits: tuple[Key, ...]
    """Of those it lacks a memory."""
    foreign: tuple[Key, ...]
    """Those have a relation that it does not know."""
    gone: tuple[Key, ...]
    """Those are links no more."""
    more: bool
    """There may be others."""

    @property
    def is_idle(self) -> bool:
        return not (self.items or self.waits or self.foreign or self.gone)


def plan(reader: Reader, peer: str, relations: Collection[str]) -> LinkPlan:
    """Cut the next part. `relations`: those that it takes."""
    execute = reader.execute
    due = linktables.due(execute, peer, MOST)
    winners = ours.winners(reader, due)
    named = _names(execute, peer, {end for _, link_id in due for end in ends(link_id)[:2]})
    items: dict[str, LinkItem] = {}
    waits, foreign, gone = [], [], []
    for key in due:
        source_id, target_id, relation = ends(key[1])
        winner = winners.get(key)
        if winner is None or winner.kind != "l":
            gone.append(key)
        elif relation not in relations:
            foreign.append(key)
        elif source_id not in named or target_id not in named:
            waits.append(key)
        else:
            # A link that is kept in two namespaces is one to it.
            doc = link_for(load(winner.doc), named[source_id], named[target_id])
            items[key[1]] = LinkItem(key, winner.shown, doc)
    return LinkPlan(tuple(items.values()), tuple(waits), tuple(foreign), tuple(gone), len(due) == MOST)


def settle(ledger: Ledger, peer: str, done: LinkPlan) -> None:
    """Write down what a plan does not send."""
    execute = tables.executing(ledger)
    linktables.put_state(execute, peer, done.waits, "waits")
    for key in done.foreign:
        linktables.put_state(execute, peer, [key], "refused", FOREIGN.format(relation=ends(key[1])[2]))
    linktables.drop(execute, peer, done.gone)


def _names(execute: Execute, peer: str, ids: Collection[str]) -> Mapping[str, str]:
    """Its ids for memories of ours of which it has a row, by ours."""
    found: dict[str, Record] = {}
    for record in tables.by_ids(execute, peer, ids):
        if record.has_row:
            found.setdefault(record.key[1], record)
    return {record_id: record.known.theirs for record_id, record in found.items()}
