"""What is out of the ordinary: single executions that took far more than usual, drifts, and bursts of failures.

Each agent with each model is judged by itself, and only by what it did before: at least 30 executions, the last 200 of
them, never those that are being judged. Only more than usual is told: slower, dearer, longer.

- A *spike* is above the 98th percentile of the baseline by 1.75 robust deviations, on a logarithmic scale. The
  deviation is the median distance of the upper half from the median, times 1.4826, as of the normal distribution: a few
  spikes in the baseline do not move it. The percentile keeps quiet about what is slow now and then, such as answers of
  a second kind, and about heavy tails, where the usual "3.5 MADs above the median" gives many false alarms.
- A *drift* is found by a one-sided CUSUM (E. S. Page, Continuous inspection schemes, Biometrika 41, 1954) of the
  deviations from the first 100 values, each cut at 3, with an allowance of 0.75 and a limit of 12. It is told since
  when the sum has risen; from there on, what came is the new usual.
- *Failures* come in a burst where a CUSUM of log likelihood ratios says that more than half of them fail is 10,000
  times as likely as their usual rate.

`benchmarks/benchmark_anomalies.py` measures how often that is right.
"""

import math
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from claude_force.insight.counting import Selected, Selection
from claude_force.insight.figures import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claude_force.insight.ledger import LedgerLine

LEAST_SAMPLES, MOST_SAMPLES = 30, 200
"""Of a baseline."""
_JUDGED_AT_ONCE = 10
"""So many have the same baseline: sorting it for each would take ten times as long."""
_SPIKE_QUANTILE, _SPIKE_DEVIATIONS = 0.98, 1.75
_NORMAL = 1.4826
"""A normal distribution's deviation, in its median distances."""
_LEAST_FACTOR = 1.5
"""Nobody wants to hear of what took a third more, however regular it is else."""
_LEAST_DEVIATION = math.log(_LEAST_FACTOR) / 3.5
_DRIFT_SAMPLES, _DRIFT_ALLOWANCE, _DRIFT_LIMIT, _DRIFT_CUT = 100, 0.75, 12.0, 3.0
_LEAST_RATE, _BURST_LIMIT = 0.01, math.log(10_000)

Kind = Literal["spike", "drift", "failures"]
Measure = Literal["time_ms", "cost_usd", "output_tokens", "failure_rate"]


class Span(NamedTuple):
    """Where in a series something is out of the ordinary, and how far."""

    kind: Kind
    first: int
    last: int
    value: float
    """The median of the span; of failures, their share."""
    usual: float


def amount(measure: Measure, value: float) -> str:
    """A value as people read it."""
    if measure == "time_ms":
        return f"{value / 1000:,.2f} s"
    if measure == "cost_usd":
        return f"${value:.4f}"
    return f"{value:.0%} failed" if measure == "failure_rate" else f"{value:,.0f} tokens"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something out of the ordinary."""

    kind: Kind
    measure: Measure
    agent: str
    model: str
    began_at: datetime
    """When the first of its executions began."""
    ended_at: datetime
    value: float
    """The median; of failures, their share."""
    usual: float
    executions: int
    """How many it is about."""
    samples: int
    """How many of that agent and model were looked at."""


class Anomalies(msgspec.Struct, frozen=True, kw_only=True):
    """What `read_anomalies` found."""

    findings: list[Finding]
    """The last first."""
    judged: int = 0
    """How many agents, each with one model, had enough executions."""
    left_out: int = 0
    """Simulated executions where the real ones were asked for, and the other way round."""
    only_by_day: int = 0
    """Executions that were rolled up, and are not judged because their lines are not kept any more."""
    unreadable_lines: int = 0


def read_anomalies(path: Path, selection: Selection) -> Anomalies:
    """Look through the ledger. Raises as `count` does."""
    selected, history = Selected(path, selection), History()
    for lines in selected:
        history.add(lines)
    return history.judged(selected)


class History:
    """What each agent did by each model."""

    def __init__(self) -> None:
        self._series = defaultdict[tuple[str, str], _Series](_Series)

    def add(self, lines: "Iterable[LedgerLine]") -> None:
        """Take these, which came after all before; what a cache answered and what the user ended says nothing."""
        for line in lines:
            if not line.cached and line.error_type != INTERRUPTED:
                self._series[line.agent_name, line.model or "unknown"].add(line)

    def judged(self, selected: Selected) -> Anomalies:
        """What is out of the ordinary, and what was passed over when all was read."""
        findings = [one for (agent, model), series in self._series.items() for one in series.findings(agent, model)]
        return Anomalies(
            findings=sorted(findings, key=lambda finding: finding.began_at, reverse=True),
            judged=sum(len(series.failed) >= LEAST_SAMPLES for series in self._series.values()),
            left_out=selected.left_out,
            only_by_day=selected.only_by_day,
            unreadable_lines=selected.unreadable_lines,
        )


class _Series:
    """What one agent did by one model. Arrays: a million executions are 40 MB."""

    def __init__(self) -> None:
        self.began, self.time_ms, self.cost_usd, self.output_tokens = (array("d") for _ in range(4))
        self.failed = array("b")

    def add(self, line: "LedgerLine") -> None:
        self.began.append(line.begun_at.timestamp())
        self.time_ms.append(line.execution_time_ms)
        self.cost_usd.append(float(line.estimated_cost or 0))
        self.output_tokens.append(line.output_tokens)
        self.failed.append(not line.success)

    def findings(self, agent: str, model: str) -> list[Finding]:
        found = self._of("failure_rate", bursts(self.failed), self.began, agent, model)
        measures: dict[Measure, array[float]] = {
            "time_ms": self.time_ms,
            "cost_usd": self.cost_usd,
            "output_tokens": self.output_tokens,
        }
        for measure, values in measures.items():
            is_taken = [not failed and value > 0 for failed, value in zip(self.failed, values, strict=True)]
            began = array("d", compress(self.began, is_taken))
            found += self._of(measure, outliers(array("d", compress(values, is_taken))), began, agent, model)
        return found

    @staticmethod
    def _of(measure: Measure, spans: list[Span], began: "array[float]", agent: str, model: str) -> list[Finding]:
        return [
            Finding(
                kind=span.kind,
                measure=measure,
                agent=agent,
                model=model,
                began_at=datetime.fromtimestamp(began[span.first], UTC),
                ended_at=datetime.fromtimestamp(began[span.last], UTC),
                value=span.value,
                usual=span.usual,
                executions=span.last - span.first + 1,
                samples=len(began),
            )
            for span in spans
        ]


def outliers(values: Sequence[float]) -> list[Span]:
    """The spikes and drifts of a series of numbers above 0, in its own order; what is part of a drift is no spike."""
    logs = array("d", map(math.log, values))
    found: list[Span] = []
    start = 0
    while start < len(logs):
        drift = _drift(logs, start)
        end = len(logs) if drift is None else drift.first
        found += _spikes(values, logs, start, end)
        if drift is None:
            break
        found.append(drift)
        start = drift.first
    return found


class _Baseline(NamedTuple):
    """What is usual, on the logarithmic scale."""

    median: float
    deviation: float
    high: float
    """The quantile that few are above."""


def _baseline(ordered: Sequence[float]) -> _Baseline:
    """Of logarithms, the smallest first."""
    middle, last = len(ordered) // 2, len(ordered) - 1
    upper = ordered[middle:]
    deviation = _NORMAL * (upper[len(upper) // 2] - ordered[middle])
    return _Baseline(ordered[middle], max(deviation, _LEAST_DEVIATION), ordered[round(_SPIKE_QUANTILE * last)])


def _spikes(values: Sequence[float], logs: "array[float]", start: int, end: int) -> list[Span]:
    found = []
    ordered: list[float] = []
    first = last = start
    for block in range(start + LEAST_SAMPLES, end, _JUDGED_AT_ONCE):
        # To sort all of them anew takes five times as long as to exchange those few.
        for number in range(first, max(start, block - MOST_SAMPLES)):
            del ordered[bisect_left(ordered, logs[number])]
        ordered += logs[last:block]
        ordered.sort()
        first, last = max(start, block - MOST_SAMPLES), block
        usual = _baseline(ordered)
        limit = max(usual.high + _SPIKE_DEVIATIONS * usual.deviation, usual.median + math.log(_LEAST_FACTOR))
        found += [
            Span("spike", number, number, values[number], math.exp(usual.median))
            for number in range(block, min(block + _JUDGED_AT_ONCE, end))
            if logs[number] > limit
        ]
    return found


def _drift(logs: "array[float]", start: int) -> Span | None:
    """The first drift after `start`: from where the sum began to rise to where it was too much."""
    if len(logs) - start <= _DRIFT_SAMPLES:
        return None
    usual = _baseline(sorted(logs[start : start + _DRIFT_SAMPLES]))
    total, first = 0.0, start + _DRIFT_SAMPLES
    for number in range(first, len(logs)):
        deviations = (logs[number] - usual.median) / usual.deviation
        total += min(max(deviations, -_DRIFT_CUT), _DRIFT_CUT) - _DRIFT_ALLOWANCE
        if total <= 0:
            total, first = 0.0, number + 1
        elif total > _DRIFT_LIMIT:
            now = _baseline(sorted(logs[first : number + 1]))
            return Span("drift", first, number, math.exp(now.median), math.exp(usual.median))
    return None


def bursts(failed: Sequence[int]) -> list[Span]:
    """Where failures come in bursts: each from its first failure to its last."""
    found: list[Span] = []
    usual = array("b", failed[:LEAST_SAMPLES])
    number = LEAST_SAMPLES
    while number < len(failed):
        burst = _burst(failed, number, _usual_rate(usual)) if failed[number] else None
        if burst is None:
            usual.append(failed[number])
            number += 1
        else:
            found.append(burst)
            number = burst.last + 1
    return found


def _usual_rate(failed: "array[int]") -> float:
    """Never none at all: what has not failed so far may still do."""
    last = failed[-MOST_SAMPLES:]
    return max((sum(last) + 0.5) / (len(last) + 1), _LEAST_RATE)


def _burst(failed: Sequence[int], first: int, usual: float) -> Span | None:
    """The burst that begins here, if one does."""
    often = (1 + usual) / 2
    if_failed, if_not = math.log(often / usual), math.log((1 - often) / (1 - usual))
    total = most = 0.0
    last = first
    for number in range(first, len(failed)):
        total += if_failed if failed[number] else if_not
        if total > most:
            most, last = total, number
        if total <= 0 or total < most - _BURST_LIMIT:
            break
    if most < _BURST_LIMIT:
        return None
    return Span("failures", first, last, sum(failed[first : last + 1]) / (last + 1 - first), usual)
