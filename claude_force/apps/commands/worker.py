"""`claude-force worker`: does the steps that others hand over. How it ends: `apps.worker`; what it does: `workers`."""

from typing import TYPE_CHECKING

import click

from claude_force.apps.console import config_option, example
from claude_force.orchestrator import Project

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    epilog=example(
        "claude-force worker --concurrency 20",
        "CLAUDE_ENGINE_URL=postgresql://app@db.example/claude claude-force worker",
    )
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    help="This many steps at once. [default: performance.max_concurrent_agents]",
)
@click.option(
    "--drain-seconds",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="When it is told to stop: wait so long for what it has begun.",
)
@click.option("--offline", is_flag=True, help="Ask the built-in simulator; it takes only steps that want that.")
@config_option
def command(concurrency: int | None, drain_seconds: float, offline: bool, config_path: "Path | None") -> None:
    """Do the steps of workflows that are run with --engine durable, until Ctrl-C or SIGTERM.

    Steps come through the database that `engine.url` names, signed, with all that they need: a worker reads no agents.
    Credentials, limits, budgets, cache and ledger are those of the worker's own machine and folder. For a Postgres, any
    number of workers on any number of machines may be started; a SQLite file has one.

    Ctrl-C or SIGTERM once takes nothing more, and lets what it has begun come to its end; twice ends at once, and what
    was not finished is done by another worker.
    """
    from claude_force.apps.worker import work  # noqa: PLC0415 - --help does not pay for it

    raise SystemExit(work(Project(config_path, offline=offline), concurrency=concurrency, drain_s=drain_seconds))
