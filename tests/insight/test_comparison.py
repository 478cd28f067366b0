"""Differences are told with intervals that hold what they promise, and only what is more than chance is an alarm."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_force.base.errors import InputError
from claude_force.insight.comparison import (
    Comparison,
    Estimate,
    compare,
    difference,
    mean,
    proportion,
    quantile,
    read_estimates,
)

TRIALS = 400
Draw = Callable[[random.Random, float, int], Estimate]


def _times(share: float) -> Draw:
    return lambda dice, scale, size: quantile(sorted(scale * dice.lognormvariate(0, 0.5) for _ in range(size)), share)


CASES: dict[str, tuple[Draw, float, float]] = {
    "rates": (lambda dice, rate, size: proportion(sum(dice.random() < rate for _ in range(size)), size), 0.97, 0.9),
    "p50": (_times(0.5), 1000, 1300),
    "p95": (_times(0.95), 1000, 1300),
    "costs": (lambda dice, usd, size: mean([usd * dice.lognormvariate(0, 0.7) for _ in range(size)]), 0.01, 0.013),
}


@pytest.mark.parametrize("case", CASES)
def test_coverage(case: str) -> None:
    """The true change lies in the interval in about 95 of 100 cases, and no change is called one in about 5."""
    draw, old, new = CASES[case]
    figure: Any = "success_rate" if case == "rates" else "cost_usd"
    dice = random.Random(case)  # noqa: S311 - to be repeated
    true = new - old if case == "rates" else new / old - 1
    covered = false = 0
    for _ in range(TRIALS):
        (changed,) = compare({figure: draw(dice, old, 150)}, {figure: draw(dice, new, 250)})
        assert changed.low is not None
        assert changed.high is not None
        covered += changed.low <= true <= changed.high
        (same,) = compare({figure: draw(dice, old, 150)}, {figure: draw(dice, old, 250)})
        false += same.is_significant
    assert 0.925 <= covered / TRIALS <= 0.995
    assert false / TRIALS <= 0.075


def test_as_published() -> None:
    """Wilson's interval and Newcombe's method 10 as in his paper: 56 of 70 against 48 of 80, 0.0524 to 0.3339."""
    found = difference(proportion(48, 80), proportion(56, 70))
    assert found is not None
    assert [round(bound, 4) for bound in found] == [0.0524, 0.3339]


def test_too_few() -> None:
    """Without enough values there is a figure, and no interval."""
    assert quantile([1.0, 2.0, 3.0], 0.95) == (2.0, None, None, 3)
    assert mean([1.0]) == (1.0, None, None, 1)
    assert mean([0.0, 0.0]) == (0.0, None, None, 2)


def rows(number: int, *, factor: float = 1.0, failures: int = 0) -> list[dict[str, Any]]:
    """Executions as they are exported."""
    dice = random.Random(5)  # noqa: S311 - to be repeated
    return [
        {
            "success": n >= failures,
            "execution_time_ms": factor * 1000 * dice.lognormvariate(0, 0.3),
            "estimated_cost": 0.01,
            "output_tokens": 100 + n % 3,
            "agent_name": "a",
        }
        for n in range(number)
    ]


def test_files(tmp_path: Path) -> None:
    """Exports and summaries, in any pair; what a summary cannot tell is no alarm."""
    old, new, summary = tmp_path / "old.json", tmp_path / "new.jsonl", tmp_path / "summary.json"
    old.write_text(json.dumps([*rows(200), {"success": False, "execution_time_ms": 1, "error_type": "Interrupted"}]))
    new.write_text("".join(json.dumps(row) + "\n" for row in rows(200, factor=1.3, failures=60)))
    facts = {"interrupted": 1, "unpriced": 1, "success_rate": 0.7, "cost_usd": 2.0, "output_tokens": 20_301}
    summary.write_text(json.dumps({"executions": 201, **facts, "time_ms": {"p50": 1300.0, "p95": None}}))

    def compared(current: Path) -> dict[str, Comparison]:
        return {one.figure: one for one in compare(read_estimates(old), read_estimates(current))}

    rough = compared(summary)
    assert set(rough) == {"success_rate", "p50_ms", "cost_usd", "output_tokens"}
    assert {name for name, one in rough.items() if one.is_past(0.15)} == {"success_rate"}
    assert rough["success_rate"].samples == (200, 200)
    exact = compared(new)
    assert {name for name, one in exact.items() if one.is_past(0.15)} == {"success_rate", "p50_ms", "p95_ms"}
    assert exact["p50_ms"].change == pytest.approx(0.3, abs=0.1)
    assert not any(one.is_past(0.4) for one in exact.values())
    assert not any(one.is_past(0) for one in compared(old).values())
    new.write_text('{"success": true, "execution_time_ms": -5}')  # of a clock that was set back
    assert "p50_ms" not in read_estimates(new)
    row, figures = '{"success": true, "execution_time_ms": 1, ', summary.read_text()
    for wrong in (
        "{}", "[1]", "no", '{"success_rate": 1, "time_ms": {}}',
        row + '"estimated_cost": "NaN"}', row + '"estimated_cost": 1e400}', row + '"output_tokens": -1}',
        row + f'"x": {"[" * 100_000}', figures.replace("0.7", "7"), figures.replace("20301", "-1"),
    ):  # fmt: skip
        new.write_text(wrong)
        with pytest.raises(InputError, match="is no file of"):
            read_estimates(new)
    with pytest.raises(InputError, match="cannot read"):
        read_estimates(tmp_path / "none")
