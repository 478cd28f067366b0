"""How executions went: how many, how well, how fast, and for how much; all together, by agent and by model."""

from collections import defaultdict
from pathlib import Path

import msgspec

from claude_force.insight.counting import Found, Selection, count
from claude_force.insight.figures import Figures


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What `read_summary` found."""

    total: Figures
    agents: dict[str, Figures]
    """Those with the most executions first."""
    models: dict[str, Figures]
    """As the agents."""
    left_out: int = 0
    """Simulated executions where the real ones were asked for, and the other way round."""
    only_by_day: int = 0
    """Executions that were rolled up so that no finer question can be answered: of the first day all count; where a run
    was asked for, none do."""
    unreadable_lines: int = 0


def read_summary(path: Path, selection: Selection) -> Summary:
    """Look through the ledger. Raises as `count` does."""
    return summed(count(path, selection))


def summed(found: Found) -> Summary:
    """The summary of what was counted."""
    total, agents, models = Figures(), defaultdict[str, Figures](Figures), defaultdict[str, Figures](Figures)
    for cell, figures in found.cells.items():
        agents[cell.agent_name].merge(figures)
        models[cell.model or "unknown"].merge(figures)
    for figures in models.values():
        total.merge(figures)
    return Summary(
        total=total,
        agents=_busiest_first(agents),
        models=_busiest_first(models),
        left_out=found.left_out,
        only_by_day=found.only_by_day,
        unreadable_lines=found.unreadable_lines,
    )


def _busiest_first(groups: dict[str, Figures]) -> dict[str, Figures]:
    order = sorted(groups, key=lambda name: (-groups[name].costs.executions, name))
    return {name: groups[name] for name in order}
