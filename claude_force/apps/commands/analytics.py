"""`claude-force analytics`: what was spent and saved, from the ledger."""

import sys
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_force.apps.console import (
    config_option,
    example,
    is_terminal,
    json_option,
    note,
    price,
    print_json,
    print_table,
    say_savings,
)
from claude_force.base.errors import InputError
from claude_force.base.pricing import total_usd
from claude_force.orchestrator import Project

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.insight.costs import CostReport, Costs, Grouping

_BY = ("agent", "model", "day", "run", "step")


@click.group()
def command() -> None:
    """Show what was spent and saved."""


def _by_options(function: "Callable[..., None]") -> "Callable[..., None]":
    for name in reversed(_BY):
        function = click.option(f"--by-{name}", "by", flag_value=name, help=f"A line for each {name}.")(function)
    return function


@command.command(
    epilog=example("claude-force analytics costs --by-agent --days 7", "claude-force analytics costs --json")
)
@_by_options
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Only what ended in the last so many days.")
@click.option("--agent", help="Only this agent.")
@click.option("--model", help="Only this model, as the ledger has it.")
@click.option("--run", help="Only this run of a workflow.")
@click.option("--tz", metavar="ZONE", help="Whose days, such as Europe/Berlin or UTC; the machine's if left out.")
@click.option("--reprice", is_flag=True, help="Price all tokens anew, by the prices as they are known now.")
@click.option("--simulated", is_flag=True, help="Of what the simulator answered, which cost nothing.")
@config_option
@json_option
def costs(
    *,
    by: "Grouping | None",
    days: float | None,
    agent: str | None,
    model: str | None,
    run: str | None,
    tz: str | None,
    reprice: bool,
    simulated: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Add up what agents cost, and what the caches saved.

    A price that is not known is counted as unpriced, never as 0. --reprice prices every execution by its tokens and the
    prices of its day, with those under `pricing` in the config first; the ledger stays as it is.
    """
    from claude_force.insight.costs import Selection, read_costs  # noqa: PLC0415 - not for --help

    project = Project(config_path)
    path, zone = project.tracker.path, _zone(tz)
    selection = Selection(since=_since(days), agent=agent, model=model, run=run, simulated=simulated)
    prices = project.parts.prices if reprice else None
    try:
        report = read_costs(path, selection, by=by, zone=zone, prices=prices)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot read {str(path)!r}: {reason}; check the file and its rights") from error
    if as_json:
        groups = [{by: name, **_facts(costs)} for name, costs in report.groups.items()]
        print_json({"total": _facts(report.total), "groups": groups, "unreadable_lines": report.unreadable_lines})
    else:
        _show(report, by, is_simulated=simulated)
    _say_left_out(report, path, simulated=simulated)


def _show(report: "CostReport", by: str | None, *, is_simulated: bool) -> None:
    rows = [(name, *_cells(costs)) for name, costs in report.groups.items()]
    if by is None or is_terminal(sys.stdout):
        rows.append(("total", *_cells(report.total)))
    print_table((by or "", "executions", "cached", "tokens in", "out", "cost", "saved"), rows)
    say_savings(report.total.savings, is_simulated=is_simulated)


def _cells(costs: "Costs") -> tuple[str, ...]:
    tokens = costs.input_tokens + costs.cache_read_tokens + costs.cache_write_tokens
    unpriced = f" and {costs.unpriced:,} unpriced" if costs.unpriced else ""
    import msgspec  # noqa: PLC0415 - not for --help

    counts = (f"{number:,}" for number in (costs.executions, costs.cached, tokens, costs.output_tokens))
    return (*counts, f"${costs.cost_usd:.4f}{unpriced}", price(total_usd(msgspec.structs.astuple(costs.savings))))


def _facts(costs: "Costs") -> dict[str, Any]:
    """All figures, ready for JSON: money is a float."""
    import msgspec  # noqa: PLC0415 - not for --help

    return {
        name: float(value) if name.endswith("_usd") else value for name, value in msgspec.structs.asdict(costs).items()
    }


def _say_left_out(report: "CostReport", path: Path, *, simulated: bool) -> None:
    if not report.total.executions:
        note(f"no {'simulated ' if simulated else ''}execution of that kind is in {path}")
    if report.left_out and simulated:
        note(f"{report.left_out:,} real executions are left out")
    elif report.left_out:
        note(f"{report.left_out:,} simulated executions are left out; --simulated shows them")
    if report.unreadable_lines:
        note(f"{report.unreadable_lines:,} lines of {path} cannot be read, and are passed over", kind="warning")


def _since(days: float | None) -> datetime | None:
    if days is None:
        return None
    try:
        return datetime.now(UTC) - timedelta(days=days)
    except OverflowError:
        return None  # longer ago than there are dates


def _zone(name: str | None) -> tzinfo | None:
    """The time zone of that name; `None` is the machine's."""
    if name is None:
        return None
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 - only --tz needs it

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # `ValueError` and `OSError` for what is no such name
        raise InputError(f"there is no time zone {name!r}; give a name such as Europe/Berlin, or UTC") from error
