"""What days of the past came to: `.claude/metrics/daily.jsonl`, written by a rollup in place of the ledger's old lines.

Its first line, the `Header`, says which lines of which ledger it has swallowed, so that whoever finds them still there
does not count them twice (`insight/past.py`). Each further line is a `Day`. Where old lines are kept in an archive, a
`Day` names it; a day may have one such line for each archive, and one for what is kept nowhere else.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from claude_force.base.errors import MetricsError
from claude_force.insight.blocks import blocks, lines_of
from claude_force.insight.cells import CellRecord, Count, from_records, to_records
from claude_force.insight.ledger import Line, opened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.insight.cells import Cell, Cells
    from claude_force.insight.figures import Figures

FORMAT = 1
ARCHIVE = r"executions-[0-9a-f]{12}\.jsonl\.gz"
"""How an archive is named: another name could lead anywhere."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What was swallowed last: of the ledger's first `length` bytes the lines that ended before `cutoff`, in UTC."""

    format: int
    days: int
    """How many lines follow."""
    cutoff: date
    length: Count
    offset: Count
    """Where the first of these lines began."""
    sha256: str
    """Of that line: a ledger that has it there still has them all."""
    last_sha256: str
    """Of the last bytes of `length`: a cloned repository cannot know them of lines that are yet to be written."""


class AgentShare(msgspec.Struct, frozen=True):
    """An agent's part of a day."""

    executions: int
    cost: Decimal


class Day(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The executions that ended on a day of UTC: what the simulator answered is in the cells alone."""

    date: date
    archive: Annotated[str, msgspec.Meta(pattern=rf"^{ARCHIVE}\Z")] | None = None
    """The file in `archive/` that has the lines."""
    executions: int
    success: int
    total_time_ms: Decimal
    total_tokens: int
    total_cost: Decimal
    agents: dict[str, AgentShare]
    cells: list[CellRecord]

    @property
    def figures(self) -> "Cells":
        """Those of its cells."""
        return from_records(self.date, self.cells)

    @property
    def all_executions(self) -> int:
        """With those of the simulator."""
        return sum(record.costs.executions for record in self.cells)


def day_of(day: date, archive: str | None, cells: "Mapping[Cell, Figures]") -> Day:
    """The line for these cells."""
    real = {cell: figures for cell, figures in cells.items() if not cell.simulated}
    agents: dict[str, AgentShare] = {}
    for cell, figures in real.items():
        before = agents.get(cell.agent_name, AgentShare(0, Decimal(0)))
        costs = figures.costs
        agents[cell.agent_name] = AgentShare(before.executions + costs.executions, before.cost + costs.cost_usd)
    all_costs = [figures.costs for figures in real.values()]
    return Day(
        date=day,
        archive=archive,
        executions=sum(costs.executions for costs in all_costs),
        success=sum(costs.executions - costs.failures for costs in all_costs),
        total_time_ms=Decimal(sum(figures.total_time_us for figures in real.values())) / 1000,
        total_tokens=sum(costs.prompt_tokens + costs.output_tokens for costs in all_costs),
        total_cost=sum((costs.cost_usd for costs in all_costs), Decimal(0)),
        agents=agents,
        cells=to_records(cells),
    )


class Daily(msgspec.Struct, frozen=True):
    """All of the file; without a header, there is none."""

    header: Header | None = None
    days: tuple[Day, ...] = ()

    @property
    def archives(self) -> dict[str, int]:
        """Each archive, with how many executions it has."""
        found: dict[str, int] = {}
        for day in self.days:
            if day.archive:
                found[day.archive] = found.get(day.archive, 0) + day.all_executions
        return found


_decode_header = msgspec.json.Decoder(Header).decode
_decode_day = msgspec.json.Decoder(Day).decode
_decode_format = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


def daily_file(folder: Path) -> Path:
    """Its path, in this folder of metrics."""
    return folder / "daily.jsonl"


def encode_daily(header: Header, days: Sequence[Day]) -> Iterator[bytes]:
    """The lines of the file."""
    for part in (header, *days):
        yield _encode(part) + b"\n"


def read_daily(folder: Path) -> Daily:
    """The file. Raises `MetricsError` for one that is damaged, or of a newer version, and `OSError`."""
    path = daily_file(folder)
    try:
        with opened(path) as file:
            first, *rest = file.read().split(b"\n")
    except FileNotFoundError:
        return Daily()
    try:
        _check_format(path, first)
        header = _decode_header(first)
        days = tuple(map(_decode_day, filter(None, rest)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if len(days) != header.days:
        raise _damaged(path, f"it has {len(days):,} days, of {header.days:,}")
    return Daily(header, days)


def _check_format(path: Path, first: bytes) -> None:
    with suppress(msgspec.DecodeError):
        found = msgspec.json.decode(_decode_format(first).get("format", b"0"))
        if isinstance(found, int) and found > FORMAT:
            raise MetricsError(
                f"{str(path)!r} is of a newer claude-force: its format is {found}, and {FORMAT} is the last one known "
                "here; upgrade claude-force",
                path=str(path),
            )


def _damaged(path: Path, reason: str) -> MetricsError:
    return MetricsError(
        f"{str(path)!r}, which has what past days came to, is damaged: {reason}; put a copy of it back, or move it "
        "away and do without these days",
        path=str(path),
    )


def archive_folder(folder: Path) -> Path:
    """Where old lines are kept, in this folder of metrics."""
    return folder / "archive"


def read_archive(path: Path, decoder: "msgspec.json.Decoder[Line]") -> Iterator[list[Line]]:
    """The lines of an archive, many at a time. Raises `FileNotFoundError`, and `MetricsError` for a damaged one."""
    try:
        with opened(path) as packed, gzip.open(packed) as file:
            for block in blocks(file):
                yield lines_of(block, decoder)[0]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise MetricsError(
            f"the archive {str(path)!r} is damaged: {error}; put a copy of it back, or remove it and do without its "
            "detail",
            path=str(path),
        ) from error
