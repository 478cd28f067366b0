"""`claude-force analytics alerts` and `anomalies`: what is out of the ordinary."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_force.apps.alerts import figure, judge, reach
from claude_force.apps.console import config_option, example, json_option, print_json, print_table
from claude_force.apps.selection import say_left_out
from claude_force.base.alerts import SEVERITIES
from claude_force.orchestrator import Project

if TYPE_CHECKING:
    from claude_force.base.alerts import Severity


@click.command(
    epilog=example(
        "claude-force analytics alerts",
        "claude-force analytics alerts --fail-on critical --json || mail -s 'Agents are ill' me@example.com",
    )
)
@click.option(
    "--fail-on",
    type=click.Choice(SEVERITIES),
    default="warning",
    help="Exit with 1 where one of this severity fires, or of a higher one. [default: warning]",
)
@click.option("--simulated", is_flag=True, help="Of what the simulator answered, which cost nothing.")
@config_option
@json_option
def alerts(*, fail_on: "Severity", simulated: bool, config_path: Path | None, as_json: bool) -> None:
    """Judge the last minutes and hours by the rules under `alerts` in the config, or by seven of our own.

    Rates, times and ratios are judged from ten executions on, unless a rule says otherwise; before, they are unknown.
    The exit code is 0 where nothing fires that --fail-on is about, and 1 where something does; errors keep theirs.
    """
    project = Project(config_path)
    try:
        found = judge(project, simulated=simulated)
    finally:
        project.close()
    if as_json:
        print_json(found)
    else:
        rows = [
            (
                alert.name,
                alert.severity,
                alert.state,
                figure(alert.value),
                f"{alert.comparison} {figure(alert.threshold)}",
                f"{alert.metric} {reach(alert)}",
            )
            for alert in found.alerts
        ]
        print_table(("rule", "severity", "state", "value", "fires", "of"), rows)
    say_left_out(1, found, project.tracker.path, simulated=simulated)
    fatal = SEVERITIES[SEVERITIES.index(fail_on) :]
    raise SystemExit(any(alert.severity in fatal for alert in found.firing))
