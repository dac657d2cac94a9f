"""The report: counts, the first thousand of what was not taken, and whether all of worth was."""

import json

from node.legacy.importing.report import MOST_LISTED, MOST_SHOWN, Report
from node.legacy.importing.source import NotTaken


def refusal(number: int, **fields: object) -> NotTaken:
    usual = {"kind": "memory", "reason": "limits", "detail": "why", "id": f"id-{number}", "title": f"t{number}"}
    return NotTaken(**{**usual, **fields})  # type: ignore[arg-type]


def test_the_first_thousand_are_listed_and_all_are_counted() -> None:
    """So that a file full of faults does not fill the memory, or the terminal."""
    report = Report("a file", dry_run=False)
    report.found["memory"] = MOST_LISTED + 5
    for number in range(MOST_LISTED + 5):
        report.refuse(refusal(number))
    told = json.loads(json.dumps(report.value()))
    assert len(told["not_taken"]) == MOST_LISTED
    assert (told["not_taken_total"], told["counts"]["memory"]["not_taken"]) == (MOST_LISTED + 5, MOST_LISTED + 5)
    assert told["reasons"] == [{"kind": "memory", "reason": "limits", "count": MOST_LISTED + 5}]
    lines = report.lines()
    assert sum("why" in line for line in lines) == MOST_SHOWN
    assert "or more others" in lines[-1]


def test_nothing_not_taken_says_nothing_of_it() -> None:
    """Counts alone."""
    report = Report("a file", dry_run=True)
    report.found["memory"] = report.taken["memory"] = 2
    assert report.is_whole
    assert "2 would be taken" in " ".join(report.lines())
    assert "not taken:" not in " ".join(report.lines())


def test_bookkeeping_is_no_loss() -> None:
    """It is listed, and the import is whole all the same; with anything else it is not."""
    report = Report("a file", dry_run=False)
    report.refuse(refusal(1, kind="sync_state", is_loss=False, count=7))
    assert (report.is_whole, report.value()["not_taken_total"]) == (True, 7)
    report.refuse(refusal(2))
    report.refuse(refusal(3, is_loss=False))
    assert not report.is_whole


def test_a_title_of_several_lines_is_one_line() -> None:
    """One line a refusal, whatever is in it."""
    report = Report("a file", dry_run=False)
    report.refuse(refusal(1, title="a\nb", detail="c\nd"))
    assert len([line for line in report.lines() if line.startswith("  ")]) == 1
