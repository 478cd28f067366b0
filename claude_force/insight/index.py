"""The index of the ledger: what its first lines came to, so that a question of a million lines reads only the last.

`.claude/metrics/index.json` is a cache. It may be deleted at any time; one that is damaged, of another version, or of a
ledger that is another one by now is passed over and written anew. It has the cells of each day, and where in the ledger
the day's lines are, for questions that begin in the middle of one.

Of a long ledger another process reads one half: it runs this module, and writes what would be the index's file.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from claude_force.insight.cells import CellRecord, Cells, Count, from_records, grouped, merge, to_records
from claude_force.insight.figures import Figures, add_figures
from claude_force.insight.helper import Helper
from claude_force.insight.ledger import SHORT, UNREADABLE, opened
from claude_force.insight.past import MARK_BYTES, Past
from claude_force.stores.files import replacing_privately

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_force.insight.blocks import Block
    from claude_force.insight.ledger import ShortLine

FORMAT = 2
# What takes a few hundredths of a second to read is not worth a file.
WORTH_BYTES = 2 << 20
# Half of less is read before another process has begun.
WORTH_HELP_BYTES = 64 << 20


class IndexedDay(msgspec.Struct):
    """A day, and which part of the ledger has all lines that ended on it."""

    start: int
    end: int
    cells: Cells


class Index(msgspec.Struct):
    """What the first `length` bytes of a ledger came to, by day (as an ordinal)."""

    length: int = 0
    unreadable_lines: int = 0
    days: dict[int, IndexedDay] = msgspec.field(default_factory=dict)

    def add(self, block: "Block", lines: "Sequence[ShortLine]") -> None:
        """Count the lines of the next block."""
        self.length = block.start + len(block.data)
        found = grouped(lines)
        self.unreadable_lines += found.passed_over
        figures = []
        for cell in found.cells:
            day = self.days.setdefault(cell.ended, IndexedDay(block.start, self.length, {}))
            day.end = self.length
            figures.append(day.cells.setdefault(cell, Figures()))
        add_figures(figures, found.places, found.columns)

    def merge(self, later: "Index") -> None:
        """Count what another one has counted of the bytes that come next."""
        self.length = later.length
        self.unreadable_lines += later.unreadable_lines
        for number, day in later.days.items():
            own = self.days.setdefault(number, IndexedDay(day.start, day.end, {}))
            own.end = day.end
            merge(own.cells, day.cells)


class _DayRecord(msgspec.Struct, frozen=True):
    date: date
    start: Count
    end: Count
    cells: list[CellRecord]


class _IndexFile(msgspec.Struct, frozen=True, kw_only=True):
    """The file. Without the two digests it could be believed of another ledger."""

    format: int
    length: int
    first_sha256: str
    """Of the ledger's first bytes."""
    last_sha256: str
    """Of the last ones before `length`."""
    unreadable_lines: int
    days: list[_DayRecord]


_decode = msgspec.json.Decoder(_IndexFile).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


def read_index(past: Past) -> Index:
    """The index of all of the ledger, by the file and what was written since; the file is brought up to date."""
    path = past.path.with_name("index.json")
    index = _kept(past, path) if past.half_rolled is None else Index()
    before = index.length
    whole = past.end_of_lines
    if whole - before > WORTH_HELP_BYTES and past.half_rolled is None:
        _read_in_halves(past, index, end=whole)
    _read_on(past, index, end=whole)
    if whole - before > WORTH_BYTES and past.half_rolled is None:
        with suppress(OSError):  # whoever cannot write it down reads it again
            _keep(past, path, index)
    _read_on(past, index, end=past.size)
    return index


def _read_in_halves(past: Past, index: Index, *, end: int) -> None:
    """The first half at least; the second one where the helper has read it."""
    middle = past.end_of_line((index.length + end) // 2)
    with Helper("claude_force.insight.index", str(past.path), str(middle), str(end)) as helper:
        _read_on(past, index, end=middle)
        later = _decoded(past, helper.output())
        if later.length == end:
            index.merge(later)


def _help(path: str, start: str, end: str) -> None:
    with Past(Path(path)) as past:
        if past.half_rolled is None:  # a rollup may have begun
            index = Index(length=int(start))
            _read_on(past, index, end=int(end))
            sys.stdout.buffer.write(_encoded(past, index))


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Nothing here is garbage that refers to itself, and to look for it takes as long as half of the counting."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read_on(past: Past, index: Index, *, end: int) -> None:
    unreadable = past.unreadable_lines
    with _no_collecting():
        for block, lines in past.lines(SHORT, start=index.length, end=end):
            index.add(block, lines)
    index.unreadable_lines += past.unreadable_lines - unreadable


def _kept(past: Past, path: Path) -> Index:
    """The file's; an empty one where there is none of this ledger."""
    with suppress(OSError), opened(path) as file:
        return _decoded(past, file.read())
    return Index()


def _decoded(past: Past, data: bytes) -> Index:
    with suppress(*UNREADABLE):
        found = _decode(data)
        marks = (found.first_sha256, found.last_sha256)
        # None of ours is of less; any ledger begins as one of a few bytes that a cloned repository may have made up.
        is_long = WORTH_BYTES < found.length <= past.size
        if found.format == FORMAT and is_long and marks == _marks(past, found.length):
            days = {
                day.date.toordinal(): IndexedDay(day.start, day.end, from_records(day.date, day.cells))
                for day in found.days
            }
            return Index(found.length, found.unreadable_lines, days)
    return Index()


def _keep(past: Past, path: Path, index: Index) -> None:
    with replacing_privately(path) as file:
        file.write(_encoded(past, index))


def _encoded(past: Past, index: Index) -> bytes:
    first, last = _marks(past, index.length)
    days = [
        _DayRecord(date.fromordinal(day), own.start, own.end, to_records(own.cells)) for day, own in index.days.items()
    ]
    return _encode(
        _IndexFile(
            format=FORMAT,
            length=index.length,
            first_sha256=first,
            last_sha256=last,
            unreadable_lines=index.unreadable_lines,
            days=days,
        )
    )


def _marks(past: Past, length: int) -> tuple[str, str]:
    """Of the ledger's beginning, and of the end of so many bytes."""
    return past.mark(MARK_BYTES), past.mark(length)


if __name__ == "__main__":
    _help(*sys.argv[1:])
