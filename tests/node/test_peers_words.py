"""What a peer says beside its records: whatever stands there, it is no fault of this node, and no flood of its log."""

from datetime import UTC, datetime

import pytest
from certs import Mesh
from hypothesis import example, given
from hypothesis import strategies as st
from nodes import QUIET, events, pair, serving

from node.replicator import clock_ahead
from node.told import EACH, Told

NOW = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
DATES = st.builds("Mon, 01 Jan {} 00:00:{} {:+}".format, st.integers(), st.integers(), st.integers())


@given(st.text() | DATES)
@example("Mon, 01 Jan 2024 00:00:00 +99999999999999999999")
@example("Mon, 01 Jan 0001 00:00:00 +2300")
@example("Mon, 01 Jan 9999 23:59:59 -2300")
@example("Mon, 01 Jan 99999 00:00:00 GMT")
def test_a_date_that_is_none_says_nothing_of_a_clock(date: str) -> None:
    """Of a year or an offset that no clock has, say; a bug of ours each time that it comes, otherwise."""
    assert isinstance(clock_ahead(date, NOW), float | None)


def test_a_date_says_how_far_a_clock_is_ahead() -> None:
    """Control; and none says nothing."""
    assert clock_ahead("Thu, 01 Jan 2026 00:01:30 GMT", NOW) == 90.0
    assert clock_ahead(None, NOW) is None


async def _reports(mesh: Mesh, logs: list[object]) -> int:
    place, other = pair(mesh, QUIET)
    async with serving(place) as [(node, _)]:
        for number in range(300):
            node.exchange.heard_of_us(other.fingerprint.text, ("duplicate_identity",) if number % 2 else ())
        return len([one for one in events(logs, "peer.reports") if "left_out" not in one])


async def test_a_report_that_comes_and_goes_is_told_a_few_times(mesh: Mesh, logs: list[object]) -> None:
    """A listed peer may say another thing with each answer."""
    assert await _reports(mesh, logs) == EACH


async def test_without_a_ration_each_is_a_line(mesh: Mesh, logs: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    monkeypatch.setattr(Told.__init__, "__defaults__", (10**6, 10**6, 60.0))
    assert await _reports(mesh, logs) == 150
