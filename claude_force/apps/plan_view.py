"""How a forecast is shown: a table of its steps, the sum, what is saved, what a limit would do, the longest way."""

from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

import click

from claude_force.apps.console import harmless, note, price, priced, print_json, print_table, say_choice, takes_unicode
from claude_force.apps.inputs import piped_input, typed_inputs
from claude_force.insight.estimate import estimated_tokens
from claude_force.workflows.definition import refuse
from claude_force.workflows.forecast import forecast
from claude_force.workflows.picture import text
from claude_force.workflows.start import asked_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from claude_force.base.records import Request, Savings
    from claude_force.orchestrator import Project, WorkflowOptions
    from claude_force.workflows.forecast import Forecast, StepForecast
    from claude_force.workflows.plan import Plan

_ASCII = str.maketrans("●─│├┤┴┼╰╯·…", "*-|||++''-.")


def plan_run(
    project: "Project",
    name: str | None,
    inputs: "Sequence[str]",
    options: "WorkflowOptions",
    *,
    exact: bool,
    as_json: bool,
) -> None:
    """Foretell the run that these options would make, and show it. Nothing is asked, and nothing written.

    With `exact`, the API counts the prompts.
    """
    given, resume = typed_inputs(inputs), options.get("resume")
    if name is not None and resume is None:
        given |= piped_input(project, name, given)
    asked = asked_for(project, name, given, resume=resume)
    refuse(asked.problems, asked.name)
    foretell = partial(
        forecast,
        project,
        asked.plan,
        asked.inputs,
        use_cache=options.get("use_cache"),
        force=options.get("force", ()),
        max_cost_usd=options.get("max_cost_usd"),
        run_id=asked.taken_up.id if asked.taken_up else None,
        kept=asked.choices,
    )
    found = foretell()
    if exact:
        found = foretell(counts=count_prompts(project, found.to_count))
    show_plan(found, is_routed=project.auto_model, exact=exact, as_json=as_json)


def count_prompts(project: "Project", requests: "Mapping[str, Request]") -> dict[str, int]:
    """How many tokens the API counts in each, by key; how far the estimate was off is said on stderr."""
    import asyncio  # noqa: PLC0415 - only --exact pays for it

    from claude_force.async_orchestrator import AsyncAgentOrchestrator  # noqa: PLC0415

    async def count() -> dict[str, int]:
        async with AsyncAgentOrchestrator.of(project) as orchestrator:
            return await orchestrator.count_tokens(requests)

    counts = asyncio.run(count())
    counted, estimated = sum(counts.values()), sum(map(estimated_tokens, requests.values()))
    if counted:
        off = f"the estimate was {estimated / counted - 1:+.0%} off"
        whose = " by the simulator, which says nothing of Claude" if project.parts.server == "simulator" else ""
        note(f"{counted:,} tokens in {len(counts):,} prompts{whose}; {off}", kind="counted")
    return counts


def show_plan(forecast: "Forecast", *, is_routed: bool, exact: bool, as_json: bool) -> None:
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
    click.echo(f"minimum   {total(step.min_usd for step in steps)}")
    click.echo(f"expected  {total(step.expected_usd for step in steps)}")
    click.echo(f"maximum   {_most(forecast)}")
    print_savings(forecast.savings, is_routed=is_routed)
    click.echo(f"longest   {' -> '.join(forecast.critical_path)}{_time(forecast)}")
    if forecast.limit_usd is not None:
        click.echo(f"limit     {_limit(forecast)}")
    for step in steps:
        if step.choice:
            say_choice(step.choice, of=step.id)
        if step.cache == "refused":
            note(f"{step.id} would fail before anything is sent for it: {step.why}", kind="warning")
        if step.counted == "part":
            note(f"{step.id}: the answers that it waits for are not counted, but estimated")
        for warning in step.warnings:
            note(f"{step.id}: {warning}", kind="warning")
    if any(step.is_guess for step in steps):
        note("answers whose length nobody knows yet (~) are guessed; earlier runs make the forecast better")
    say_unsent(exact=exact)


def say_unsent(*, exact: bool) -> None:
    """The last line of every plan."""
    note("nothing was asked, the prompts were only counted" if exact else "nothing was sent")


def show_graph(plan: "Plan") -> None:
    """The plan as text, in letters that the terminal has."""
    drawn = harmless(text(plan, {}))
    click.echo(drawn if takes_unicode() else drawn.translate(_ASCII), nl=False)


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
            price(step.min_usd),
            price(step.expected_usd),
            "no bound" if step.max_usd is None and step.expected_usd is not None else price(step.max_usd),
            "?" if step.seconds is None else f"{step.seconds:.1f}",
        )
        for step in steps
    ]


def print_savings(savings: "Savings", *, is_routed: bool) -> None:
    """A line for each way to pay less: what it saves, or would."""
    click.echo(f"cache     {_saved(savings.cache_usd, 'saves', '')}")
    click.echo(f"prompts   {_saved(savings.prompt_cache_usd, 'saves', 'up to ')} by the prompt cache")
    click.echo(f"batch     {_saved(savings.batch_usd, 'would save', '')}")
    click.echo(f"routing   {_saved(savings.routing_usd, 'saves' if is_routed else 'would save', '')}")


def _saved(usd: Decimal | None, saves: str, most: str) -> str:
    if not usd:
        return f"{saves} nothing" if usd is not None else "unpriced"
    cost = saves.replace("would save", "would cost").replace("saves", "costs")
    return f"{saves} {most}{price(usd)}" if usd > 0 else f"{cost} {price(-usd)} more"


def total(costs: "Iterable[Decimal | None]") -> str:
    """What has a price, and how many have none."""
    known = list(costs)
    return priced(sum((cost for cost in known if cost is not None), Decimal(0)), known.count(None))


def _most(forecast: "Forecast") -> str:
    if forecast.max_usd is not None:
        return price(forecast.max_usd)
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
