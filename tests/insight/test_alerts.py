"""Alert rules fire on what they say, of the time that they say, and never on too little."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from claude_force.base.alerts import DEFAULT_ALERTS, AlertRule
from claude_force.base.config import validate_config
from claude_force.base.errors import ConfigError
from claude_force.insight.alerts import Alert, read_alerts
from claude_force.insight.ledger import BLOCK_BYTES, ENOUGH
from claude_force.performance_tracker import PerformanceTracker
from claude_force.stores.budgets import Spending
from tests.conftest import execution

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Past:
    """A ledger that is written from its beginning."""

    def __init__(self, folder: Path) -> None:
        self.tracker = PerformanceTracker(folder)

    def went(self, number: int = 1, *, ago: float = 0.0, error: str | None = None, **facts: Any) -> None:
        """So many executions that ended so many minutes ago."""
        usual: dict[str, Any] = {"duration_ms": 1000.0, "cost_usd": Decimal("0.01")}
        usual |= facts
        begun = NOW - timedelta(minutes=ago, milliseconds=usual["duration_ms"])
        for _ in range(number):
            self.tracker.record(execution(timestamp=begun, error_type=error, **usual))

    def judged(self, *rules: AlertRule, **options: Any) -> dict[str, Alert]:
        """What became of each rule."""
        report = read_alerts(self.tracker.path, rules, now=NOW, **options)
        return {alert.name: alert for alert in report.alerts}


@pytest.fixture
def past(tmp_path: Path) -> Past:
    """An empty ledger."""
    return Past(tmp_path)


def states(alerts: dict[str, Alert]) -> dict[str, str]:
    """Of each rule."""
    return {name: alert.state for name, alert in alerts.items()}


def test_a_bad_hour(past: Past) -> None:
    """Each of the rules that apply by default fires where it should; of an empty ledger none knows anything."""
    assert set(states(past.judged(*DEFAULT_ALERTS)).values()) == {"unknown"}
    for hour in range(1, 4):
        past.went(ago=60 * hour + 30, cost_usd=Decimal(1))
    past.went(18, ago=2, duration_ms=4000.0, cost_usd=None)
    past.went(2, ago=2, duration_ms=16_000.0, cost_usd=Decimal(2))
    past.went(3, ago=1, error="ServerError")
    past.went(9, ago=1, error="Interrupted")
    budget = Spending("budgets.per_day_usd", Decimal(10), Decimal("8.5"), Decimal(0))
    alerts = past.judged(*DEFAULT_ALERTS, spending=[budget])
    assert {name: (alert.state, alert.value, alert.samples) for name, alert in alerts.items()} == {
        "errors": ("firing", pytest.approx(3 / 23), 23),
        "slow": ("firing", pytest.approx(16_000, rel=0.01), 20),
        "dear": ("firing", pytest.approx(4.12), 32),
        "success": ("firing", pytest.approx(20 / 23), 23),
        "budget": ("firing", 0.85, 1),
        "unpriced": ("firing", 18 / 32, 32),
        "misses": ("firing", 1, 32),
    }


def test_too_little_is_no_alarm(past: Past) -> None:
    """One failure of one says nothing; what was dear is dear by itself, and silence can be heard."""
    past.went(ago=1, error="ServerError", cost_usd=Decimal(9))
    rate = AlertRule(name="rate", metric="error_rate", above=0.5)
    alerts = past.judged(
        rate,
        AlertRule(name="any", metric="error_rate", above=0.5, min_executions=1),
        AlertRule(name="cost", metric="cost_usd", above=5),
        AlertRule(name="silence", metric="executions", below=2),
        AlertRule(name="ratio", metric="cost_ratio", above=0.1, min_executions=1),
    )
    assert states(alerts) == {
        "rate": "unknown", "any": "firing", "cost": "firing", "silence": "firing", "ratio": "unknown",
    }  # fmt: skip
    past.went(8, ago=1, error="ServerError")
    assert past.judged(rate)["rate"].state == "unknown"
    past.went(1, ago=1, error="ServerError")
    assert past.judged(rate)["rate"].state == "firing"


def test_only_what_it_is_about(past: Past) -> None:
    """Its window, its agent, its model, and the world of real or of simulated answers."""
    past.went(20, ago=61, error="ServerError")
    past.went(10, ago=59.9, agent_name="b")
    past.went(10, ago=5, error="ServerError", model="n")
    past.went(10, ago=5, simulated=True)
    rules = [
        AlertRule(name="all", metric="error_rate", above=0.5),
        AlertRule(name="a", metric="error_rate", above=0.5, agent="a"),
        AlertRule(name="n", metric="error_rate", above=0.5, model="n"),
        AlertRule(name="b", metric="error_rate", above=0.5, agent="b"),
        AlertRule(name="equal", metric="error_rate", below=0.5),
    ]
    expected = {"all": "quiet", "a": "firing", "n": "firing", "b": "quiet", "equal": "quiet"}
    assert states(past.judged(*rules)) == expected
    report = read_alerts(past.tracker.path, rules[:1], now=NOW, simulated=True)
    assert (report.alerts[0].value, report.left_out) == (0, 20)
    limits = [Spending("budgets.per_day_usd", Decimal(1), Decimal(1), Decimal(0))]
    limits += [Spending("budgets.per_agent_per_day_usd.a", Decimal(2), Decimal(1), Decimal(0))]
    share = AlertRule(name="share", metric="budget_share", above=0.8)
    assert past.judged(share, spending=limits)["share"].value == 1
    mine = AlertRule(name="mine", metric="budget_share", above=0.8, agent="a")
    assert past.judged(mine, spending=limits)["mine"].value == 0.5


def test_reads_no_further_than_it_looks(past: Past) -> None:
    """The last hour of a long ledger costs what an hour costs."""
    past.tracker.path.parent.mkdir(exist_ok=True)
    past.tracker.path.write_text("not to be read\n" * BLOCK_BYTES)
    past.went(ENOUGH, ago=70)
    past.went(5, ago=5)
    rules = [AlertRule(name="number", metric="executions", above=0)]
    report = read_alerts(past.tracker.path, rules, now=NOW)
    assert (report.alerts[0].samples, report.unreadable_lines) == (5, 0)


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ({"above": 1, "below": 2}, "alerts[0]: give either above or below"),
        ({}, "alerts[0]: give either above or below"),
        ({"above": 1, "window": "25h"}, "alerts[0]: window is '25h'; give a day (24h) at the most"),
        ({"above": 1, "window": "5"}, "alerts[0].window: expected str matching regex '^[1-9][0-9]{0,3}[mh]$'"),
        ({"above": 1, "severity": "worst"}, "alerts[0].severity: invalid enum value 'worst'; known here: critical, info, warning"),  # noqa: E501 - a message is a line
        ({"above": 1, "window": "24h"}, None),
        ({"above": 1, "window": "24h\n"}, None),
    ],
)  # fmt: skip
def test_faults(rule: dict[str, Any], fault: str | None) -> None:
    """Are named before anything is judged, with the nearest name."""
    config = {"alerts": [{"name": "x", "metric": "error_rate"} | rule]}
    if fault is None:
        assert validate_config(config).alerts[0].name == "x"
        return
    with pytest.raises(ConfigError) as raised:
        validate_config(config)
    assert raised.value.problems == (fault,)


def test_own_rules() -> None:
    """Those that are written down are those that apply, each name once."""
    assert validate_config({}).alerts == list(DEFAULT_ALERTS)
    assert validate_config({"alerts": []}).alerts == []
    rule = {"name": "x", "metric": "cost_usd", "above": 5}
    assert json.dumps([each.name for each in validate_config({"alerts": [rule]}).alerts]) == '["x"]'
    with pytest.raises(ConfigError, match="2 have the name 'x'"):
        validate_config({"alerts": [rule, rule]})
