"""`claude-force budgets`: what was spent of the limits that the config sets."""

from pathlib import Path

import click

from claude_force.apps.console import config_option, example, json_option, note, print_json, print_table
from claude_force.orchestrator import Project


@click.command(epilog=example("claude-force budgets", "claude-force budgets --json | jq '.[] | .left_usd'"))
@click.option("--offline", is_flag=True, help="Of what the simulator was asked, which is counted apart.")
@config_option
@json_option
def command(*, offline: bool, config_path: Path | None, as_json: bool) -> None:
    """Show what was spent of today's budgets, by all processes of the project, and what is held for calls under way.

    A day is one of UTC. Limits stand in the config, under `budgets`.
    """
    project = Project(config_path, offline=offline)
    try:
        standing = project.budgets.standing(project.parts.clock.now())
    finally:
        project.close()
    rows = [limit.to_dict() for limit in standing]
    if as_json:
        print_json(rows)
    elif not rows:
        note("no budget is set; `budgets.per_day_usd` in the config sets one")
    else:
        money = ("limit_usd", "spent_usd", "held_usd", "left_usd")
        table = [(row["limit"], *(f"${row[key]:.4f}" for key in money)) for row in rows]
        print_table(("budget", "limit", "spent", "held", "left"), table)
