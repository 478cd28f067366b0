"""`claude-force analytics`: how executions went, what was spent and what was saved, from the ledger."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import click

from claude_force.apps.commands.analytics_share import compare, export, report
from claude_force.apps.commands.analytics_watch import alerts, anomalies
from claude_force.apps.console import bars, example, is_terminal, price, print_json, print_table, say_savings
from claude_force.apps.selection import (
    LEFT_OUT,
    Chosen,
    cost_cell,
    cost_facts,
    figure_facts,
    readable,
    say_left_out,
    say_only_by_day,
    selection,
    selection_options,
    share_cell,
    time_cell,
    tz_option,
    zone,
)
from claude_force.base.clock import SystemClock
from claude_force.orchestrator import Project

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from claude_force.insight.costs import CostReport, Grouping
    from claude_force.insight.figures import Costs, Figures
    from claude_force.insight.summary import Summary
    from claude_force.insight.trends import Interval

_MOST_SHOWN = 5
"""Of agents and models in a line; `by-agent` and `by-model` show all."""
_BY = ("agent", "model", "day", "run", "step")


@click.group()
def command() -> None:
    """Show how executions went, and what was spent and saved."""


for _more in (alerts, anomalies, compare, export, report):
    command.add_command(_more)


def _by_options(function: "Callable[..., None]") -> "Callable[..., None]":
    for name in reversed(_BY):
        function = click.option(f"--by-{name}", "by", flag_value=name, help=f"A line for each {name}.")(function)
    return function


@command.command(epilog=example("claude-force analytics summary --days 7"))
@selection_options
def summary(*, config_path: Path | None, as_json: bool, **chosen: Unpack[Chosen]) -> None:
    """Show how executions went: how many, how well, how fast, and for how much.

    Times are whole turns, waits included, of what a model answered; percentiles are right to 1 %.
    """
    found = _summarised(config_path, chosen)
    if as_json:
        shares = {
            "agents": _shares("agent", found.agents, found.total),
            "models": _shares("model", found.models, found.total),
        }
        print_json(figure_facts(found.total) | shares | {"unreadable_lines": found.unreadable_lines})
        return
    total = found.total
    times = " / ".join(time_cell(total.percentile_ms(percent)) for percent in _percentiles())
    errors = ", ".join(f"{kind} {number:,}" for kind, number in total.error_types.most_common())
    rows = [
        ("executions", f"{total.costs.executions:,}"),
        ("success rate", share_cell(total.success_rate)),
        ("answered from before", share_cell(total.hit_rate)),
        (f"time p{' / p'.join(map(str, _percentiles()))}", times),
        ("tokens in / out", f"{total.costs.prompt_tokens:,} / {total.costs.output_tokens:,}"),
        ("cost", cost_cell(total.costs)),
        ("errors", errors or "none"),
        ("top agents", _top("agent", found.agents, total)),
        ("models", _top("model", found.models, total)),
    ]
    print_table(("", ""), rows if total.costs.executions else [])
    say_savings(total.costs.savings, is_simulated=chosen["simulated"])


def _shares(kind: str, groups: "dict[str, Figures]", total: "Figures") -> list[dict[str, Any]]:
    """What part of all is whose, the busiest first."""
    return [
        {
            kind: name,
            "executions": figures.costs.executions,
            "share": figures.costs.executions / total.costs.executions,
            "cost_usd": float(figures.costs.cost_usd),
        }
        for name, figures in groups.items()
    ]


def _top(kind: str, groups: "dict[str, Figures]", total: "Figures") -> str:
    shares = _shares(kind, groups, total)
    shown = [f"{share[kind]} {share_cell(share['share'])}" for share in shares[:_MOST_SHOWN]]
    rest = len(shares) - len(shown)
    return ", ".join([*shown, f"and {rest:,} more"] if rest else shown)


@command.command("by-agent", epilog=example("claude-force analytics by-agent --days 7 --json"))
@selection_options
def by_agent(*, config_path: Path | None, as_json: bool, **chosen: Unpack[Chosen]) -> None:
    """Show how each agent's executions went, the busiest first."""
    _show_groups("agent", _summarised(config_path, chosen).agents, as_json=as_json)


@command.command("by-model", epilog=example("claude-force analytics by-model --agent code-reviewer"))
@selection_options
def by_model(*, config_path: Path | None, as_json: bool, **chosen: Unpack[Chosen]) -> None:
    """Show how each model's executions went, the most asked first."""
    _show_groups("model", _summarised(config_path, chosen).models, as_json=as_json)


@command.command(
    epilog=example(
        "claude-force analytics trends --interval hourly", "claude-force analytics trends --agent linter --json"
    )
)
@click.option(
    "--interval", type=click.Choice(("hourly", "daily")), default="daily", help="How long each is. [default: daily]"
)
@tz_option
@selection_options
def trends(
    *, interval: "Interval", tz: str | None, config_path: Path | None, as_json: bool, **chosen: Unpack[Chosen]
) -> None:
    """Show how it went hour by hour, or day by day: intervals without an execution are there, too.

    Up to now, by default of 24 hours or 30 days; each execution is in the interval in which it began.
    """
    from claude_force.insight.trends import read_trends  # noqa: PLC0415 - not for --help

    path, where = Project(config_path).tracker.path, zone(tz)
    with readable(path):
        found = read_trends(
            path, selection(chosen), interval=interval, until=SystemClock().now(), days=chosen["days"], zone=where
        )
    begins = [begin.astimezone(where) for begin in found.intervals]
    if as_json:
        facts = [
            {"begins": begin.isoformat(), **figure_facts(figures)}
            for begin, figures in zip(begins, found.intervals.values(), strict=True)
        ]
        print_json({"interval": interval, "intervals": facts, "unreadable_lines": found.unreadable_lines})
    else:
        _show_trends(interval, begins, list(found.intervals.values()))
    total = sum(figures.costs.executions for figures in found.intervals.values())
    say_left_out(total, found, path, simulated=chosen["simulated"])
    if interval == "hourly" or chosen["run"]:
        say_only_by_day(found.only_by_day, LEFT_OUT)
    else:
        say_only_by_day(found.only_by_day, "and count on their days of UTC")


@command.command(
    epilog=example("claude-force analytics costs --by-agent --days 7", "claude-force analytics costs --json")
)
@_by_options
@tz_option
@click.option("--reprice", is_flag=True, help="Price all tokens anew, by the prices as they are known now.")
@selection_options
def costs(
    *,
    by: "Grouping | None",
    tz: str | None,
    reprice: bool,
    config_path: Path | None,
    as_json: bool,
    **chosen: Unpack[Chosen],
) -> None:
    """Add up what agents cost, and what the caches saved.

    A price that is not known is counted as unpriced, never as 0. --reprice prices every execution by its tokens and the
    prices of its day, with those under `pricing` in the config first; the ledger stays as it is.
    """
    from claude_force.insight.costs import read_costs  # noqa: PLC0415 - not for --help

    project = Project(config_path)
    path = project.tracker.path
    prices = project.parts.prices if reprice else None
    with readable(path):
        report = read_costs(path, selection(chosen), by=by, zone=zone(tz), prices=prices)
    if as_json:
        groups = [{by: name, **cost_facts(costs)} for name, costs in report.groups.items()]
        print_json({"total": cost_facts(report.total), "groups": groups, "unreadable_lines": report.unreadable_lines})
    else:
        _show(report, by, is_simulated=chosen["simulated"])
    say_left_out(report.total.executions, report, path, simulated=chosen["simulated"])
    say_only_by_day(report.only_by_day)


def _summarised(config_path: Path | None, chosen: Chosen) -> "Summary":
    from claude_force.insight.summary import read_summary  # noqa: PLC0415 - not for --help

    path = Project(config_path).tracker.path
    with readable(path):
        found = read_summary(path, selection(chosen))
    say_left_out(found.total.costs.executions, found, path, simulated=chosen["simulated"])
    say_only_by_day(found.only_by_day)
    return found


def _show_groups(kind: str, groups: "dict[str, Figures]", *, as_json: bool) -> None:
    if as_json:
        print_json([{kind: name, **figure_facts(figures)} for name, figures in groups.items()])
        return
    rows = [
        (
            name,
            f"{figures.costs.executions:,}",
            share_cell(figures.success_rate),
            share_cell(figures.hit_rate),
            time_cell(figures.percentile_ms(50)),
            time_cell(figures.percentile_ms(95)),
            cost_cell(figures.costs),
        )
        for name, figures in groups.items()
    ]
    print_table((kind, "executions", "success", "from before", "p50", "p95", "cost"), rows)


def _show_trends(interval: "Interval", begins: "list[datetime]", intervals: "list[Figures]") -> None:
    """A line for each, with a bar for its executions where a person looks."""
    is_looked_at = is_terminal(sys.stdout)
    kind, form = "day", "%Y-%m-%d"
    if interval == "hourly":
        kind, form = "hour", "%m-%d %H:%M" if is_looked_at else "%Y-%m-%d %H:%M%z"
    rows = [
        (
            begin.strftime(form),
            f"{figures.costs.executions:,}",
            f"{figures.failed:,}",
            time_cell(figures.percentile_ms(50)),
            time_cell(figures.percentile_ms(95)),
            cost_cell(figures.costs),
            share_cell(figures.hit_rate),
        )
        for begin, figures in zip(begins, intervals, strict=True)
    ]
    headers = (kind, "number", "failed", "p50", "p95", "cost", "cached")
    if is_looked_at:
        drawn = bars([figures.costs.executions for figures in intervals], rows=rows, headers=headers)
        print_table((*headers, ""), [(*row, bar) for row, bar in zip(rows, drawn, strict=True)])
    else:
        print_table(headers, rows)


def _percentiles() -> tuple[int, ...]:
    from claude_force.insight.figures import PERCENTILES  # noqa: PLC0415 - not for --help

    return PERCENTILES


def _show(report: "CostReport", by: str | None, *, is_simulated: bool) -> None:
    rows = [(name, *_cells(costs)) for name, costs in report.groups.items()]
    if by is None or is_terminal(sys.stdout):
        rows.append(("total", *_cells(report.total)))
    print_table((by or "", "executions", "cached", "tokens in", "out", "cost", "saved"), rows)
    say_savings(report.total.savings, is_simulated=is_simulated)


def _cells(costs: "Costs") -> tuple[str, ...]:
    counts = (f"{number:,}" for number in (costs.executions, costs.cached, costs.prompt_tokens, costs.output_tokens))
    return (*counts, cost_cell(costs), price(costs.saved_usd))
