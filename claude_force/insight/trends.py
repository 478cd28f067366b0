"""How executions went hour by hour, or day by day: one `Figures` for each interval, those without any included.

Hours and days are those of a time zone, so a day that a clock is moved in has 23 or 25 hours, and an hour that comes
twice is two intervals. A time without a zone of its own is the machine's.
"""

from bisect import bisect_right
from collections import defaultdict
from datetime import UTC, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Literal

import msgspec

from claude_force.insight.counting import Selection
from claude_force.insight.figures import Figures
from claude_force.insight.ledger import Ledger, LedgerLine

Interval = Literal["hourly", "daily"]
DEFAULT_DAYS: dict[Interval, float] = {"hourly": 1, "daily": 30}
# Who asks for ten thousand days gets what there is, without a line for each day of the Middle Ages.
MOST_FILLED = 10_000
# Figures take many lines in a third of the time that they take one by one.
ADDED_AT_ONCE = 500
_LENGTH: dict[Interval, timedelta] = {"hourly": timedelta(hours=1), "daily": timedelta(days=1)}


class Trends(msgspec.Struct, kw_only=True):
    """What `read_trends` found."""

    interval: Interval
    intervals: dict[datetime, Figures]
    """By when each begins, in UTC, the oldest first: in local time, an hour that comes twice would be one."""
    left_out: int = 0
    """Simulated executions where the real ones were asked for, and the other way round."""
    unreadable_lines: int = 0


def read_trends(
    path: Path,
    selection: Selection,
    *,
    interval: Interval,
    until: datetime,
    days: float | None = None,
    zone: tzinfo | None = None,
) -> Trends:
    """The intervals up to that of `until`, as many as the days have. Raises `OSError` for what cannot be read.

    An execution is part of the interval that it began in.
    """
    days = DEFAULT_DAYS[interval] if days is None else days
    begins = _grid(until, days, interval, zone)
    trends = Trends(interval=interval, intervals={begin: Figures() for begin in begins})
    ledger, waiting = Ledger(path), defaultdict[datetime, list[LedgerLine]](list)
    for line in ledger.lines(since=max(begins[0], selection.since or begins[0])):
        if not selection.takes(line) or line.begun_at < begins[0]:
            continue
        if line.simulated != selection.simulated:
            trends.left_out += 1
            continue
        # Ten times as fast as asking the time zone; what a wrong clock put into the future is in the last interval.
        begin = begins[bisect_right(begins, line.begun_at) - 1]
        waiting[begin].append(line)
        if len(waiting[begin]) == ADDED_AT_ONCE:
            trends.intervals[begin].add(*waiting.pop(begin))
    for begin, lines in waiting.items():
        trends.intervals[begin].add(*lines)
    trends.unreadable_lines = ledger.unreadable_lines
    return trends


def begin_of(moment: datetime, interval: Interval, zone: tzinfo | None) -> datetime:
    """When the hour or the day began that this moment is in, in UTC."""
    local = moment.astimezone(zone)
    if interval == "hourly":
        return local.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
    return _in_zone(datetime.combine(local.date(), time()), zone)


def _in_zone(local: datetime, zone: tzinfo | None) -> datetime:
    """The moment that a clock in that zone shows this at, in UTC."""
    return (local.replace(tzinfo=zone) if zone else local).astimezone(UTC)


def _grid(until: datetime, days: float, interval: Interval, zone: tzinfo | None) -> list[datetime]:
    """When each interval begins, the oldest first; never none."""
    count = round(min(days, MOST_FILLED) * (timedelta(days=1) / _LENGTH[interval]))
    count = min(max(count, 1), MOST_FILLED)
    if interval == "hourly":
        moments = (until - timedelta(hours=number) for number in range(count))
    else:  # noon is in the same day whatever the clock does at night
        noon = datetime.combine(until.astimezone(zone).date(), time(12))
        moments = (_in_zone(noon - timedelta(days=number), zone) for number in range(count))
    return sorted({begin_of(moment, interval, zone) for moment in moments})
