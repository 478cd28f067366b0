"""`claude-force workflows`: which there are, what they need, what is wrong with them, how they look, what they cost."""

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from claude_force.apps.commands.run_workflow import complete_workflow
from claude_force.apps.console import (
    check_routing,
    config_option,
    example,
    harmless,
    json_option,
    note,
    print_json,
    print_table,
    print_text,
    routing_options,
)
from claude_force.apps.inputs import INPUT_HELP
from claude_force.base.errors import InputError
from claude_force.orchestrator import Project
from claude_force.stores.files import write_atomically
from claude_force.workflows.picture import PictureFormat, picture
from claude_force.workflows.start import read_plan
from claude_force.workflows.survey import survey

if TYPE_CHECKING:
    from claude_force.base.models import Tier
    from claude_force.workflows.definition import WorkflowStep


name_argument = click.argument("name", shell_complete=complete_workflow, help="The workflow's name.")


@click.group()
def command() -> None:
    """See, check, draw and plan the workflows that can be run."""


@command.command("list", epilog=example("claude-force workflows list --json | python -m json.tool"))
@config_option
@json_option
def list_(config_path: Path | None, as_json: bool) -> None:
    """List the workflows of the config, the project and the user, broken ones with their fault."""
    found = survey(Project(config_path))
    if as_json:
        print_json([workflow.to_dict() for workflow in found])
        return
    rows = [
        (
            workflow.name,
            str(len(workflow.plan.steps)) if workflow.plan else "?",
            f"broken: {workflow.problems[0]}" if workflow.problems else workflow.description,
            str(workflow.path or ""),
        )
        for workflow in found
    ]
    print_table(("workflow", "steps", "what it does", "from"), rows)
    if not found:
        note("no workflows here; `claude-force init` writes some, or put files into .claude/workflows")
    if broken := sum(bool(workflow.problems) for workflow in found):
        note(f"{broken} cannot be run; `claude-force workflows validate` says why", kind="warning")


@command.command(epilog=example("claude-force workflows show code-quality-check"))
@name_argument
@config_option
@json_option
def show(name: str, config_path: Path | None, as_json: bool) -> None:
    """Show one workflow: what it must be given, its steps in order, and what waits for what."""
    plan = read_plan(Project(config_path), name)
    workflow = plan.workflow
    if as_json:
        print_json({"name": name, "workflow": workflow, "order": plan.order})
        return
    from claude_force.apps.plan_view import show_graph  # noqa: PLC0415 - only where it is shown

    click.echo(harmless("\n".join(filter(None, (workflow.name or name, workflow.description)))))
    bounds = {
        "timeout_seconds": workflow.timeout_seconds,
        "max_concurrent": workflow.max_concurrent,
        "max_cost_usd": workflow.max_cost_usd,
    }
    for bound, value in bounds.items():
        if value is not None:
            click.echo(f"{bound}: {value:g}")
    click.echo("\nInputs")
    for name_, spec in workflow.inputs.items():
        need = "required" if spec.required and spec.default is None else f"default {spec.default!r}"
        click.echo(
            harmless(f"  {name_}  {spec.type}, {need if spec.default != '' else 'optional'}  {spec.description}")
        )
    if not workflow.inputs:
        click.echo("  none")
    click.echo("\nSteps")
    show_graph(plan)
    click.echo()
    for step in (plan.steps[step_id] for step_id in plan.order):
        click.echo(harmless(f"{step.id}  {_settings(step)}\n  {' '.join(step.task.split())[:160]}"))


def _settings(step: "WorkflowStep") -> str:
    """Who does it, and what is not as usual."""
    facts = {
        "model": step.model,
        "effort": step.effort,
        "max_tokens": step.max_tokens,
        "on_failure": None if step.on_failure == "fail" else step.on_failure,
        "output": None if step.output == "text" else step.output,
    }
    return ", ".join([step.agent, *(f"{name} {value}" for name, value in facts.items() if value is not None)])


@command.command(epilog=example("claude-force workflows validate", "claude-force workflows validate bug-triage --json"))
@click.argument("names", nargs=-1, shell_complete=complete_workflow, help="Check these only.")
@config_option
@json_option
def validate(names: tuple[str, ...], config_path: Path | None, as_json: bool) -> None:
    """Check workflows: every fault of each, in one go.

    The exit code is 2 if there is any.
    """
    found = survey(Project(config_path), names)
    faulty = [workflow for workflow in found if workflow.problems]
    if as_json:
        print_json([workflow.to_dict() for workflow in found])
    else:
        for workflow in faulty:
            where = workflow.path or workflow.name
            for problem in workflow.problems:
                note(f"{where}: {problem}", kind="error")
        click.echo(f"{len(found) - len(faulty)} sound, {len(faulty)} not")
    raise SystemExit(2 if faulty else 0)


@command.command(epilog=example("claude-force workflows graph bug-triage --format svg --output bug-triage.svg"))
@name_argument
@click.option("--format", "kind", type=click.Choice(get_args(PictureFormat)), default="text", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the picture to this file.")
@config_option
@json_option
def graph(name: str, kind: PictureFormat, output: Path | None, config_path: Path | None, as_json: bool) -> None:
    """Draw a workflow: which step waits for which."""
    plan = read_plan(Project(config_path), name)
    if output is not None:
        try:
            write_atomically(output, picture(plan, kind).encode())
        except OSError as error:
            raise InputError(f"cannot write {str(output)!r}: {error.strerror}; give another --output") from error
    if as_json:
        steps = [{"id": step, "dependencies": plan.steps[step].dependencies} for step in plan.order]
        print_json({"name": name, "steps": steps, "format": kind, "picture": picture(plan, kind)})
    elif output is None and kind == "text":
        from claude_force.apps.plan_view import show_graph  # noqa: PLC0415 - only where it is shown

        show_graph(plan)
    elif output is None:
        print_text(picture(plan, kind))


@command.command(epilog=example("claude-force workflows plan code-quality-check --input code=@main.py"))
@name_argument
@click.option("--input", "inputs", multiple=True, metavar="NAME=VALUE", help=INPUT_HELP)
@click.option("--max-usd", "max_cost_usd", type=click.FloatRange(0, min_open=True), help="A limit to compare with.")
@click.option("--exact", is_flag=True, help="Have the API count the tokens, which is free.")
@routing_options
@click.option("--offline", is_flag=True, help="Plan for the built-in simulator.")
@config_option
@json_option
def plan(
    name: str,
    inputs: tuple[str, ...],
    max_cost_usd: float | None,
    exact: bool,
    auto_model: bool | None,
    min_tier: "Tier | None",
    max_tier: "Tier | None",
    offline: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Foretell a run: what is cached, what would be asked, what it would cost, and how long it would take.

    Nothing is asked, and nothing is written. Without --exact tokens are estimated; `claude_force.insight.estimate` says
    how.
    """
    from claude_force.apps.plan_view import plan_run  # noqa: PLC0415 - only where it is shown

    project = Project(config_path, offline=offline, auto_model=auto_model, min_tier=min_tier, max_tier=max_tier)
    check_routing(project, min_tier, max_tier)
    plan_run(project, name, inputs, {"max_cost_usd": max_cost_usd}, exact=exact, as_json=as_json)
