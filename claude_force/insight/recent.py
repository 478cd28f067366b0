"""What the ledger says of the last while, read from its end: a ledger of a million lines costs no more than a new one.

A line is written when its execution has ended, so the file is in the order of endings, but for what processes that
write at once, or a clock that was set, put out of place; `SLACK` covers that. Lines that a crash cut are counted and
passed over.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

BLOCK_BYTES = 1 << 16
# Ours have some 400 bytes; what is longer than this is no line, and must not be carried from block to block.
MAX_LINE_BYTES = 1 << 20
SLACK = timedelta(minutes=1)


class Count(msgspec.Struct):
    """Executions of some kind."""

    executions: int = 0
    errors: int = 0
    """Those without a whole answer; what the user interrupted is no error."""

    @property
    def error_rate(self) -> float:
        """Errors per execution; 0 where there was none."""
        return self.errors / self.executions if self.executions else 0.0


class Recent(msgspec.Struct):
    """The executions that ended since some moment."""

    all: Count = msgspec.field(default_factory=Count)
    by_model: dict[str, Count] = msgspec.field(default_factory=dict)
    error_types: Counter[str] = msgspec.field(default_factory=Counter)
    interrupted: int = 0
    simulated: int = 0
    unreadable_lines: int = 0


class _Line(msgspec.Struct, frozen=True):
    """The part of an `ExecutionLine` that is needed here; other fields cost nothing."""

    timestamp: datetime
    execution_time_ms: float
    success: bool
    model: str | None = None
    error_type: str | None = None
    simulated: bool = False


_decode = msgspec.json.Decoder(_Line).decode


def read_recent(path: Path, *, since: datetime) -> Recent:
    """What ended after `since`. A ledger that is not there is an empty one; one that is no file is an `OSError`."""
    recent = Recent()
    try:
        for data in backwards(path):
            try:
                line = _decode(data)
                ended = _ended(line)
            except (msgspec.DecodeError, UnicodeDecodeError, OverflowError):
                recent.unreadable_lines += 1
                continue
            if ended < since - SLACK:
                break
            if ended >= since:
                _add(recent, line)
    except FileNotFoundError:
        pass
    return recent


def _ended(line: _Line) -> datetime:
    begun = line.timestamp if line.timestamp.tzinfo else line.timestamp.replace(tzinfo=UTC)
    return begun + timedelta(milliseconds=line.execution_time_ms)


def _add(recent: Recent, line: _Line) -> None:
    if line.error_type == "Interrupted":
        recent.interrupted += 1
        return
    recent.simulated += line.simulated
    for count in (recent.all, recent.by_model.setdefault(line.model or "unknown", Count())):
        count.executions += 1
        count.errors += not line.success
    if not line.success:
        recent.error_types[line.error_type or "unknown"] += 1


def backwards(path: Path) -> Iterator[bytes]:
    """The lines of a file, the last one first, read block by block; empty ones are left out."""
    # No links, and no waiting: a cloned repository may have put a pipe there.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{str(path)!r} is no regular file")
        end, beginning = file.seek(0, os.SEEK_END), b""
        while end > 0:
            start = max(end - BLOCK_BYTES, 0)
            block = os.pread(descriptor, end - start, start) + beginning
            beginning, *lines = block.split(b"\n")
            yield from (line for line in reversed(lines) if line)
            beginning = beginning if len(beginning) <= MAX_LINE_BYTES else b"?"
            end = start
        if beginning:
            yield beginning
