"""`claude-force run-workflow`: the steps of a workflow, each as soon as it can. The run itself: `apps.workflow`."""

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from claude_force.apps.alerts import alerts_option
from claude_force.apps.console import check_routing, completions, config_option, example, json_option, routing_options
from claude_force.apps.inputs import INPUT_HELP
from claude_force.apps.upkeep import roll_up_if_due
from claude_force.base.errors import ClaudeForceError
from claude_force.orchestrator import Project

if TYPE_CHECKING:
    from pathlib import Path

    from click.shell_completion import CompletionItem

    from claude_force.apps.workflow import Format
    from claude_force.base.models import Tier
    from claude_force.orchestrator import EngineName, WorkflowOptions


def complete_workflow(_: click.Context, __: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """The names of workflows; reading each file would be too slow for a key press."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only the shell asks

    from claude_force.library.workflows import WorkflowLibrary, is_path  # noqa: PLC0415

    if is_path(incomplete):
        return [CompletionItem(incomplete, type="file")]
    project = Project()
    with suppress(ClaudeForceError):
        return completions(WorkflowLibrary(project.settings, start=project.start).names(), incomplete)
    return []


@click.command(
    epilog=example(
        "claude-force run-workflow code-quality-check --input code=@main.py",
        "git diff | claude-force run-workflow code-quality-check --plan",
        "git diff | claude-force run-workflow code-quality-check",
        "claude-force run-workflow code-quality-check --resume --why",
    )
)
@click.argument(
    "name",
    required=False,
    shell_complete=complete_workflow,
    help="The workflow's name, or a .json or .yaml file; with --resume it may be left out.",
)
@click.option(
    "--parallel/--sequential",
    default=True,
    help="What is ready at once, or one step after the other. [default: parallel]",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=VALUE",
    help=INPUT_HELP,
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value="last",
    metavar="[RUN]",
    help="Go on with a run, by its id or the beginning of it; without one, with the last.",
)
@routing_options
@click.option("--force", multiple=True, metavar="STEP", help="Do this step again whatever there is; may be repeated.")
@click.option("--plan", "only_plans", is_flag=True, help="Say what the run would do and cost; ask nothing.")
@click.option("--exact", is_flag=True, help="With --plan: have the API count the tokens, which is free.")
@click.option("--why", "tells_why", is_flag=True, help="Say of each step why it was done, or did not have to be.")
@click.option("--no-cache", is_flag=True, help="Ask, even if the same was answered before; keep nothing in the cache.")
@click.option("--refresh", is_flag=True, help="Ask, even if the same was answered before, and keep the new answers.")
@click.option("--max-concurrent", type=click.IntRange(min=1), help="This many steps at once, at most.")
@click.option(
    "--max-usd",
    type=click.FloatRange(min=0, min_open=True),
    help="Never pay more: a step that could pass it is not sent.",
)
@click.option(
    "--batch",
    is_flag=True,
    help="At half the price: all that is ready at once is one message batch, which takes minutes or hours.",
)
@click.option(
    "--live-fallback",
    is_flag=True,
    help="With --batch: ask what it left unanswered as ordinary calls, at the full price.",
)
@click.option(
    "--engine",
    type=click.Choice(("built-in", "durable")),
    default="built-in",
    help="Who does the steps: this process, or workers, by way of the database that engine.url names.",
)
@click.option("--offline", is_flag=True, help="Ask the built-in simulator: no key, no cost, no real answers.")
@alerts_option
@config_option
@json_option
@click.option(
    "--output-format",
    type=click.Choice(("text", "json", "stream-json")),
    help="text: the answers of the last steps; json: the whole result; stream-json: a line for each event.",
)
def command(
    name: str | None,
    parallel: bool,
    inputs: tuple[str, ...],
    resume: str | None,
    auto_model: bool | None,
    min_tier: "Tier | None",
    max_tier: "Tier | None",
    force: tuple[str, ...],
    only_plans: bool,
    exact: bool,
    tells_why: bool,
    no_cache: bool,
    refresh: bool,
    max_concurrent: int | None,
    max_usd: float | None,
    batch: bool,
    live_fallback: bool,
    engine: "EngineName",
    offline: bool,
    config_path: "Path | None",
    as_json: bool,
    output_format: "Format | None",
) -> None:
    """Run a workflow and print the answers of its last steps.

    Each step starts the moment those that it depends on are done. Text that is piped in is the one required input that
    --input does not give. How it goes is told on stderr: in a table on a terminal, else a line for each step.

    Ctrl-C once starts nothing more and lets what is in flight come to its end; twice stops at once. Whatever ends a
    run, --resume goes on with it and pays only for what has no answer yet, or was edited since. With --batch, Ctrl-C
    once stops at once: the server goes on with the batch, and --resume with --batch finds it.

    With --engine durable, steps are done by `claude-force worker`, on any number of machines; through a file, which is
    the default, by this process as well. What was handed over goes on without this process, and --resume with
    --engine durable finds it.
    """
    if name is None and resume is None:
        raise click.UsageError("give a workflow's name, or --resume to go on with a run")
    if no_cache and refresh:
        raise click.UsageError("--refresh keeps the new answers, --no-cache does not; give one of them")
    if not parallel and max_concurrent not in {None, 1}:
        raise click.UsageError("--sequential is one step after the other; leave --max-concurrent out")
    if batch and (not parallel or max_concurrent is not None):
        raise click.UsageError("--batch sends all that is ready; leave --sequential and --max-concurrent out")
    if live_fallback and not batch:
        raise click.UsageError("--live-fallback belongs to --batch; give that, too")
    if as_json and output_format not in {None, "json"}:
        raise click.UsageError(f"--json and --output-format {output_format} are two formats; give one of them")
    if exact and not only_plans:
        raise click.UsageError("--exact belongs to --plan; give that, too")
    options: WorkflowOptions = {
        "force": force,
        "use_cache": False if no_cache else "refresh" if refresh else None,
        "max_cost_usd": max_usd,
        "batch": batch,
        "live_fallback": live_fallback,
        "engine": engine,
    }
    if resume is not None:
        options["resume"] = resume
    project = Project(config_path, offline=offline, auto_model=auto_model, min_tier=min_tier, max_tier=max_tier)
    check_routing(project, min_tier, max_tier)
    if only_plans:
        from claude_force.apps.plan_view import plan_run  # noqa: PLC0415 - as below

        as_json = as_json or output_format == "json"
        plan_run(project, name, inputs, options, exact=exact, as_json=as_json)
        return
    from claude_force.apps.workflow import run_workflow  # noqa: PLC0415 - --help does not pay for a run

    code = run_workflow(
        project,
        name,
        inputs=inputs,
        options=options,
        max_concurrent=max_concurrent if parallel else 1,
        config_path=None if config_path is None else str(config_path),
        offline=offline,
        output="json" if as_json else output_format or "text",
        tells_why=tells_why,
    )
    roll_up_if_due(project)
    raise SystemExit(code)
