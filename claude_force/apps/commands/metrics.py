"""`claude-force metrics`: what is written down of executions, and how it stays small."""

import sys
from pathlib import Path

import click

from claude_force.apps.console import config_option, example, json_option, moves_cursor, note, print_json, print_table
from claude_force.base.errors import MetricsError
from claude_force.orchestrator import Project


@click.group()
def command() -> None:
    """Roll up what was written down of executions."""


@command.command(epilog=example("claude-force metrics rollup --dry-run", "claude-force metrics rollup"))
@click.option("--dry-run", is_flag=True, help="Say what it would do; change nothing.")
@config_option
@json_option
def rollup(dry_run: bool, config_path: Path | None, as_json: bool) -> None:
    """Make figures of days of old executions, so that the ledger stays small.

    Old is what ended more than `metrics.keep_days` ago. Totals stay what they are, and the lines are dropped or
    compressed, as `metrics.old_detail` says. It may run, and be killed, at any time; nothing is lost or counted twice.
    """
    project = Project(config_path)
    bar = click.progressbar(length=0, label="reading", file=sys.stderr, hidden=not moves_cursor(sys.stderr))

    def advance(done: int, total: int) -> None:
        bar.length = total
        bar.update(done - bar.pos)

    try:
        with bar:
            done = project.roll_up(dry_run=dry_run, on_progress=advance)
    except OSError as error:
        path = error.filename or str(project.tracker.path)
        raise MetricsError(
            f"the rollup did not come to its end: {path!r}: {error.strerror or error}; nothing is lost; make room, or "
            "mend the file and its rights, and run it again",
            path=path,
        ) from error
    if done is None:
        note("another process is rolling up now")
    if as_json:
        import msgspec  # noqa: PLC0415 - not for --help

        from claude_force.insight.rollup import Rollup  # noqa: PLC0415 - as above

        facts = done or Rollup(is_dry=dry_run)
        print_json({**msgspec.structs.asdict(facts), "saved_share": facts.saved_share, "is_busy": done is None})
    elif done is not None:
        rows = [
            ("lines", f"{done.lines:,}"),
            ("days", f"{done.days:,}"),
            ("bytes before", f"{done.bytes_before:,}"),
            ("bytes after", f"{done.bytes_after:,}"),
            ("saved", f"{done.saved_share:.1%}"),
        ]
        print_table(("would be" if dry_run else "rolled up", ""), rows)
