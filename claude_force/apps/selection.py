"""What the analytics commands share: which executions are asked for, and how their figures read."""

import math
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import click

from claude_force.apps.console import Command, config_option, json_option, note, priced
from claude_force.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from claude_force.insight.counting import Selection
    from claude_force.insight.figures import Costs, Figures


class Chosen(TypedDict):
    """Which executions are asked for."""

    days: float | None
    agent: str | None
    model: str | None
    run: str | None
    simulated: bool


def filter_options(command: Command) -> Command:
    """`--agent`, `--model`, `--run` and `--simulated`."""
    for option in (
        click.option("--simulated", is_flag=True, help="Of what the simulator answered, which cost nothing."),
        click.option("--run", help="Only this run of a workflow."),
        click.option("--model", help="Only this model, as the ledger has it."),
        click.option("--agent", help="Only this agent."),
    ):
        command = option(command)
    return command


def days_option(*, default: str | None = None) -> "Callable[[Command], Command]":
    """`--days`, with what the help says of its default."""
    text = "Only what ended in the last so many days." + (f" [default: {default}]" if default else "")
    return click.option("--days", type=click.FloatRange(min=0, min_open=True), callback=no_nan, help=text)


def no_nan(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """For options that take a number: `nan` is one to Python, and in any range."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("'nan' is no number.")
    return value


def selection_options(command: Command) -> Command:
    """All of `Chosen`, `--config` and `--json`."""
    return days_option()(filter_options(config_option(json_option(command))))


def tz_option(command: Command) -> Command:
    """`--tz`."""
    text = "Whose days, such as Europe/Berlin or UTC; the machine's if left out."
    return click.option("--tz", metavar="ZONE", help=text)(command)


def selection(chosen: Chosen) -> "Selection":
    """The same as a `Selection`, as of now."""
    from claude_force.insight.counting import Selection  # noqa: PLC0415 - not for --help

    return Selection(
        since=since(chosen["days"]),
        agent=chosen["agent"],
        model=chosen["model"],
        run=chosen["run"],
        simulated=chosen["simulated"],
    )


def since(days: float | None) -> datetime | None:
    """When so many days began, as of now; `None` is always."""
    if days is None:
        return None
    try:
        return datetime.now(UTC) - timedelta(days=days)
    except OverflowError:
        return None  # longer ago than there are dates


def zone(name: str | None) -> tzinfo | None:
    """The time zone of that name; `None` is the machine's."""
    if name is None:
        return None
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 - only --tz needs it

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # `ValueError` and `OSError` for what is no such name
        raise InputError(f"there is no time zone {name!r}; give a name such as Europe/Berlin, or UTC") from error


@contextmanager
def readable(path: Path) -> "Iterator[None]":
    """Where the file, or one beside it, is read; what cannot be is an `InputError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        where = error.filename or str(path)
        raise InputError(f"cannot read {where!r}: {reason}; check the file and its rights") from error


class Found(Protocol):
    """What was read of a ledger."""

    @property
    def left_out(self) -> int:
        """Simulated executions where the real ones were asked for, and the other way round."""

    @property
    def unreadable_lines(self) -> int:
        """Lines that were passed over."""


def say_left_out(executions: int, found: Found, path: Path, *, simulated: bool) -> None:
    """What is not in the figures, on stderr."""
    if not executions:
        note(f"no {'simulated ' if simulated else ''}execution of that kind is in {path}")
    if found.left_out and simulated:
        note(f"{found.left_out:,} real executions are left out")
    elif found.left_out:
        note(f"{found.left_out:,} simulated executions are left out; --simulated shows them")
    if found.unreadable_lines:
        note(f"{found.unreadable_lines:,} lines of {path} cannot be read, and are passed over", kind="warning")


def say_only_by_day(executions: int, consequence: str = "so no finer question about them has an answer") -> None:
    """What rollups have left no lines of, on stderr."""
    if executions:
        note(f"{executions:,} executions are only known by day, {consequence}")


LEFT_OUT = "and are left out"
"""Where nothing but lines can be shown."""


def share_cell(share: float | None) -> str:
    """Percent; nothing where there is no share."""
    return "" if share is None else f"{share:.1%}"


def time_cell(ms: float | None) -> str:
    """Seconds; nothing where there is no time."""
    return "" if ms is None else f"{ms / 1000:.2f} s"


def cost_cell(costs: "Costs") -> str:
    """Dollars, and how many executions have no price."""
    return priced(costs.cost_usd, costs.unpriced)


def cost_facts(costs: "Costs") -> dict[str, Any]:
    """All figures, ready for JSON: money is a float."""
    import msgspec  # noqa: PLC0415 - not for --help

    return {
        name: float(value) if name.endswith("_usd") else value for name, value in msgspec.structs.asdict(costs).items()
    }


def figure_facts(figures: "Figures") -> dict[str, Any]:
    """All of them, ready for JSON."""
    from claude_force.insight.figures import PERCENTILES  # noqa: PLC0415 - not for --help

    return {
        **cost_facts(figures.costs),
        "interrupted": figures.interrupted,
        "success_rate": figures.success_rate,
        "hit_rate": figures.hit_rate,
        "error_types": dict(figures.error_types.most_common()),
        "time_ms": {f"p{percent}": figures.percentile_ms(percent) for percent in PERCENTILES},
    }
