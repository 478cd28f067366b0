"""What was spent and saved, as the ledger has it, by agent, model, day, run or step. Sums are exact."""

from collections import defaultdict
from datetime import datetime, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from claude_force.base.pricing import BatchPrices, saved_by_caching_usd, total_usd
from claude_force.base.records import Savings
from claude_force.base.usage import Usage
from claude_force.insight.ledger import Ledger, LedgerLine
from claude_force.performance_tracker import CallLine

if TYPE_CHECKING:
    from claude_force.base.ports import Pricer

Grouping = Literal["agent", "model", "day", "run", "step"]

_FREE = Decimal(0)


class Costs(msgspec.Struct, kw_only=True):
    """The figures of some executions. Tokens are those that the API counted, money is US dollars."""

    executions: int = 0
    failures: int = 0
    """Those without a whole answer; they may have been billed."""
    cached: int = 0
    """Answered by the response cache, or by a call that another turn made."""
    input_tokens: int = 0
    """Prompt tokens that the prompt cache had no part in."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = _FREE
    """Of those that have a price."""
    unpriced: int = 0
    """How many have none, because nobody knows their tokens, or the price of their model."""
    saved_by_cache_usd: Decimal = _FREE
    """What cached answers had cost."""
    saved_by_prompt_cache_usd: Decimal = _FREE
    """Against the same tokens without it; below 0 where more was written than read."""
    saved_by_routing_usd: Decimal = _FREE
    """Against the same tokens by the model that would have been asked; below 0 where a dearer one was needed."""
    saved_by_batch_usd: Decimal = _FREE
    """By message batches, which cost half as much."""

    def add(self, line: LedgerLine, cost_usd: Decimal | None, saved_by_prompt_cache_usd: Decimal | None) -> None:
        """Count one execution."""
        self.executions += 1
        self.failures += not line.success
        self.cached += line.cached
        self.input_tokens += line.input_tokens
        self.cache_read_tokens += line.cache_read_tokens
        self.cache_write_tokens += line.cache_write_tokens
        self.output_tokens += line.output_tokens
        self.cost_usd += cost_usd or _FREE
        self.unpriced += cost_usd is None
        self.saved_by_cache_usd += line.saved_cost or _FREE
        self.saved_by_prompt_cache_usd += saved_by_prompt_cache_usd or _FREE
        self.saved_by_routing_usd += line.routing_saved or _FREE
        if line.batch_id:
            self.saved_by_batch_usd += cost_usd or _FREE

    @property
    def savings(self) -> Savings:
        """What was saved, where it is known."""
        return Savings(
            cache_usd=self.saved_by_cache_usd,
            prompt_cache_usd=self.saved_by_prompt_cache_usd,
            routing_usd=self.saved_by_routing_usd,
            batch_usd=self.saved_by_batch_usd,
        )


class CostReport(msgspec.Struct, kw_only=True):
    """What `read_costs` found."""

    total: Costs
    groups: dict[str, Costs]
    """In order of cost, the dearest first; days in their own order. Empty where nothing was asked for."""
    left_out: int = 0
    """Simulated executions where the real ones were asked for, and the other way round."""
    unreadable_lines: int = 0


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which executions count; `None` is all."""

    since: datetime | None = None
    agent: str | None = None
    model: str | None = None
    run: str | None = None
    simulated: bool = False
    """Those of the simulator, which cost nothing, instead of the real ones."""

    def takes(self, line: LedgerLine) -> bool:
        """Whether it is one of them, real or simulated."""
        wanted = ((self.agent, line.agent_name), (self.model, line.model), (self.run, line.run_id))
        return all(name is None or name == own for name, own in wanted)


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
    Raises `OSError` for a ledger that cannot be read.
    """
    ledger = Ledger(path)
    report, groups = CostReport(total=Costs(), groups={}), defaultdict[str, Costs](Costs)
    for line in ledger.lines(since=selection.since):
        if not selection.takes(line):
            continue
        if line.simulated != selection.simulated:
            report.left_out += 1
            continue
        money = (line.estimated_cost, line.prompt_cache_saved) if prices is None else _repriced(line, prices)
        report.total.add(line, *money)
        if by is not None:
            groups[_group(line, by, zone)].add(line, *money)
    order = sorted(groups) if by == "day" else sorted(groups, key=lambda name: (-groups[name].cost_usd, name))
    report.groups = {name: groups[name] for name in order}
    report.unreadable_lines = ledger.unreadable_lines
    return report


def _group(line: LedgerLine, by: Grouping, zone: tzinfo | None) -> str:
    if by == "day":
        return line.begun_at.astimezone(zone).date().isoformat()
    if by == "step":
        return f"{line.workflow_id}: {line.step_id}" if line.step_id else "(no workflow)"
    if by == "run":
        return line.run_id or "(no run)"
    return line.agent_name if by == "agent" else line.model or "unknown"


def _repriced(line: LedgerLine, prices: "Pricer") -> tuple[Decimal | None, Decimal | None]:
    """Cost, and what the prompt cache saved, by the tokens; what was not known then is not known now."""
    prices = BatchPrices(prices) if line.batch_id else prices
    calls: tuple[LedgerLine | CallLine, ...] = line.calls or (line,)
    usages = [_usage(call) for call in calls]
    if line.estimated_cost is None and not any(usage.total_tokens for usage in usages):
        return None, None
    costs, saved = [], []
    for call, usage in zip(calls, usages, strict=True):
        if usage.total_tokens:
            model, asked_as = call.model or "", call.asked_model
            costs.append(prices.cost_usd(model, usage, line.begun_at, asked_as=asked_as))
            saved.append(saved_by_caching_usd(prices, model, usage, line.begun_at, asked_as=asked_as))
    return total_usd(costs), total_usd(saved)


def _usage(tokens: LedgerLine | CallLine) -> Usage:
    return Usage(
        input_tokens=tokens.input_tokens,
        cache_read_tokens=tokens.cache_read_tokens,
        cache_write_5m_tokens=tokens.cache_write_tokens - tokens.cache_write_1h_tokens,
        cache_write_1h_tokens=tokens.cache_write_1h_tokens,
        output_tokens=tokens.output_tokens,
    )
