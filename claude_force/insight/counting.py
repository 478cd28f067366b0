"""Which executions are asked for, and what they came to: from the index and the days where these can tell.

A question by day, agent and model is answered by cells. One that begins in the middle of a day reads that day's lines,
and one for a run reads all. Where the lines of a day are not kept any more, the day counts as a whole, and is reported.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING

import msgspec

from claude_force.insight.cells import Cells, add_lines, dated, merge
from claude_force.insight.index import read_index
from claude_force.insight.ledger import LONG, SHORT, LedgerLine, Line
from claude_force.insight.past import Past

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
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

    def own(self, cells: Cells) -> tuple[Cells, int]:
        """Those of the cells, and how many executions are left out: simulated ones, or the real ones."""
        own: Cells = {}
        left_out = 0
        for cell, figures in cells.items():
            if not self.takes_cell(cell):
                continue
            if cell.simulated == self.simulated:
                own[cell] = figures
            else:
                left_out += figures.costs.executions
        return own, left_out

    @property
    def first_day(self) -> int:
        """The day on which it begins, an ordinal; 0 where there is no such day."""
        return 0 if self.since is None else self.since.astimezone(UTC).toordinal()

    @property
    def first_whole_day(self) -> int:
        """The day from which on no execution is too old."""
        begins_with_it = self.since is None or self.since.astimezone(UTC).time() == time()
        return self.first_day if begins_with_it else self.first_day + 1

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
    left_out: int = 0
    """Simulated executions where the real ones were asked for, and the other way round."""
    only_by_day: int = 0
    """Executions whose lines the question needed, and that are not kept any more."""
    unreadable_lines: int = 0


def count(path: "Path", selection: Selection) -> Found:
    """The cells of what was selected.

    Raises `OSError` for a ledger that cannot be read, and `MetricsError` for what belongs to it.
    """
    return _by_cell(path, selection) if selection.run is None else _by_line(path, selection)


class Selected:
    """The lines of what was selected, wherever they are kept, many at a time and in about the order of their ends.

    What else there was is known once they are read. Reading raises as `count` does.
    """

    def __init__(self, path: "Path", selection: Selection) -> None:
        self.executions = 0
        self.left_out = 0
        """Simulated executions where the real ones were asked for, and the other way round."""
        self.unreadable_lines = 0
        """Of the whole ledger."""
        self._path, self._selection = path, selection
        self._without: list[Day] = []

    def __iter__(self) -> Iterator[list[LedgerLine]]:
        selection = self._selection
        with Past(self._path) as past:
            index = read_index(past)
            self.unreadable_lines = index.unreadable_lines
            yield from map(self._own, self._archived(past))
            wanted = (day.start for number, day in index.days.items() if number >= selection.first_day)
            for _, lines in past.lines(LONG, start=min(wanted, default=past.size)):
                yield self._own(lines)

    @property
    def only_by_day(self) -> int:
        """How many there were whose lines are not kept any more; of a run, at the most."""
        return sum(executions_of(day, self._selection) for day in self._without)

    def rest(self) -> Found:
        """What those came to, of whole days, and all that was passed over; of a run, nobody knows what they came to."""
        found = Found(left_out=self.left_out, only_by_day=self.only_by_day, unreadable_lines=self.unreadable_lines)
        if self._selection.run is None:
            for day in self._without:
                own, left_out = self._selection.own(day.figures)
                merge(found.cells, own)
                found.left_out += left_out
        return found

    def _archived(self, past: Past) -> Iterator[list[LedgerLine]]:
        days = [day for day in past.daily.days if day.date.toordinal() >= self._selection.first_day]
        self._without = [day for day in days if day.archive is None]
        # By their last days: a late line has its own day, and stands in the archive of others.
        for name in reversed(dict.fromkeys(day.archive for day in reversed(days) if day.archive)):
            try:
                yield from past.archived(name, LONG)
            except FileNotFoundError:
                self._without += [day for day in days if day.archive == name]

    def _own(self, lines: list[LedgerLine]) -> list[LedgerLine]:
        selection = self._selection
        wanted = [line for line in dated(selection.recent(lines)) if selection.takes(line)]
        own = [line for line in wanted if line.simulated == selection.simulated]
        self.executions += len(own)
        self.left_out += len(wanted) - len(own)
        return own


def executions_of(day: "Day", selection: Selection) -> int:
    """How many of that day were selected, as far as it is known."""
    return sum(figures.costs.executions for figures in selection.own(day.figures)[0].values())


def _by_line(path: "Path", selection: Selection) -> Found:
    selected, cells = Selected(path, selection), Cells()
    for lines in selected:
        add_lines(cells, lines)
    found = selected.rest()
    merge(found.cells, cells)
    return found


def _by_cell(path: "Path", selection: Selection) -> Found:
    first_day, cells = selection.first_day, Cells()
    with Past(path) as past:
        index = read_index(past)
        found = Found(unreadable_lines=index.unreadable_lines)
        for number, indexed in index.days.items():
            if number >= selection.first_whole_day:
                merge(cells, indexed.cells)
            elif number == first_day:
                for _, lines in past.lines(SHORT, start=indexed.start, end=indexed.end):
                    _add_of_day(number, selection.recent(lines), cells)
        for day in past.daily.days:
            number = day.date.toordinal()
            if number >= selection.first_whole_day:
                merge(cells, day.figures)
            elif number == first_day:
                found.only_by_day += _add_first_day(past, day, selection, cells)
    found.cells, found.left_out = selection.own(cells)
    return found


def _add_first_day(past: Past, day: "Day", selection: Selection, cells: Cells) -> int:
    """How many of them are only known by day."""
    if day.archive is not None:
        with suppress(FileNotFoundError):
            for lines in past.archived(day.archive, SHORT):
                _add_of_day(day.date.toordinal(), selection.recent(lines), cells)
            return 0
    merge(cells, day.figures)
    return executions_of(day, selection)


def _add_of_day(day: int, lines: "Sequence[ShortLine]", cells: Cells) -> None:
    found = Cells()
    add_lines(found, lines)
    merge(cells, {cell: figures for cell, figures in found.items() if cell.ended == day})
