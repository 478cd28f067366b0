"""What the ledger says of the last hour, read from its end."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.insight.ledger import BLOCK_BYTES, ENOUGH, MAX_LINE_BYTES, Ledger

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SINCE = NOW - timedelta(hours=1)


def line(minutes_ago: float, *, success: bool = True, more: str = "", duration_ms: float = 1000) -> str:
    """An execution that began so many minutes ago."""
    begun = (NOW - timedelta(minutes=minutes_ago)).isoformat()
    said = "true" if success else "false"
    return f'{{"timestamp":"{begun}","success":{said},"execution_time_ms":{duration_ms},"model":"m"{more}}}\n'


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger that is not there yet."""
    return tmp_path / "executions.jsonl"


def ended(ledger: Path) -> tuple[int, int]:
    """How many executions ended in the last hour, and how many lines were passed over."""
    found = Ledger(ledger)
    return len(list(found.lines(since=SINCE))), found.unreadable_lines


def test_only_the_last_hour_counts(ledger: Path) -> None:
    """What ended before is left out; what began before and ended within counts."""
    ledger.write_text(line(90) + line(90, duration_ms=3_600_000) + line(60.5) + line(59) + line(0))
    assert ended(ledger) == (3, 0)


def test_lines_may_be_out_of_order(ledger: Path) -> None:
    """Two processes may write in another order than they ended in, and what a wrong clock wrote hides nothing."""
    ledger.write_text(line(59) + line(60.3) + line(59) + line(9000) * (ENOUGH - 1) + line(58) + line(90_000))
    assert ended(ledger) == (3, 0)


@pytest.mark.parametrize(
    "torn",
    [
        '{"timestamp":"2026-11-21T11:59',
        "\0" * 30,
        "\xff",
        "[]",
        '{"timestamp":"9999-12-31T23:59:59Z","success":true,"execution_time_ms":1e300}',
        '{"timestamp":"0001-01-01T00:00:00Z","success":true,"execution_time_ms":-1e15}',
    ],
    ids=["cut", "zeros", "no text", "no object", "no date after it", "no date before it"],
)
def test_torn_lines_are_passed_over(ledger: Path, torn: str) -> None:
    """What a crash left behind is counted, and hides nothing of what is before it."""
    ledger.write_bytes((line(2) + torn + "\n\n" + line(1) + torn).encode("latin-1"))
    assert ended(ledger) == (2, 2)


@given(st.lists(st.integers(0, 3000), max_size=80))
def test_block_borders_are_nowhere(tmp_path_factory: pytest.TempPathFactory, paddings: list[int]) -> None:
    """However long lines are, each is read once, wherever the blocks of the file end."""
    ledger = tmp_path_factory.mktemp("ledger") / "executions.jsonl"
    ledger.write_text("".join(line(1, more=f',"padding":"{"x" * size}"') for size in paddings))
    assert ended(ledger) == (len(paddings), 0)


def test_only_the_end_is_read(ledger: Path) -> None:
    """Terabytes of the past are not touched: here they are a hole, which would be gigabytes of memory."""
    with ledger.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(0, os.SEEK_END)
        file.write(("\n" + line(600) * (BLOCK_BYTES // 100) + line(1)).encode())
    assert ended(ledger)[0] == 1


def test_a_line_without_an_end_does_not_fill_the_memory(ledger: Path) -> None:
    """A megabyte without a line end is no line, however much follows before it."""
    ledger.write_bytes(b"x" * (3 * MAX_LINE_BYTES) + b"\n" + line(1).encode())
    assert ended(ledger) == (1, 1)


def test_no_ledger(ledger: Path) -> None:
    """Without a ledger nothing was executed; a link or a pipe in its place is refused, and not waited for."""
    assert ended(ledger) == (0, 0)
    os.mkfifo(ledger)
    with pytest.raises(OSError, match="no regular file"):
        ended(ledger)
    ledger.unlink()
    ledger.symlink_to("/dev/zero")
    with pytest.raises(OSError, match="symbolic"):
        ended(ledger)
