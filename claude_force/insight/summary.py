"""How executions went: how many, how well, how fast, and for how much; all together, by agent or by model."""

from collections import defaultdict
from pathlib import Path
from typing import Literal

import msgspec

from claude_force.insight.counting import Selection, count
from claude_force.insight.figures import Figures

By = Literal["agent", "model"]


class Summary(msgspec.Struct, kw_only=True):
    """What `read_summary` found."""

    total: Figures
    groups: dict[str, Figures]
    """Those with the most executions first; empty where nothing was asked for."""
    left_out: int = 0
    """Simulated executions where the real ones were asked for, and the other way round."""
    only_by_day: int = 0
    """Executions that were rolled up so that no finer question can be answered: of the first day all count; where a run
    was asked for, none do."""
    unreadable_lines: int = 0


def read_summary(path: Path, selection: Selection, *, by: By | None = None) -> Summary:
    """Look through the ledger. Raises as `count` does."""
    found = count(path, selection)
    summary = Summary(
        total=Figures(), groups={}, only_by_day=found.only_by_day, unreadable_lines=found.unreadable_lines
    )
    groups = defaultdict[str, Figures](Figures)
    for cell, figures in found.cells.items():
        if cell.simulated != selection.simulated:
            summary.left_out += figures.costs.executions
        else:
            groups[cell.agent_name if by == "agent" else cell.model or "unknown"].merge(figures)
    for figures in groups.values():
        summary.total.merge(figures)
    if by is not None:
        order = sorted(groups, key=lambda name: (-groups[name].costs.executions, name))
        summary.groups = {name: groups[name] for name in order}
    return summary
