"""How a forecast is shown: a table of its steps, the sum, what a limit would do to it, and the longest way."""

import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from claude_force.apps.console import harmless, note, print_json, print_table, say_choice
from claude_force.apps.inputs import piped_input, typed_inputs
from claude_force.workflows.definition import refuse
from claude_force.workflows.forecast import forecast
from claude_force.workflows.picture import text
from claude_force.workflows.start import asked_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from claude_force.orchestrator import Project, WorkflowOptions
    from claude_force.workflows.forecast import Forecast, StepForecast
    from claude_force.workflows.plan import Plan

_ASCII = str.maketrans("●─│├┤┴┼╰╯·…", "*-|||++''-.")


def plan_run(
    project: "Project", name: str | None, inputs: "Sequence[str]", options: "WorkflowOptions", *, as_json: bool
) -> None:
    """Foretell the run that these options would make, and show it. Nothing is sent, and nothing written."""
    given, resume = typed_inputs(inputs), options.get("resume")
    if name is not None and resume is None:
        given |= piped_input(project, name, given)
    asked = asked_for(project, name, given, resume=resume)
    refuse(asked.problems, asked.name)
    found = forecast(
        project,
        asked.plan,
        asked.inputs,
        use_cache=options.get("use_cache"),
        force=options.get("force", ()),
        max_cost_usd=options.get("max_cost_usd"),
        run_id=asked.taken_up.id if asked.taken_up else None,
        kept=asked.choices,
    )
    show_plan(found, as_json=as_json)


def show_plan(forecast: "Forecast", *, as_json: bool) -> None:
    """Print it; a machine gets JSON."""
    if as_json:
        print_json(forecast.to_dict())
        return
    show_graph(forecast.plan)
    click.echo()
    steps = list(forecast.steps.values())
    print_table(
        ("step", "agent", "model", "cache", "tokens in", "out", "min", "expected", "max", "seconds"), _rows(steps)
    )
    click.echo(f"minimum   {_total(step.min_usd for step in steps)}")
    click.echo(f"expected  {_total(step.expected_usd for step in steps)}")
    click.echo(f"maximum   {_most(forecast)}")
    click.echo(f"longest   {' -> '.join(forecast.critical_path)}{_time(forecast)}")
    if forecast.limit_usd is not None:
        click.echo(f"limit     {_limit(forecast)}")
    for step in steps:
        if step.choice:
            say_choice(step.choice, of=step.id)
        if step.cache == "refused":
            note(f"{step.id} would fail before anything is sent for it: {step.why}", kind="warning")
        for warning in step.warnings:
            note(f"{step.id}: {warning}", kind="warning")
    if any(step.is_guess for step in steps):
        note("answers whose length nobody knows yet (~) are guessed; earlier runs make the forecast better")
    note("nothing was sent")


def show_graph(plan: "Plan") -> None:
    """The plan as text, in letters that the terminal has."""
    drawn = harmless(text(plan, {}))
    takes_all = "utf" in (getattr(sys.stdout, "encoding", None) or "").lower()
    click.echo(drawn if takes_all else drawn.translate(_ASCII), nl=False)


def _rows(steps: "list[StepForecast]") -> list[tuple[str, ...]]:
    """The steps as rows of the table."""
    return [
        (
            step.id if step.items is None else f"{step.id} x {step.items}",
            step.agent,
            step.model,
            f"{step.cache}: {step.why}" if step.why else step.cache,
            f"{step.prompt_tokens:,}",
            f"{'~' if step.is_guess else ''}{step.output_tokens:,}",
            _usd(step.min_usd),
            _usd(step.expected_usd),
            _usd(step.max_usd, otherwise="no bound" if step.max_usd is None and step.expected_usd is not None else ""),
            "?" if step.seconds is None else f"{step.seconds:.1f}",
        )
        for step in steps
    ]


def _usd(money: Decimal | None, *, otherwise: str = "") -> str:
    return otherwise or "unpriced" if money is None else f"${money:.4f}"


def _total(costs: "Iterable[Decimal | None]") -> str:
    """What has a price, and how many steps have none."""
    known = list(costs)
    unpriced = known.count(None)
    words = [_usd(sum((cost for cost in known if cost is not None), Decimal(0)))] if unpriced < len(known) else []
    return " and ".join([*words, *([f"{unpriced} unpriced"] if unpriced else [])])


def _most(forecast: "Forecast") -> str:
    if forecast.max_usd is not None:
        return _usd(forecast.max_usd)
    reasons = [f"{', '.join(forecast.unpriced)} unpriced"] if forecast.unpriced else []
    reasons += (
        [f"nobody knows yet how often {', '.join(forecast.unbounded)} will be done"] if forecast.unbounded else []
    )
    return f"no bound: {'; '.join(reasons)}"


def _time(forecast: "Forecast") -> str:
    return "" if forecast.critical_seconds is None else f" ({forecast.critical_seconds:.1f} s)"


def _limit(forecast: "Forecast") -> str:
    """What `max_cost_usd` would do."""
    words = {
        "holds": "is more than it can cost",
        "enough": "should be enough, and would be kept",
        "short": f"is too low: {forecast.stops_at!r} would not be sent",
    }
    return f"${forecast.limit_usd} {words.get(forecast.budget, '')}"
