"""The ledger, read from its end: the last hour of a million lines costs no more than that of a new one.

A line is written when its execution has ended, so the file is in the order of endings, but for what processes that
write at once, or a clock that was set, put out of place; `ENOUGH` covers that. Lines that a crash cut, or that somebody
else wrote, are counted and passed over.
"""

import itertools
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from decimal import Decimal
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

import msgspec

from claude_force.performance_tracker import CallLine, Tokens
from claude_force.stores.files import open_regular

BLOCK_BYTES = 1 << 16
# Ours have some 400 bytes; what is longer than this is no line, and must not be carried from block to block.
MAX_LINE_BYTES = 1 << 20
# So many lines in a row from before, and all that follow are, too; about as many as a block has, which is read anyway.
ENOUGH = 200
# No part of a token is so cheap.
LEAST_DIGIT = -40
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a line that is none raises."""


def are_money(amounts: Collection[Decimal], *, digits: int = 12) -> bool:
    """Whether they are numbers, of no more than so many digits before the point: one NaN makes each sum one.

    Nor may they begin far behind it: written out, 1e-99999999999 would fill the memory.
    """
    sizes = list(map(Decimal.adjusted, amounts))
    return (
        all(map(Decimal.is_finite, amounts)) and LEAST_DIGIT <= min(sizes, default=0) <= max(sizes, default=0) < digits
    )


def are_costs(amounts: Collection[Decimal]) -> bool:
    """Whether they are money that somebody may have paid: unlike what is saved, it is never below 0."""
    return are_money(amounts) and not any(map(Decimal.is_signed, amounts))


class ShortLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What figures need of an `ExecutionLine`, in its order. What it does not say has a default: others write, too.

    These are read by the million, so who adds them up looks for those that are not sound in many at once (`grouped`).
    """

    timestamp: datetime
    """When it began."""
    agent_name: str = "unknown"
    success: bool
    execution_time_ms: float
    model: str | None = None
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    estimated_cost: Decimal | None = None
    cached: bool = False
    saved_cost: Decimal | None = None
    cache_read_tokens: Tokens = 0
    cache_write_tokens: Tokens = 0
    prompt_cache_saved: Decimal | None = None
    routing_saved: Decimal | None = None
    batch_id: str | None = None
    error_type: str | None = None
    simulated: bool = False

    @property
    def is_sound(self) -> bool:
        """Whether it says what an execution can have said, and what does not spoil the figures of all others."""
        costs = [cost for cost in (self.estimated_cost, self.saved_cost) if cost is not None]
        saved = [money for money in (self.prompt_cache_saved, self.routing_saved) if money is not None]
        # The first year and the last are not there in every time zone.
        is_dated = MINYEAR < self.timestamp.year < MAXYEAR
        return is_dated and are_costs(costs) and are_money(saved)

    @property
    def begun_at(self) -> datetime:
        """With a time zone: UTC where the line names none."""
        return self.timestamp if self.timestamp.tzinfo else self.timestamp.replace(tzinfo=UTC)

    @property
    def ended_at(self) -> datetime:
        """When it ended, and the line was written."""
        return self.begun_at + timedelta(milliseconds=self.execution_time_ms)


class LedgerLine(ShortLine, frozen=True, kw_only=True, gc=False):
    """What is read of an `ExecutionLine` where more than figures is asked for."""

    task_hash: str = ""
    cache_write_1h_tokens: Tokens = 0
    inference_geo: str | None = None
    asked_model: str | None = None
    calls: tuple[CallLine, ...] = ()
    workflow_id: str | None = None
    run_id: str | None = None
    step_id: str | None = None

    def __post_init__(self) -> None:
        """Refuse one that is not sound."""
        if not self.is_sound:
            raise ValueError("it says what no execution can")


Line = TypeVar("Line", bound=ShortLine)

SHORT = msgspec.json.Decoder(ShortLine)
LONG = msgspec.json.Decoder(LedgerLine)


class Ledger:
    """A file of executions. One that is not there is an empty one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unreadable_lines = 0
        """How many were passed over so far."""

    def lines(self, *, since: datetime | None = None, most: int | None = None) -> Iterator[LedgerLine]:
        """The lines from the last one on: those that ended since then, and of no more than so many lines.

        Raises `OSError` for a file that cannot be read, or is none.
        """
        before = 0
        with suppress(FileNotFoundError):
            for data in itertools.islice(backwards(self.path), most):
                try:
                    line = LONG.decode(data)
                    ended_at = line.ended_at
                except (*UNREADABLE, OverflowError):
                    self.unreadable_lines += 1
                    continue
                if since is None or ended_at >= since:
                    before = 0
                    yield line
                elif (before := before + 1) == ENOUGH:
                    return


def first_end(path: Path) -> datetime | None:
    """When the execution of the first line ended; `None` without a ledger, or a line near its beginning."""
    with suppress(OSError), opened(path) as file:
        # Lines that cannot be read stay when others are rolled up, and gather here: some 200 may be passed over.
        for data in file.read(BLOCK_BYTES).split(b"\n"):
            with suppress(*UNREADABLE, OverflowError):
                return LONG.decode(data).ended_at
    return None


def opened(path: Path) -> BufferedReader:
    """The ledger, or a file beside it, to read. Raises `OSError` for what cannot be read, or is no file."""
    return open_regular(path, os.O_NOFOLLOW)  # a cloned repository may have put a link there


def backwards(path: Path) -> Iterator[bytes]:
    """The lines of a file, the last one first, read block by block; empty ones are left out."""
    with opened(path) as file:
        end, beginning = file.seek(0, os.SEEK_END), b""
        while end > 0:
            start = max(end - BLOCK_BYTES, 0)
            block = os.pread(file.fileno(), end - start, start) + beginning
            beginning, *lines = block.split(b"\n")
            yield from (line for line in reversed(lines) if line)
            beginning = beginning if len(beginning) <= MAX_LINE_BYTES else b"?"
            end = start
        if beginning:
            yield beginning
