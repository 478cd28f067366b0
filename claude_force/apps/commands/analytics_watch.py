"""`claude-force analytics alerts` and `anomalies`: what is out of the ordinary."""

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from claude_force.apps.alerts import judge
from claude_force.apps.console import config_option, example, json_option, note, print_json, print_table
from claude_force.apps.selection import (
    LEFT_OUT,
    Chosen,
    days_option,
    filter_options,
    readable,
    say_left_out,
    say_only_by_day,
    selection,
)
from claude_force.base.alerts import SEVERITIES
from claude_force.orchestrator import Project

if TYPE_CHECKING:
    from claude_force.base.alerts import Severity

_DAYS = 30.0


@click.command(
    epilog=example("claude-force analytics anomalies", "claude-force analytics anomalies --agent code-reviewer --json")
)
@days_option(default="30")
@filter_options
@config_option
@json_option
def anomalies(*, config_path: Path | None, as_json: bool, **chosen: Unpack[Chosen]) -> None:
    """Show what was out of the ordinary: spikes and drifts of times, costs and lengths, and bursts of failures.

    Each agent with each model is judged by what it did before, from 30 executions on; the last finding comes first.
    """
    from claude_force.insight.anomalies import amount, read_anomalies  # noqa: PLC0415 - not for --help

    path = Project(config_path).tracker.path
    chosen["days"] = chosen["days"] or _DAYS
    with readable(path):
        found = read_anomalies(path, selection(chosen))
    if as_json:
        print_json(found)
    else:
        rows = [
            (
                f"{finding.began_at.astimezone():%Y-%m-%d %H:%M}",
                finding.agent,
                finding.model,
                finding.kind,
                amount(finding.measure, finding.value),
                amount(finding.measure, finding.usual),
                f"{finding.executions:,} of {finding.samples:,}",
            )
            for finding in found.findings
        ]
        print_table(("since", "agent", "model", "what", "was", "usually", "executions"), rows)
        if not rows:
            note(f"nothing is out of the ordinary; {found.judged:,} agents by model have enough executions to tell")
    say_left_out(1, found, path, simulated=chosen["simulated"])
    say_only_by_day(found.only_by_day, LEFT_OUT)


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
    from claude_force.insight.alerts import figure, reach  # noqa: PLC0415 - not for --help

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
