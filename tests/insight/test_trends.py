"""Executions hour by hour and day by day: each is in one interval, whatever clocks do, and none is left out."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from claude_force.insight.counting import Selection
from claude_force.insight.trends import MOST_FILLED, Interval, begin_of, read_trends
from claude_force.performance_tracker import PerformanceTracker
from tests.conftest import execution

BERLIN = ZoneInfo("Europe/Berlin")


def write(tracker: PerformanceTracker, begun: datetime, *, success: bool = True, simulated: bool = False) -> None:
    """One execution that took a second."""
    tracker.record(
        execution(
            timestamp=begun, error_type=None if success else "ServerError", cost_usd=Decimal("0.5"), simulated=simulated
        )
    )


@pytest.mark.parametrize(
    ("interval", "zone", "until", "days", "begins"),
    [
        # Germany's clocks go back at 03:00 on 25 October: the day has 25 hours, of which 02:00 comes twice.
        ("daily", "Europe/Berlin", "2026-10-26T09:00Z", 3, ["2026-10-23T22Z", "2026-10-24T22Z", "2026-10-25T23Z"]),
        ("hourly", "Europe/Berlin", "2026-10-25T01:30Z", 0.125, ["2026-10-24T23Z", "2026-10-25T00Z", "2026-10-25T01Z"]),
        # In spring, Beirut's clocks go from midnight to 1: the day begins when the one before it ends.
        ("daily", "Asia/Beirut", "2026-03-29T12:00Z", 2, ["2026-03-27T22Z", "2026-03-28T22Z"]),
        # Hours of a zone that is half an hour off begin at its own full hours.
        ("hourly", "Asia/Kolkata", "2026-01-01T00:10Z", 1 / 12, ["2025-12-31T22:30Z", "2025-12-31T23:30Z"]),
        ("daily", "UTC", "2026-01-01T00:00Z", 0.01, ["2026-01-01T00Z"]),
    ],
)
def test_each_interval(
    tmp_path: Path, interval: Interval, zone: str, until: str, days: float, begins: list[str]
) -> None:
    """They follow each other without a hole, and begin when the clocks of the zone say so."""
    found = read_trends(
        tmp_path / "none",
        Selection(),
        interval=interval,
        until=datetime.fromisoformat(until),
        days=days,
        zone=ZoneInfo(zone),
    )
    assert list(found.intervals) == [datetime.fromisoformat(begin) for begin in begins]


@pytest.mark.parametrize("interval", ["hourly", "daily"])
def test_each_execution_once(tmp_path: Path, interval: Interval) -> None:
    """Through a change of the clocks; those before the first interval are in none, and empty ones are there."""
    tracker, first = PerformanceTracker(tmp_path), datetime(2026, 10, 24, 22, tzinfo=UTC)  # midnight in Berlin
    for minutes in range(-600, 25 * 60, 20):
        write(tracker, first + timedelta(minutes=minutes), success=bool(minutes % 60))
    write(tracker, first, simulated=True)
    with tracker.path.open("a") as ledger:
        ledger.write("torn\n")
    until = first + timedelta(hours=26, minutes=59)
    days = 27 / 24 if interval == "hourly" else 2
    found = read_trends(tracker.path, Selection(), interval=interval, until=until, days=days, zone=BERLIN)
    counts = [figures.costs.executions for figures in found.intervals.values()]
    failed = [figures.error_types.total() for figures in found.intervals.values()]
    assert (found.left_out, found.unreadable_lines) == (1, 1)
    if interval == "hourly":
        assert (counts, failed) == ([3] * 25 + [0] * 2, [1] * 25 + [0] * 2)
    else:
        assert (counts, failed) == ([75, 0], [25, 0])
        assert [figures.costs.cost_usd for figures in found.intervals.values()] == [Decimal("37.5"), 0]


def test_the_machines_own_zone() -> None:
    """Where none is named; an hour that comes twice is told apart there, too."""
    moments = [datetime(2026, 10, 25, 0, tzinfo=UTC) + timedelta(minutes=30 * number) for number in range(8)]
    assert set(Counter(begin_of(moment, "hourly", None) for moment in moments).values()) == {2}


def test_a_thousand_years(tmp_path: Path) -> None:
    """Whoever asks for more than there can be gets a bounded answer, and what a wrong clock wrote harms nothing."""
    tracker = PerformanceTracker(tmp_path)
    write(tracker, datetime(1066, 10, 14, 9, tzinfo=UTC))
    now = datetime(2026, 11, 20, tzinfo=UTC)
    write(tracker, now)
    found = read_trends(tracker.path, Selection(), interval="daily", until=now, days=1e9, zone=UTC)
    assert len(found.intervals) == MOST_FILLED
    assert found.intervals[now].costs.executions == 1
