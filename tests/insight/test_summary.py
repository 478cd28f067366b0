"""How executions went: figures that are counted, never guessed, and quantiles within the accuracy that is promised."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.base.usage import Usage
from claude_force.insight.counting import Selection
from claude_force.insight.figures import PERCENTILES
from claude_force.insight.sketch import ACCURACY, Sketch
from claude_force.insight.summary import read_summary
from claude_force.performance_tracker import PerformanceTracker
from tests.conftest import execution

times = st.lists(st.floats(0, 1e9, allow_subnormal=False), min_size=1, max_size=60)


def sketched(numbers: list[float]) -> Sketch:
    """A sketch of them."""
    sketch = Sketch()
    sketch.add(*numbers)
    return sketch


@given(times, st.floats(0, 1))
def test_a_quantile_is_near_the_true_one(numbers: list[float], share: float) -> None:
    """Within the accuracy of the number at that rank."""
    found = sketched(numbers).quantile(share)
    true = sorted(numbers)[int(share * (len(numbers) - 1))]
    assert found is not None
    assert abs(found - true) <= true * (ACCURACY + 1e-9)


@given(times, times)
def test_merged_is_as_counted_together(one: list[float], other: list[float]) -> None:
    """In whatever parts they were counted."""
    merged = sketched(one)
    merged.merge(sketched(other))
    assert merged == sketched([*one, *other])
    assert merged.count == len(one) + len(other)


def test_nothing_has_no_quantile() -> None:
    """And what is below 0 counts as 0."""
    assert Sketch().quantile(0.5) is None
    assert sketched([-1.0, 0.0, 5.0]).quantile(0.5) == 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger: ten executions of two agents, all that can happen to one."""
    tracker = PerformanceTracker(tmp_path / "metrics")

    def record(agent: str = "a", error: str | None = None, **facts: Any) -> None:
        usual: dict[str, Any] = {"agent_name": agent, "cost_usd": Decimal(1), "usage": Usage()}
        tracker.record(execution(error_type=error, **(usual | facts)))

    for number in range(1, 5):
        record(duration_ms=1000.0 * number)
    record(cached=True, duration_ms=1.0, cost_usd=Decimal(0), saved_usd=Decimal(1))
    record(error="RateLimitError", duration_ms=9e9)
    record(error="RateLimitError", duration_ms=9e9)
    record(error="Interrupted", duration_ms=9e9, cost_usd=None)
    record("b", "ServerError", model=None, cost_usd=Decimal(0))
    record("b", simulated=True)
    return tracker.path


def test_each_figure(path: Path) -> None:
    """What the user ended is neither a success nor a failure; only whole answers of a model have times."""
    summary = read_summary(path, Selection())
    total = summary.total
    assert (total.costs.executions, total.interrupted, total.costs.unpriced, summary.left_out) == (9, 1, 1, 1)
    assert total.error_types == {"RateLimitError": 2, "ServerError": 1}
    assert total.success_rate == pytest.approx(5 / 8)
    assert total.hit_rate == pytest.approx(1 / 9)
    found = [total.percentile_ms(percent) for percent in PERCENTILES]
    assert found == pytest.approx([2000, 3000, 3000, 3000, 3000], rel=ACCURACY)
    assert total.times_ms.count == 4


def test_groups(path: Path) -> None:
    """By agent and model, the busiest first; they add up."""
    found = read_summary(path, Selection())
    assert [(name, figures.costs.executions) for name, figures in found.agents.items()] == [("a", 8), ("b", 1)]
    assert [(name, figures.costs.executions) for name, figures in found.models.items()] == [("m", 8), ("unknown", 1)]
    assert found.agents["b"].success_rate == 0
    assert read_summary(path, Selection(agent="nobody")).total.success_rate is None
