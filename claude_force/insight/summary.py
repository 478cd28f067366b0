"""How executions went: how many, how well, how fast, and for how much; all together, by agent or by model."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Literal

import msgspec

from claude_force.insight.costs import Costs, Selection
from claude_force.insight.ledger import Ledger, LedgerLine
from claude_force.insight.sketch import Sketch

By = Literal["agent", "model"]
PERCENTILES = (50, 75, 90, 95, 99)


class Figures(msgspec.Struct, kw_only=True):
    """The figures of some executions."""

    costs: Costs = msgspec.field(default_factory=Costs)
    interrupted: int = 0
    """Those that the user ended, which are neither a success nor a failure."""
    error_types: Counter[str] = msgspec.field(default_factory=Counter)
    """Why the others failed."""
    times_ms: Sketch = msgspec.field(default_factory=Sketch)
    """Whole turns, waits included, of those for which a model was asked and that had a whole answer."""

    def add(self, line: LedgerLine) -> None:
        """Count one execution."""
        self.costs.add(line, line.estimated_cost, line.prompt_cache_saved)
        if line.error_type == "Interrupted":
            self.interrupted += 1
        elif not line.success:
            self.error_types[line.error_type or "unknown"] += 1
        elif not line.cached:
            self.times_ms.add(line.execution_time_ms)

    @property
    def success_rate(self) -> float | None:
        """Of those that came to an end of their own; `None` where there was none."""
        ended = self.costs.executions - self.interrupted
        return 1 - self.error_types.total() / ended if ended else None

    @property
    def hit_rate(self) -> float | None:
        """The share that an earlier answer served; `None` where there was none."""
        return self.costs.cached / self.costs.executions if self.costs.executions else None

    def percentile_ms(self, percent: int) -> float | None:
        """The time that so many percent did not take longer than, within 1 %."""
        return self.times_ms.quantile(percent / 100)


class Summary(msgspec.Struct, kw_only=True):
    """What `read_summary` found."""

    total: Figures
    groups: dict[str, Figures]
    """Those with the most executions first; empty where nothing was asked for."""
    left_out: int = 0
    """Simulated executions where the real ones were asked for, and the other way round."""
    unreadable_lines: int = 0


def read_summary(path: Path, selection: Selection, *, by: By | None = None) -> Summary:
    """Look through the ledger. Raises `OSError` for one that cannot be read."""
    ledger = Ledger(path)
    summary, groups = Summary(total=Figures(), groups={}), defaultdict[str, Figures](Figures)
    for line in ledger.lines(since=selection.since):
        if not selection.takes(line):
            continue
        if line.simulated != selection.simulated:
            summary.left_out += 1
            continue
        summary.total.add(line)
        if by is not None:
            groups[line.agent_name if by == "agent" else line.model or "unknown"].add(line)
    order = sorted(groups, key=lambda name: (-groups[name].costs.executions, name))
    summary.groups = {name: groups[name] for name in order}
    summary.unreadable_lines = ledger.unreadable_lines
    return summary
