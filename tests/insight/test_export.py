"""What other programs get: every execution that was asked for, whole, exact and harmless to spreadsheets."""

import csv
import io
import itertools
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from claude_force.base.usage import Usage
from claude_force.insight.counting import Selected, Selection
from claude_force.insight.export import COLUMNS, Format, write_rows
from claude_force.performance_tracker import PerformanceTracker
from tests.conftest import execution

BEGIN = datetime(2026, 11, 20, tzinfo=UTC)
COST = Decimal("0.000012345678901234")
NAMES = ["linter", "=1+1", "+1", "-1", "@x", "\t=1", 'a,"b"\nc', "Übersetzer"]
HUGE = Decimal("99999999999.999999999999999999")
COSTS = [None, *[COST] * 7, HUGE]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with an agent of each name, one simulated execution, three lines of others, and one that was cut."""
    tracker = PerformanceTracker(tmp_path)
    for number, name in enumerate([*NAMES, "simulated"]):
        tracker.record(
            execution(
                timestamp=BEGIN + timedelta(minutes=number),
                agent_name=name,
                model="m" if number else None,
                error_type="ServerError" if number == 1 else None,
                duration_ms=1000.5,
                usage=Usage(input_tokens=10, output_tokens=20),
                cost_usd=COST if number else None,
                simulated=name == "simulated",
            )
        )
    with tracker.path.open("a") as file:
        for cost in (HUGE, "1e-99999999999", "0e-99999999999"):  # written out, the last two would fill the memory
            file.write(
                '{"timestamp": "2026-11-20T00:08:00Z", "agent_name": "foreign", "success": true,'
                f' "execution_time_ms": 1.5, "estimated_cost": {cost}}}\n'
            )
        file.write('{"timestamp": "2026-')
    return tracker.path


def exported(path: Path, format_: Format, **selection: Any) -> bytes:
    """What is written."""
    sink, lines = io.BytesIO(), Selected(path, Selection(**selection))
    write_rows(itertools.chain.from_iterable(lines), sink, format_)
    if not selection:
        assert (lines.executions, lines.left_out, lines.unreadable_lines) == (len(COSTS), 1, 3)
    return sink.getvalue()


def test_csv(path: Path) -> None:
    """No cell is a formula to a spreadsheet; money is exact, and what is not known is empty."""
    rows = list(csv.DictReader(io.StringIO(exported(path, "csv").decode())))
    assert tuple(rows[0]) == COLUMNS
    shown = [name if name[0] not in "=+-@\t" else f"'{name}" for name in [*NAMES, "foreign"]]
    assert [row["agent_name"] for row in rows] == shown
    assert [row["estimated_cost"] for row in rows] == ["", *["0.000012345678901234"] * 7, str(HUGE)]
    assert rows[1] | {"success": "false", "error_type": "ServerError", "execution_time_ms": "1000.5"} == rows[1]
    assert rows[1]["timestamp"] == "2026-11-20T00:01:00+00:00"


@pytest.mark.parametrize("format_", ["json", "jsonl"])
def test_json(path: Path, format_: Format) -> None:
    """An array, or an object a line; an empty one where nothing is there."""
    text = exported(path, format_).decode()
    rows = json.loads(text, parse_float=Decimal) if format_ == "json" else [*map(json.loads, text.splitlines())]
    assert [row["agent_name"] for row in rows] == [*NAMES, "foreign"]
    if format_ == "json":
        assert [row["estimated_cost"] for row in rows] == COSTS
    assert exported(path, format_, agent="nobody") == (b"[]\n" if format_ == "json" else b"")


def test_parquet(path: Path, tmp_path: Path) -> None:
    """With types: moments, exact money, numbers."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="the parquet extra is not installed")
    (tmp_path / "a.parquet").write_bytes(exported(path, "parquet"))
    table = parquet.read_table(tmp_path / "a.parquet")
    assert tuple(table.column_names) == COLUMNS
    rows = table.to_pylist()
    assert [row["agent_name"] for row in rows] == [*NAMES, "foreign"]
    assert [row["estimated_cost"] for row in rows] == COSTS
    assert [row["timestamp"] for row in rows] == [BEGIN + timedelta(minutes=number) for number in range(9)]
    assert rows[1]["success"] is False
