"""Two sets of executions side by side, and which differences are more than chance.

A set is a file of `analytics export` (`json`, `jsonl`, or a ledger itself), or of `analytics summary --json`. A summary
has no single values, so of its times, costs and tokens nobody can tell what is chance; of its success rate, one can.

Each figure has an interval of 95 % by itself, and the difference of two gets one by MOVER: for estimates t1, t2 with
intervals (l1, u1), (l2, u2), the difference t2 - t1 lies between

    t2 - t1 - sqrt((t2 - l2)^2 + (u1 - t1)^2)   and   t2 - t1 + sqrt((u2 - t2)^2 + (t1 - l1)^2)

(G. Y. Zou, A. Donner, Construction of confidence limits about effect measures, Statistics in Medicine 27, 2008). Times,
costs and tokens are taken by their logarithms, so that their difference is a ratio. The intervals by themselves:

- success rate: E. B. Wilson's score interval (JASA 22, 1927); with it, MOVER is method 10 of R. G. Newcombe
  (Interval estimation for the difference between independent proportions, Statistics in Medicine 17, 1998);
- percentiles of times: between two order statistics, whatever the distribution (H. A. David, H. N. Nagaraja,
  Order Statistics, 2003, 7.1), their ranks by the normal approximation of the binomial distribution;
- cost and output tokens per execution: the mean by the central limit theorem, its logarithm by the delta method.
"""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec

from claude_force.base.errors import InputError

Z = statistics.NormalDist().inv_cdf(0.975)
Figure = Literal["success_rate", "p50_ms", "p95_ms", "cost_usd", "output_tokens"]


class Estimate(NamedTuple):
    """A figure, and where it may really lie."""

    value: float
    low: float | None
    """`None` where nobody can tell: of a summary, or of too few."""
    high: float | None
    samples: int


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of both sets."""

    figure: Figure
    baseline: float
    current: float
    change: float
    """Of a success rate the difference, of all else relative: 0.2 is a fifth more."""
    low: float | None
    """Of the change, with 95 % confidence; `None` where nobody can tell."""
    high: float | None
    is_significant: bool
    """More than chance: the interval leaves out 0."""
    is_worse: bool
    samples: tuple[int, int]

    def is_past(self, threshold: float) -> bool:
        """Whether it got worse by more than that, and not by chance."""
        return self.is_worse and self.is_significant and abs(self.change) > threshold


def compare(baseline: dict[Figure, Estimate], current: dict[Figure, Estimate]) -> list[Comparison]:
    """All figures that both have."""
    return [_compared(figure, baseline[figure], current[figure]) for figure in baseline if figure in current]


def _compared(figure: Figure, old: Estimate, new: Estimate) -> Comparison:
    is_rate = figure == "success_rate"
    interval = difference(old, new) if is_rate else _ratio(old, new)
    low, high = interval or (None, None)
    change = new.value - old.value if is_rate else new.value / old.value - 1
    return Comparison(
        figure=figure,
        baseline=old.value,
        current=new.value,
        change=change,
        low=low,
        high=high,
        is_significant=low is not None and high is not None and not low <= 0 <= high,
        is_worse=change < 0 if is_rate else change > 0,
        samples=(old.samples, new.samples),
    )


def difference(old: Estimate, new: Estimate) -> tuple[float, float] | None:
    """The interval of the difference of two estimates, by MOVER; `None` where one has none."""
    if old.low is None or old.high is None or new.low is None or new.high is None:
        return None
    change = new.value - old.value
    return (
        change - math.hypot(new.value - new.low, old.high - old.value),
        change + math.hypot(new.high - new.value, old.value - old.low),
    )


def _ratio(old: Estimate, new: Estimate) -> tuple[float, float] | None:
    found = difference(_logarithm(old), _logarithm(new))
    return found and (math.expm1(found[0]), math.expm1(found[1]))


def _logarithm(estimate: Estimate) -> Estimate:
    low, high = (None if bound is None or bound <= 0 else math.log(bound) for bound in (estimate.low, estimate.high))
    return Estimate(math.log(estimate.value), low, high, estimate.samples)


# ---------------------------------------------------------------- estimates


def proportion(hits: int, samples: int) -> Estimate:
    """A share with Wilson's interval."""
    share, square = hits / samples, Z * Z
    middle = (share + square / (2 * samples)) / (1 + square / samples)
    reach = Z / (1 + square / samples) * math.sqrt(share * (1 - share) / samples + square / (4 * samples**2))
    return Estimate(share, min(middle - reach, share), max(middle + reach, share), samples)


def quantile(ordered: Sequence[float], share: float) -> Estimate:
    """A quantile of sorted values, between the order statistics that it lies between with 95 % confidence."""
    count = len(ordered)
    reach = Z * math.sqrt(count * share * (1 - share))
    below, above = math.floor(count * share - reach), math.ceil(count * share + reach) + 1  # ranks from 1
    value = ordered[int(share * (count - 1))]
    if below < 1 or above > count:
        return Estimate(value, None, None, count)
    return Estimate(value, ordered[below - 1], ordered[above - 1], count)


def mean(values: Sequence[float]) -> Estimate:
    """A mean above 0; the interval is that of its logarithm."""
    average = statistics.fmean(values)
    if len(values) < 2 or average <= 0:  # noqa: PLR2004 - one has no deviation
        return Estimate(average, None, None, len(values))
    factor = math.exp(Z * statistics.stdev(values, average) / (average * math.sqrt(len(values))))
    return Estimate(average, average / factor, average * factor, len(values))


# ---------------------------------------------------------------- files


# What no file of ours can say would be a figure that nothing can be worked out from.
_Figure = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=10**15)]


class _Row(msgspec.Struct, frozen=True):
    """What is read of an execution."""

    success: bool
    execution_time_ms: Annotated[float, msgspec.Meta(le=1e15)]
    """Below 0, as a ledger may have it of a clock that was set back, it took no time."""
    estimated_cost: _Figure | None = None
    output_tokens: _Count = 0
    cached: bool = False
    error_type: str | None = None


class _Summary(msgspec.Struct, frozen=True):
    """What is read of a summary."""

    executions: _Count
    interrupted: _Count
    unpriced: _Count
    success_rate: Annotated[float, msgspec.Meta(ge=0, le=1)] | None
    cost_usd: _Figure
    output_tokens: _Count
    time_ms: dict[str, _Figure | None]


def read_estimates(path: Path) -> dict[Figure, Estimate]:
    """The figures of a file, those that it has. Raises `InputError` for one that is none of ours."""
    try:
        data = path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}; check the path and its rights") from error
    try:
        if data.startswith(b"["):
            return _of_rows(msgspec.json.decode(data, type=list[_Row]))
        if b'"success_rate"' in data.partition(b'"time_ms"')[0]:
            return _of_summary(msgspec.json.decode(data, type=_Summary))
        return _of_rows(msgspec.json.Decoder(_Row).decode_lines(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"{str(path)!r} is no file of `analytics export --format json` or `analytics summary --json`: {error};"
            " write one with these"
        ) from error


def _of_rows(rows: Sequence[_Row]) -> dict[Figure, Estimate]:
    ended = [row for row in rows if row.error_type != "Interrupted"]
    times = sorted(max(row.execution_time_ms, 0) for row in rows if row.success and not row.cached)
    costs = [row.estimated_cost for row in rows if row.estimated_cost is not None]
    found: dict[Figure, Estimate] = {}
    if ended:
        found["success_rate"] = proportion(sum(row.success for row in ended), len(ended))
    if times:
        found |= {"p50_ms": quantile(times, 0.5), "p95_ms": quantile(times, 0.95)}
    if costs:
        found["cost_usd"] = mean(costs)
    if rows:
        found["output_tokens"] = mean([row.output_tokens for row in rows])
    return _positive(found)


def _of_summary(summary: _Summary) -> dict[Figure, Estimate]:
    ended, priced = summary.executions - summary.interrupted, summary.executions - summary.unpriced
    found: dict[Figure, Estimate] = {}
    if summary.success_rate is not None and ended > 0:
        found["success_rate"] = proportion(round(summary.success_rate * ended), ended)
    times: dict[Figure, float | None] = {"p50_ms": summary.time_ms.get("p50"), "p95_ms": summary.time_ms.get("p95")}
    found |= {figure: Estimate(ms, None, None, ended) for figure, ms in times.items() if ms is not None}
    if priced > 0:
        found["cost_usd"] = Estimate(summary.cost_usd / priced, None, None, priced)
    if summary.executions:
        found["output_tokens"] = Estimate(summary.output_tokens / summary.executions, None, None, summary.executions)
    return _positive(found)


def _positive(found: dict[Figure, Estimate]) -> dict[Figure, Estimate]:
    """What is 0 has no ratio to anything."""
    return {figure: one for figure, one in found.items() if figure == "success_rate" or one.value > 0}
