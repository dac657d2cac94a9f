"""What an import has done: counts by kind, and what was not taken with the reasons."""

from collections import Counter
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import Any

from node.legacy.importing.source import LINK, MEMORY, NotTaken
from node.plain import field

MOST_LISTED = 1_000
_TAKEN_IN = (MEMORY, LINK)
MOST_SHOWN = 20
"""Lines of what was not taken that a person gets to see; the whole list is in the JSON."""


@dataclass(slots=True)
class Report:
    """Filled while the import runs."""

    form: str
    dry_run: bool
    found: Counter[str] = attribute(default_factory=Counter)
    taken: Counter[str] = attribute(default_factory=Counter)
    unchanged: Counter[str] = attribute(default_factory=Counter)
    not_taken: list[NotTaken] = attribute(default_factory=list)
    """The first `MOST_LISTED`."""
    refused: Counter[str] = attribute(default_factory=Counter)
    """Of each kind, how many were not taken."""
    reasons: Counter[tuple[str, str]] = attribute(default_factory=Counter)
    alarms: list[dict[str, Any]] = attribute(default_factory=list)
    is_whole: bool = True
    """False where something of worth was not taken."""
    seconds: float = 0.0

    def refuse(self, one: NotTaken) -> None:
        self.refused[one.kind] += one.count
        self.reasons[one.kind, one.reason] += one.count
        self.is_whole = self.is_whole and not one.is_loss
        if len(self.not_taken) < MOST_LISTED:
            self.not_taken.append(one)

    def value(self) -> dict[str, Any]:
        """One JSON object."""
        kinds = dict.fromkeys((MEMORY, *self.found, *self.refused))
        return {
            "source": self.form,
            "dry_run": self.dry_run,
            "complete": self.is_whole,
            "counts": {kind: self._counts(kind) for kind in kinds},
            "reasons": [
                {"kind": kind, "reason": reason, "count": count} for (kind, reason), count in self.reasons.items()
            ],
            "not_taken": [_described(one) for one in self.not_taken],
            "not_taken_total": self.refused.total(),
            "alarms": self.alarms,
            "seconds": round(self.seconds, 3),
        }

    def lines(self) -> list[str]:
        """For a person."""
        verb = "would be taken" if self.dry_run else "taken"
        lines = [f"{self.form}, {self.seconds:.1f} s"]
        for kind, counts in self.value()["counts"].items():
            said = [f"{counts['found']} found"]
            if kind in _TAKEN_IN:
                said += [f"{counts['taken']} {verb}", f"{counts['unchanged']} here already"]
            lines.append(f"{field(kind):20}" + ", ".join((*said, f"{counts['not_taken']} not taken")))
        if self.not_taken:
            lines += ["", "not taken:", *(f"  {_line(one)}" for one in self.not_taken[:MOST_SHOWN])]
        more = len(self.not_taken) - MOST_SHOWN
        if more > 0:
            lines.append(f"  and {more}{' or more' if len(self.not_taken) == MOST_LISTED else ''} others: see --json")
        lines += [f"ALARM {field(alarm['kind'])}: {field(alarm['detail'])}" for alarm in self.alarms]
        return lines

    def _counts(self, kind: str) -> dict[str, int]:
        counts = {"found": self.found[kind] or self.refused[kind]}
        if kind in _TAKEN_IN:
            counts |= {"taken": self.taken[kind], "unchanged": self.unchanged[kind]}
        return counts | {"not_taken": self.refused[kind]}


def _described(one: NotTaken) -> dict[str, Any]:
    told: dict[str, Any] = {"kind": one.kind, "reason": one.reason, "detail": one.detail, "count": one.count}
    named = {"id": one.id, "namespace": one.namespace, "title": one.title}
    return told | {name: value for name, value in named.items() if value}


def _line(one: NotTaken) -> str:
    title = f"'{field(one.title)}'" if one.title else one.id and field(one.id)
    name = " ".join(part for part in (one.namespace and field(one.namespace), title) if part)
    many = f"{one.count} " if one.count > 1 else ""
    return f"{many}{one.kind} {name + ': ' if name else ''}{field(one.detail)}"
