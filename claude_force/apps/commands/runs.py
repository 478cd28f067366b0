"""`claude-force runs`: the runs of workflows, what each step answered, what changed between two, and their removal."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_force.apps.console import (
    age,
    ask,
    config_option,
    example,
    harmless,
    hours,
    json_option,
    note,
    price,
    print_answers,
    print_json,
    print_table,
    yes_option,
)
from claude_force.orchestrator import Project

if TYPE_CHECKING:
    from claude_force.stores.runs import RunRecord
    from claude_force.workflows.history import History

_RUN_HELP = "The run's id, or the beginning of it; `last` is the newest."


@click.group()
def command() -> None:
    """See, compare and remove the runs of workflows."""


@command.command("list", epilog=example("claude-force runs list --workflow code-quality-check"))
@click.option("--workflow", help="Only the runs of this workflow.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="So many, at most.")
@config_option
@json_option
def list_(workflow: str | None, limit: int, config_path: Path | None, as_json: bool) -> None:
    """List the runs, newest first."""
    from claude_force.workflows.history import duration_s, facts  # noqa: PLC0415 - not for --help

    runs = _history(config_path).runs(workflow=workflow, limit=limit)
    if as_json:
        print_json([facts(run) for run in runs])
        return
    now = datetime.now(UTC)
    print_table(
        ("run", "workflow", "status", "age", "seconds", "cost", "saved"),
        [
            (
                run.id,
                run.workflow,
                _status(run),
                age((now - run.started_at).total_seconds()),
                _seconds(duration_s(run)),
                price(run.cost_usd),
                price(run.saved_usd),
            )
            for run in runs
        ],
    )
    if not runs:
        note("no runs are kept here")


@command.command(epilog=example("claude-force runs show last", "claude-force runs show last --step final-review"))
@click.argument("run", help=_RUN_HELP)
@click.option("--step", help="Print the answer of this step.")
@config_option
@json_option
def show(run: str, step: str | None, config_path: Path | None, as_json: bool) -> None:
    """Show how each step of a run ended, or what one of them answered.

    An answer is printed only if its signature is ours.
    """
    from claude_force.workflows.history import duration_s, facts  # noqa: PLC0415 - not for --help

    history = _history(config_path)
    found = history.find(run)
    if step is not None:
        answers = history.answers(found, step)
        print_json(answers) if as_json else print_answers(answers)
        return
    steps = history.steps(found)
    if as_json:
        print_json(facts(found) | {"steps": {name: record and facts(record) for name, record in steps.items()}})
        return
    rows = [
        (
            (name, "nothing noted", "", "", "", "", "")
            if record is None
            else (
                name,
                record.status.replace("_", " "),
                record.model or "",
                _seconds(duration_s(record)),
                "" if record.input_tokens is None else f"{record.input_tokens:,} / {record.output_tokens:,}",
                "" if record.attempts == 0 and record.status != "cached" else price(record.cost_usd),
                record.reason or "",
            )
        )
        for name, record in steps.items()
    ]
    print_table(("step", "status", "model", "seconds", "tokens in / out", "cost", "reason"), rows)
    note(_summary(found))
    if found.error:
        note(found.error, kind="error")


@command.command(epilog=example("claude-force runs diff 20261126-101500 last"))
@click.argument("before", help=_RUN_HELP)
@click.argument("now", help="The run to compare it with.")
@config_option
@json_option
def diff(before: str, now: str, config_path: Path | None, as_json: bool) -> None:
    """Show the steps that are not the same in two runs, and what changed."""
    history = _history(config_path)
    found = history.compare(history.find(before), history.find(now))
    if as_json:
        print_json([difference._asdict() for difference in found])
        return
    print_table(("step", "what changed"), [(step, "; ".join(changes)) for step, _, _, changes in found])
    if not found:
        note("the two runs are the same")


@command.command(epilog=example("claude-force runs prune --older-than 30d --keep 100"))
@click.option("--older-than", metavar="AGE", help="Runs that ended before: 30m, 12h, 7d, 2w.")
@click.option("--keep", type=click.IntRange(min=0), help="Leave the newest so many, however old.")
@yes_option
@config_option
def prune(older_than: str | None, keep: int | None, yes: bool, config_path: Path | None) -> None:
    """Remove runs with all their answers; what the response cache has stays.

    A run that is running, or broke off, is removed only by --older-than.
    """
    if older_than is None and keep is None:
        raise click.UsageError("say what may go: --older-than AGE, --keep N, or both")
    older_than_hours = None if older_than is None else hours(older_than)
    if not yes:
        which = f"that ended more than {older_than} ago" if older_than else "that have ended"
        ask(f"Remove all runs {which}{f', but the newest {keep}' if keep else ''}?")
    removed = _history(config_path).prune(now=datetime.now(UTC), older_than_hours=older_than_hours, keep=keep)
    click.echo(f"{removed:,} removed")


def _history(config_path: Path | None) -> "History":
    from claude_force.workflows.history import History  # noqa: PLC0415 - not for --help

    project = Project(config_path)
    return History(project.runs, project.cache)


def _status(run: "RunRecord") -> str:
    """Its status; of a run without an end nobody can tell whether its process lives."""
    return "running or broken off" if run.status == "running" else run.status


def _summary(run: "RunRecord") -> str:
    parts = [f"run {run.id} of {run.workflow}: {_status(run)}", f"begun {run.started_at:%Y-%m-%d %H:%M:%S} UTC"]
    parts += [f"taken up again {run.resumed}x"] if run.resumed else []
    parts += ["simulated"] if run.simulated else []
    parts += [price(run.cost_usd)]
    parts += [f"{price(run.saved_usd)} saved"] if run.saved_usd else []
    return harmless(", ".join(parts))


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"
