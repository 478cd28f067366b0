"""What the configuration may say of alerts: rules about the figures of the last while, and those that apply by default.

How a rule is judged: `insight/alerts.py`.
"""

import re
from datetime import timedelta
from typing import Annotated, Literal

import msgspec

from claude_force.base.sections import Section

Metric = Literal[
    "error_rate",
    "success_rate",
    "miss_rate",
    "unpriced_rate",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "executions",
    "cost_usd",
    "cost_ratio",
    "budget_share",
]
Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
MAX_WINDOW = timedelta(days=1)
"""Alerts are about now; what happened over weeks, `analytics` shows."""

_UNITS = {"m": "minutes", "h": "hours"}


class AlertRule(Section, frozen=True):
    """When to sound an alarm: where a figure of the last while is above, or below, a threshold."""

    name: str
    metric: Metric
    above: float | None = None
    below: float | None = None
    window: Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,3}[mh]$")] = "1h"
    """How long the last while is: minutes or hours, such as `15m`."""
    severity: Severity = "warning"
    agent: str | None = None
    """Only of this agent; `None` is of all together."""
    model: str | None = None
    """Only of this model, as the ledger has it."""
    min_executions: Annotated[int, msgspec.Meta(ge=1)] = 10
    """With fewer, rates, times and `cost_ratio` are not judged: one failure of one is no outage."""

    @property
    def span(self) -> timedelta:
        """The window as a time."""
        found = re.match(r"(\d+)([mh])", self.window)  # no `fullmatch`: for the pattern, a line may end after it
        number, unit = found.groups()  # type: ignore[union-attr] # by the pattern
        return timedelta(**{_UNITS[unit]: int(number)})

    @property
    def threshold(self) -> float:
        """What the figure is compared with."""
        return self.above if self.below is None else self.below  # type: ignore[return-value] # one is set: `fault`

    @property
    def fault(self) -> str | None:
        """What is wrong with it although each key by itself is right."""
        if (self.above is None) == (self.below is None):
            return "give either above or below"
        if self.span > MAX_WINDOW:
            return f"window is {self.window!r}; give a day (24h) at the most"
        return None


DEFAULT_ALERTS = (
    AlertRule(name="errors", metric="error_rate", above=0.10, window="5m", severity="critical"),
    # The P95 of fewer than 20 is their maximum.
    AlertRule(name="slow", metric="p95_ms", above=15_000, window="15m", severity="critical", min_executions=20),
    AlertRule(name="dear", metric="cost_ratio", above=2),
    AlertRule(name="success", metric="success_rate", below=0.95, min_executions=20),
    AlertRule(name="budget", metric="budget_share", above=0.8),
    AlertRule(name="unpriced", metric="unpriced_rate", above=0.1, severity="info"),
    AlertRule(name="misses", metric="miss_rate", above=0.8, severity="info", min_executions=20),
)
