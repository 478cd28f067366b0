"""Executions that are counted together: a `Cell` is a day's of an agent by a model. What cells become in files.

Whatever was rolled up or indexed can still be asked by day, agent and model, and no finer.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, tzinfo
from typing import Annotated, NamedTuple

import msgspec

from claude_force.insight.blocks import Line
from claude_force.insight.figures import Costs, Figures
from claude_force.insight.ledger import ShortLine
from claude_force.insight.sketch import Sketch

_HOUR_MS = 3_600_000
_LAST_HOUR = 23


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


def days_of(line: ShortLine) -> tuple[int, int] | None:
    """The days on which it ended and began; `None` where there are no such dates."""
    try:
        return line.ended_at.astimezone(UTC).toordinal(), line.begun_at.astimezone(UTC).toordinal()
    except OverflowError:
        return None


def is_utc(zone: tzinfo | None) -> bool:
    """Whether the days of that zone, the machine's if `None`, are those of cells."""
    return zone is UTC or str(zone) == "UTC" or (zone is None and not time.timezone and not time.daylight)


def grouped(lines: Iterable[Line]) -> tuple[dict[Cell, list[Line]], int]:
    """The lines by their cells, and how many have no date."""
    groups = defaultdict[tuple[int, int, str, str | None, bool, bool], list[Line]](list)
    undated = 0
    for line in lines:
        begun = line.timestamp
        # It is asked of each of millions, so what it takes to add a duration is done only where the day may be over.
        if begun.tzinfo is UTC and begun.hour != _LAST_HOUR and 0 <= line.execution_time_ms < _HOUR_MS:
            ended_on = begun_on = begun.toordinal()
        else:
            days = days_of(line)
            if days is None:
                undated += 1
                continue
            ended_on, begun_on = days
        groups[ended_on, begun_on, line.agent_name, line.model, line.simulated, line.cached].append(line)
    return {Cell(*cell): group for cell, group in groups.items()}, undated


def add_lines(cells: Cells, lines: Iterable[Line]) -> int:
    """Count these executions; how many have no date, and are not counted."""
    groups, undated = grouped(lines)
    for cell, group in groups.items():
        cells.setdefault(cell, Figures()).add(*group)
    return undated


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
