"""Alerts on the command line: judged for `analytics alerts`, and said after a run that was asked to (`--alerts`)."""

from typing import TYPE_CHECKING

import click

from claude_force.apps.console import Command, note
from claude_force.apps.selection import readable
from claude_force.base.clock import SystemClock
from claude_force.base.errors import ClaudeForceError
from claude_force.orchestrator import Project

if TYPE_CHECKING:
    from claude_force.insight.alerts import AlertReport


def judge(project: Project, *, simulated: bool) -> "AlertReport":
    """What the project's rules say now. Raises `InputError`, `BudgetError` and `ConfigError`."""
    from claude_force.insight.alerts import read_alerts  # noqa: PLC0415 - not for --help

    rules, path, now = project.settings.config.alerts, project.tracker.path, SystemClock().now()
    spending = project.budgets.standing(now) if any(rule.metric == "budget_share" for rule in rules) else ()
    with readable(path):
        return read_alerts(path, rules, now=now, simulated=simulated, spending=spending)


def alerts_option(command: Command) -> Command:
    """`--alerts`: when the command ends, however that is, warn of what fires; the exit code stays as it is."""
    option = click.option(
        "--alerts",
        is_flag=True,
        expose_value=False,
        callback=_say_at_the_end,
        help="Afterwards, warn of what the alert rules of the config find; `analytics alerts` shows all.",
    )
    return option(command)


def _say_at_the_end(context: click.Context, _: click.Parameter, is_asked: bool) -> None:  # noqa: FBT001 - click's
    if is_asked and not context.resilient_parsing:
        context.call_on_close(lambda: _say_alerts(context))


def _say_alerts(context: click.Context) -> None:
    from claude_force.insight.alerts import sentence  # noqa: PLC0415 - not for --help

    offline = context.params["offline"]
    try:
        project = Project(context.params["config_path"], offline=offline)
        try:
            firing = judge(project, simulated=offline).firing
        finally:
            project.close()
    except ClaudeForceError as error:
        note(f"the alerts are not known: {error}", kind="warning")
    else:
        for alert in firing:
            note(sentence(alert), kind="warning" if alert.severity == "info" else alert.severity)
