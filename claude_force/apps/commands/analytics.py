"""`claude-force analytics`: how executions went, what was spent and what was saved, from the ledger."""

import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

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
    from collections.abc import Callable, Iterator

    from claude_force.insight.costs import CostReport, Costs, Grouping, Selection
    from claude_force.insight.summary import By, Figures, Summary

_BY = ("agent", "model", "day", "run", "step")


class Chosen(TypedDict):
    """Which executions are asked for."""

    days: float | None
    agent: str | None
    model: str | None
    run: str | None
    simulated: bool


@click.group()
def command() -> None:
    """Show how executions went, and what was spent and saved."""


def _by_options(function: "Callable[..., None]") -> "Callable[..., None]":
    for name in reversed(_BY):
        function = click.option(f"--by-{name}", "by", flag_value=name, help=f"A line for each {name}.")(function)
    return function


def _selection_options(function: "Callable[..., None]") -> "Callable[..., None]":
    for option in (
        json_option,
        config_option,
        click.option("--simulated", is_flag=True, help="Of what the simulator answered, which cost nothing."),
        click.option("--run", help="Only this run of a workflow."),
        click.option("--model", help="Only this model, as the ledger has it."),
        click.option("--agent", help="Only this agent."),
        click.option(
            "--days", type=click.FloatRange(min=0, min_open=True), help="Only what ended in the last so many days."
        ),
    ):
        function = option(function)
    return function


@command.command(epilog=example("claude-force analytics summary --days 7"))
@_selection_options
def summary(*, config_path: Path | None, as_json: bool, **chosen: Unpack[Chosen]) -> None:
    """Show how executions went: how many, how well, how fast, and for how much.

    Times are whole turns, waits included, of what a model answered; percentiles are right to 1 %.
    """
    found = _summarised(config_path, chosen)
    if as_json:
        print_json(_figures(found.total) | {"unreadable_lines": found.unreadable_lines})
        return
    total = found.total
    times = " / ".join(_time(total.percentile_ms(percent)) for percent in _percentiles())
    errors = ", ".join(f"{kind} {number:,}" for kind, number in total.error_types.most_common())
    rows = [
        ("executions", f"{total.costs.executions:,}"),
        ("success rate", _share(total.success_rate)),
        ("answered from before", _share(total.hit_rate)),
        (f"time p{' / p'.join(map(str, _percentiles()))}", times),
        ("tokens in / out", f"{_tokens_in(total.costs):,} / {total.costs.output_tokens:,}"),
        ("cost", _cost(total.costs)),
        ("errors", errors or "none"),
    ]
    print_table(("", ""), rows if total.costs.executions else [])
    say_savings(total.costs.savings, is_simulated=chosen["simulated"])


@command.command("by-agent", epilog=example("claude-force analytics by-agent --days 7 --json"))
@_selection_options
def by_agent(*, config_path: Path | None, as_json: bool, **chosen: Unpack[Chosen]) -> None:
    """Show how each agent's executions went, the busiest first."""
    _show_groups("agent", _summarised(config_path, chosen, by="agent"), as_json=as_json)


@command.command("by-model", epilog=example("claude-force analytics by-model --agent code-reviewer"))
@_selection_options
def by_model(*, config_path: Path | None, as_json: bool, **chosen: Unpack[Chosen]) -> None:
    """Show how each model's executions went, the most asked first."""
    _show_groups("model", _summarised(config_path, chosen, by="model"), as_json=as_json)


@command.command(
    epilog=example("claude-force analytics costs --by-agent --days 7", "claude-force analytics costs --json")
)
@_by_options
@click.option("--tz", metavar="ZONE", help="Whose days, such as Europe/Berlin or UTC; the machine's if left out.")
@click.option("--reprice", is_flag=True, help="Price all tokens anew, by the prices as they are known now.")
@_selection_options
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
    path, zone = project.tracker.path, _zone(tz)
    prices = project.parts.prices if reprice else None
    with _readable(path):
        report = read_costs(path, _selection(chosen), by=by, zone=zone, prices=prices)
    if as_json:
        groups = [{by: name, **_facts(costs)} for name, costs in report.groups.items()]
        print_json({"total": _facts(report.total), "groups": groups, "unreadable_lines": report.unreadable_lines})
    else:
        _show(report, by, is_simulated=chosen["simulated"])
    _say_left_out(report.total, report, path, simulated=chosen["simulated"])


def _summarised(config_path: Path | None, chosen: Chosen, *, by: "By | None" = None) -> "Summary":
    from claude_force.insight.summary import read_summary  # noqa: PLC0415 - not for --help

    path = Project(config_path).tracker.path
    with _readable(path):
        found = read_summary(path, _selection(chosen), by=by)
    _say_left_out(found.total.costs, found, path, simulated=chosen["simulated"])
    return found


def _selection(chosen: Chosen) -> "Selection":
    from claude_force.insight.costs import Selection  # noqa: PLC0415 - not for --help

    return Selection(
        since=_since(chosen["days"]),
        agent=chosen["agent"],
        model=chosen["model"],
        run=chosen["run"],
        simulated=chosen["simulated"],
    )


@contextmanager
def _readable(path: Path) -> "Iterator[None]":
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot read {str(path)!r}: {reason}; check the file and its rights") from error


def _show_groups(kind: str, found: "Summary", *, as_json: bool) -> None:
    if as_json:
        print_json([{kind: name, **_figures(figures)} for name, figures in found.groups.items()])
        return
    rows = [
        (
            name,
            f"{figures.costs.executions:,}",
            _share(figures.success_rate),
            _share(figures.hit_rate),
            _time(figures.percentile_ms(50)),
            _time(figures.percentile_ms(95)),
            _cost(figures.costs),
        )
        for name, figures in found.groups.items()
    ]
    print_table((kind, "executions", "success", "from before", "p50", "p95", "cost"), rows)


def _figures(figures: "Figures") -> dict[str, Any]:
    """All of them, ready for JSON."""
    return {
        **_facts(figures.costs),
        "interrupted": figures.interrupted,
        "success_rate": figures.success_rate,
        "hit_rate": figures.hit_rate,
        "error_types": dict(figures.error_types.most_common()),
        "time_ms": {f"p{percent}": figures.percentile_ms(percent) for percent in _percentiles()},
    }


def _percentiles() -> tuple[int, ...]:
    from claude_force.insight.summary import PERCENTILES  # noqa: PLC0415 - not for --help

    return PERCENTILES


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _time(ms: float | None) -> str:
    return "" if ms is None else f"{ms / 1000:.2f} s"


def _show(report: "CostReport", by: str | None, *, is_simulated: bool) -> None:
    rows = [(name, *_cells(costs)) for name, costs in report.groups.items()]
    if by is None or is_terminal(sys.stdout):
        rows.append(("total", *_cells(report.total)))
    print_table((by or "", "executions", "cached", "tokens in", "out", "cost", "saved"), rows)
    say_savings(report.total.savings, is_simulated=is_simulated)


def _cells(costs: "Costs") -> tuple[str, ...]:
    import msgspec  # noqa: PLC0415 - not for --help

    counts = (f"{number:,}" for number in (costs.executions, costs.cached, _tokens_in(costs), costs.output_tokens))
    return (*counts, _cost(costs), price(total_usd(msgspec.structs.astuple(costs.savings))))


def _tokens_in(costs: "Costs") -> int:
    return costs.input_tokens + costs.cache_read_tokens + costs.cache_write_tokens


def _cost(costs: "Costs") -> str:
    return f"${costs.cost_usd:.4f}" + (f" and {costs.unpriced:,} unpriced" if costs.unpriced else "")


def _facts(costs: "Costs") -> dict[str, Any]:
    """All figures, ready for JSON: money is a float."""
    import msgspec  # noqa: PLC0415 - not for --help

    return {
        name: float(value) if name.endswith("_usd") else value for name, value in msgspec.structs.asdict(costs).items()
    }


def _say_left_out(total: "Costs", report: "CostReport | Summary", path: Path, *, simulated: bool) -> None:
    if not total.executions:
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
