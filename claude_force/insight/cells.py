"""Executions that are counted together: a `Cell` is a day's of an agent by a model. What cells become in files.

Whatever was rolled up or indexed can still be asked by day, agent and model, and no finer.
"""

import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, timedelta, tzinfo
from typing import Annotated, Any, NamedTuple

import msgspec

from claude_force.insight.figures import Columns, Costs, Figures, add_figures, are_sound, columns_of
from claude_force.insight.ledger import Line, ShortLine
from claude_force.insight.sketch import Sketch


class Cell(NamedTuple):
    """What the executions of a cell have in common. Days are those of UTC, as ordinals."""

    ended: int
    begun: int
    agent_name: str
    model: str | None
    simulated: bool
    cached: bool


Cells = dict[Cell, Figures]

Count = Annotated[int, msgspec.Meta(ge=0)]
Bucket = Annotated[int, msgspec.Meta(ge=-40_000, le=30_000)]
"""From the smallest number that there is to one beyond each duration, and still a number."""


class CellRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A cell with its figures, as files have it. What it does not say is nothing."""

    agent: str
    model: str | None = None
    simulated: bool = False
    cached: bool = False
    begun: date | None = None
    """Where it is another day than that on which they ended."""
    costs: Costs
    interrupted: int = 0
    error_types: dict[str, int] = {}
    times_ms: dict[Bucket, Count] = {}
    """The buckets of the sketch."""
    no_times: Count = 0
    """How many took no time."""
    total_time_us: int = 0


def is_utc(zone: tzinfo | None) -> bool:
    """Whether the days of that zone, the machine's if `None`, are those of cells."""
    return zone is UTC or str(zone) == "UTC" or (zone is None and not time.timezone and not time.daylight)


class Grouped(NamedTuple):
    """Lines, with the cell of each."""

    cells: Sequence[Cell]
    places: Sequence[int]
    """Of each line: that of its cell."""
    columns: Columns
    passed_over: int = 0
    """How many others there were that have no date, or are not sound."""


def grouped(lines: Sequence[ShortLine]) -> Grouped:
    """The lines, if they may count, by their cells."""
    columns = columns_of(lines)
    days = _days_of_each(columns["timestamp"], columns["execution_time_ms"])
    if None in days or not are_sound(columns):
        own = [line for line in lines if line.is_sound and days_of(line)]
        return grouped(own)._replace(passed_over=len(lines) - len(own))
    places_of = defaultdict[tuple[Any, ...], int](itertools.count().__next__)
    kinds = zip(days, *(columns[name] for name in Cell._fields[2:]), strict=True)
    places = list(map(places_of.__getitem__, kinds))
    return Grouped([Cell(*days, *kind) for days, *kind in places_of], places, columns)


def days_of(line: ShortLine) -> tuple[int, int] | None:
    """The days on which it ended and began; `None` where there are no such dates."""
    return _days_of_all((line.timestamp,), (line.execution_time_ms,))


def dated(lines: list[Line]) -> list[Line]:
    """Those of them that have days."""
    days = _days_of_each([line.timestamp for line in lines], [line.execution_time_ms for line in lines])
    return list(itertools.compress(lines, days)) if None in days else lines


def _days_of_each(begins: Sequence[datetime], times_ms: Sequence[float]) -> list[tuple[int, int] | None]:
    """The days on which each ended and began: they come in order, so that many in a row have the same."""
    days = _days_of_all(begins, times_ms)
    if days is not None or len(begins) <= 1:
        return [days] * len(begins)
    half = len(begins) // 2
    return _days_of_each(begins[:half], times_ms[:half]) + _days_of_each(begins[half:], times_ms[half:])


def _days_of_all(begins: Sequence[datetime], times_ms: Sequence[float]) -> tuple[int, int] | None:
    """The days on which all ended and began; `None` where these are not the same, or one has none."""
    if not begins:
        return None
    try:
        first, last = min(begins), max(begins)
        begun, ended = _day_of(first), _day_of(first + timedelta(milliseconds=min(times_ms)))
        is_same = begun == _day_of(last) and ended == _day_of(last + timedelta(milliseconds=max(times_ms)))
    except (OverflowError, TypeError):  # of no date; with a time zone and without
        return None
    return (ended, begun) if is_same and first.year > MINYEAR and last.year < MAXYEAR else None


def _day_of(moment: datetime) -> int:
    return (moment.astimezone(UTC) if moment.tzinfo else moment).toordinal()


def add_lines(cells: Cells, lines: Sequence[ShortLine]) -> int:
    """Count these executions; how many are passed over."""
    found = grouped(lines)
    for cell in found.cells:
        if cell not in cells:
            cells[cell] = Figures()
    add_figures([cells[cell] for cell in found.cells], found.places, found.columns)
    return found.passed_over


def merge(cells: Cells, more: Mapping[Cell, Figures]) -> None:
    """Count what others have counted, too."""
    for cell, figures in more.items():
        cells.setdefault(cell, Figures()).merge(figures)


def to_records(cells: Mapping[Cell, Figures]) -> list[CellRecord]:
    """As files have them."""
    return [
        CellRecord(
            agent=cell.agent_name,
            model=cell.model,
            simulated=cell.simulated,
            cached=cell.cached,
            begun=None if cell.begun == cell.ended else date.fromordinal(cell.begun),
            costs=figures.costs,
            interrupted=figures.interrupted,
            error_types=dict(figures.error_types),
            times_ms=figures.times_ms.buckets,
            no_times=figures.times_ms.zeros,
            total_time_us=figures.total_time_us,
        )
        for cell, figures in cells.items()
    ]


def from_records(day: date, records: Iterable[CellRecord]) -> Cells:
    """As they were."""
    return {
        Cell(
            ended=day.toordinal(),
            begun=(record.begun or day).toordinal(),
            agent_name=record.agent,
            model=record.model,
            simulated=record.simulated,
            cached=record.cached,
        ): Figures(
            costs=record.costs,
            interrupted=record.interrupted,
            error_types=Counter(record.error_types),
            times_ms=Sketch(buckets=Counter(record.times_ms), zeros=record.no_times),
            total_time_us=record.total_time_us,
        )
        for record in records
    }
