"""What was spent and saved: exact sums, nothing counted twice, and nothing guessed."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest

from claude_force.base.pricing import ModelPrice, Prices
from claude_force.base.records import Call, Execution, PromptCaching
from claude_force.base.usage import Usage
from claude_force.insight.costs import Grouping, read_costs
from claude_force.insight.counting import Selection
from claude_force.insight.figures import Costs
from claude_force.performance_tracker import PerformanceTracker

SONNET = "claude-sonnet-5-5"
NOW = datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
ALL = Selection()


@pytest.fixture
def tracker(tmp_path: Path) -> PerformanceTracker:
    """An empty ledger."""
    return PerformanceTracker(tmp_path / "metrics")


def record(tracker: PerformanceTracker, *usages: Usage | None, asked_as: str | None = None, **facts: Any) -> None:
    """One execution, billed for so many answers at the prices of its day."""
    model, at = facts.get("model", SONNET), facts.get("timestamp", NOW)
    costs = [Prices().cost_usd(model, usage, at) for usage in usages]
    known = [cost for cost in costs if cost is not None]
    defaults: dict[str, Any] = {
        "timestamp": NOW,
        "agent_name": "linter",
        "task": "check it",
        "model": model,
        "success": True,
        "duration_ms": 100.0,
        "attempts": len(usages),
        "usage": sum((usage or Usage() for usage in usages), Usage()),
        "cost_usd": sum(known, Decimal(0)) if len(known) == len(costs) else None,
        "calls": tuple(Call(model=model, asked_as=asked_as or model, usage=usage) for usage in usages),
    }
    tracker.record(Execution(**(defaults | facts)))


def test_each_figure(tracker: PerformanceTracker) -> None:
    """Tokens, money, and what both caches saved; what has no price is counted, and adds nothing."""
    usage = Usage(
        input_tokens=1, cache_read_tokens=20, cache_write_5m_tokens=300, cache_write_1h_tokens=4_000, output_tokens=50
    )
    record(tracker, usage, prompt_caching=PromptCaching(read_tokens=20, saved_usd=Decimal("-0.01")))
    record(tracker, cached=True, saved_usd=Decimal("0.25"), attempts=0)
    record(tracker, success=False, error_type="TimedOutError", usage=None, cost_usd=None, attempts=1)
    report = read_costs(tracker.path, ALL)
    assert report.groups == {}
    assert report.total == Costs(
        executions=3,
        failures=1,
        cached=1,
        input_tokens=1,
        cache_read_tokens=20,
        cache_write_tokens=4_300,
        output_tokens=50,
        cost_usd=Prices().cost_usd(SONNET, usage, NOW) or Decimal(0),
        unpriced=1,
        saved_by_cache_usd=Decimal("0.25"),
        saved_by_prompt_cache_usd=Decimal("-0.01"),
    )


@pytest.mark.parametrize("by", get_args(Grouping))
def test_groups_add_up_to_the_total(tracker: PerformanceTracker, by: Grouping) -> None:
    """However they are grouped, every execution is in one group, the dearest first."""
    for number in range(1, 13):
        run = {"workflow_id": "w", "run_id": f"r{number % 3}", "step_id": f"s{number % 4}"} if number % 5 else {}
        usage = Usage(input_tokens=1_000 * number, output_tokens=number)
        model = SONNET if number % 2 else "claude-haiku-5-5"
        begun = NOW + timedelta(hours=10 * number)
        record(tracker, usage, agent_name=f"a{number % 3}", model=model, timestamp=begun, **run)
    report = read_costs(tracker.path, ALL, by=by, zone=UTC)
    assert sum(costs.executions for costs in report.groups.values()) == report.total.executions == 12
    assert sum(costs.cost_usd for costs in report.groups.values()) == report.total.cost_usd
    order = [costs.cost_usd for costs in report.groups.values()]
    assert len(order) > 1
    assert list(report.groups) == sorted(report.groups) if by == "day" else order == sorted(order, reverse=True)


def test_days_are_those_of_the_zone(tracker: PerformanceTracker) -> None:
    """Half an hour before midnight in UTC is the next day in Berlin."""
    record(tracker, Usage(input_tokens=1))
    assert list(read_costs(tracker.path, ALL, by="day", zone=UTC).groups) == ["2026-11-20"]
    assert list(read_costs(tracker.path, ALL, by="day", zone=ZoneInfo("Europe/Berlin")).groups) == ["2026-11-21"]


def test_only_what_is_asked_for(tracker: PerformanceTracker) -> None:
    """By agent, model, run and time; what was simulated is never added to what was paid."""
    record(tracker, Usage(input_tokens=1), timestamp=NOW - timedelta(days=9))
    record(tracker, Usage(input_tokens=10), agent_name="other", model="claude-haiku-5-5", run_id="r")
    record(tracker, Usage(input_tokens=100), simulated=True)
    record(tracker, Usage(input_tokens=1_000))

    def tokens(**chosen: Any) -> tuple[int, int]:
        report = read_costs(tracker.path, Selection(**chosen))
        return report.total.input_tokens, report.left_out

    assert tokens() == (1_011, 1)
    assert tokens(agent="other") == tokens(model="claude-haiku-5-5") == tokens(run="r") == (10, 0)
    assert tokens(since=NOW - timedelta(days=1)) == (1_010, 1)
    assert tokens(simulated=True) == (100, 3)


def test_repricing_finds_the_same_prices(tracker: PerformanceTracker) -> None:
    """Each answer by its own length, and an hour's cache by its own rate."""
    long_model = "claude-sonnet-4-5"  # above 200,000 tokens of prompt, it is dearer
    one, two = (Usage(input_tokens=150_000, output_tokens=10, cache_write_1h_tokens=n) for n in (7, 0))
    record(tracker, one, two, model=long_model)
    record(tracker, one + two, model=long_model)
    record(tracker, Usage(cache_write_5m_tokens=5_000, cache_read_tokens=3, output_tokens=1))
    record(tracker, cached=True, saved_usd=Decimal("0.25"), attempts=0)
    before, after = read_costs(tracker.path, ALL), read_costs(tracker.path, ALL, prices=Prices())
    assert after.total.cost_usd == before.total.cost_usd
    assert after.total.unpriced == 0
    bands = [
        costs.cost_usd for costs in read_costs(tracker.path, Selection(model=long_model), by="model").groups.values()
    ]
    assert bands[0] > 2 * 2 * (Prices().cost_usd(long_model, two, NOW) or 0), "the second one is in the dearer band"


def test_repricing_prices_what_had_no_price(tracker: PerformanceTracker) -> None:
    """By the price that the config names now, under the name that was asked for; unknown tokens stay unpriced."""
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    record(tracker, usage, model="served-name", asked_as="asked-name")
    record(tracker, usage=None, model="served-name", cost_usd=None, attempts=1)
    assert read_costs(tracker.path, ALL).total.unpriced == 2
    prices = Prices({"asked-name": ModelPrice(input=Decimal(1), output=Decimal(2))})
    total = read_costs(tracker.path, ALL, prices=prices).total
    assert (total.cost_usd, total.unpriced) == (Decimal(3), 1)


def test_a_ledger_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """And one that others wrote into is read as far as it goes."""
    assert read_costs(tmp_path / "none", ALL).total == Costs()
    ledger = tmp_path / "executions.jsonl"
    ledger.write_text('{"torn\n{"timestamp":"2026-11-20T00:00:00","success":true,"execution_time_ms":1}\n[]\n')
    report = read_costs(ledger, ALL, by="agent")
    assert (list(report.groups), report.total.unpriced, report.unreadable_lines) == (["unknown"], 1, 2)
