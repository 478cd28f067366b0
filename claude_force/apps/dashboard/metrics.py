"""Figures for Prometheus, of all processes of a project: from the ledger and the stores, at each scrape.

Only breakers and limits are those of this process, as nobody else knows them. Executions are counted from the first
one on, those of days that were rolled up included, so counters do not fall (`insight/counting.py`). Label values are
agents, models and errors, which anybody may name as they like, so only the first so many have a name of their own, and
keep it; the others are `other`.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from claude_force import __version__
from claude_force.apps.dashboard.reading import BOUNDS_MS
from claude_force.base.errors import ClaudeForceError
from claude_force.engine.breaker import State
from claude_force.insight.counting import Selection, count
from claude_force.insight.sketch import Sketch
from claude_force.stores.entries import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from claude_force.apps.dashboard.reading import Reader
    from claude_force.apps.dashboard.shapes import StepState
    from claude_force.engine.traffic import Traffic
    from claude_force.insight.cells import Cell
    from claude_force.insight.counting import Found
    from claude_force.insight.figures import Figures

MOST_AGENTS, MOST_MODELS, MOST_ERRORS = 50, 20, 40
OTHER = "other"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FAULTS = (ClaudeForceError, StoreError, OSError)
_Labels = tuple[str, ...]
_RUNS = ("running", "completed", "failed", "cancelled")


class Metrics(Collector):
    """What one server is scraped for."""

    def __init__(
        self,
        reader: "Reader",
        ledger: "Path",
        *,
        traffic: "Callable[[], Traffic]",
        steps: "Callable[[], Mapping[StepState, int]]",
    ) -> None:
        self._reader = reader
        self._ledger = ledger
        self._traffic = traffic
        self._steps = steps
        self._agents, self._models = _Names(MOST_AGENTS), _Names(MOST_MODELS)
        self._errors = _Names(MOST_ERRORS)
        self._one = threading.Lock()  # one scrape at a time gives out names
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        with self._one:
            return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing: to register must not read anything."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The parts; one that cannot be read is left out, and counted."""
        yield InfoMetricFamily("claude_force_build", "The version that runs.", value={"version": __version__})
        unreadable = dict[_Labels, float]()
        parts: dict[str, Callable[[], list[Metric]]] = {
            "ledger": self._executions,
            "cache": self._cache,
            "budgets": self._budgets,
            "runs": self._runs,
        }
        for name, collect in parts.items():
            try:
                found = collect()
            except _FAULTS:
                unreadable[name,] = 1
            else:
                unreadable[name,] = 0
                yield from found
        yield _gauge("unreadable", "1 for a part that cannot be read, and is left out.", ("part",), unreadable)
        yield from self._own()

    # ------------------------------------------------------------ of all processes

    def _executions(self) -> list[Metric]:
        found, sums = count(self._ledger, Selection()), _Sums()
        for model in _busiest(found, lambda cell: cell.model or "unknown"):  # these get a name of their own first
            self._models.of(model)
        for agent in _busiest(found, lambda cell: cell.agent_name):
            self._agents.of(agent)
        for cell, figures in found.cells.items():
            agent, model = self._agents.of(cell.agent_name), self._models.of(cell.model or "unknown")
            sums.add(agent, model, figures, self._errors, is_cached=cell.cached)
        seconds = HistogramMetricFamily(
            "claude_force_execution_seconds", "Whole turns of what a model answered, within 2 %.", labels=["model"]
        )
        for model, times_ms in sums.times_ms.items():
            seconds.add_metric([model], _buckets(times_ms), times_ms.sum / 1000)
        return [
            _counter("executions", "Turns that have ended.", ("agent", "model", "outcome"), sums.executions),
            _counter("errors", "Turns that failed, by error.", ("error_type",), sums.errors),
            seconds,
            _counter("tokens", "Tokens that the API counted.", ("model", "kind"), sums.tokens),
            _counter("cost_usd", "US dollars, where they are known.", ("agent", "model"), sums.cost_usd),
            _counter("unpriced_executions", "Turns whose price is not known.", ("model",), sums.unpriced),
            _gauge("saved_usd", "US dollars that were not paid; below 0, paid more.", ("by",), sums.saved_usd),
            _counter(
                "simulated_executions", "Turns of the simulator, which no other figure has.", (), {(): found.left_out}
            ),
            _counter("unreadable_ledger_lines", "Lines passed over.", (), {(): found.unreadable_lines}),
        ]

    def _cache(self) -> list[Metric]:
        found = self._reader.cache()
        return [
            CounterMetricFamily("claude_force_cache_hits", "Answers from the response cache.", value=found.hits),
            CounterMetricFamily("claude_force_cache_misses", "What it did not have.", value=found.misses),
            CounterMetricFamily("claude_force_cache_evictions", "What it had no room for.", value=found.evictions),
            GaugeMetricFamily("claude_force_cache_entries", "What it holds.", value=found.entries),
            GaugeMetricFamily("claude_force_cache_size_bytes", "Its size.", value=found.size_bytes),
        ]

    def _budgets(self) -> list[Metric]:
        budgets = self._reader.budgets()
        return [
            _gauge(
                f"budget_{part}_usd", does, ("limit",), {(one.limit,): getattr(one, f"{part}_usd") for one in budgets}
            )
            for part, does in (
                ("limit", "What may be spent today, by the config."),
                ("spent", "What was spent of it."),
                ("held", "What is set aside for calls under way."),
            )
        ]

    def _runs(self) -> list[Metric]:
        counts = self._reader.history.counts()
        runs: dict[_Labels, float] = {(status,): counts.get(status, 0) for status in _RUNS}
        steps: dict[_Labels, float] = {(state,): count for state, count in self._steps().items()}
        return [
            _gauge("runs", "Runs in the journal, by status.", ("status",), runs),
            _gauge("steps", "Steps without an end yet, of runs that are under way.", ("status",), steps),
        ]

    # ------------------------------------------------------------ of this process

    def _own(self) -> list[Metric]:
        breakers, windows = dict[_Labels, float](), dict[_Labels, float]()
        for (model, endpoint), gate in self._traffic().gates.items():
            name, is_in = self._models.of(model), gate.breaker.state
            breakers |= {(name, endpoint, str(state)): state == is_in for state in State}
            if gate.limits.window is not None:
                windows[name, endpoint] = gate.limits.window
        place = ("model", "endpoint")
        return [
            _gauge("breaker_state", "1 for what a breaker of this process is.", (*place, "state"), breakers),
            _gauge("limit_window", "So many calls at once, after trouble.", place, windows),
        ]


class _Names:
    """The first names keep their own; for each further one there is `other`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._own = set[str]()

    def of(self, name: str) -> str:
        """What stands for it."""
        if name not in self._own and len(self._own) < self._most:
            self._own.add(name)
        return name if name in self._own else OTHER


def _busiest(found: "Found", name_of: "Callable[[Cell], str]") -> list[str]:
    """The names, those with the most executions first."""
    executions = Counter[str]()
    for cell, figures in found.cells.items():
        executions[name_of(cell)] += figures.costs.executions
    return [name for name, _ in executions.most_common()]


class _Sums:
    """Figures that have the same labels, together."""

    def __init__(self) -> None:
        self.executions = defaultdict[_Labels, float](int)
        self.errors = defaultdict[_Labels, float](int)
        self.times_ms = defaultdict[str, Sketch](Sketch)
        self.tokens = defaultdict[_Labels, float](int)
        self.cost_usd = defaultdict[_Labels, float](float)
        self.unpriced = defaultdict[_Labels, float](int)
        self.saved_usd = defaultdict[_Labels, float](float)

    def add(self, agent: str, model: str, figures: "Figures", errors: "_Names", *, is_cached: bool) -> None:
        """Count these, too."""
        costs = figures.costs
        outcomes = {"answered": 0, "cached": 0, "failed": figures.failed, "interrupted": figures.interrupted}
        outcomes["cached" if is_cached else "answered"] = figures.ended - figures.failed
        for outcome, executions in outcomes.items():
            self.executions[agent, model, outcome] += executions
        for error, failures in figures.error_types.most_common():
            self.errors[errors.of(error),] += failures
        self.times_ms[model].merge(figures.times_ms)
        for kind in ("input", "output", "cache_read", "cache_write"):
            self.tokens[model, kind] += getattr(costs, f"{kind}_tokens")
        self.cost_usd[agent, model] += float(costs.cost_usd)
        self.unpriced[model,] += costs.unpriced
        for by in ("cache", "prompt_cache", "routing", "batch"):
            self.saved_usd[by,] += float(getattr(costs, f"saved_by_{by}_usd"))


def _counter(name: str, does: str, labels: "Sequence[str]", values: "Mapping[_Labels, float]") -> Metric:
    family = CounterMetricFamily(f"claude_force_{name}", does, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family


def _gauge(name: str, does: str, labels: "Sequence[str]", values: "Mapping[_Labels, float]") -> Metric:
    family = GaugeMetricFamily(f"claude_force_{name}", does, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family


def _buckets(times_ms: Sketch) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = [(str(bound / 1000), times_ms.count_up_to(bound)) for bound in BOUNDS_MS]
    return [*found, ("+Inf", times_ms.count)]
