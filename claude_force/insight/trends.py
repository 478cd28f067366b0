"""How executions went hour by hour, or day by day: one `Figures` for each interval, those without any included.

Hours and days are those of a time zone, so a day that a clock is moved in has 23 or 25 hours, and an hour that comes
twice is two intervals. A time without a zone of its own is the machine's. Days that were rolled up are those of UTC,
whatever the zone.
"""

from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from claude_force.insight.cells import is_utc
from claude_force.insight.counting import Found, Selected, Selection, count
from claude_force.insight.figures import Figures, add_figures, columns_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claude_force.insight.ledger import LedgerLine

Interval = Literal["hourly", "daily"]
DEFAULT_DAYS: dict[Interval, float] = {"hourly": 1, "daily": 30}
# Who asks for ten thousand days gets what there is, without a line for each day of the Middle Ages.
MOST_FILLED = 10_000
_LENGTH: dict[Interval, timedelta] = {"hourly": timedelta(hours=1), "daily": timedelta(days=1)}


class Trends(msgspec.Struct, kw_only=True):
    """What `read_trends` found."""

    interval: Interval
    intervals: dict[datetime, Figures]
    """By when each begins, in UTC, the oldest first: in local time, an hour that comes twice would be one."""
    left_out: int = 0
    """Simulated executions where the real ones were asked for, and the other way round."""
    only_by_day: int = 0
    """Executions that were rolled up so that no finer question can be answered: they are part of their day of UTC, and
    of no hour; where a run was asked for, of no day either."""
    unreadable_lines: int = 0

    def add(self, lines: "Iterable[LedgerLine]") -> None:
        """Count each in the interval that it began in; what began before the first one is in none."""
        begins = list(self.intervals)
        own = [line for line in lines if line.begun_at >= begins[0]]
        # Ten times as fast as asking the time zone; what a wrong clock put into the future is in the last interval.
        places = [bisect_right(begins, line.begun_at) - 1 for line in own]
        add_figures(list(self.intervals.values()), places, columns_of(own))

    def add_rest(self, found: Found, zone: tzinfo | None) -> None:
        """Count whole days as days, and what was passed over."""
        begins = list(self.intervals)
        for cell, figures in found.cells.items() if self.interval == "daily" else ():
            number = bisect_right(begins, _begin_of_day(date.fromordinal(cell.begun), zone)) - 1
            if number >= 0:
                self.intervals[begins[number]].merge(figures)
        self.left_out, self.only_by_day = found.left_out, found.only_by_day
        self.unreadable_lines = found.unreadable_lines


def read_trends(
    path: Path,
    selection: Selection,
    *,
    interval: Interval,
    until: datetime,
    days: float | None = None,
    zone: tzinfo | None = None,
) -> Trends:
    """The intervals up to that of `until`, as many as the days have. Raises as `count` does."""
    trends = no_trends(until, DEFAULT_DAYS[interval] if days is None else days, interval, zone)
    first = next(iter(trends.intervals))
    selection = msgspec.structs.replace(selection, since=max(first, selection.since or first))
    if interval == "daily" and is_utc(zone) and selection.run is None:
        trends.add_rest(count(path, selection), zone)
    else:
        selected = Selected(path, selection)
        for lines in selected:
            trends.add(lines)
        trends.add_rest(selected.rest(), zone)
    return trends


def no_trends(until: datetime, days: float, interval: Interval, zone: tzinfo | None) -> Trends:
    """All intervals, with nothing in them."""
    return Trends(interval=interval, intervals={begin: Figures() for begin in _grid(until, days, interval, zone)})


def begin_of(moment: datetime, interval: Interval, zone: tzinfo | None) -> datetime:
    """When the hour or the day began that this moment is in, in UTC."""
    local = moment.astimezone(zone)
    if interval == "hourly":
        return local.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
    return _begin_of_day(local.date(), zone)


def _begin_of_day(day: date, zone: tzinfo | None) -> datetime:
    return _in_zone(datetime.combine(day, time()), zone)


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
