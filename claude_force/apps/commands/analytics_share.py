"""`claude-force analytics export`, `compare` and `report`: figures that leave the house, or come back to it."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from claude_force.apps.alerts import judge
from claude_force.apps.console import (
    config_option,
    example,
    harmless,
    is_terminal,
    json_option,
    note,
    print_json,
    print_table,
)
from claude_force.apps.selection import (
    LEFT_OUT,
    Chosen,
    days_option,
    filter_options,
    no_nan,
    readable,
    say_left_out,
    say_only_by_day,
    selection,
    tz_option,
    zone,
)
from claude_force.base.clock import SystemClock
from claude_force.base.errors import InputError
from claude_force.orchestrator import Project
from claude_force.stores.files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from claude_force.insight.counting import Selected
    from claude_force.insight.export import Format
    from claude_force.insight.ledger import LedgerLine

_REPORT_DAYS = 30.0
_MOST_REPORT_DAYS = 400.0
"""More would be a chart of bars that nobody can tell apart."""


@click.command(
    epilog=example(
        "claude-force analytics export --format csv --days 7 --output week.csv",
        "claude-force analytics export --format jsonl | jq 'select(.success | not)'",
    )
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(("csv", "json", "jsonl", "parquet")),
    required=True,
    help="jsonl is a JSON object a line; parquet needs the `parquet` extra.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write, whole or not at all; standard output if left out.",
)
@days_option()
@filter_options
@config_option
def export(*, format_: "Format", output: Path | None, config_path: Path | None, **chosen: Unpack[Chosen]) -> None:
    """Write every execution as a row, the first one first.

    In CSV, a text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    from claude_force.insight.counting import Selected  # noqa: PLC0415 - not for --help
    from claude_force.insight.export import write_rows  # noqa: PLC0415 - as above

    if output is None and (format_ == "parquet" or sys.stdout is None):
        raise click.UsageError("give --output: this cannot go to standard output")
    path = Project(config_path).tracker.path
    lines = Selected(path, selection(chosen))
    with _written(output) as sink:
        write_rows(_read(lines, path), sink, format_)
        sink.flush()
    say_left_out(lines.executions, lines, path, simulated=chosen["simulated"])
    say_only_by_day(lines.only_by_day, LEFT_OUT)


_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    epilog=example(
        "claude-force analytics export --format json --days 7 --output before.json",
        "claude-force analytics compare --baseline before.json --current after.json --threshold 10",
    )
)
@click.option("--baseline", type=_FILE, required=True, help="What it is compared with.")
@click.option("--current", type=_FILE, required=True, help="What is judged.")
@click.option(
    "--threshold",
    type=click.FloatRange(min=0),
    default=15,
    callback=no_nan,
    help="Exit with 1 where a figure got worse by more percent than this, and not by chance. [default: 15]",
)
@json_option
def compare(*, baseline: Path, current: Path, threshold: float, as_json: bool) -> None:
    """Compare two files of `analytics export` or `analytics summary --json`, with confidence intervals of 95 %.

    What is more than chance is told with "significant". Of two summaries, that is known of the success rate alone: an
    export has every execution.
    """
    from claude_force.insight.comparison import compare, read_estimates  # noqa: PLC0415 - not for --help

    found = compare(read_estimates(baseline), read_estimates(current))
    if not found:
        raise InputError("the files have no figure in common; compare two that hold executions")
    past = [one.figure for one in found if one.is_past(threshold / 100)]
    if as_json:
        print_json({"comparisons": found, "past_threshold": past})
    else:
        rows = [
            (
                one.figure,
                f"{one.baseline:.6g}",
                f"{one.current:.6g}",
                f"{one.change:+.1%}",
                "" if one.low is None or one.high is None else f"{one.low:+.1%} to {one.high:+.1%}",
                "past the threshold" if one.figure in past else "significant" if one.is_significant else "",
            )
            for one in found
        ]
        print_table(("figure", "baseline", "current", "change", "with 95 % confidence", ""), rows)
    raise SystemExit(bool(past))


def _read(lines: "Selected", path: Path) -> "Iterator[LedgerLine]":
    """So that what goes wrong here is told from what goes wrong where they are written."""
    with readable(path):
        for block in lines:
            yield from block


class _Screen:
    """Standard output where a person looks: a ledger that came with a repository may not move the cursor there."""

    def write(self, data: bytes) -> None:
        click.echo(harmless(data.decode().replace("\r\n", "\n")), nl=False)

    def flush(self) -> None:
        sys.stdout.flush()


@contextmanager
def _written(output: Path | None) -> "Iterator[BinaryIO | _Screen]":
    """Where to write: the file, whole or not at all, or standard output."""
    if output is None:
        yield _Screen() if is_terminal(sys.stdout) else sys.stdout.buffer
        return
    try:
        with replacing(output) as file:
            yield file
    except OSError as error:
        raise InputError(f"cannot write {str(output)!r}: {error.strerror or error}; give another --output") from error


@click.command(epilog=example("claude-force analytics report --days 7 --output week.html"))
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    help="The file to write. [default: report.html]",
)
@click.option("--force", is_flag=True, help="Overwrite it even if it is no report.")
@tz_option
@days_option(default="30")
@filter_options
@config_option
def report(*, output: Path, force: bool, tz: str | None, config_path: Path | None, **chosen: Unpack[Chosen]) -> None:
    """Write one page with all of it: figures over time, by agent and by model, savings, errors, alerts, anomalies.

    The page needs no other file and no network, so it can be mailed or kept. A file that is no report is not
    overwritten.
    """
    from claude_force.insight.report import is_report, page, read_report  # noqa: PLC0415 - not for --help

    days, where, now = min(chosen["days"] or _REPORT_DAYS, _MOST_REPORT_DAYS), zone(tz), SystemClock().now()
    _check_output(output, is_report, force=force)
    project = Project(config_path)
    try:
        alerts = judge(project, simulated=chosen["simulated"])
    finally:
        project.close()
    with readable(project.tracker.path):
        found = read_report(project.tracker.path, selection(chosen), alerts, now=now, days=days, zone=where)
    with _written(output) as sink:
        sink.write(page(found).encode(errors="replace"))
    note(f"{output} has {found.summary.total.costs.executions:,} executions of {days:g} days", kind="written")


def _check_output(output: Path, is_ours: "Callable[[bytes], bool]", *, force: bool) -> None:
    """Refuse to write over what somebody else made, or where a repository that was cloned has a link lead."""
    if output.is_symlink() and not output.exists():
        raise InputError(f"{str(output)!r} is a link that leads nowhere; remove it, or give another --output")
    try:
        with output.open("rb") as file:
            beginning = file.read(200)
    except OSError:  # it is not there, or writing will tell what is wrong
        return
    if beginning and not force and not is_ours(beginning):
        raise InputError(f"{str(output)!r} is there and no report of ours; give another --output, or --force")
