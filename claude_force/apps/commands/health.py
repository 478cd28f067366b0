"""`claude-force health`: is everything well now? For people, and for probes."""

from pathlib import Path

import click

from claude_force.apps.console import config_option, example, harmless, json_option, print_json, print_table
from claude_force.insight.health import check_health


@click.command(epilog=example("claude-force health --live --json || systemctl restart nightly-reviews"))
@click.option("--live", is_flag=True, help="Ask the API for its list of models, too: no tokens, no cost.")
@click.option("--strict", is_flag=True, help="Exit with 1 where it is degraded, and not only where it is failing.")
@config_option
@json_option
def command(live: bool, strict: bool, config_path: Path | None, as_json: bool) -> None:
    """Say how things go: config, agents, disk, and the errors of the last hour by model.

    It is `ok`, `degraded` (agents run, but something is lost or near its end) or `failing` (they cannot run). The exit
    code is 1 where it is failing.
    """
    health = check_health(config_path, live=live)
    if as_json:
        print_json(health)
    else:
        rows = [
            (check.name, check.status, f"{check.detail}{f'; {check.fix}' if check.fix else ''}")
            for check in health.checks
        ]
        print_table(("check", "status", "detail"), rows)
        click.echo(harmless(health.status))
    raise SystemExit(health.status == "failing" or (strict and health.status == "degraded"))
