"""How often anomalies are found and how often they are false, on labelled series, beside two usual ways to find them.

Series of 1,000 times, seeded, of eight kinds (`KINDS`); in all but the last three, ten values are 4 to 12 times the
median, and labelled. Natural extremes of the heavy-tailed ones count as false. "z 3": above the mean by 3 standard
deviations of the 100 before; "MAD": above their median by 3.5 scaled MADs; "log MAD": the same of the logarithms.
"""

import math
import random
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from claude_force.insight.anomalies import LEAST_SAMPLES, bursts, outliers

LENGTH, SPIKES, FIRST_LABEL = 1_000, 10, 100
KINDS = ("normal", "heavy", "pareto", "two kinds", "rarely slow", "shift", "drift", "quiet")
"""Log-normal; a Student's t of 5 degrees on the log scale; Pareto 4; 40 % four times as fast; 7 % four times as slow;
1.6 to 3 times as slow from somewhere on; so within 500 executions; nothing to find."""
_WINDOW = 100
Detector = Callable[[Sequence[float]], set[int]]


class Series(NamedTuple):
    """Times, and what is to be found in them."""

    values: list[float]
    spikes: set[int]
    change: int | None
    """Where a shift or drift begins."""


def make(kind: str, seed: int) -> Series:
    """A series of that kind."""
    dice = random.Random(f"{kind} {seed}")  # noqa: S311 - made to be repeated
    median, sigma = dice.uniform(1_500, 9_000), dice.uniform(0.2, 0.5)
    values = [median * _factor(kind, sigma, dice) for _ in range(LENGTH)]
    if kind in {"shift", "drift"}:
        change, times = dice.randrange(200, 600), dice.uniform(1.6, 3)
        reach = 1 if kind == "shift" else 500
        values = [value * times ** min(max(n - change + 1, 0) / reach, 1) for n, value in enumerate(values)]
        return Series(values, set(), change)
    if kind == "quiet":
        return Series(values, set(), None)
    spikes = set(dice.sample(range(FIRST_LABEL, LENGTH), SPIKES))
    for number in sorted(spikes):
        values[number] = median * dice.uniform(4, 12)
    return Series(values, spikes, None)


def _factor(kind: str, sigma: float, dice: random.Random) -> float:
    normal = dice.gauss(0, 1)
    if kind == "heavy":
        return math.exp(0.65 * sigma * normal / math.sqrt(dice.gammavariate(2.5, 0.4)))
    if kind == "pareto":
        return dice.paretovariate(4)
    if kind == "two kinds":
        return math.exp(0.25 * normal) * (1 if dice.random() < 0.6 else 0.25)  # noqa: PLR2004 - see KINDS
    if kind == "rarely slow":
        return math.exp(0.25 * normal) * (1 if dice.random() < 0.93 else 4)  # noqa: PLR2004 - see KINDS
    return math.exp(sigma * normal)


def ours(values: Sequence[float]) -> set[int]:
    """What `insight.anomalies` calls a spike."""
    return {span.first for span in outliers(values) if span.kind == "spike"}


def _above(limit: Callable[[Sequence[float]], float], *, log: bool) -> Detector:
    def detect(values: Sequence[float]) -> set[int]:
        judged = [math.log(value) for value in values] if log else values
        windows = ((n, judged[max(0, n - _WINDOW) : n]) for n in range(LEAST_SAMPLES, len(judged)))
        return {n for n, window in windows if judged[n] > limit(window)}

    return detect


def _mad_limit(window: Sequence[float]) -> float:
    median = statistics.median(window)
    return median + 3.5 * 1.4826 * statistics.median(abs(value - median) for value in window)


DETECTORS: dict[str, Detector] = {
    "z 3": _above(lambda window: statistics.fmean(window) + 3 * statistics.stdev(window), log=False),
    "MAD": _above(_mad_limit, log=False),
    "log MAD": _above(_mad_limit, log=True),
    "ours": ours,
}


def spike_scores(detect: Detector, seeds: range, kinds: Sequence[str] = KINDS) -> dict[str, float]:
    """Precision, recall and F1, of shifts and drifts left out: what is a spike there, the next figures tell."""
    hits = false = missed = 0
    for kind in kinds:
        for seed in seeds:
            series = make(kind, seed)
            if series.change is None:
                found = detect(series.values)
                hits += len(found & series.spikes)
                false += len(found - series.spikes)
                missed += len(series.spikes - found)
    precision, recall = hits / max(hits + false, 1), hits / max(hits + missed, 1)
    return {"precision": precision, "recall": recall, "F1": 2 * precision * recall / max(precision + recall, 1e-9)}


def drift_scores(seeds: range) -> dict[str, float]:
    """How many shifts and drifts are found, after how many executions, and how many series have a false one."""
    found: dict[str, list[int]] = {"shift": [], "drift": []}
    false = 0
    for kind in KINDS:
        for seed in seeds:
            series = make(kind, seed)
            drifts = [span for span in outliers(series.values) if span.kind == "drift"]
            true = [span.last - series.change for span in drifts if series.change and span.last >= series.change]
            false += len(drifts) > len(true)
            if true:
                found[kind].append(true[0])
    scores = {f"{kind}s found": len(delays) / len(seeds) for kind, delays in found.items()}
    scores |= {f"executions until a {kind} is found": statistics.median(delays) for kind, delays in found.items()}
    return scores | {"series with a false drift": false / len(seeds) / len(KINDS)}


def burst_scores(seeds: range) -> dict[str, float]:
    """Outages of 8 executions of which 80 % fail, where 2 % usually do: precision, recall."""
    hits = false = 0
    for seed in seeds:
        dice = random.Random(seed)  # noqa: S311 - made to be repeated
        begins = [200, 500, 800]
        rates = [0.8 if any(begin <= n < begin + 8 for begin in begins) else 0.02 for n in range(LENGTH)]
        spans = bursts([dice.random() < rate for rate in rates])
        found = [any(begin <= span.last and span.first < begin + 8 for begin in begins) for span in spans]
        hits += sum(found)
        false += len(found) - sum(found)
    return {"precision": hits / max(hits + false, 1), "recall": hits / len(seeds) / 3}


def run(iterations: int) -> dict[str, float]:
    """All scores, by name."""
    seeds = range(iterations)
    figures = {
        f"spikes: {score} of {name}": value
        for name, detect in DETECTORS.items()
        for score, value in spike_scores(detect, seeds).items()
    }
    figures |= {
        f"spikes: F1 of {name}, {kind}": spike_scores(detect, seeds, [kind])["F1"]
        for kind in KINDS[:5]
        for name, detect in DETECTORS.items()
    }
    figures |= {f"bursts of failures: {score}": value for score, value in burst_scores(seeds).items()}
    return figures | drift_scores(seeds)
