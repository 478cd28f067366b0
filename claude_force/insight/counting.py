"""Which executions are asked for, and what they came to: from the index and the days where these can tell.

A question by day, agent and model is answered by cells. One that begins in the middle of a day reads that day's lines,
and one for a run reads all. Where the lines of a day are not kept any more, the day counts as a whole, and is reported.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from claude_force.insight.blocks import LONG, SHORT, Line
from claude_force.insight.cells import Cells, add_lines, days_of, merge
from claude_force.insight.index import read_index
from claude_force.insight.ledger import LedgerLine
from claude_force.insight.past import Past

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from claude_force.insight.cells import Cell
    from claude_force.insight.daily import Day
    from claude_force.insight.ledger import ShortLine


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which executions count; `None` is all."""

    since: datetime | None = None
    """Only those that ended since then."""
    agent: str | None = None
    model: str | None = None
    run: str | None = None
    simulated: bool = False
    """Those of the simulator, which cost nothing, instead of the real ones."""

    def takes(self, line: LedgerLine) -> bool:
        """Whether it is one of them, real or simulated."""
        return self.run in {None, line.run_id} and self.takes_cell(line)

    def takes_cell(self, executions: "ShortLine | Cell") -> bool:
        """Whether they are by agent and model, of whatever run."""
        return self.agent in {None, executions.agent_name} and self.model in {None, executions.model}

    @property
    def first_day(self) -> int:
        """The day on which it begins, an ordinal; 0 where there is no such day."""
        return 0 if self.since is None else self.since.astimezone(UTC).toordinal()

    def recent(self, lines: "Iterable[Line]") -> list[Line]:
        """Those that ended since then."""
        if self.since is None:
            return list(lines)
        found = []
        for line in lines:
            with suppress(OverflowError):
                if line.ended_at >= self.since:
                    found.append(line)
        return found


class Found(msgspec.Struct, kw_only=True):
    """What was counted."""

    cells: Cells = msgspec.field(default_factory=dict)
    only_by_day: int = 0
    """Executions whose lines the question needed, and that are not kept any more."""
    unreadable_lines: int = 0


def count(path: "Path", selection: Selection) -> Found:
    """The cells of what was selected, but for what is not `simulated` as asked for: callers tell how much that is.

    Raises `OSError` for a ledger that cannot be read, and `MetricsError` for what belongs to it.
    """
    with Past(path) as past:
        found = _by_cell(past, selection) if selection.run is None else _by_line(past, selection)
    found.cells = {cell: figures for cell, figures in found.cells.items() if selection.takes_cell(cell)}
    return found


def detail(past: Past, selection: Selection, without: "list[Day]") -> Iterator[list[LedgerLine]]:
    """Every line since the time that is asked for, wherever it is kept; days whose lines are gone go to `without`."""
    days = [day for day in past.daily.days if day.date.toordinal() >= selection.first_day]
    without += [day for day in days if day.archive is None]
    for name in dict.fromkeys(day.archive for day in days if day.archive):
        try:
            yield from map(selection.recent, past.archived(name, LONG))
        except FileNotFoundError:
            without += [day for day in days if day.archive == name]
    for _, lines in past.lines(LONG):
        yield selection.recent(lines)


def executions_of(day: "Day", selection: Selection) -> int:
    """How many of that day were selected, as far as it is known."""
    return sum(
        figures.costs.executions
        for cell, figures in day.figures.items()
        if selection.takes_cell(cell) and cell.simulated == selection.simulated
    )


def _by_line(past: Past, selection: Selection) -> Found:
    found, without = Found(), list["Day"]()
    for lines in detail(past, selection, without):
        found.unreadable_lines += add_lines(found.cells, [line for line in lines if line.run_id == selection.run])
    found.only_by_day = sum(executions_of(day, selection) for day in without)
    found.unreadable_lines += past.unreadable_lines
    return found


def _by_cell(past: Past, selection: Selection) -> Found:
    index = read_index(past)
    found = Found(unreadable_lines=index.unreadable_lines)
    first_day = selection.first_day
    for number, indexed in index.days.items():
        if number > first_day:
            merge(found.cells, indexed.cells)
        elif number == first_day:
            for _, lines in past.lines(SHORT, start=indexed.start, end=indexed.end):
                add_lines(found.cells, _of_day(number, selection.recent(lines)))
    for day in past.daily.days:
        number = day.date.toordinal()
        if number > first_day:
            merge(found.cells, day.figures)
        elif number == first_day:
            _add_first_day(past, day, selection, found)
    return found


def _add_first_day(past: Past, day: "Day", selection: Selection, found: Found) -> None:
    if day.archive is not None:
        with suppress(FileNotFoundError):
            for lines in past.archived(day.archive, SHORT):
                add_lines(found.cells, _of_day(day.date.toordinal(), selection.recent(lines)))
            return
    merge(found.cells, day.figures)
    found.only_by_day += executions_of(day, selection)


def _of_day(day: int, lines: "Iterable[Line]") -> list[Line]:
    return [line for line in lines if (days := days_of(line)) and days[0] == day]
