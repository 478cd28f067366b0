"""What was spent and saved, as the ledger has it, by agent, model, day, run or step. Sums are exact."""

import itertools
from collections import defaultdict
from datetime import date, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from claude_force.base.pricing import BatchPrices, saved_by_caching_usd, total_usd
from claude_force.base.usage import Usage
from claude_force.insight.cells import Cell, is_utc
from claude_force.insight.counting import Found, Selected, Selection, count
from claude_force.insight.figures import Costs, Priced, add_costs, columns_of
from claude_force.insight.ledger import LedgerLine
from claude_force.performance_tracker import CallLine

if TYPE_CHECKING:
    from claude_force.base.ports import Pricer

Grouping = Literal["agent", "model", "day", "run", "step"]

ONLY_BY_DAY = "(only known by day)"
"""The run and step of what was rolled up."""


class CostReport(msgspec.Struct, kw_only=True):
    """What `read_costs` found."""

    total: Costs
    groups: dict[str, Costs]
    """In order of cost, the dearest first; days in their own order. Empty where nothing was asked for."""
    left_out: int = 0
    """Simulated executions where the real ones were asked for, and the other way round."""
    only_by_day: int = 0
    """Executions that were rolled up so that no finer question can be answered: they count by their day of UTC, at the
    price of then, and as whole days; where a run was asked for, they do not."""
    unreadable_lines: int = 0


def read_costs(
    path: Path,
    selection: Selection,
    *,
    by: Grouping | None = None,
    zone: tzinfo | None = None,
    prices: "Pricer | None" = None,
) -> CostReport:
    """Add up the ledger. Days are those of `zone`, which is the machine's own where it is `None`.

    With `prices` all is priced anew by its tokens, at the rates that they give for the day of each execution: for what
    had no price then, or a wrong one. What cached answers and the router saved stays as it was.
    Raises `OSError` for a ledger that cannot be read, and `MetricsError` for what belongs to it.
    """
    groups = defaultdict[str, Costs](Costs)
    if prices is None and (by not in {"day", "run", "step"} or (by == "day" and is_utc(zone))):
        found = count(path, selection)
    else:
        found = _by_line(path, selection, groups, by, zone, prices)
    for cell, figures in found.cells.items():
        groups[_cell_group(cell, by)].merge(figures.costs)
    report = CostReport(
        total=Costs(),
        groups={},
        left_out=found.left_out,
        only_by_day=found.only_by_day,
        unreadable_lines=found.unreadable_lines,
    )
    for costs in groups.values():
        report.total.merge(costs)
    if by is not None:
        order = sorted(groups) if by == "day" else sorted(groups, key=lambda name: (-groups[name].cost_usd, name))
        report.groups = {name: groups[name] for name in order}
    return report


def _by_line(
    path: Path,
    selection: Selection,
    groups: defaultdict[str, Costs],
    by: Grouping | None,
    zone: tzinfo | None,
    prices: "Pricer | None",
) -> Found:
    """Add what has lines; the rest is returned."""
    selected = Selected(path, selection)
    for lines in selected:
        if lines:
            repriced = None if prices is None else [_repriced(line, prices) for line in lines]
            places_of = defaultdict[str, int](itertools.count().__next__)
            places = [places_of[_line_group(line, by, zone)] for line in lines]
            add_costs([groups[name] for name in places_of], places, columns_of(lines), repriced=repriced)
    return selected.rest()


def _cell_group(cell: Cell, by: Grouping | None) -> str:
    if by == "day":
        return date.fromordinal(cell.begun).isoformat()
    if by in {"run", "step"}:
        return ONLY_BY_DAY
    return cell.agent_name if by == "agent" else cell.model or "unknown"


def _line_group(line: LedgerLine, by: Grouping | None, zone: tzinfo | None) -> str:
    if by == "day":
        return line.begun_at.astimezone(zone).date().isoformat()
    if by == "step":
        return f"{line.workflow_id}: {line.step_id}" if line.step_id else "(no workflow)"
    if by == "run":
        return line.run_id or "(no run)"
    return line.agent_name if by == "agent" else line.model or "unknown"


def _repriced(line: LedgerLine, prices: "Pricer") -> Priced:
    """Cost, and what the prompt cache saved, by the tokens; what was not known then is not known now."""
    prices = BatchPrices(prices) if line.batch_id else prices
    calls: tuple[LedgerLine | CallLine, ...] = line.calls or (line,)
    usages = [_usage(call) for call in calls]
    if line.estimated_cost is None and not any(usage.total_tokens for usage in usages):
        return Priced(None, None)
    costs, saved = [], []
    for call, usage in zip(calls, usages, strict=True):
        if usage.total_tokens:
            model, asked_as = call.model or "", call.asked_model
            costs.append(prices.cost_usd(model, usage, line.begun_at, asked_as=asked_as))
            saved.append(saved_by_caching_usd(prices, model, usage, line.begun_at, asked_as=asked_as))
    return Priced(total_usd(costs), total_usd(saved))


def _usage(tokens: LedgerLine | CallLine) -> Usage:
    return Usage(
        input_tokens=tokens.input_tokens,
        cache_read_tokens=tokens.cache_read_tokens,
        cache_write_5m_tokens=tokens.cache_write_tokens - tokens.cache_write_1h_tokens,
        cache_write_1h_tokens=tokens.cache_write_1h_tokens,
        output_tokens=tokens.output_tokens,
        inference_geo=tokens.inference_geo,
    )
