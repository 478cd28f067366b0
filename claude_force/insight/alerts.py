"""Which alert rules fire: figures of the last while against thresholds. The rules: `base/alerts.py`.

| metric | is | of |
|---|---|---|
| error_rate, success_rate | the share that failed, or did not | what came to an end of its own |
| miss_rate | the share that no earlier answer served | all executions |
| unpriced_rate | the share whose cost is not known | all executions |
| p50_ms, p95_ms, p99_ms | whole turns, waits included, right to 1 % | what a model answered |
| executions, cost_usd | how many, and for how much | all executions |
| cost_ratio | the cost of the window against its usual cost: the median of those windows of the 24 before in which anything was paid, three at the least | all executions |
| budget_share | the largest share that is spent of a limit under `budgets`, of the day (UTC) instead of the window | |

The ledger is read from its end, no further than the windows reach.
"""  # noqa: E501 - a row of a table is a line

import statistics
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from claude_force.base.alerts import AlertRule, Metric, Severity
from claude_force.insight.figures import Figures, add_figures, columns_of
from claude_force.insight.ledger import Ledger, LedgerLine

if TYPE_CHECKING:
    from claude_force.stores.budgets import Spending

BASELINE_WINDOWS = 24
LEAST_WINDOWS = 3

_PERCENTS: dict[Metric, int] = {"p50_ms": 50, "p95_ms": 95, "p99_ms": 99}
# One dear call is dear, and no execution at all may be what one wants to hear of.
_ALWAYS_JUDGED: frozenset[Metric] = frozenset({"executions", "cost_usd", "budget_share"})


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a rule."""

    name: str
    metric: Metric
    severity: Severity
    state: Literal["firing", "quiet", "unknown"]
    """Unknown where there were too few executions, no usual cost, or no budget."""
    value: float | None
    """`None` where there is none."""
    comparison: Literal["above", "below"]
    threshold: float
    window: str
    samples: int
    """How many executions, or limits, the value is of."""
    agent: str | None
    model: str | None


class AlertReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `read_alerts` found."""

    alerts: tuple[Alert, ...]
    """In the order of the rules."""
    left_out: int
    """Simulated executions where the real ones were asked for, and the other way round."""
    unreadable_lines: int

    @property
    def firing(self) -> tuple[Alert, ...]:
        """Those that fire."""
        return tuple(alert for alert in self.alerts if alert.state == "firing")


def sentence(alert: "Alert") -> str:
    """The alert for a person."""
    whose = "".join(f" of {name}" for name in (alert.agent, alert.model) if name is not None)
    return (
        f"{alert.name}: {alert.metric}{whose} is {figure(alert.value)}, {alert.comparison} {figure(alert.threshold)},"
        f" {reach(alert)}"
    )


def reach(alert: "Alert") -> str:
    """Of what the value is."""
    if alert.metric == "budget_share":
        return "today (UTC)"
    return f"over {alert.window} of {alert.samples:,} execution{'' if alert.samples == 1 else 's'}"


def figure(value: float | None) -> str:
    """A number with the digits that matter; nothing where there is none."""
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - as it says


def read_alerts(
    path: Path,
    rules: Sequence[AlertRule],
    *,
    now: datetime,
    simulated: bool = False,
    spending: "Sequence[Spending]" = (),
) -> AlertReport:
    """Judge every rule by the ledger, and by how it stands with the limits. Raises `OSError` for an unreadable one."""
    ledger, left_out = Ledger(path), 0
    watches = [_Watch(rule, now) for rule in rules]
    for line in ledger.lines(since=min((watch.since for watch in watches), default=now)):
        if line.simulated == simulated:
            ended_at = line.ended_at
            for watch in watches:
                watch.see(line, ended_at)
        else:
            left_out += 1
    alerts = tuple(_judged(watch.rule, watch.measured(spending)) for watch in watches)
    return AlertReport(alerts=alerts, left_out=left_out, unreadable_lines=ledger.unreadable_lines)


class _Measured(NamedTuple):
    """A figure, and of how many."""

    value: float | None
    samples: int


class _Watch:
    """What one rule needs to know of the ledger."""

    def __init__(self, rule: AlertRule, now: datetime) -> None:
        self.rule = rule
        self.figures = Figures()
        self._now, self._span = now, rule.span
        self._windows = BASELINE_WINDOWS + 1 if rule.metric == "cost_ratio" else 1
        if rule.metric == "budget_share":
            self._windows = 0
        self._cost_before = defaultdict[int, Decimal](Decimal)
        """By how many windows ago, from 1 on."""

    @property
    def since(self) -> datetime:
        """How far back it looks."""
        return self._now - self._span * self._windows

    def see(self, line: LedgerLine, ended_at: datetime) -> None:
        """Count the line where it is about what is watched."""
        rule = self.rule
        if (rule.agent is not None and rule.agent != line.agent_name) or rule.model not in {None, line.model}:
            return
        number = max(self._now - ended_at, timedelta()) // self._span  # a clock may have been set back
        if number >= self._windows:
            return
        if number == 0:
            add_figures((self.figures,), (0,), columns_of((line,)))
        else:
            self._cost_before[number] += line.estimated_cost or 0

    def measured(self, spending: "Sequence[Spending]") -> _Measured:
        """The figure that the rule is about."""
        metric, figures = self.rule.metric, self.figures
        executions = figures.costs.executions
        if metric in _PERCENTS:
            return _Measured(figures.percentile_ms(_PERCENTS[metric]), figures.times_ms.count)
        if metric in {"error_rate", "success_rate"}:
            return _Measured(figures.error_rate if metric == "error_rate" else figures.success_rate, figures.ended)
        if metric == "budget_share":
            wanted = "" if self.rule.agent is None else f"budgets.per_agent_per_day_usd.{self.rule.agent}"
            shares = [float(one.spent_usd / one.limit_usd) for one in spending if wanted in {"", one.limit}]
            return _Measured(max(shares, default=None), len(shares))
        values = {
            "miss_rate": None if figures.hit_rate is None else 1 - figures.hit_rate,
            "unpriced_rate": figures.costs.unpriced / executions if executions else None,
            "executions": executions,
            "cost_usd": float(figures.costs.cost_usd),
            "cost_ratio": self._cost_ratio(),
        }
        return _Measured(values[metric], executions)

    def _cost_ratio(self) -> float | None:
        paid = [cost for cost in self._cost_before.values() if cost > 0]
        return float(self.figures.costs.cost_usd / statistics.median(paid)) if len(paid) >= LEAST_WINDOWS else None


def _judged(rule: AlertRule, measured: _Measured) -> Alert:
    value, is_above = measured.value, rule.above is not None
    enough = rule.metric in _ALWAYS_JUDGED or measured.samples >= rule.min_executions
    state: Literal["firing", "quiet", "unknown"] = "unknown"
    if value is not None and enough:
        state = "firing" if (value > rule.threshold if is_above else value < rule.threshold) else "quiet"
    return Alert(
        name=rule.name,
        metric=rule.metric,
        severity=rule.severity,
        state=state,
        value=value,
        comparison="above" if is_above else "below",
        threshold=rule.threshold,
        window=rule.window,
        samples=measured.samples,
        agent=rule.agent,
        model=rule.model,
    )
